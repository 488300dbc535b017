/* Guest code as text, for -d in_asm and the monitor. */
#ifndef CPU_DISASM_H
#define CPU_DISASM_H

#include <stdio.h>

#include "cpu/insn.h"

/* Print n bytes of code at guest address `address`, one instruction a line: address, bytes, mnemonic and
 * operands (AT&T syntax, as QEMU's log has it). What cannot be disassembled is printed as .byte. */
void disasm_print(FILE *f, const u8 *bytes, size_t n, u64 address, enum code_size size);

/* The first instruction of bytes[0..n) into buf, without address and bytes. Its length; 0 when there is none.
 */
size_t disasm_one(char *buf, size_t len, const u8 *bytes, size_t n, u64 address, enum code_size size);

#endif

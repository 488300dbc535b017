/* Bytes to blocks: instructions decoded one after the other, each with the handler that runs it. See block.h. */
#include "cpu/block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "cpu/cpuid.h"
#include "cpu/disasm.h"
#include "cpu/exec_local.h"

/* ---- handlers that are no instructions ---- */

/* The sentinel after a block's last instruction, and every instruction of a dead block. */
bool exec_block_end(struct cpu *cpu, const struct insn *i)
{
    cpu->rip = insn_rip(cpu, i);
    return false;
}

bool exec_undefined(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return raise_ud(cpu);
}

static bool exec_too_long(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return raise_gp0(cpu);
}

exec_fn *exec_select_int(const struct insn *i)
{
    exec_fn *fn;
    if ((fn = exec_select_alu(i)) || (fn = exec_select_move(i)) || (fn = exec_select_flow(i)) ||
        (fn = exec_select_string(i)))
        return fn;
    return exec_select_bits(i);
}

/* ---- decoding ---- */

static u8 gpr_offset(const struct operand *o)
{
    return o->kind == OPND_GPR ? (u8)(o->reg * 8) : o->kind == OPND_GPRH ? (u8)(o->reg * 8 + 1) : 0;
}

/* F3 0F BC/BD are BSF/BSR with an ignored prefix where TZCNT/LZCNT do not exist. */
static bool without_feature(struct insn *i)
{
    switch (i->mnemonic) {
    case I_tzcnt: i->mnemonic = I_bsf; return true;
    case I_lzcnt: i->mnemonic = I_bsr; return true;
    default: return false;
    }
}

/* Complete a decoded instruction that stands `off` bytes into its block. */
static void prepare(struct cpu *cpu, struct insn *i, unsigned off)
{
    i->off = (u16)off;
    i->dst = gpr_offset(&i->operands[0]);
    i->src = gpr_offset(&i->operands[1]);
    if (i->base == REG_RIP) i->disp += (s64)off + i->len;
    i->fn = NULL;
    if (!cpu_has_feature(cpu->model, i->opcode->feature) && !without_feature(i)) {
        i->fn = exec_undefined;
        return;
    }
    if (!(i->fn = exec_select_int(i)) && !(i->fn = exec_select_sys(i)) && !(i->fn = exec_select_fpu(i))) {
        log_printf(LOG_UNIMP, "interp: no handler for %s\n", i->opcode->name);
        i->fn = exec_undefined;
    }
}

/* An instruction that only faults. */
static void prepare_fault(struct insn *i, int decoded, unsigned off)
{
    u8 len = i->len;
    memset(i, 0, sizeof *i);
    i->len = len ? len : 1;
    i->off = (u16)off;
    i->fn = decoded == DECODE_LONG ? exec_too_long : exec_undefined;
}

static void log_block(const struct cpu *cpu, const struct block *b, const u8 *code)
{
    gla lin = cpu_code64(cpu) ? cpu->rip : (u32)(cpu->seg[SEG_CS].base + cpu->rip);
    fprintf(log_stream(), "----------------\nIN: cpl=%u rip=%llx\n", cpu->cpl, (unsigned long long)cpu->rip);
    disasm_print(log_stream(), code, b->bytes, lin, cpu->code_size);
}

struct block *block_decode(struct cpu *cpu, const u8 *code, unsigned avail, unsigned max)
{
    struct insn insns[BLOCK_MAX + 1];
    unsigned n = 0, off = 0;
    while (n < max && off < avail) {
        struct insn *i = &insns[n];
        int len = decode(i, code + off, avail - off, cpu->code_size);
        if (len == DECODE_MORE) break;
        n++;
        if (len <= 0) {
            prepare_fault(i, len, off);
            off += i->len;
            break;
        }
        prepare(cpu, i, off);
        off += (unsigned)len;
        /* STI takes the next instruction with it, which the translator then runs in the interrupt shadow. */
        if ((i->opcode->attr & ATTR_END) && i->mnemonic != I_sti) break;
        if (n > 1 && insns[n - 2].mnemonic == I_sti) break;
        /* In lock-step other vCPUs run between blocks only: PAUSE is where they should. */
        if (cpu->smp && i->mnemonic == I_pause && log_enabled(LOG_CHECK)) break;
    }
    if (!n) return NULL;
    insns[n] = (struct insn){.fn = exec_block_end, .off = (u16)off};
    struct block *b = malloc(sizeof *b + (n + 1) * sizeof(struct insn));
    if (!b) return NULL;
    b->next = NULL;
    b->bytes = (u16)off;
    b->count = (u16)n;
    b->mode = cpu->mode_key;
    b->host = b->host_forward = NULL;
    b->solo = false;
    b->translation = NULL;
    b->trace = NULL;
    b->hot = b->soon = b->close = 0;
    b->page = ~0ull;
    memset(b->map, 0, sizeof b->map);
    b->dead = b->ahead = false;
    memcpy(b->insns, insns, (n + 1) * sizeof(struct insn));
    if (log_enabled(LOG_IN_ASM)) log_block(cpu, b, code);
    return b;
}

bool block_other_immediate(struct cpu *cpu, const struct insn *old, const u8 *code, unsigned avail, u64 *imm)
{
    struct insn i;
    if (decode(&i, code, avail, cpu->code_size) != old->len || i.opcode != old->opcode) return false;
    prepare(cpu, &i, old->off);
    *imm = i.imm;
    i.imm = old->imm;
    return !memcmp(&i, old, offsetof(struct insn, operands)) &&
           !memcmp(i.operands, old->operands, i.noperands * sizeof i.operands[0]);
}

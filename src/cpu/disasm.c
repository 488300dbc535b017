/* Disassembly of guest code. Printing is Capstone's work; lengths are the decoder's wherever both know the
 * instruction, so that the listing shows the boundaries the engines see. */
#include "cpu/disasm.h"

#include <capstone/capstone.h>
#include <string.h>

#include "cpu/decode.h"

static bool disasm_open(csh *handle, enum code_size size)
{
    static const cs_mode modes[] = {[CODE_16] = CS_MODE_16, [CODE_32] = CS_MODE_32, [CODE_64] = CS_MODE_64};
    if (cs_open(CS_ARCH_X86, modes[size], handle) != CS_ERR_OK) return false;
    cs_option(*handle, CS_OPT_SYNTAX, CS_OPT_SYNTAX_ATT);
    return true;
}

/* Length and text of one instruction; 0 when it is no instruction or the bytes end inside it. */
static size_t disasm_insn(csh handle, char *buf, size_t len, const u8 *bytes, size_t n, u64 address,
                          enum code_size size)
{
    struct insn i;
    int length = decode(&i, bytes, n, size);
    if (length <= 0) return 0;
    cs_insn *text = NULL;
    if (cs_disasm(handle, bytes, (size_t)length, address, 1, &text) == 1) {
        snprintf(buf, len, "%-8s %s", text->mnemonic, text->op_str);
        cs_free(text, 1);
    } else {
        /* Known to the decoder alone: the name without operands. */
        insn_name(&i, buf, len);
    }
    return (size_t)length;
}

size_t disasm_one(char *buf, size_t len, const u8 *bytes, size_t n, u64 address, enum code_size size)
{
    csh handle;
    if (!disasm_open(&handle, size)) return 0;
    size_t length = disasm_insn(handle, buf, len, bytes, n, address, size);
    cs_close(&handle);
    return length;
}

void disasm_print(FILE *f, const u8 *bytes, size_t n, u64 address, enum code_size size)
{
    csh handle;
    if (!disasm_open(&handle, size)) return;
    for (size_t at = 0; at < n;) {
        char text[192];
        size_t length = disasm_insn(handle, text, sizeof text, bytes + at, n - at, address + at, size);
        if (!length) {
            snprintf(text, sizeof text, ".byte    0x%02x", bytes[at]);
            length = 1;
        }
        fprintf(f, size == CODE_64 ? "0x%016llx:  " : "0x%08llx:  ", (unsigned long long)(address + at));
        for (size_t k = 0; k < length; k++)
            fprintf(f, "%02x ", bytes[at + k]);
        fprintf(f, "%*s%s\n", (int)(length < 8 ? (8 - length) * 3 : 0), "", text);
        at += length;
    }
    cs_close(&handle);
}

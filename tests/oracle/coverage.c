/* See coverage.h. */
#include "coverage.h"

#include <stdio.h>

#include "cpu/opcodes.h"
#include "forms.h"

enum { ROWS_MAX = 2048, OFTEN = 200 };

/* How an instruction may stand in the code. */
static const char *const ways[] = {
    "register operands",  "memory operands",      "page faults",  "16-bit operands", "LOCK", "REP",
    "a segment override", "another address size", "RIP-relative", "base and index",  "REX"};
enum {
    REGISTERS,
    MEMORY,
    FAULTS,
    OPSIZE16,
    LOCKED,
    REPEATED,
    SEGMENT,
    ADDRESS,
    RELATIVE,
    INDEXED,
    REX,
    WAYS
};

static u64 seen[ROWS_MAX];
static u64 seen_so[ROWS_MAX][WAYS];

void coverage_note(const struct insn *i, bool page_fault)
{
    if (!i->opcode) return;
    const size_t row = (size_t)((const struct opcode_row *)(const void *)i->opcode - opcode_rows);
    bool memory = false;
    for (unsigned k = 0; k < i->noperands; k++)
        memory |= i->operands[k].kind == OPND_MEM;
    const bool so[WAYS] = {
        [REGISTERS] = !memory,
        [MEMORY] = memory,
        [FAULTS] = page_fault,
        [OPSIZE16] = i->prefixes & PFX_66,
        [LOCKED] = i->prefixes & PFX_LOCK,
        [REPEATED] = i->prefixes & (PFX_REP | PFX_REPNE),
        [SEGMENT] = memory && (i->prefixes & PFX_SEG),
        [ADDRESS] = memory && (i->prefixes & PFX_67),
        [RELATIVE] = memory && i->base == REG_RIP,
        [INDEXED] = memory && i->base < 16 && i->index < 16,
        [REX] = i->prefixes & PFX_REX,
    };
    seen[row]++;
    for (unsigned w = 0; w < WAYS; w++)
        seen_so[row][w] += so[w];
}

static bool possible(const struct opcode *op, enum code_size mode, const struct cpu_model *model)
{
    const struct insn i = {.opcode = op, .mnemonic = op->mnemonic};
    if (op->attr & (mode == CODE_64 ? ATTR_NO64 : ATTR_ONLY64)) return false;
    return form_runnable(&i, mode, model);
}

void coverage_print(enum code_size mode, const struct cpu_model *model)
{
    unsigned rows = 0, had = 0;
    for (unsigned r = 0; r < opcode_row_count; r++) {
        rows += possible(&opcode_rows[r].op, mode, model);
        had += seen[r] != 0;
    }
    printf("coverage: %u of %u rows; never:", had, rows);
    for (unsigned r = 0; r < opcode_row_count; r++)
        if (!seen[r] && possible(&opcode_rows[r].op, mode, model))
            printf(" %s (%s)", opcode_rows[r].op.name, opcode_rows[r].encoding);
    putchar('\n');
    for (unsigned w = 0; w < WAYS; w++) {
        unsigned with = 0;
        u64 times = 0;
        for (unsigned r = 0; r < opcode_row_count; r++) {
            with += seen_so[r][w] != 0;
            times += seen_so[r][w];
        }
        printf("coverage: %s: %u rows, %llu times", ways[w], with, (unsigned long long)times);
        if (w == FAULTS) {
            printf("; never, of those that often have a memory operand:");
            for (unsigned r = 0; r < opcode_row_count; r++)
                if (seen_so[r][MEMORY] >= OFTEN && !seen_so[r][w])
                    printf(" %s (%s, %llu)", opcode_rows[r].op.name, opcode_rows[r].encoding,
                           (unsigned long long)seen_so[r][MEMORY]);
        }
        putchar('\n');
    }
}

/* Which rows of opcodes.def were generated, and in which forms: oracle --coverage. */
#ifndef ORACLE_COVERAGE_H
#define ORACLE_COVERAGE_H

#include "cpu/decode.h"

struct cpu_model;

/* An instruction of a case; whether the case ended at it, with a page fault. */
void coverage_note(const struct insn *i, bool page_fault);
/* What of all that can be generated was; and what never. */
void coverage_print(enum code_size mode, const struct cpu_model *model);

#endif

/* -d check: the interpreter checks the translator while a guest runs. See check.c. */
#ifndef TRANSLATE_CHECK_H
#define TRANSLATE_CHECK_H

#include "cpu/cpu.h"

struct block;
struct bt;
struct check;

/* NULL with a message. */
struct check *check_create(struct cpu *cpu);
/* Says on the log how much was compared. */
void check_destroy(struct check *c, struct cpu *cpu);
/* The run loop when blocks are checked. */
enum cpu_exit check_run(struct cpu *cpu, struct bt *bt);
/* Interpret a block, where translated code wants that; its exception is recorded only. */
void check_interpret(struct cpu *cpu, const struct block *b);

#endif

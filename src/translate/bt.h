/* The binary translator as an engine: -accel bt. */
#ifndef TRANSLATE_BT_H
#define TRANSLATE_BT_H

#include <stddef.h>

#include "cpu/engine.h"

extern const struct engine_ops bt_engine;

/* For tests: translate a block when it is run for the count-th time. */
void bt_set_threshold(struct cpu *cpu, unsigned count);
/* For tests: take every block for one in a loop, in a close one, or in none. */
void bt_set_loops(struct cpu *cpu, bool loop, bool close);
/* For tests, before the first block runs: the size of the code memory, 0: the least there can be. 0 or -errno with a message. */
int bt_set_code_bytes(struct cpu *cpu, size_t size);

#endif

/* The binary translator as an engine: -accel bt. */
#ifndef TRANSLATE_BT_H
#define TRANSLATE_BT_H

#include "cpu/engine.h"

extern const struct engine_ops bt_engine;

/* For tests: translate a block when it is run for the count-th time. */
void bt_set_threshold(struct cpu *cpu, unsigned count);

#endif

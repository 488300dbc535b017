/* What the translator has done. */
#ifndef TRANSLATE_BT_STATS_H
#define TRANSLATE_BT_STATS_H

#include <stdio.h>

#include "cpu/cpu.h"

/* While the vCPU stands still. */
void bt_info(struct cpu *cpu, FILE *f);

#endif

/* The guest's x87 and vector state in the host's registers. See fpu_live.h. */
#include "cpu/fpu_live.h"

void fpu_save_live(struct cpu *cpu) { cpu->fpu_live = 0; }

/* What the machine sees of a CPU engine: the interpreter, the translator, KVM. */
#ifndef CPU_ENGINE_H
#define CPU_ENGINE_H

#include <stdio.h>

#include "core/types.h"

struct cpu;

/* Why run() came back. */
enum cpu_exit {
    EXIT_KICK,   /* somebody called kick() */
    EXIT_HALT,   /* HLT (or wait-for-SIPI) with nothing to do: sleep until cpu_has_work() */
    EXIT_TRIPLE, /* triple fault: the vCPU is shut down until reset or INIT */
    EXIT_BROKEN, /* the engine found itself wrong (-d check) and has said so: end the process */
};

struct engine_ops {
    const char *name; /* as in -accel */
    /* Engine data for one vCPU, kept in cpu->engine: 0 or -errno (with a message). */
    int (*create)(struct cpu *cpu);
    void (*destroy)(struct cpu *cpu);
    /* Run guest code until something above happens. Called on the vCPU's own thread, without the machine lock. */
    enum cpu_exit (*run)(struct cpu *cpu);
    /* Forget everything derived from guest memory [ram_offset, +size); size 0: everything. Any thread. */
    void (*invalidate)(struct cpu *cpu, u64 ram_offset, u64 size);
    /* The vCPU itself stored to a page with code what was there already. */
    void (*unchanged)(struct cpu *cpu, u64 ram_offset);
    /* Print what it has done, for people; while the vCPU stands still. NULL: nothing to say. */
    void (*info)(struct cpu *cpu, FILE *out);
};

extern const struct engine_ops interp_engine;

#endif

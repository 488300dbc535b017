/* Task switches, for those that must know whether a fault came before or after the point of no return. */
#ifndef CPU_TASK_H
#define CPU_TASK_H

#include "cpu/exec.h"

enum task_result {
    TASK_DONE,
    TASK_FAULT_OLD, /* an exception is recorded, nothing has changed */
    TASK_FAULT_NEW, /* an exception is recorded in the new task; cpu->rip is its instruction pointer */
};

/* saved_eflags is what the old task's TSS gets; next_rip its instruction pointer. */
enum task_result task_switch_raw(struct cpu *cpu, u16 selector, enum task_switch_kind kind, bool has_error,
                                 u32 error_code, u64 next_rip, u32 saved_eflags);

#endif

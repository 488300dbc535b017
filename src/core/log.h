/* The categorised log behind -d and -D. The set of enabled categories is process wide. */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdarg.h>
#include <stdio.h>

#include "core/types.h"

enum log_category {
    LOG_GUEST_ERROR = 1 << 0, /* guest_errors: the guest misuses a device */
    LOG_UNIMP = 1 << 1,       /* unimp: the guest asks for what is not modelled */
    LOG_INT = 1 << 2,         /* int: interrupts and exceptions */
    LOG_IN_ASM = 1 << 3,      /* in_asm: guest code when first decoded */
    LOG_CPU_RESET = 1 << 4,   /* cpu_reset: CPU state before resets */
    LOG_MMU = 1 << 5,         /* mmu: page walks that fault */
    LOG_PCALL = 1 << 6,       /* pcall: protected mode far calls/returns, task switches */
    LOG_EXEC = 1 << 7,        /* exec: every block executed */
    LOG_CPU = 1 << 8,         /* cpu: registers before every block */
    LOG_IO = 1 << 9,          /* io: port and MMIO accesses */
    LOG_OP = 1 << 10,         /* op: translator's intermediate form */
    LOG_OUT_ASM = 1 << 11,    /* out_asm: translated host code */
    LOG_FIRMWARE = 1 << 12,   /* firmware: what the guest prints on the 0x402 debug port */
    LOG_CHECK = 1 << 13,      /* check: the interpreter checks every translated block; not among "all" */
};

extern u32 log_mask; /* enabled categories */

#define log_enabled(cat) __builtin_expect((log_mask & (cat)) != 0, 0)
/* One message; the caller ends it with a newline. Nothing is formatted when the category is off. */
#define log_printf(cat, ...)                                                                                  \
    do {                                                                                                      \
        if (log_enabled(cat)) log_write(__VA_ARGS__);                                                         \
    } while (0)

void log_write(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Parse "int,cpu_reset,..." ("help" lists the names on stdout and returns 1).
 * 0, or -EINVAL with the unknown name's start in *bad. */
int log_parse(const char *list, u32 *mask, const char **bad);
/* Send the log to a file instead of stderr: 0 or -errno. */
int log_open(const char *path);
FILE *log_stream(void);

#endif

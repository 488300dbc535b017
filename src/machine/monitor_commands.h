/* Inside the monitor for people: its commands. */
#ifndef MACHINE_MONITOR_COMMANDS_H
#define MACHINE_MONITOR_COMMANDS_H

#include <jansson.h>
#include <stdio.h>

#include "machine/machine.h"

/* Where a line is run. */
struct hmp {
    struct machine *m; /* the machine */
    unsigned *cpu;     /* the CPU that commands look at */
    FILE *out;         /* what they have to say */
};

typedef void hmp_handler(struct hmp *h, json_t *args);

struct hmp_command {
    const char *name; /* as it is typed */
    /* Arguments as they are typed, separated by blanks: NAME:TYPE, with a ? behind those that may be missing. TYPE is s (a
     * word, or text in double quotes), S (the rest of the line), i (an expression), b (on or off), / (a format, as in x/10xw:
     * becomes count, format and size), or -X (a flag). */
    const char *args;
    const char *params;   /* the same for people */
    const char *help;     /* one line */
    hmp_handler *run;     /* what it does; NULL: */
    const char *control;  /* runs this command of control.h, which takes the same arguments */
    const char *alias;    /* a shorter name; NULL: none */
    bool park;            /* looks at CPUs: they stand still meanwhile */
};

extern const struct hmp_command hmp_info[]; /* what comes behind `info`; ends with an empty row */

/* monitor_memory.c */
hmp_handler hmp_x, hmp_xp, hmp_print, hmp_in, hmp_out, hmp_sum, hmp_gva2gpa, hmp_info_mem, hmp_info_tlb;
/* An expression at *text, which moves behind it. False, and a message, when there is none. */
bool hmp_expression(struct hmp *h, const char **text, s64 *value);

/* Run a command of control.h; prints its error, and takes args over. NULL when it failed. */
json_t *hmp_control(struct hmp *h, const char *name, json_t *args);

#endif

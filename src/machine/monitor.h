/* The front ends of control.h: the monitor for people and QMP. */
#ifndef MACHINE_MONITOR_H
#define MACHINE_MONITOR_H

#include <stdio.h>

#include "machine/options.h"

struct machine;
struct control_error;

/* First member of either's private struct. */
struct monitor {
    void (*destroy)(struct monitor *mon); /* frees it */
};

/* On the back end that the option names, which outlives it. NULL with a message. */
struct monitor *monitor_create(struct machine *m, const struct monitor_option *option);
void monitor_destroy(struct monitor *mon);
/* qmp.c: the one for programs */
struct chardev;
struct monitor *qmp_create(struct machine *m, struct chardev *chr, bool pretty);

/* Run a line as the user typed it, on the CPU *cpu (which `cpu` changes), and print what it has to say to out. */
void monitor_run_line(struct machine *m, const char *line, unsigned *cpu, FILE *out);
/* Names of commands that begin with the words of a line: one of them, or NULL, and whether there are more. */
size_t monitor_complete(const char *line, const char **matches, size_t room);

#endif

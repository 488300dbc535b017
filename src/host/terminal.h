/* The controlling terminal on standard input: raw while the machine runs, and given back on every way out. */
#ifndef HOST_TERMINAL_H
#define HOST_TERMINAL_H

#include "core/types.h"

/* Put the terminal on fd into raw mode (no echo, no line editing, and with signals false also no Ctrl-C), until
 * terminal_restore(), exit, a fatal signal or a stop; after SIGCONT it is raw again. Not a terminal, or one that
 * belongs to another job: nothing happens. 0 or -errno. */
int terminal_raw(int fd, bool signals);
/* Any thread, also from signal handlers; may be called when there is nothing to restore. */
void terminal_restore(void);

#endif

/* What a run of instructions changes in RAM, kept while cpu->log is set, so that it can be undone and done again: how the
 * translator is checked against the interpreter (translate/check.c). Only accesses by handlers are seen: with a log, segment
 * windows are closed for writing and every store takes the slow path. */
#ifndef CPU_STORE_LOG_H
#define CPU_STORE_LOG_H

#include "core/types.h"

#define STORE_LINE 64u

/* A line of RAM that was stored to; lines may occur twice. */
struct store_line {
    u8 *host;              /* aligned to its size */
    u8 before[STORE_LINE]; /* as it was before the store */
    u8 after[STORE_LINE];  /* store_log_undo(): as it was before that */
};

struct store_log {
    struct store_line *lines; /* in the order of the stores */
    unsigned count, room;     /* lines in use; allocated */
    unsigned tables;          /* accessed and dirty bits that page walks set: not in lines[], not undone */
    bool lost;                /* no memory for a line: cannot be undone */
};

/* size bytes at host are about to be changed. */
void store_log_note(struct store_log *log, void *host, unsigned size);
/* Put everything back as it was before the first store, remembering what it was after the last. */
void store_log_undo(struct store_log *log);
/* The first line that is not as it was when it was undone; NULL: none. */
const struct store_line *store_log_difference(const struct store_log *log);
/* Put everything as it was when it was undone. */
void store_log_redo(const struct store_log *log);

#endif

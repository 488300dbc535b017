/* Stores kept line by line, to be undone and compared. */
#include "cpu/store_log.h"

#include <stdlib.h>
#include <string.h>

static void note_line(struct store_log *log, u8 *host)
{
    if (log->count && log->lines[log->count - 1].host == host) return;
    if (log->count == log->room) {
        unsigned room = log->room ? 2 * log->room : 64;
        struct store_line *lines = realloc(log->lines, room * sizeof *lines);
        if (!lines) {
            log->lost = true;
            return;
        }
        log->lines = lines;
        log->room = room;
    }
    struct store_line *l = &log->lines[log->count++];
    l->host = host;
    memcpy(l->before, host, STORE_LINE);
}

void store_log_note(struct store_log *log, void *host, unsigned size)
{
    u8 *first = (u8 *)((uintptr_t)host & ~(uintptr_t)(STORE_LINE - 1));
    for (u8 *line = first; line < (u8 *)host + size; line += STORE_LINE) note_line(log, line);
}

void store_log_undo(struct store_log *log)
{
    for (unsigned n = 0; n < log->count; n++) memcpy(log->lines[n].after, log->lines[n].host, STORE_LINE);
    for (unsigned n = log->count; n-- > 0;) memcpy(log->lines[n].host, log->lines[n].before, STORE_LINE);
}

const struct store_line *store_log_difference(const struct store_log *log)
{
    for (unsigned n = 0; n < log->count; n++)
        if (memcmp(log->lines[n].host, log->lines[n].after, STORE_LINE) != 0) return &log->lines[n];
    return NULL;
}

void store_log_redo(const struct store_log *log)
{
    for (unsigned n = 0; n < log->count; n++) memcpy(log->lines[n].host, log->lines[n].after, STORE_LINE);
}

/* What the fuzz targets share. A target takes bytes that libFuzzer made up and does with them what they say; it must
 * neither crash nor hang nor leak, whatever they are. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "core/types.h"

/* The bytes that are left; behind their end come zeros. */
struct fuzz_bytes {
    const u8 *at, *end; /* the next one, and behind the last one */
};

static inline u64 fuzz_take(struct fuzz_bytes *b, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size && b->at < b->end; i++) value |= (u64)*b->at++ << i * 8;
    return value;
}

struct board;

/* A table of these ends with an empty row. */
struct fuzz_target {
    const char *name;                        /* for --target= */
    void (*run)(const u8 *data, size_t size); /* one input; NULL: create is a device for the fake board */
    void (*create)(struct board *b);         /* puts it on the board */
};

extern const struct fuzz_target fuzz_devices[], fuzz_parsers[];

/* Run a program of accesses on a board with that device (board.c). */
void fuzz_board(void (*create)(struct board *b), const u8 *data, size_t size);

/* While it is set no file can be opened for writing: monitor commands name files. */
extern bool fuzz_running;

#endif

/* The fuzzers: build-fuzz/fuzz --target=NAME [libFuzzer options] [corpus...]; --target=help lists the targets. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct fuzz_target *const tables[] = {fuzz_devices, fuzz_parsers};
static const struct fuzz_target *target;
bool fuzz_running;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = "help";
    for (int i = 1; i < *argc; i++)
        if (!strncmp((*argv)[i], "--target=", 9)) name = (*argv)[i] + 9;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (const struct fuzz_target *t = tables[i]; t->name; t++) {
            if (!strcmp(t->name, name)) target = t;
            if (!strcmp(name, "help")) puts(t->name);
        }
    if (target) return 0;
    if (strcmp(name, "help")) fprintf(stderr, "fuzz: no target %s\n", name);
    exit(strcmp(name, "help") != 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    fuzz_running = true;
    if (target->run) target->run(data, size);
    else fuzz_board(target->create, data, size);
    fuzz_running = false;
    return 0;
}

/* ---- no files are written; the linker's --wrap leads here ---- */

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (fuzz_running && strpbrk(mode, "wa+")) {
        errno = EACCES;
        return NULL;
    }
    return __real_fopen(path, mode);
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    if (fuzz_running && (flags & O_ACCMODE) != O_RDONLY) {
        errno = EACCES;
        return -1;
    }
    return __real_open(path, flags, mode);
}

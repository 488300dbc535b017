/* The log behind -d and -D: a table of category names and one output stream.
 *
 * The names are those of QEMU's -d where the meaning is the same, so that habits and scripts carry over. */
#include "core/log.h"

#include <errno.h>
#include <string.h>

u32 log_mask;

static FILE *stream; /* NULL: stderr. Process wide, like log_mask. */

static const struct {
    const char *name; /* as typed after -d */
    u32 bit;          /* enum log_category */
    const char *help; /* for -d help */
} categories[] = {
    {"guest_errors", LOG_GUEST_ERROR, "the guest misuses a device"},
    {"unimp", LOG_UNIMP, "the guest asks for what is not modelled"},
    {"int", LOG_INT, "interrupts and exceptions"},
    {"in_asm", LOG_IN_ASM, "guest code when it is first decoded"},
    {"cpu_reset", LOG_CPU_RESET, "CPU state before resets"},
    {"mmu", LOG_MMU, "page walks that fault"},
    {"pcall", LOG_PCALL, "protected mode far calls and returns, task switches"},
    {"exec", LOG_EXEC, "every block executed"},
    {"cpu", LOG_CPU, "registers before every block"},
    {"io", LOG_IO, "port and MMIO accesses"},
    {"op", LOG_OP, "the translator's intermediate form"},
    {"out_asm", LOG_OUT_ASM, "translated host code"},
    {"firmware", LOG_FIRMWARE, "what the guest prints on the firmware debug port"},
    {"check", LOG_CHECK, "run translated blocks in the interpreter as well, stop where they differ (slow)"},
};

void log_write(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(log_stream(), format, args);
    va_end(args);
}

static void list_categories(void)
{
    printf("Log items (comma separated):\n");
    for (size_t i = 0; i < ARRAY_LEN(categories); i++)
        printf("%-16s%s\n", categories[i].name, categories[i].help);
    printf("%-16s%s\n", "all", "all of the above but check");
}

/* The category of the `len` characters at name: 0 when there is none of that name. */
static u32 category_bit(const char *name, size_t len)
{
    u32 all = 0;
    for (size_t i = 0; i < ARRAY_LEN(categories); i++) {
        all |= categories[i].bit & ~(u32)LOG_CHECK;
        if (strlen(categories[i].name) == len && !memcmp(categories[i].name, name, len))
            return categories[i].bit;
    }
    return len == 3 && !memcmp(name, "all", 3) ? all : 0;
}

int log_parse(const char *list, u32 *mask, const char **bad)
{
    u32 parsed = 0;

    for (const char *item = list;;) {
        size_t len = strcspn(item, ",");
        if (len == 4 && !memcmp(item, "help", 4)) {
            list_categories();
            return 1;
        }
        u32 bit = category_bit(item, len);
        if (!bit) {
            if (bad) *bad = item;
            return -EINVAL;
        }
        parsed |= bit;
        if (!item[len]) break;
        item += len + 1;
    }
    *mask = parsed;
    return 0;
}

int log_open(const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        int err = errno;
        fprintf(stderr, "calque: cannot open log file %s: %s\n", path, strerror(err));
        return -err;
    }
    /* Whole lines, so that what led to a crash is in the file. */
    setvbuf(f, NULL, _IOLBF, 0);
    if (stream) fclose(stream);
    stream = f;
    return 0;
}

FILE *log_stream(void) { return stream ? stream : stderr; }

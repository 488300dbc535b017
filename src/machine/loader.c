/* Direct boot: reads the files, and asks each kind of loader in turn. Linux comes first, since its images may also
 * look like others; then Multiboot, whose header may sit in an ELF file; then ELF. */
#include "machine/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KERNEL_MAX 0x80000000u

static void complain(const char *what, const char *path, const char *why)
{
    fprintf(stderr, "calque: could not load %s %s: %s\n", what, path, why);
}

u8 *loader_read_file(const char *path, const char *what, size_t max, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        complain(what, path, strerror(errno));
        return NULL;
    }
    struct stat st;
    size_t capacity = 65536, used = 0;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && (u64)st.st_size < SIZE_MAX / 2) capacity = (size_t)st.st_size + 1;
    if (capacity > max) capacity = max + 1; /* one more, to see that there is more */
    u8 *data = malloc(capacity);
    const char *why = data ? NULL : strerror(ENOMEM);
    while (!why) {
        if (used == capacity) {
            if (used > max) {
                why = "the file is too large";
                break;
            }
            capacity = MIN(capacity * 2, max + 1);
            u8 *more = realloc(data, capacity);
            if (!more) {
                why = strerror(ENOMEM);
                break;
            }
            data = more;
        }
        ssize_t n = read(fd, data + used, capacity - used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) why = strerror(errno);
        if (n <= 0) break;
        used += (size_t)n;
    }
    close(fd);
    if (!why && used > max) why = "the file is too large";
    if (why) {
        complain(what, path, why);
        free(data);
        return NULL;
    }
    *size = used;
    return data;
}

int load_kernel(struct loader *l)
{
    l->kernel = loader_read_file(l->kernel_path, "kernel", KERNEL_MAX, &l->kernel_size);
    if (!l->kernel) return -EIO;
    int result = load_linux(l);
    if (result > 0) result = load_multiboot(l);
    if (result > 0) result = load_elf(l);
    if (result > 0) {
        fprintf(stderr, "calque: kernel %s: not a Linux, Multiboot or ELF image\n", l->kernel_path);
        result = -EINVAL;
    }
    free(l->kernel);
    l->kernel = NULL;
    if (!result) result = fw_cfg_add_file(l->fw_cfg, l->rom_name, l->rom, l->rom_size);
    return result;
}

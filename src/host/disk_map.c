/* Large reads of a file through a mapping of it. What the host's page cache has is copied to where it belongs without a system call
 * that looks up and pins page after page, in about half the time. Anything else is not done here: a page that is not in the cache
 * would be read by itself when it is touched, where preadv() reads all that is asked for and more ahead.
 *
 * A mapping shows what write() puts into the file, so it needs no care when the image changes. Pages of it can still go between the
 * look and the copy, and not come back: when somebody truncates the file, or its medium fails. The host says so with SIGBUS, which
 * ends the copy; preadv() then finds out what there is.
 *
 * Leaves out: block devices, and files that are read past the page cache (O_DIRECT). */
#define _GNU_SOURCE
#include "host/disk.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST (64u << 10) /* bytes for which it is worth a look at the cache */
#define MOST  (4u << 20)  /* and for which there is room for what it says */
#define PAGE  4096u
#define KEEP  (1ull << 30) /* bytes of a larger mapping that the process holds on to at most: the host counts them as its own */

static _Thread_local sigjmp_buf *volatile copying; /* where a copy by this thread goes on when a page is gone; NULL: there is none */
static struct sigaction others;                    /* what SIGBUS did before; set once */

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    if (copying) siglongjmp(*copying, 1);
    if (others.sa_flags & SA_SIGINFO)
        others.sa_sigaction(sig, info, context);
    else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN)
        others.sa_handler(sig);
    else
        signal(sig, SIG_DFL); /* returns to the access, which raises it again */
}

static void catch_bus_errors(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGBUS, &action, &others);
}

void disk_map_create(struct disk_map *m, int fd, u64 size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct stat st;
    *m = (struct disk_map){0};
    const int flags = fcntl(fd, F_GETFL);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || flags & O_DIRECT) return;
    /* Of other people's files mincore() says that all is there [mincore(2)]. */
    if ((flags & O_ACCMODE) == O_RDONLY && st.st_uid != geteuid()) return;
    void *base = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return;
    pthread_once(&once, catch_bus_errors);
    m->base = base;
    m->size = (size_t)size;
}

void disk_map_destroy(struct disk_map *m)
{
    if (m->base) munmap(m->base, m->size);
    m->base = NULL;
}

static bool is_cached(u8 *from, size_t size)
{
    unsigned char pages[MOST / PAGE + 1];
    const size_t within = (uintptr_t)from % PAGE, count = (within + size + PAGE - 1) / PAGE;
    if (mincore(from - within, within + size, pages)) return false;
    for (size_t n = 0; n < count; n++)
        if (!(pages[n] & 1)) return false;
    return true;
}

static void copy(const u8 *from, const struct iovec *v, unsigned count)
{
    for (unsigned n = 0; n < count; from += v[n++].iov_len) memcpy(v[n].iov_base, from, v[n].iov_len);
}

bool disk_map_read(struct disk_map *m, u64 offset, const struct iovec *v, unsigned count, size_t size)
{
    if (size < LEAST || size > MOST || offset > m->size || size > m->size - offset) return false;
    if (!is_cached(m->base + offset, size)) return false;
    if (m->size > KEEP && (m->held += size) > KEEP) {
        madvise(m->base, m->size, MADV_DONTNEED);
        m->held = size;
    }
    sigjmp_buf gone;
    if (!sigsetjmp(gone, 0)) {
        copying = &gone;
        copy(m->base + offset, v, count);
        copying = NULL;
        return true;
    }
    copying = NULL;
    return false;
}

/* build/tests/test_disk: raw images and the worker thread. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "host/disk.h"
#include "host/event_loop.h"

static char path[64];
static struct clock *guest_clock;
static struct event_loop *loop;

static void setup(void)
{
    snprintf(path, sizeof(path), "/tmp/calque-disk-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && ftruncate(fd, 100000) == 0); /* not a multiple of a sector */
    close(fd);
    guest_clock = clock_create();
    loop = event_loop_create(guest_clock);
}

static void teardown(void)
{
    event_loop_destroy(loop);
    clock_destroy(guest_clock);
    unlink(path);
}

TestSuite(disk, .init = setup, .fini = teardown, .timeout = 200);

static struct block *open_queue(bool readonly)
{
    struct disk_config c = {.option = "-hda", .path = path, .readonly = readonly};
    struct disk *d = disk_open(&c);
    cr_assert(d);
    struct block *b = disk_queue_create(d, &c, loop);
    cr_assert(b);
    return b;
}

static int over; /* requests done */

static void done(struct block_request *r)
{
    (void)r;
    over++;
}

static int run(struct block *b, enum block_op op, u64 offset, u8 *buf, size_t size, size_t *good)
{
    struct block_request r = {.op = op, .offset = offset, .buf = buf, .size = size, .done = done};
    over = 0;
    block_submit(b, &r);
    while (!over)
        event_loop_run_once(loop);
    if (good) *good = r.good;
    return r.error;
}

Test(disk, odd_end_is_a_sector)
{
    u8 buf[512], zero[512] = {0};
    struct block *b = open_queue(false);
    cr_expect_eq(b->size, 100352);
    memset(buf, 0xaa, sizeof(buf));
    cr_expect_eq(run(b, BLOCK_READ, 99840, buf, 512, NULL), 0);
    cr_expect(!memcmp(buf, zero, 512));
    memset(buf, 0x55, sizeof(buf));
    cr_expect_eq(run(b, BLOCK_WRITE, 99840, buf, 512, NULL), 0);
    cr_expect_eq(run(b, BLOCK_FLUSH, 0, NULL, 0, NULL), 0);
    cr_expect_eq(run(b, BLOCK_READ, 99840, zero, 512, NULL), 0);
    cr_expect(!memcmp(buf, zero, 512));
    disk_queue_destroy(b);
}

Test(disk, outside)
{
    u8 buf[1024];
    struct block *b = open_queue(false);
    cr_expect_eq(run(b, BLOCK_READ, 100352, buf, 512, NULL), -EINVAL);
    cr_expect_eq(run(b, BLOCK_WRITE, 99840, buf, 1024, NULL), -EINVAL);
    cr_expect_eq(run(b, BLOCK_READ, ~511ull, buf, 1024, NULL), -EINVAL);
    disk_queue_destroy(b);
}

/* Random requests in pieces, on each way that a disk is made of, against a model. */
static void in_pieces(enum disk_format format, bool snapshot, bool direct)
{
    enum { SIZE = 4 << 20, PIECES = 64, STRIDE = 0x20000 };
    u8 *model = calloc(1, SIZE), *memory = aligned_alloc(4096, PIECES * STRIDE);
    struct disk_config c = {.option = "-hda", .path = path, .format = format, .snapshot = snapshot, .direct = direct};
    struct disk *d = disk_open(&c);
    if (!d && direct) cr_skip_test("no O_DIRECT here");
    cr_assert(d && model && memory);
    cr_assert_eq(d->size, SIZE);
    struct block *b = disk_queue_create(d, &c, loop);
    cr_assert(b);
    srand(1);
    for (int n = 0; n < 200; n++) {
        struct iovec pieces[PIECES];
        struct block_request r = {.op = rand() & 1 ? BLOCK_WRITE : BLOCK_READ, .pieces = pieces, .done = done};
        for (u8 *at = memory; r.piece_count < 1u + (u32)n % PIECES; at += STRIDE) {
            size_t size = rand() % 16 ? 65536 : 2u + (size_t)rand() % 16 * 512;
            pieces[r.piece_count++] = (struct iovec){at + rand() % 8 * 4096, size};
            r.size += size;
        }
        size_t odd = r.size % 512; /* at the end of the last piece, which is longer if need be */
        if (odd) pieces[r.piece_count - 1].iov_len += 512 - odd, r.size += 512 - odd;
        r.offset = (u64)rand() % ((SIZE - MIN(r.size, (size_t)SIZE - 512)) / 512) * 512;
        if (r.size > SIZE - r.offset) continue;
        u8 *data = malloc(r.size);
        for (size_t i = 0; i < PIECES * STRIDE; i += 512) memory[i] = (u8)rand(), memory[i + 1] = (u8)n;
        if (r.op == BLOCK_WRITE) block_get(&r, 0, model + r.offset, r.size);
        over = 0;
        block_submit(b, &r);
        if (n & 1) block_drain(b); /* the data have moved, or are about to be told of */
        while (!over) event_loop_run_once(loop);
        cr_assert_eq(r.error, 0);
        cr_assert_eq(r.good, r.size);
        block_get(&r, 0, data, r.size);
        if (r.op == BLOCK_READ) cr_assert(!memcmp(data, model + r.offset, r.size), "request %d", n);
        free(data);
    }
    disk_queue_destroy(b);
    free(model);
    free(memory);
}

Test(disk, raw_in_pieces)
{
    cr_assert_eq(truncate(path, 0) | truncate(path, 4 << 20), 0);
    in_pieces(DISK_RAW, false, false);
}

Test(disk, past_the_page_cache_in_pieces)
{
    cr_assert_eq(truncate(path, 0) | truncate(path, 4 << 20), 0);
    in_pieces(DISK_RAW, false, true);
}

Test(disk, snapshot_in_pieces)
{
    cr_assert_eq(truncate(path, 0) | truncate(path, 4 << 20), 0);
    in_pieces(DISK_RAW, true, false);
}

Test(disk, qcow2_in_pieces)
{
    char command[200];
    snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 4M", path);
    cr_assert_eq(system(command), 0);
    in_pieces(DISK_QCOW2, false, false);
    /* Clusters that are there, side by side. */
    snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 -o preallocation=falloc %s 4M", path);
    cr_assert_eq(system(command), 0);
    in_pieces(DISK_QCOW2, false, false);
    snprintf(command, sizeof(command), "qemu-img check -q %s", path);
    cr_assert_eq(system(command), 0);
}

Test(disk, readonly)
{
    u8 buf[512] = {0};
    struct block *b = open_queue(true);
    cr_expect(b->readonly);
    cr_expect_eq(run(b, BLOCK_WRITE, 0, buf, 512, NULL), -EROFS);
    disk_queue_destroy(b);
}

/* The host's errors come back with the number of good bytes. */
Test(disk, host_write_error)
{
    u8 buf[4096] = {0};
    struct rlimit old, limit;
    struct block *b = open_queue(false);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){51200 + 1024, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    size_t good = 0;
    cr_expect_eq(run(b, BLOCK_WRITE, 51200, buf, 4096, &good), -EFBIG);
    cr_expect_eq(good, 1024);
    setrlimit(RLIMIT_FSIZE, &old);
    disk_queue_destroy(b);
}

/* werror=ignore, rerror=ignore */
Test(disk, errors_that_the_guest_is_not_told)
{
    u8 buf[4096] = {1};
    struct rlimit old, limit;
    struct disk_config c = {.option = "-hda", .path = path, .write_error = DISK_IGNORE};
    struct disk *d = disk_open(&c);
    cr_assert(d);
    struct block *b = disk_queue_create(d, &c, loop);
    cr_assert(b);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){51200 + 1024, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    size_t good = 0;
    cr_expect_eq(run(b, BLOCK_WRITE, 51200, buf, 4096, &good), 0);
    cr_expect_eq(good, 4096);
    setrlimit(RLIMIT_FSIZE, &old);
    disk_queue_destroy(b);
}

static int errors_told; /* calls of on_error */

static void note_error(void *opaque, const struct block_request *r, enum disk_action action)
{
    (void)opaque;
    cr_expect_eq(r->error, -EFBIG);
    if (action == DISK_STOP) errors_told++;
}

/* werror=stop: the request waits, later ones do, too, and it is tried again until it succeeds or the disk is closed. */
Test(disk, errors_that_wait)
{
    u8 buf[4096] = {1}, back[4096];
    struct rlimit old, limit;
    struct disk_config c = {.option = "-hda", .path = path, .write_error = DISK_STOP, .on_error = note_error};
    struct disk *d = disk_open(&c);
    cr_assert(d);
    struct block *b = disk_queue_create(d, &c, loop);
    cr_assert(b);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){51200 + 1024, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    struct block_request w = {.op = BLOCK_WRITE, .offset = 51200, .buf = buf, .size = 4096, .done = done};
    struct block_request r = {.op = BLOCK_READ, .offset = 51200, .buf = back, .size = 4096, .done = done};
    over = 0;
    block_submit(b, &w);
    block_submit(b, &r);
    for (int times = 1; times <= 3; times++) {
        while (errors_told < times) event_loop_run_once(loop);
        cr_expect_eq(errors_told, times);
        cr_expect_eq(disk_queue_stuck(b), -EFBIG);
        cr_expect_eq(over, 0);
        if (times < 3) disk_queue_retry(b);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    disk_queue_retry(b);
    while (over < 2) event_loop_run_once(loop);
    cr_expect_eq(w.error, 0);
    cr_expect_eq(w.good, 4096);
    cr_expect_eq(memcmp(buf, back, 4096), 0, "the read came after it");
    cr_expect_eq(disk_queue_stuck(b), 0);

    setrlimit(RLIMIT_FSIZE, &limit);
    over = 0;
    block_submit(b, &w);
    while (errors_told < 4) event_loop_run_once(loop);
    disk_queue_destroy(b);
    cr_expect_eq(over, 1);
    cr_expect_eq(w.error, -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
}

/* cache=none: whatever the buffers are, what is read and written is the same. */
Test(disk, past_the_page_cache)
{
    enum { SIZE = 3 << 20 };
    u8 *model = calloc(1, SIZE), *buf = malloc(SIZE + 64);
    for (int i = 0; i < SIZE; i++) model[i] = (u8)(i * 7 + i / 512);
    cr_assert_eq(truncate(path, SIZE), 0);
    struct disk_config c = {.option = "-drive", .path = path, .format = DISK_RAW, .direct = true};
    struct disk *d = disk_open(&c);
    if (!d) cr_skip_test("no O_DIRECT here");
    memcpy(buf + 3, model, SIZE);
    cr_expect_eq(d->ops->write(d, 0, buf + 3, SIZE), 0);
    memset(buf, 0, SIZE);
    cr_expect_eq(d->ops->read(d, 0, buf + 17, SIZE), 0);
    cr_expect(!memcmp(buf + 17, model, SIZE));
    memset(model + 512 * 9, 0x5a, 1024);
    cr_expect_eq(d->ops->write(d, 512 * 9, model + 512 * 9, 1024), 0);
    cr_expect_eq(d->ops->flush(d), 0);
    cr_assert_eq(disk_close(d), 0);
    int fd = open(path, O_RDONLY);
    cr_expect_eq(disk_pread(fd, 0, buf, SIZE), 0);
    cr_expect(!memcmp(buf, model, SIZE));
    close(fd);
    /* Parts of blocks, as tables of image formats are written. */
    fd = open(path, O_RDWR | O_DIRECT);
    cr_assert(fd >= 0);
    memset(model + 1000, 1, 12);
    memset(model + 1500000, 2, 40000);
    cr_expect_eq(disk_pwrite(fd, 1000, model + 1000, 12), 0);
    cr_expect_eq(disk_pwrite(fd, 1500000, model + 1500000, 40000), 0);
    cr_expect_eq(disk_pread(fd, 999, buf, SIZE - 999), 0);
    cr_expect(!memcmp(buf, model + 999, SIZE - 999));
    cr_expect(fcntl(fd, F_GETFL) & O_DIRECT);
    close(fd);
    free(model);
    free(buf);
}

Test(disk, destroy_finishes_requests)
{
    static u8 buf[100][512];
    static struct block_request r[100];
    struct block *b = open_queue(false);
    over = 0;
    for (int i = 0; i < 100; i++) {
        memset(buf[i], i, 512);
        r[i] = (struct block_request){
            .op = BLOCK_WRITE, .offset = 512u * (u32)i, .buf = buf[i], .size = 512, .done = done};
        block_submit(b, &r[i]);
    }
    disk_queue_destroy(b);
    cr_expect_eq(over, 100);
    int fd = open(path, O_RDONLY);
    u8 back[512];
    cr_expect(pread(fd, back, 512, 99 * 512) == 512 && back[0] == 99 && back[511] == 99);
    close(fd);
}

Test(disk, headers_of_other_formats_are_refused_on_a_probed_image)
{
    static const char *const headers[] = {"QFI\xfb", "KDMV", "COWD", "# Disk DescriptorFile", "vhdxfile", "conectix", "QED"};
    struct block *b = open_queue(false);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        u8 buf[512] = {0};
        memcpy(buf, headers[i], strlen(headers[i]));
        cr_expect_eq(run(b, BLOCK_WRITE, 0, buf, 512, NULL), -EPERM, "%s", headers[i]);
        cr_expect_eq(run(b, BLOCK_WRITE, 512, buf, 512, NULL), 0, "%s in another sector", headers[i]);
    }
    disk_queue_destroy(b);
}

Test(disk, locks)
{
    struct block *b = open_queue(false);
    struct disk_config c = {.option = "-hdb", .path = path};
    cr_expect_null(disk_open(&c));
    c.readonly = true;
    cr_expect_null(disk_open(&c), "a reader beside a writer");
    disk_queue_destroy(b);
    struct disk *d = disk_open(&c);
    cr_expect(d);
    disk_close(d);
}

Test(disk, large_reads_by_a_mapping)
{
    enum { SIZE = 1 << 20, PIECE = 200000 };
    u8 *data = malloc(SIZE), *to = malloc(SIZE);
    cr_assert(data && to);
    for (size_t n = 0; n < SIZE; n++) data[n] = (u8)(n * 31 ^ n >> 9);
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0 && pwrite(fd, data, SIZE, 0) == SIZE);
    struct disk_map m;
    disk_map_create(&m, fd, 2 * SIZE);
    cr_assert(m.base);
    struct iovec v[2] = {{.iov_base = to, .iov_len = PIECE}, {.iov_base = to + PIECE, .iov_len = PIECE}};
    cr_expect(disk_map_read(&m, 512, v, 2, 2 * PIECE));
    cr_expect(!memcmp(to, data + 512, 2 * PIECE));
    data[600] ^= 1;
    cr_assert(pwrite(fd, data + 600, 1, 600) == 1);
    cr_expect(disk_map_read(&m, 512, v, 2, 2 * PIECE), "again, after a write");
    cr_expect_eq(to[88], data[600]);
    cr_expect_not(disk_map_read(&m, 512, v, 1, 4096), "so little is not worth it");
    cr_expect_not(disk_map_read(&m, SIZE - PIECE, v, 2, 2 * PIECE), "behind the end");
    cr_assert(pwrite(fd, data, SIZE, SIZE) == SIZE);
    cr_expect(disk_map_read(&m, SIZE - PIECE, v, 2, 2 * PIECE), "the file has grown");
    cr_expect(!memcmp(to, data + SIZE - PIECE, PIECE) && !memcmp(to + PIECE, data, PIECE));
    cr_expect_not(disk_map_read(&m, ~511ull, v, 2, 2 * PIECE), "behind everything");

    /* A page that goes in the middle of the copy: here one of those that it is copied to. */
    FILE *other = tmpfile();
    cr_assert(other && ftruncate(fileno(other), PIECE) == 0);
    void *gone = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(other), 0);
    cr_assert(gone != MAP_FAILED && ftruncate(fileno(other), 4096) == 0);
    v[1].iov_base = gone;
    cr_expect_not(disk_map_read(&m, 0, v, 2, 2 * PIECE));
    v[1].iov_base = to + PIECE;
    cr_expect(disk_map_read(&m, 0, v, 2, 2 * PIECE), "the next one finds all");
    fclose(other);

    /* Somebody truncates the image. */
    cr_assert(ftruncate(fd, 8192) == 0);
    cr_expect_not(disk_map_read(&m, 0, v, 2, 2 * PIECE));
    disk_map_destroy(&m);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT);
    if (fd >= 0) {
        cr_assert(ftruncate(fd, SIZE) == 0);
        disk_map_create(&m, fd, SIZE);
        cr_expect_null(m.base, "past the page cache");
        close(fd);
    }
    free(data);
    free(to);
}

Test(disk, truncated_under_a_machine)
{
    enum { SIZE = 1 << 20 };
    u8 *buf = malloc(SIZE);
    cr_assert(buf && truncate(path, SIZE) == 0);
    struct block *b = open_queue(false);
    memset(buf, 0x5a, SIZE);
    cr_expect_eq(run(b, BLOCK_WRITE, 0, buf, SIZE, NULL), 0);
    cr_expect_eq(run(b, BLOCK_READ, 0, buf, SIZE, NULL), 0);
    cr_assert(truncate(path, SIZE / 2) == 0);
    cr_expect_eq(run(b, BLOCK_READ, 0, buf, SIZE, NULL), 0);
    cr_expect_eq(buf[SIZE / 2 - 1], 0x5a);
    cr_expect_eq(buf[SIZE / 2], 0);
    disk_queue_destroy(b);
    free(buf);
}

Test(disk, other_things_than_files)
{
    struct disk_config c = {.option = "-hda", .path = "/dev/null"};
    cr_expect_null(disk_open(&c));
    c.path = "/tmp";
    cr_expect_null(disk_open(&c));
    c.path = "/nonexistent/x";
    cr_expect_null(disk_open(&c));
}

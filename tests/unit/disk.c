/* build/tests/test_disk: raw images and the worker thread. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

TestSuite(disk, .init = setup, .fini = teardown, .timeout = 20);

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

Test(disk, qcow2_header_is_refused_on_a_probed_image)
{
    u8 buf[512] = "QFI\xfb";
    struct block *b = open_queue(false);
    cr_expect_eq(run(b, BLOCK_WRITE, 0, buf, 512, NULL), -EPERM);
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

Test(disk, other_things_than_files)
{
    struct disk_config c = {.option = "-hda", .path = "/dev/null"};
    cr_expect_null(disk_open(&c));
    c.path = "/tmp";
    cr_expect_null(disk_open(&c));
    c.path = "/nonexistent/x";
    cr_expect_null(disk_open(&c));
}

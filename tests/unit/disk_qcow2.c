/* build/tests/test_disk_qcow2: images made by qemu-img, written by us, checked and compared by qemu-img. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <signal.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/disk.h"

#define SIZE (24u << 20)

static char dir[64];

static int sh(const char *format, ...)
{
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void setup(void)
{
    if (sh("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null")) cr_skip_test("no qemu-img");
    snprintf(dir, sizeof(dir), "/tmp/calque-qcow2-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
    if (dir[0]) sh("rm -rf %s", dir);
}

TestSuite(disk_qcow2, .init = setup, .fini = teardown);

static bool direct; /* cache=none */

static struct disk *open_image(const char *name, bool readonly)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    struct disk_config c = {.option = "-drive", .path = path, .readonly = readonly, .discard = true, .direct = direct};
    struct disk *d = disk_open(&c);
    cr_assert(d, "%s", path);
    return d;
}

static u32 seed;

static u32 rnd(void)
{
    seed = seed * 1103515245u + 12345u;
    return seed >> 8;
}

/* Random writes and discards, with a model of what must be there. */
static int try_storm(struct disk *d, u8 *model, int rounds, bool discards)
{
    int err;
    static u8 buf[256 * 512];
    for (int i = 0; i < rounds; i++) {
        u64 at = (u64)(rnd() % (SIZE / 512)) * 512;
        size_t n = (1 + rnd() % 200) * 512u;
        n = MIN(n, (size_t)(SIZE - at));
        if (discards && rnd() % 8 == 0) {
            if ((err = d->ops->discard(d, at, n))) return err;
            /* what it reads as now is the disk's choice */
            if ((err = d->ops->read(d, at, model + at, n))) return err;
            continue;
        }
        for (size_t k = 0; k < n; k++)
            buf[k] = (u8)rnd();
        if ((err = d->ops->write(d, at, buf, n))) return err;
        memcpy(model + at, buf, n);
        if (rnd() % 40 == 0 && (err = d->ops->flush(d))) return err;
    }
    return 0;
}

static void storm(struct disk *d, u8 *model, int rounds, bool discards)
{
    cr_assert_eq(try_storm(d, model, rounds, discards), 0);
}

static void check(const char *name, const u8 *model)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/model", dir);
    FILE *f = fopen(path, "w");
    cr_assert(f && fwrite(model, 1, SIZE, f) == SIZE && !fclose(f));
    cr_expect_eq(sh("qemu-img check -q %s/%s", dir, name), 0);
    cr_expect_eq(sh("qemu-img compare -q -F raw %s/%s %s/model", dir, name, dir), 0, "%s differs", name);
}

static void write_and_check(const char *options, bool discards)
{
    u8 *model = calloc(1, SIZE), *back = malloc(SIZE);
    cr_assert_eq(sh("qemu-img create -q -f qcow2 -o %s %s/i.qcow2 24M", options, dir), 0);
    struct disk *d = open_image("i.qcow2", false);
    cr_assert_eq(d->size, SIZE);
    storm(d, model, 300, discards);
    cr_expect_eq(d->ops->read(d, 0, back, SIZE), 0);
    cr_expect(!memcmp(back, model, SIZE), "read before close");
    cr_assert_eq(disk_close(d), 0);
    check("i.qcow2", model);
    /* Once more on what is there. */
    d = open_image("i.qcow2", false);
    storm(d, model, 200, discards);
    cr_assert_eq(disk_close(d), 0);
    check("i.qcow2", model);
    free(model);
    free(back);
}

Test(disk_qcow2, version_2) { write_and_check("compat=0.10", false); }
Test(disk_qcow2, version_3) { write_and_check("compat=1.1", false); }
Test(disk_qcow2, smallest_clusters_grow_the_refcount_table) { write_and_check("cluster_size=512", true); }
Test(disk_qcow2, largest_clusters) { write_and_check("cluster_size=2M", true); }
Test(disk_qcow2, refcounts_of_one_bit) { write_and_check("refcount_bits=1,cluster_size=4096", true); }
Test(disk_qcow2, refcounts_of_64_bits) { write_and_check("refcount_bits=64,cluster_size=1024", true); }
Test(disk_qcow2, past_the_page_cache)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/probe", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    if (fd < 0) cr_skip_test("no O_DIRECT here");
    close(fd);
    direct = true;
    write_and_check("cluster_size=4096", true);
    write_and_check("compat=1.1", false);
}
Test(disk_qcow2, discards) { write_and_check("cluster_size=4096", true); }

/* A compressed image below, and the write path onto compressed clusters. */
Test(disk_qcow2, compressed)
{
    u8 *model = calloc(1, SIZE), *back = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        model[i] = (u8)(i >> 9) ^ (u8)(i * 7 >> 13);
    char path[128];
    snprintf(path, sizeof(path), "%s/model", dir);
    FILE *f = fopen(path, "w");
    cr_assert(f && fwrite(model, 1, SIZE, f) == SIZE && !fclose(f));
    cr_assert_eq(sh("qemu-img convert -q -f raw -O qcow2 -c %s/model %s/c.qcow2", dir, dir), 0);
    struct disk *d = open_image("c.qcow2", false);
    cr_assert_eq(d->ops->read(d, 0, back, SIZE), 0);
    cr_expect(!memcmp(back, model, SIZE));
    storm(d, model, 200, true);
    cr_assert_eq(disk_close(d), 0);
    check("c.qcow2", model);
    free(model);
    free(back);
}

Test(disk_qcow2, backing_file_is_not_touched)
{
    u8 *model = calloc(1, SIZE);
    cr_assert_eq(sh("cd %s && qemu-img create -q -f qcow2 base.qcow2 20M && qemu-io -c 'write -P 0x5a 1M 7M' "
                    "base.qcow2"
                    " >/dev/null && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 24M && "
                    "md5sum base.qcow2"
                    " > sum",
                    dir),
                 0);
    memset(model + (1 << 20), 0x5a, 7 << 20);
    struct disk *d = open_image("top.qcow2", false);
    storm(d, model, 200, true);
    cr_assert_eq(disk_close(d), 0);
    check("top.qcow2", model);
    cr_expect_eq(sh("cd %s && md5sum --quiet -c sum", dir), 0);
    free(model);
}

/* Clusters that a snapshot shares are copied: the snapshot keeps its contents. */
Test(disk_qcow2, internal_snapshot)
{
    u8 *model = calloc(1, SIZE);
    cr_assert_eq(sh("cd %s && qemu-img create -q -f qcow2 s.qcow2 24M && qemu-io -c 'write -P 0x33 2M 9M' "
                    "s.qcow2 >/dev/null"
                    " && qemu-img snapshot -c one s.qcow2",
                    dir),
                 0);
    memset(model + (2 << 20), 0x33, 9 << 20);
    u8 *before = malloc(SIZE);
    memcpy(before, model, SIZE);
    struct disk *d = open_image("s.qcow2", false);
    storm(d, model, 200, true);
    cr_assert_eq(disk_close(d), 0);
    check("s.qcow2", model);
    cr_assert_eq(sh("qemu-img snapshot -a one %s/s.qcow2", dir), 0);
    check("s.qcow2", before);
    free(before);
    free(model);
}

/* An error in the middle of counting clusters down, and the flush is tried again: none may be counted down twice. Clusters
 * at 128K and 900K are counted in different blocks, and a snapshot has them, too; that of the latter cannot be read. */
Test(disk_qcow2, error_while_clusters_are_given_back)
{
    static const u64 places[2][2] = {{128 << 10, 900 << 10}, {900 << 10, 128 << 10}};
    char path[128];
    snprintf(path, sizeof(path), "%s/e.qcow2", dir);
    for (int k = 0; k < 2; k++) {
        u8 entry[8];
        cr_assert_eq(sh("cd %s && qemu-img create -q -f qcow2 -o cluster_size=1024 e.qcow2 4M && qemu-io -d unmap -c 'write 0 1M' "
                        "-c 'discard 0 64K' e.qcow2 >/dev/null && qemu-img snapshot -c one e.qcow2", dir), 0);
        int fd = open(path, O_RDWR);
        cr_assert(fd >= 0 && pread(fd, entry, 8, 48) == 8);
        off_t at = (entry[4] << 24 | entry[5] << 16 | entry[6] << 8 | entry[7]) + 8; /* the refcount table's second entry */
        cr_assert(pread(fd, entry, 8, at) == 8);
        entry[6] ^= 2;
        cr_assert(pwrite(fd, entry, 8, at) == 8);
        struct disk *d = open_image("e.qcow2", false);
        for (int i = 0; i < 2; i++) cr_expect_eq(d->ops->discard(d, places[k][i], 1024), 0);
        for (int i = 0; i < 3; i++) cr_expect_neq(d->ops->flush(d), 0);
        disk_close(d);
        entry[6] ^= 2;
        cr_assert(pwrite(fd, entry, 8, at) == 8);
        close(fd);
        int found = sh("qemu-img check -q %s", path);
        cr_expect(found == 0 || found == 3, "only leaks: %d", found);
    }
}

/* kill -9 at any moment of a write storm: nothing to repair, nothing leaked, and what was flushed is there.
 */
Test(disk_qcow2, killed_at_any_moment, .timeout = 250)
{
    cr_assert_eq(sh("qemu-img create -q -f qcow2 -o cluster_size=4096 %s/k.qcow2 24M", dir), 0);
    char path[128];
    snprintf(path, sizeof(path), "%s/k.qcow2", dir);
    for (int round = 0; round < 25; round++) {
        pid_t pid = fork();
        if (!pid) {
            struct disk_config c = {.option = "-drive", .path = path};
            struct disk *d = NULL;
            while (!d)
                d = disk_open(&c); /* the last one's commit may not be over yet */
            u8 *model = calloc(1, SIZE);
            seed = (u32)round;
            int err = 0;
            while (!err)
                err = try_storm(d, model, 50, true);
            fprintf(stderr, "write storm: error %d\n", err);
            _exit(1);
        }
        usleep((useconds_t)(30000 + round * 3371 % 40000));
        int status;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        cr_assert(WIFSIGNALED(status));
        /* A commit that was under way comes to its end with the image still locked. */
        int result;
        while ((result = sh("qemu-img check -q %s 2>%s/err", path, dir)) && !sh("grep -q 'lock' %s/err", dir)) usleep(20000);
        cr_assert_eq(result, 0, "round %d: qemu-img check says %d", round, result);
    }
}

Test(disk_qcow2, two_writers_are_refused)
{
    cr_assert_eq(sh("qemu-img create -q -f qcow2 %s/l.qcow2 1M", dir), 0);
    struct disk *d = open_image("l.qcow2", false);
    char path[128];
    snprintf(path, sizeof(path), "%s/l.qcow2", dir);
    struct disk_config c = {.option = "-hda", .path = path};
    cr_expect_null(disk_open(&c));
    cr_expect_neq(sh("qemu-io -c 'write 0 512' %s >/dev/null 2>&1", path), 0);
    disk_close(d);
    c.readonly = true;
    struct disk *a = disk_open(&c), *b = disk_open(&c);
    cr_expect(a && b, "readers share");
    disk_close(a);
    disk_close(b);
}

/* What a damaged or hostile image must not do: anything but fail. */
Test(disk_qcow2, damaged_headers_are_refused)
{
    static const struct {
        u32 at;
        u8 byte;
    } damage[] = {{7, 9},  {23, 40}, {23, 3},  {35, 1}, {36, 0xff}, {46, 1},
                  {48, 0}, {79, 4},  {79, 16}, {72, 1}, {99, 9},    {24, 0xff}};
    for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
        cr_assert_eq(sh("qemu-img create -q -f qcow2 %s/d.qcow2 1M", dir), 0);
        char path[128];
        snprintf(path, sizeof(path), "%s/d.qcow2", dir);
        FILE *f = fopen(path, "r+");
        fseek(f, damage[i].at, SEEK_SET);
        if (damage[i].at == 48)
            fwrite("\0\0\0\0\0\0\0\0", 1, 8, f);
        else
            fputc(damage[i].byte, f);
        fclose(f);
        struct disk_config c = {.option = "-hda", .path = path, .format = DISK_QCOW2};
        struct disk *d = disk_open(&c);
        cr_expect_null(d, "byte %u = %u", damage[i].at, damage[i].byte);
        disk_close(d);
    }
}

Test(disk_qcow2, snapshot_option_leaves_the_image_alone)
{
    u8 *model = calloc(1, SIZE), *back = malloc(SIZE);
    cr_assert_eq(sh("cd %s && qemu-img create -q -f qcow2 i.qcow2 24M && md5sum i.qcow2 > sum", dir), 0);
    char path[128];
    snprintf(path, sizeof(path), "%s/i.qcow2", dir);
    struct disk_config c = {.option = "-hda", .path = path, .snapshot = true};
    struct disk *d = disk_open(&c);
    cr_assert(d);
    storm(d, model, 200, false);
    cr_assert_eq(d->ops->read(d, 0, back, SIZE), 0);
    cr_expect(!memcmp(back, model, SIZE));
    disk_close(d);
    cr_expect_eq(sh("cd %s && md5sum --quiet -c sum", dir), 0);
    free(model);
    free(back);
}

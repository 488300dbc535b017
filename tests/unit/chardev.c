// build/tests/test_chardev
/* Host character back ends: what the guest writes comes out, what the peer sends reaches the guest at its pace. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "core/clock.h"
#include "host/chardev_open.h"
#include "host/event_loop.h"

static struct clock *real_clock;
static struct event_loop *loop;
static char dir[] = "/tmp/calque-chardev-XXXXXX";
static char path[64];

/* A device that takes `room` bytes. */
static struct front {
    size_t room;    /* how many more it takes */
    u8 got[8192];   /* what it took */
    size_t len;     /* bytes of it */
    int breaks;     /* serial breaks */
} front;

static size_t can_receive(void *opaque) { return ((struct front *)opaque)->room; }

static void receive(void *opaque, const u8 *buf, size_t len)
{
    struct front *f = opaque;
    cr_assert_leq(len, f->room, "more than can_receive() allows");
    memcpy(f->got + f->len, buf, len);
    f->len += len;
    f->room -= len;
}

static void break_received(void *opaque) { ((struct front *)opaque)->breaks++; }

static const struct chardev_front front_ops = {can_receive, receive, break_received, NULL};

static void setup(void)
{
    real_clock = clock_create();
    loop = event_loop_create(real_clock);
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/x", dir);
    memset(&front, 0, sizeof(front));
}

static void teardown(void)
{
    event_loop_destroy(loop);
    clock_destroy(real_clock);
    unlink(path);
    rmdir(dir);
}

TestSuite(chardev, .init = setup, .fini = teardown, .timeout = 200);

static void put(struct chardev *c, const char *text) { chardev_write(c, (const u8 *)text, strlen(text)); }

/* Run the loop until the device has n bytes. */
static void run_until(size_t n)
{
    while (front.len < n) event_loop_run_once(loop);
}

static void expect_bytes(int fd, const char *text)
{
    char buf[256];
    size_t have = 0, want = strlen(text);
    while (have < want) {
        ssize_t n = read(fd, buf + have, want - have);
        cr_assert_gt(n, 0);
        have += (size_t)n;
    }
    cr_assert(!memcmp(buf, text, want));
}

Test(chardev, null_swallows)
{
    struct chardev_config config = {.kind = CHARDEV_NULL, .label = "a"};
    struct chardev *c = chardev_open(loop, &config);
    cr_assert_not_null(c);
    chardev_attach(c, &front_ops, &front);
    put(c, "hello");
    chardev_close(c);
    cr_assert_eq(front.len, 0);
}

Test(chardev, file_truncates_or_appends)
{
    struct chardev_config config = {.kind = CHARDEV_FILE, .label = "a", .path = path};
    char buf[32] = {0};
    for (int i = 0; i < 2; i++) {
        struct chardev *c = chardev_open(loop, &config);
        put(c, "one");
        put(c, "two");
        chardev_close(c);
    }
    config.append = true;
    struct chardev *c = chardev_open(loop, &config);
    put(c, "three");
    chardev_close(c);
    int fd = open(path, O_RDONLY);
    cr_assert_eq(read(fd, buf, sizeof(buf) - 1), 11);
    cr_assert_str_eq(buf, "onetwothree");
    close(fd);
}

Test(chardev, full_disk_ends_the_machine)
{
    struct chardev_config config = {.kind = CHARDEV_FILE, .label = "a", .path = "/dev/full"};
    cr_redirect_stderr();
    struct chardev *c = chardev_open(loop, &config);
    put(c, "x");
    put(c, "y");
    fflush(stderr);
    cr_assert(event_loop_failed(loop));
    cr_assert_stderr_eq_str("calque: cannot write to /dev/full: No space left on device\n");
    chardev_close(c);
}

Test(chardev, missing_directory_is_reported)
{
    struct chardev_config config = {.kind = CHARDEV_FILE, .label = "a", .path = "/nosuch/file"};
    cr_redirect_stderr();
    cr_assert_null(chardev_open(loop, &config));
    fflush(stderr);
    cr_assert_stderr_eq_str("calque: a: cannot open /nosuch/file: No such file or directory\n");
}

static int connect_unix(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

Test(chardev, unix_server_takes_one_peer_after_another)
{
    struct chardev_config config = {.kind = CHARDEV_UNIX, .label = "a", .path = path, .server = true};
    struct chardev *c = chardev_open(loop, &config);
    cr_assert_not_null(c);
    chardev_attach(c, &front_ops, &front);
    front.room = 100;
    put(c, "nobody hears this");
    for (int i = 0; i < 2; i++) {
        int fd = connect_unix();
        cr_assert_eq(write(fd, "ping", 4), 4);
        run_until((size_t)(i + 1) * 4);
        put(c, "pong");
        expect_bytes(fd, "pong");
        close(fd);
        event_loop_run_once(loop); /* sees it go */
    }
    cr_assert(!memcmp(front.got, "pingping", 8));
    chardev_close(c);
    cr_assert_eq(access(path, F_OK), -1, "the socket is removed");
}

Test(chardev, input_waits_for_the_device)
{
    struct chardev_config config = {.kind = CHARDEV_UNIX, .label = "a", .path = path, .server = true};
    struct chardev *c = chardev_open(loop, &config);
    chardev_attach(c, &front_ops, &front);
    int fd = connect_unix();
    u8 out[6000];
    for (size_t i = 0; i < sizeof(out); i++) out[i] = (u8)(i * 7);
    cr_assert_eq(write(fd, out, sizeof(out)), (ssize_t)sizeof(out));
    for (size_t taken = 0; taken < sizeof(out);) {
        front.room = MIN((size_t)1000, sizeof(out) - taken);
        taken += front.room;
        chardev_accept_input(c);
        run_until(taken);
        cr_assert_eq(front.len, taken);
    }
    cr_assert(!memcmp(front.got, out, sizeof(out)));
    close(fd);
    chardev_close(c);
}

Test(chardev, telnet_negotiation_is_taken_out)
{
    struct chardev_config config = {.kind = CHARDEV_UNIX, .label = "a", .path = path, .server = true, .telnet = true};
    struct chardev *c = chardev_open(loop, &config);
    chardev_attach(c, &front_ops, &front);
    front.room = 100;
    int fd = connect_unix();
    /* DO ECHO, SB 24 1 IAC SE, a doubled 255, BREAK */
    static const u8 in[] = {'a', 255, 253, 1, 255, 250, 24, 1, 255, 240, 'b', 255, 255, 255, 243, 'c'};
    cr_assert_eq(write(fd, in, sizeof(in)), (ssize_t)sizeof(in));
    run_until(4);
    cr_assert(!memcmp(front.got, "ab\xff"
                                 "c", 4));
    cr_assert_eq(front.len, 4);
    cr_assert_eq(front.breaks, 1);
    chardev_write(c, (const u8 *)"x\xff\xffy", 4);
    expect_bytes(fd, "\xff\xfb\x01\xff\xfb\x03\xff\xfb");
    char zero;
    cr_assert_eq(read(fd, &zero, 1), 1); /* WILL BINARY: option 0 */
    cr_assert_eq(zero, 0);
    expect_bytes(fd, "\xff\xfd");
    cr_assert_eq(read(fd, &zero, 1), 1);
    expect_bytes(fd, "x\xff\xff\xff\xffy");
    close(fd);
    chardev_close(c);
}

/* A reader that starts late and reads everything: it must see every byte in order. */
static size_t slow_total;

static void *slow_reader(void *opaque)
{
    int fd = *(int *)opaque;
    u8 buf[65536];
    usleep(100000);
    for (;;) {
        ssize_t n = read(fd, buf, sizeof(buf));
        if (n <= 0) return NULL;
        for (ssize_t i = 0; i < n; i++, slow_total++)
            if (buf[i] != (u8)(slow_total % 251)) return "wrong byte";
    }
}

Test(chardev, slow_reader_loses_nothing)
{
    enum { TOTAL = 3 << 20 };
    cr_assert_eq(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    fcntl(fd, F_SETFL, 0);
    struct chardev_config config = {.kind = CHARDEV_FILE, .label = "a", .path = path};
    struct chardev *c = chardev_open(loop, &config);
    cr_assert_not_null(c);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, slow_reader, &fd), 0);
    for (size_t i = 0; i < TOTAL; i++) {
        u8 byte = (u8)(i % 251);
        chardev_write(c, &byte, 1);
    }
    chardev_close(c); /* sends the rest */
    void *problem;
    pthread_join(thread, &problem);
    cr_assert_null(problem);
    cr_assert_eq(slow_total, TOTAL);
    close(fd);
}

Test(chardev, quitting_does_not_wait_for_a_dead_reader)
{
    cr_assert_eq(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    struct chardev_config config = {.kind = CHARDEV_FILE, .label = "a", .path = path};
    struct chardev *c = chardev_open(loop, &config);
    static u8 block[600000];
    chardev_write(c, block, sizeof(block));
    event_loop_quit(loop);
    for (int i = 0; i < 10; i++) chardev_write(c, block, sizeof(block));
    chardev_close(c);
    close(fd);
}

Test(chardev, pty_talks_both_ways)
{
    cr_redirect_stdout();
    struct chardev_config config = {.kind = CHARDEV_PTY, .label = "serial0"};
    struct chardev *c = chardev_open(loop, &config);
    cr_assert_not_null(c);
    char line[128] = {0}, name[64], label[32];
    FILE *out = cr_get_redirected_stdout();
    cr_assert_not_null(fgets(line, sizeof(line), out));
    cr_assert_eq(sscanf(line, "char device redirected to %63s (label %31[^)])", name, label), 2, "%s", line);
    cr_assert_str_eq(label, "serial0");

    chardev_attach(c, &front_ops, &front);
    front.room = 100;
    put(c, "nobody is there");
    int fd = open(name, O_RDWR | O_NOCTTY);
    cr_assert_geq(fd, 0);
    put(c, "hi\n");
    expect_bytes(fd, "hi\n"); /* as it is: no CR added */
    cr_assert_eq(write(fd, "\x03\x04\r", 3), 3);
    run_until(3);
    cr_assert(!memcmp(front.got, "\x03\x04\r", 3));
    close(fd);
    chardev_close(c);
}

/* ---- several front ends ---- */

static struct front second;
static int connects;

static void connected(void *opaque, bool up)
{
    (void)opaque;
    connects += up ? 1 : -1;
}

static const struct chardev_front second_ops = {can_receive, receive, break_received, connected};

Test(chardev, mux_has_one_reader_and_many_writers)
{
    struct chardev_config config = {.kind = CHARDEV_UNIX, .label = "a", .path = path, .server = true, .mux = true};
    struct chardev *c = chardev_open(loop, &config), *one = chardev_port(c), *two = chardev_port(c);
    cr_assert(one && two && one != two);
    chardev_attach(one, &front_ops, &front);
    chardev_attach(two, &second_ops, &second);
    front.room = second.room = 3;
    int fd = connect_unix();
    cr_assert_eq(write(fd, "ab\x01\x01\x01" "bcd\x01", 9), 9); /* a doubled Ctrl-A, a break, more than there is room for */
    run_until(3);
    cr_expect_eq(front.breaks, 1);
    cr_expect(!memcmp(front.got, "ab\x01", 3));
    cr_expect_eq(connects, 0);
    cr_assert_eq(write(fd, "cxy", 3), 3); /* Ctrl-A c: the other one's turn */
    while (second.len < 2) event_loop_run_once(loop);
    cr_expect_eq(connects, 1);
    cr_expect(!memcmp(second.got, "xy", 2));
    front.room = 2;
    chardev_accept_input(one);
    cr_expect(!memcmp(front.got, "ab\x01" "cd", 5), "what was typed before is not lost");
    put(one, "first ");
    put(two, "second");
    expect_bytes(fd, "first second");
    close(fd);
    while (connects) event_loop_run_once(loop);
    fd = connect_unix();
    while (!connects) event_loop_run_once(loop);
    cr_assert_eq(write(fd, "\x01x", 2), 2);
    while (!event_loop_quitting(loop)) event_loop_run_once(loop);
    close(fd);
    chardev_close(c);
}

Test(chardev, a_lossy_peer_that_does_not_read_costs_nothing)
{
    struct chardev_config config = {.kind = CHARDEV_UNIX, .label = "a", .path = path, .server = true};
    struct chardev *c = chardev_open(loop, &config);
    c->lossy = true;
    chardev_attach(c, &front_ops, &front);
    front.room = 100;
    int fd = connect_unix();
    while (!c->up) event_loop_run_once(loop);
    static u8 block[300000];
    for (int i = 0; i < 50; i++) chardev_write(c, block, sizeof(block)); /* does not wait */
    cr_assert_eq(write(fd, "x", 1), 1);
    for (int i = 0; i < 3; i++) {
        event_loop_wake(loop);
        event_loop_run_once(loop);
    }
    cr_expect_eq(front.len, 0, "a peer that does not read is not heard");
    /* Whole writes are lost: what arrives is a multiple. */
    size_t total = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (front.len == 0) {
        static u8 got[65536];
        ssize_t n = read(fd, got, sizeof(got));
        if (n > 0) total += (size_t)n;
        event_loop_wake(loop);
        event_loop_run_once(loop);
    }
    for (ssize_t n; (n = read(fd, block, sizeof(block))) > 0;) total += (size_t)n;
    cr_expect(total && total % sizeof(block) == 0, "%zu", total);
    close(fd);
    chardev_close(c);
}

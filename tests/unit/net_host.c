// build/tests/test_net_host
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/netdev.h"
#include "host/event_loop.h"
#include "host/net_open.h"

/* A card that keeps what it gets, while it has room. */
struct card {
    int room, count;
    bool link;
    size_t len[8];
    u8 last[NETDEV_FRAME_MAX];
};

static bool receive(void *opaque, const u8 *frame, size_t len)
{
    struct card *c = opaque;
    if (!c->room) return false;
    c->room--;
    if (c->count < 8) c->len[c->count] = len;
    c->count++;
    memcpy(c->last, frame, len);
    return true;
}

static void link_changed(void *opaque, bool up) { ((struct card *)opaque)->link = up; }
static const struct netdev_front front = {.receive = receive, .link_changed = link_changed};

static struct clock *clk;
static struct event_loop *loop;
static struct card a, b;

static void setup(void)
{
    clk = clock_create();
    loop = event_loop_create(clk);
    a = b = (struct card){.room = 100};
}

static void teardown(void)
{
    event_loop_destroy(loop);
    clock_destroy(clk);
}

TestSuite(net_host, .init = setup, .fini = teardown, .timeout = 200);

static void turn(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        event_loop_wake(loop);
        event_loop_run_once(loop);
    }
}

static struct netdev *open_net(const struct net_config *config, struct card *card)
{
    struct netdev *n = net_open(loop, config);
    cr_assert(n);
    netdev_attach(n, &front, card);
    return n;
}

Test(net_host, stream_sockets_carry_frames)
{
    char path[] = "/tmp/calque-net-XXXXXX";
    cr_assert(mkdtemp(path));
    char name[64];
    snprintf(name, sizeof(name), "%s/s", path);
    struct net_config server = {.kind = NET_STREAM, .id = "a", .server = true, .path = name, .fd = -1};
    struct net_config client = {.kind = NET_STREAM, .id = "b", .path = name, .fd = -1};
    struct netdev *na = open_net(&server, &a);
    cr_expect_not(netdev_link(na), "nobody is there");
    struct netdev *nb = open_net(&client, &b);
    turn(3);
    cr_expect(a.link);
    static u8 frame[9000];
    for (size_t i = 0; i < sizeof(frame); i++) frame[i] = (u8)(i * 3);
    netdev_transmit(nb, frame, 60);
    netdev_transmit(nb, frame, sizeof(frame));
    netdev_transmit(na, frame, 1514);
    turn(10);
    cr_expect_eq(a.count, 2);
    cr_expect_eq(a.len[0], 60);
    cr_expect_eq(a.len[1], sizeof(frame));
    cr_expect_arr_eq(a.last, frame, sizeof(frame));
    cr_expect_eq(b.count, 1);
    cr_expect_eq(b.len[0], 1514);
    /* A card without room holds the peer's frames up, and gets them all later. */
    a.room = 0;
    for (int i = 0; i < 50; i++) netdev_transmit(nb, frame, 1000);
    turn(20);
    cr_expect_eq(a.count, 2);
    cr_expect_eq(na->queued, 1);
    a.room = 100;
    netdev_flush(na);
    for (int i = 0; i < 100 && a.count < 52; i++) turn(1);
    cr_expect_eq(a.count, 52);
    /* The peer goes, and another comes. */
    netdev_close(nb);
    turn(3);
    cr_expect_not(a.link);
    nb = open_net(&client, &b);
    turn(3);
    cr_expect(a.link);
    netdev_close(nb);
    netdev_close(na);
    cr_expect(access(name, F_OK) < 0, "the socket is removed");
    rmdir(path);
}

Test(net_host, a_peer_that_talks_nonsense_is_cut_off)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct net_config config = {.kind = NET_STREAM, .id = "x", .fd = fds[0]};
    struct netdev *n = open_net(&config, &a);
    cr_expect(netdev_link(n));
    cr_assert_eq(write(fds[1], "\xff\xff\xff\xff" "rubbish", 11), 11);
    turn(3);
    cr_expect_not(netdev_link(n));
    cr_expect_eq(a.count, 0);
    netdev_close(n);
    close(fds[1]);
}

static void set_flag(void *opaque) { *(bool *)opaque = true; }

/* A hang-up behind frames for which the card has no room must not keep the loop busy. */
Test(net_host, a_peer_that_left_while_the_card_is_full)
{
    int fds[2], rounds = 0;
    bool over = false;
    u8 frame[64] = {0, 0, 0, 60};
    struct timer *timer = timer_create_on(clk, set_flag, &over);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct net_config config = {.kind = NET_STREAM, .id = "x", .fd = fds[0]};
    struct netdev *n = open_net(&config, &a);
    a.room = 0;
    for (int i = 0; i < 5; i++) cr_assert_eq(write(fds[1], frame, sizeof(frame)), sizeof(frame));
    close(fds[1]);
    timer_arm(timer, clock_now(clk) + NS_PER_SECOND / 5);
    for (; !over; rounds++) event_loop_run_once(loop);
    cr_expect_lt(rounds, 50, "%d rounds", rounds);
    a.room = 100;
    netdev_flush(n);
    turn(5);
    cr_expect_eq(a.count, 5, "nothing is lost");
    cr_expect_not(netdev_link(n));
    netdev_close(n);
    timer_destroy(timer);
}

Test(net_host, datagrams)
{
    /* A loopback address that no other process uses, and ports that the host gives nobody by itself. */
    char here[32];
    const unsigned pid = (unsigned)getpid();
    snprintf(here, sizeof(here), "127.%u.%u.%u", 1 + pid / 62500, pid / 250 % 250, 1 + pid % 250);
    struct net_config ca = {.kind = NET_DGRAM, .id = "a", .fd = -1, .address = here, .port = "20002",
                            .local_address = here, .local_port = "20001"};
    struct net_config cb = {.kind = NET_DGRAM, .id = "b", .fd = -1, .address = here, .port = "20001",
                            .local_address = here, .local_port = "20002"};
    struct netdev *na = open_net(&ca, &a), *nb = open_net(&cb, &b);
    u8 frame[100] = {1, 2, 3};
    netdev_transmit(na, frame, sizeof(frame));
    while (!b.count) turn(1);
    cr_expect_eq(b.count, 1);
    cr_expect_eq(b.len[0], 100);
    cr_expect_eq(b.last[2], 3);
    netdev_close(na);
    netdev_close(nb);
}

Test(net_host, dump_has_both_directions)
{
    int fds[2];
    char path[] = "/tmp/calque-dump-XXXXXX";
    int file = mkstemp(path);
    cr_assert(file >= 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct net_config config = {.kind = NET_STREAM, .id = "x", .fd = fds[0]};
    struct netdev *n = open_net(&config, &a);
    clock_set_wall(clk, 1000000000);
    cr_assert_eq(net_dump_start(n, clk, path, 80), 0);
    u8 frame[100] = {0x11};
    netdev_transmit(n, frame, 100);
    frame[0] = 0x22;
    netdev_deliver(n, frame, 60);
    netdev_close(n);
    u8 data[512];
    ssize_t len = read(file, data, sizeof(data));
    cr_expect_eq(len, 24 + 16 + 80 + 16 + 60);
    u32 word;
    memcpy(&word, data, 4);
    cr_expect_eq(word, 0xa1b2c3d4);
    memcpy(&word, data + 20, 4);
    cr_expect_eq(word, 1, "Ethernet");
    memcpy(&word, data + 24, 4);
    cr_expect_lt(word - 1000000000, 100);
    memcpy(&word, data + 36, 4);
    cr_expect_eq(word, 100, "length of the frame");
    cr_expect_eq(data[40], 0x11);
    cr_expect_eq(data[24 + 16 + 80 + 16], 0x22);
    unlink(path);
    close(file);
    close(fds[1]);
}

/* A DHCP DISCOVER gets an offer of the first address. */
Test(net_host, user_network_offers_addresses)
{
    if (!net_user_available()) cr_skip_test("no libslirp");
    struct net_config config = {.kind = NET_USER, .id = "u", .ipv4 = true, .fd = -1, .net = "192.168.76.0/24"};
    struct netdev *n = open_net(&config, &a);
    u8 f[342] = {0};
    memset(f, 0xff, 6);
    memcpy(f + 6, "\x52\x54\x00\x12\x34\x56\x08\x00", 8);
    memcpy(f + 14, "\x45\x00\x01\x48\x00\x00\x00\x00\x40\x11\x79\xa6\x00\x00\x00\x00\xff\xff\xff\xff", 20);
    u32 sum = 0;
    f[24] = f[25] = 0;
    for (int i = 14; i < 34; i += 2) sum += (u32)(f[i] << 8 | f[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    f[24] = (u8)(~sum >> 8), f[25] = (u8)~sum;
    memcpy(f + 34, "\x00\x44\x00\x43\x01\x34\x00\x00", 8);
    memcpy(f + 42, "\x01\x01\x06\x00\x12\x34\x56\x78", 8);
    memcpy(f + 70, "\x52\x54\x00\x12\x34\x56", 6);
    memcpy(f + 278, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
    netdev_transmit(n, f, sizeof(f));
    turn(3);
    cr_assert_geq(a.count, 1);
    cr_expect_arr_eq(a.last + 58, "\xc0\xa8\x4c\x0f", 4, "192.168.76.15");
    netdev_close(n);
}

Test(net_host, user_network_refuses_bad_settings)
{
    if (!net_user_available()) cr_skip_test("no libslirp");
    struct net_config base = {.kind = NET_USER, .id = "u", .ipv4 = true, .fd = -1};
    struct net_config bad[] = {base, base, base, base, base};
    bad[0].net = "10.0.0";
    bad[1].net = "10.0.0.0/99";
    bad[2].dns = "192.168.1.1";
    bad[3].hostfwd[0] = "tcp::x-:80", bad[3].hostfwd_count = 1;
    bad[4].hostfwd[0] = "sctp::1-:80", bad[4].hostfwd_count = 1;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) cr_expect_null(net_open(loop, &bad[i]), "case %zu", i);
}

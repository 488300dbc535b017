/* User mode networking: a TCP/IP stack of the host's libslirp stands for the guest's outside world.
 *
 * Libslirp is called by the vCPU threads (frames from the guest) and by the event loop, always under the machine
 * lock. It chooses anew before each sleep which sockets to watch, so what a guest's frame changes must wake the loop:
 * once per round, however many frames there are. */
#include "host/net_open.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <slirp/libslirp.h>

#include "core/log.h"

#define NS_PER_MS 1000000

struct net_slirp {
    struct netdev dev;           /* must stay first */
    struct event_loop *loop;     /* whom to wake */
    struct event_poller *poller; /* our sockets in its rounds */
    Slirp *slirp;                /* the stack */
    bool woken;                  /* the loop was woken, and has not begun a new round yet */
};

/* A timer of libslirp's. */
struct net_slirp_timer {
    struct timer *timer;   /* ours */
    SlirpTimerCb fire;     /* theirs */
    void *opaque;          /* its argument */
};

bool net_user_available(void) { return true; }

/* ---- what libslirp calls ---- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    struct net_slirp *s = opaque;
    netdev_deliver(&s->dev, buf, len);
    return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque)
{
    (void)opaque;
    log_printf(LOG_GUEST_ERROR, "user network: %s\n", msg);
}

static int64_t now_ns(void *opaque)
{
    struct net_slirp *s = opaque;
    return (int64_t)clock_now(event_loop_clock(s->loop));
}

static void timer_fire(void *opaque)
{
    struct net_slirp_timer *t = opaque;
    t->fire(t->opaque);
}

static void *timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
    struct net_slirp *s = opaque;
    struct net_slirp_timer *t = calloc(1, sizeof(*t));
    if (!t) return NULL;
    t->fire = cb;
    t->opaque = cb_opaque;
    t->timer = timer_create_on(event_loop_clock(s->loop), timer_fire, t);
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    struct net_slirp_timer *t = timer;
    (void)opaque;
    if (t && t->timer) timer_destroy(t->timer);
    free(t);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    struct net_slirp_timer *t = timer;
    (void)opaque;
    if (t && t->timer) timer_arm(t->timer, (u64)MAX(expire_ms, 0) * NS_PER_MS);
}

/* poll() needs no registration. */
static void register_fd(int fd, void *opaque)
{
    (void)fd;
    (void)opaque;
}

static void notify(void *opaque)
{
    struct net_slirp *s = opaque;
    if (s->woken) return;
    s->woken = true;
    event_loop_wake(s->loop);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = now_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = register_fd,
    .unregister_poll_fd = register_fd,
    .notify = notify,
};

/* ---- the event loop ---- */

static int add_poll(int fd, int events, void *opaque)
{
    struct net_slirp *s = opaque;
    short wanted = 0;
    if (events & SLIRP_POLL_IN) wanted |= POLLIN;
    if (events & SLIRP_POLL_OUT) wanted |= POLLOUT;
    if (events & SLIRP_POLL_PRI) wanted |= POLLPRI;
    return event_loop_poll_add(s->loop, fd, wanted);
}

static int get_revents(int index, void *opaque)
{
    struct net_slirp *s = opaque;
    short got = event_loop_poll_result(s->loop, index);
    int events = 0;
    if (got & POLLIN) events |= SLIRP_POLL_IN;
    if (got & POLLOUT) events |= SLIRP_POLL_OUT;
    if (got & POLLPRI) events |= SLIRP_POLL_PRI;
    if (got & POLLERR) events |= SLIRP_POLL_ERR;
    if (got & POLLHUP) events |= SLIRP_POLL_HUP;
    return events;
}

static void fill(void *opaque, int *timeout_ms)
{
    struct net_slirp *s = opaque;
    u32 timeout = *timeout_ms < 0 ? UINT32_MAX : (u32)*timeout_ms;
    s->woken = false;
    slirp_pollfds_fill(s->slirp, &timeout, add_poll, s);
    if (timeout < INT32_MAX) *timeout_ms = (int)timeout;
}

static void done(void *opaque, bool failed)
{
    struct net_slirp *s = opaque;
    slirp_pollfds_poll(s->slirp, failed, get_revents, s);
}

/* ---- the guest's side ---- */

static void transmit(struct netdev *n, const u8 *frame, size_t len)
{
    struct net_slirp *s = (struct net_slirp *)n;
    slirp_input(s->slirp, frame, (int)len);
    notify(s);
}

static void destroy(struct netdev *n)
{
    struct net_slirp *s = (struct net_slirp *)n;
    event_poller_remove(s->poller);
    if (s->slirp) slirp_cleanup(s->slirp);
    free(s);
}

static const struct netdev_ops ops = {.transmit = transmit, .destroy = destroy};

/* ---- what the user wants ---- */

static bool bad(const struct net_config *config, const char *key, const char *value, const char *why)
{
    fprintf(stderr, "calque: -netdev user,id=%s: %s=%s: %s\n", config->id, key, value, why);
    return false;
}

static bool address(const struct net_config *config, const char *key, const char *text, struct in_addr *to)
{
    return !text || inet_pton(AF_INET, text, to) == 1 || bad(config, key, text, "not an IPv4 address");
}

/* ADDRESS, ADDRESS/BITS or ADDRESS/MASK; without a mask, that of the address's class. */
static bool network(const struct net_config *config, struct in_addr *net, struct in_addr *mask)
{
    const char *text = config->net, *slash = text ? strchr(text, '/') : NULL;
    char buf[32];
    if (!text) return true;
    snprintf(buf, sizeof(buf), "%.*s", slash ? (int)(slash - text) : (int)strlen(text), text);
    if (inet_pton(AF_INET, buf, net) != 1) return bad(config, "net", text, "not an IPv4 network");
    u32 host_order = ntohl(net->s_addr);
    if (slash && strchr(slash, '.')) {
        if (inet_pton(AF_INET, slash + 1, mask) != 1) return bad(config, "net", text, "not a network mask");
    } else {
        u32 bits = !(host_order >> 31) ? 8 : host_order >> 30 == 2 ? 16 : 24;
        if (slash) {
            char *end;
            unsigned long n = strtoul(slash + 1, &end, 10);
            if (*end || end == slash + 1 || n < 4 || n > 30) return bad(config, "net", text, "not a prefix length");
            bits = (u32)n;
        }
        mask->s_addr = htonl(~0u << (32 - bits));
    }
    net->s_addr &= mask->s_addr;
    return true;
}

static bool port_number(const char *text, size_t len, int lowest, int *port)
{
    char buf[8], *end;
    if (len == 0 || len >= sizeof(buf)) return false;
    memcpy(buf, text, len);
    buf[len] = 0;
    long n = strtol(buf, &end, 10);
    if (*end || n < lowest || n > 65535) return false;
    *port = (int)n;
    return true;
}

/* "[ADDRESS]:PORT" up to end; an empty address leaves *to alone. */
static bool endpoint(const char *text, const char *end, struct in_addr *to, int lowest, int *port)
{
    const char *colon = memchr(text, ':', (size_t)(end - text));
    char buf[32];
    if (!colon || colon - text >= (ptrdiff_t)sizeof(buf)) return false;
    memcpy(buf, text, (size_t)(colon - text));
    buf[colon - text] = 0;
    if (buf[0] && inet_pton(AF_INET, buf, to) != 1) return false;
    return port_number(colon + 1, (size_t)(end - colon - 1), lowest, port);
}

/* hostfwd=[tcp|udp]:[HOSTADDRESS]:HOSTPORT-[GUESTADDRESS]:GUESTPORT */
static bool forward_from_host(struct net_slirp *s, const struct net_config *config, const char *rule)
{
    struct in_addr host = {.s_addr = htonl(INADDR_ANY)}, guest = {0};
    int host_port, guest_port;
    const char *rest = strchr(rule, ':'), *dash = rest ? strchr(rest, '-') : NULL;
    bool udp = !strncmp(rule, "udp:", 4);
    if (!dash || !(udp || rest == rule || !strncmp(rule, "tcp:", 4)) ||
        !endpoint(rest + 1, dash, &host, 0, &host_port) ||
        !endpoint(dash + 1, dash + strlen(dash), &guest, 1, &guest_port))
        return bad(config, "hostfwd", rule, "expected [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport");
    if (slirp_add_hostfwd(s->slirp, udp, host, host_port, guest, guest_port) == 0) return true;
    return bad(config, "hostfwd", rule, strerror(errno));
}

/* guestfwd=[tcp]:SERVER:PORT-cmd:COMMAND */
static bool forward_from_guest(struct net_slirp *s, const struct net_config *config, const char *rule)
{
    struct in_addr server = {0};
    int port;
    const char *rest = strchr(rule, ':'), *dash = rest ? strchr(rest, '-') : NULL;
    if (!dash || !(rest == rule || !strncmp(rule, "tcp:", 4)) || !endpoint(rest + 1, dash, &server, 1, &port))
        return bad(config, "guestfwd", rule, "expected [tcp]:server:port-cmd:command");
    if (strncmp(dash + 1, "cmd:", 4)) return bad(config, "guestfwd", rule, "only cmd: is supported as a target");
    if (slirp_add_exec(s->slirp, dash + 5, &server, port) == 0) return true;
    return bad(config, "guestfwd", rule, "address in use or not in the guest's network");
}

struct netdev *net_slirp_open(struct event_loop *loop, const struct net_config *config)
{
    SlirpConfig c = {
        .version = 4,
        .restricted = config->restricted,
        .in_enabled = config->ipv4,
        .in6_enabled = config->ipv6,
        .vprefix_len = 64,
        .vhostname = config->hostname,
        .tftp_server_name = config->tftp_server_name,
        .tftp_path = config->tftp,
        .bootfile = config->bootfile,
        .vdnssearch = config->dnssearch_count ? (const char **)config->dnssearch : NULL,
        .vdomainname = config->domainname,
    };
    /* The well-known defaults: 10.0.2.0/24; gateway .2, name server .3, guests from .15 on. */
    c.vnetwork.s_addr = htonl(0x0a000200);
    c.vnetmask.s_addr = htonl(0xffffff00);
    if (!network(config, &c.vnetwork, &c.vnetmask)) return NULL;
    c.vhost.s_addr = c.vnetwork.s_addr | (htonl(0x202) & ~c.vnetmask.s_addr);
    c.vdhcp_start.s_addr = c.vnetwork.s_addr | (htonl(0x20f) & ~c.vnetmask.s_addr);
    c.vnameserver.s_addr = c.vnetwork.s_addr | (htonl(0x203) & ~c.vnetmask.s_addr);
    inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &c.vhost6);
    inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
    if (!address(config, "host", config->host, &c.vhost) ||
        !address(config, "dhcpstart", config->dhcpstart, &c.vdhcp_start) ||
        !address(config, "dns", config->dns, &c.vnameserver))
        return NULL;
    const struct {
        const char *key, *text;
        struct in_addr value;
    } inside[] = {{"host", config->host, c.vhost},
                  {"dhcpstart", config->dhcpstart, c.vdhcp_start},
                  {"dns", config->dns, c.vnameserver}};
    for (size_t i = 0; i < ARRAY_LEN(inside); i++) {
        if (!inside[i].text || (inside[i].value.s_addr & c.vnetmask.s_addr) == c.vnetwork.s_addr) continue;
        bad(config, inside[i].key, inside[i].text, "not in the guest's network");
        return NULL;
    }

    struct net_slirp *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    s->dev.ops = &ops;
    s->dev.large = true; /* it reads a stream, whatever the segments' size */
    s->loop = loop;
    s->slirp = slirp_new(&c, &callbacks, s);
    if (s->slirp) s->poller = event_loop_add_poller(loop, fill, done, s);
    bool ok = s->poller != NULL;
    if (!ok) fprintf(stderr, "calque: -netdev user,id=%s: libslirp refuses these settings\n", config->id);
    for (int i = 0; i < config->hostfwd_count && ok; i++) ok = forward_from_host(s, config, config->hostfwd[i]);
    for (int i = 0; i < config->guestfwd_count && ok; i++) ok = forward_from_guest(s, config, config->guestfwd[i]);
    if (ok) return &s->dev;
    destroy(&s->dev);
    return NULL;
}

/* A tap interface of the host: frames of the guest appear on it as if they came from a cable.
 *
 * Leaves out: virtio headers, several queues, and the bridge helper. */
#include "host/net_open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 64 /* frames taken in one round of the event loop */

struct net_tap {
    struct netdev dev;             /* must stay first */
    struct event_source *source;   /* frames from the host */
    int fd;                        /* the interface */
    char name[IFNAMSIZ];           /* as the kernel knows it, "": not ours */
    const char *downscript;        /* NULL: none */
};

/* Run SCRIPT INTERFACE: 0, or -1 with a message. */
static int run_script(const char *script, const char *name)
{
    pid_t child = fork();
    if (child == 0) {
        execl(script, script, name, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    fprintf(stderr, "calque: network script %s failed for %s\n", script, name);
    return -1;
}

static void transmit(struct netdev *n, const u8 *frame, size_t len)
{
    struct net_tap *t = (struct net_tap *)n;
    /* A full queue loses frames, as a full cable does. */
    while (write(t->fd, frame, len) < 0 && errno == EINTR) continue;
}

static void readable(void *opaque, short revents)
{
    struct net_tap *t = opaque;
    u8 frame[NETDEV_FRAME_MAX];
    (void)revents;
    for (int i = 0; i < BATCH; i++) {
        ssize_t n = read(t->fd, frame, sizeof(frame));
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) {
            fprintf(stderr, "calque: tap interface %s: %s\n", t->name, n < 0 ? strerror(errno) : "closed");
            event_source_set_enabled(t->source, false);
            netdev_set_link(&t->dev, false);
            return;
        }
        if (!netdev_deliver(&t->dev, frame, (size_t)n)) {
            /* The kernel's queue is the better place to wait in. */
            event_source_set_enabled(t->source, false);
            return;
        }
    }
}

static void resume(struct netdev *n)
{
    struct net_tap *t = (struct net_tap *)n;
    if (!n->link_down) event_source_set_enabled(t->source, true);
}

static void destroy(struct netdev *n)
{
    struct net_tap *t = (struct net_tap *)n;
    event_source_remove(t->source);
    if (t->downscript && t->name[0]) run_script(t->downscript, t->name);
    if (t->fd >= 0) close(t->fd);
    free(t);
}

static const struct netdev_ops ops = {.transmit = transmit, .resume = resume, .destroy = destroy};

/* Create or join the interface. 0 or -errno. */
static int open_interface(struct net_tap *t, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    if (name) {
        if (strlen(name) >= sizeof(request.ifr_name)) return -ENAMETOOLONG;
        strcpy(request.ifr_name, name);
    }
    t->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (t->fd < 0 || ioctl(t->fd, TUNSETIFF, &request) < 0) return -errno;
    memcpy(t->name, request.ifr_name, sizeof(t->name));
    return 0;
}

struct netdev *net_tap_open(struct event_loop *loop, const struct net_config *config)
{
    struct net_tap *t = calloc(1, sizeof(*t));
    if (!t) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    t->dev.ops = &ops;
    t->fd = config->fd;
    if (t->fd < 0) {
        int err = open_interface(t, config->ifname);
        if (err) {
            fprintf(stderr, "calque: -netdev tap,id=%s: cannot open interface %s: %s\n", config->id,
                    config->ifname ? config->ifname : "tap%d", strerror(-err));
            goto fail;
        }
    }
    int flags = fcntl(t->fd, F_GETFL);
    if (flags < 0 || fcntl(t->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        fprintf(stderr, "calque: -netdev tap,id=%s: fd=%d: %s\n", config->id, t->fd, strerror(errno));
        t->fd = -1;
        goto fail;
    }
    if (t->name[0] && config->script && strcmp(config->script, "no") && run_script(config->script, t->name)) goto fail;
    if (config->downscript && strcmp(config->downscript, "no")) t->downscript = config->downscript;
    t->source = event_loop_add(loop, t->fd, POLLIN, readable, t);
    if (t->source) return &t->dev;
    fprintf(stderr, "calque: out of memory\n");
fail:
    destroy(&t->dev);
    return NULL;
}

/* Writes the frames of a network to a file in libpcap's format, for tcpdump and Wireshark.
 *
 * Each frame is one write, so the file is readable while the machine runs. Reference: [PCAP] pcap-savefile(5). */
#include "host/net_open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PCAP_MAGIC 0xa1b2c3d4u
#define PCAP_ETHERNET 1u

struct pcap_header {
    u32 magic;                   /* of a file with microseconds */
    u16 major, minor;            /* 2.4 */
    u32 zone, accuracy;          /* 0 */
    u32 snap_length, link_type;  /* bytes kept of a frame; what it is */
};

struct pcap_record {
    u32 seconds, microseconds; /* wall clock */
    u32 kept, length;          /* bytes in the file; of the frame */
};

struct net_dump {
    struct netdev_watcher watcher; /* must stay first */
    struct clock *clock;           /* time stamps */
    const char *path;              /* for messages */
    int fd;                        /* -1 after an error */
    u32 snap_length;               /* bytes kept of a frame */
};

static void frame_seen(struct netdev_watcher *w, const u8 *frame, size_t len)
{
    struct net_dump *d = (struct net_dump *)w;
    if (d->fd < 0) return;
    u32 ns;
    s64 seconds = clock_wall(d->clock, &ns);
    struct pcap_record record = {
        .seconds = (u32)seconds,
        .microseconds = ns / 1000,
        .kept = (u32)MIN(len, (size_t)d->snap_length),
        .length = (u32)len,
    };
    struct iovec parts[] = {{&record, sizeof(record)}, {(void *)frame, record.kept}};
    ssize_t n = writev(d->fd, parts, 2);
    if (n == (ssize_t)(sizeof(record) + record.kept)) return;
    fprintf(stderr, "calque: -object filter-dump: cannot write to %s: %s\n", d->path, n < 0 ? strerror(errno) : "disk full");
    close(d->fd);
    d->fd = -1;
}

static void destroy(struct netdev_watcher *w)
{
    struct net_dump *d = (struct net_dump *)w;
    if (d->fd >= 0) close(d->fd);
    free(d);
}

int net_dump_start(struct netdev *n, struct clock *clock, const char *path, u32 snap_length)
{
    static const struct pcap_header template = {.magic = PCAP_MAGIC, .major = 2, .minor = 4, .link_type = PCAP_ETHERNET};
    struct pcap_header header = template;
    header.snap_length = snap_length;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct net_dump *d = calloc(1, sizeof(*d));
    if (fd < 0 || !d || write(fd, &header, sizeof(header)) != (ssize_t)sizeof(header)) {
        int err = errno ? errno : ENOSPC;
        fprintf(stderr, "calque: -object filter-dump: cannot write %s: %s\n", path, strerror(err));
        if (fd >= 0) close(fd);
        free(d);
        return -err;
    }
    d->watcher.frame = frame_seen;
    d->watcher.destroy = destroy;
    d->clock = clock;
    d->path = path;
    d->fd = fd;
    d->snap_length = snap_length;
    netdev_watch(n, &d->watcher);
    return 0;
}

/* One worker thread per disk: it takes requests from the vCPU threads and the event loop, and calls done() when the machine
 * lock is free, else leaves that to the event loop. */
#define _GNU_SOURCE
#include "host/disk.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define BOUNCE (1u << 20) /* bytes that pass through a buffer at a time, where a format cannot do with pieces */
#define BATCH  (64u << 10) /* bytes after which done() is called, though more requests wait */

struct request_list {
    struct block_request *first, **end; /* in order */
};

struct disk_queue {
    struct block block;          /* must stay first */
    struct disk *disk;           /* only the worker uses it */
    bool unsafe;                 /* flushes do nothing */
    char *option, *path;         /* for messages */
    enum disk_action read_error, write_error; /* what follows; the latter for flushes and discards, too */
    bool failed;                 /* an error was reported on stderr */
    void (*on_error)(void *, const struct block_request *, enum disk_action); /* as in disk_config */
    void *error_opaque;          /* its first argument */
    pthread_t thread;            /* the worker */
    bool started;                /* it exists */
    pthread_mutex_t lock;        /* of the lists */
    pthread_cond_t work;         /* waiting is not empty, or stop is set */
    struct request_list waiting; /* for the worker */
    struct request_list over;    /* for the event loop */
    struct block_request *stuck; /* DISK_STOP: the failed request, for which the worker waits; NULL: none */
    bool stuck_told;             /* on_error knows of it */
    size_t over_size;            /* bytes of these */
    u8 *bounce;                  /* BOUNCE bytes of the worker's, NULL: not needed yet */
    bool busy;                   /* the worker is at a request */
    bool draining;               /* somebody waits for that: nothing is kept for later */
    pthread_cond_t drained;      /* nothing waits, and it is not */
    bool written;                /* by the worker since it was last idle */
    bool stop;                   /* the worker ends when nothing waits */
    struct event_loop *loop;     /* who has the machine lock's functions */
    int event;                   /* eventfd: over is not empty */
    struct event_source *source; /* its watcher */
};

static void list_init(struct request_list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_append(struct request_list *l, struct block_request *r)
{
    r->next = NULL;
    *l->end = r;
    l->end = &r->next;
}

static struct block_request *list_take(struct request_list *l)
{
    struct block_request *r = l->first;
    if (!r) return NULL;
    l->first = r->next;
    if (!l->first) l->end = &l->first;
    return r;
}

/* ---- the worker ---- */

static int transfer(struct disk_queue *q, const struct block_request *r, size_t at, size_t size)
{
    struct disk *d = q->disk;
    bool read = r->op == BLOCK_READ;
    if (r->buf && read) return d->ops->read(d, r->offset + at, r->buf + at, size);
    if (r->buf) return d->ops->write(d, r->offset + at, r->buf + at, size);
    if (!q->bounce && !(q->bounce = malloc(BOUNCE))) return -ENOMEM;
    int err = 0;
    for (size_t n; size && !err; at += n, size -= n) {
        n = MIN(size, (size_t)BOUNCE);
        if (!read) block_get(r, at, q->bounce, n);
        err = read ? d->ops->read(d, r->offset + at, q->bounce, n) : d->ops->write(d, r->offset + at, q->bounce, n);
        if (read && !err) block_put(r, at, q->bounce, n);
    }
    return err;
}

static int transfer_all(struct disk_queue *q, const struct block_request *r)
{
    struct disk *d = q->disk;
    if (r->op == BLOCK_WRITE && d->readonly) return -EROFS;
    if (!r->buf && d->ops->vector && !d->ops->vector(d, r->offset, r->pieces, r->piece_count, r->size, r->op == BLOCK_WRITE))
        return 0;
    return transfer(q, r, 0, r->size);
}

static void execute(struct disk_queue *q, struct block_request *r)
{
    struct disk *d = q->disk;
    r->good = 0;
    if (r->op != BLOCK_FLUSH && (r->offset > d->size || r->size > d->size - r->offset)) {
        r->error = -EINVAL;
        return;
    }
    switch (r->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        r->error = transfer_all(q, r);
        if (!r->error) {
            r->good = r->size;
            break;
        }
        /* Which sector is it? */
        while (r->good < r->size && (r->op == BLOCK_READ || !d->readonly)) {
            int err = transfer(q, r, r->good, BLOCK_SECTOR);
            if (err) {
                r->error = err;
                break;
            }
            r->good += BLOCK_SECTOR;
        }
        if (r->good == r->size) r->error = 0; /* it was transient */
        break;
    case BLOCK_FLUSH: r->error = q->unsafe ? 0 : d->ops->flush(d); break;
    case BLOCK_DISCARD:
        r->error = q->block.discards && d->ops->discard ? d->ops->discard(d, r->offset, r->size) : 0;
        break;
    }
}

/* It has failed. With the lock. */
static enum disk_action judge(struct disk_queue *q, struct block_request *r)
{
    static const char *const names[] = {"read", "write", "flush", "discard"};
    static const char *const effects[] = {[DISK_REPORT] = "the guest is told", [DISK_IGNORE] = "the guest is not told",
                                          [DISK_STOP] = "the machine stops"};
    enum disk_action action = r->op == BLOCK_READ ? q->read_error : q->write_error;
    if (action == DISK_ENOSPC) action = r->error == -ENOSPC ? DISK_STOP : DISK_REPORT;
    if (action == DISK_STOP && (q->stop || q->draining)) action = DISK_REPORT; /* there is no later */
    if (!q->failed) {
        fprintf(stderr, "calque: %s %s: %s error at byte %llu: %s; %s, of this and later ones\n", q->option, q->path,
                names[r->op], (unsigned long long)(r->offset + r->good), strerror(-r->error), effects[action]);
        q->failed = true;
    }
    if (action != DISK_IGNORE) return action;
    if (r->op == BLOCK_READ) block_put(r, r->good, NULL, r->size - r->good);
    r->error = 0;
    r->good = r->size;
    return action;
}

static void tell_loop(struct disk_queue *q)
{
    static const u64 one = 1;
    while (write(q->event, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

/* After a write: what the format keeps in memory goes to the file when nobody asks for anything, for the sake
 * of guests that never flush. */
static void idle(struct disk_queue *q)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    if (pthread_cond_timedwait(&q->work, &q->lock, &until) != ETIMEDOUT) return;
    q->written = false;
    pthread_mutex_unlock(&q->lock);
    q->disk->ops->idle(q->disk); /* an error comes again with the next flush */
    pthread_mutex_lock(&q->lock);
}

static void complete(struct disk_queue *q)
{
    for (;;) {
        pthread_mutex_lock(&q->lock);
        struct block_request *r = list_take(&q->over), *stuck = q->stuck_told ? NULL : q->stuck;
        q->over_size = 0;
        if (!r && stuck) q->stuck_told = true;
        pthread_mutex_unlock(&q->lock);
        if (!r) {
            if (stuck && q->on_error) q->on_error(q->error_opaque, stuck, DISK_STOP);
            return;
        }
        if (r->error && q->on_error) q->on_error(q->error_opaque, r, DISK_REPORT);
        r->done(r);
    }
}

/* What is over becomes known to those who asked. */
static void announce(struct disk_queue *q)
{
    if (event_loop_try_enter(q->loop)) {
        complete(q);
        event_loop_leave(q->loop);
    } else {
        tell_loop(q);
    }
}

/* One request, until it is over. With the lock. */
static void serve(struct disk_queue *q, struct block_request *r)
{
    q->busy = true;
    do {
        pthread_mutex_unlock(&q->lock);
        execute(q, r);
        if (r->op != BLOCK_READ) q->written = true;
        pthread_mutex_lock(&q->lock);
        if (!r->error || judge(q, r) != DISK_STOP) break;
        q->stuck = r;
        q->stuck_told = false;
        tell_loop(q);
        while (q->stuck && !q->stop && !q->draining) pthread_cond_wait(&q->work, &q->lock);
        q->stuck = NULL;
    } while (true);
    q->busy = false;
    list_append(&q->over, r);
    q->over_size += r->size;
    if (!q->waiting.first) pthread_cond_broadcast(&q->drained);
}

static void *worker(void *opaque)
{
    struct disk_queue *q = opaque;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        struct block_request *r = list_take(&q->waiting);
        if (!r) {
            if (q->stop) break;
            if (q->written && q->disk->ops->idle)
                idle(q);
            else
                pthread_cond_wait(&q->work, &q->lock);
            continue;
        }
        serve(q, r);
        /* More that is over as soon may come along; a flush takes its time. */
        if (q->waiting.first && q->waiting.first->op <= BLOCK_WRITE && q->over_size < BATCH) continue;
        pthread_mutex_unlock(&q->lock);
        announce(q);
        pthread_mutex_lock(&q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* ---- the other side ---- */

static void submit(struct block *b, struct block_request *r)
{
    struct disk_queue *q = (struct disk_queue *)b;
    pthread_mutex_lock(&q->lock);
    list_append(&q->waiting, r);
    pthread_mutex_unlock(&q->lock);
    pthread_cond_signal(&q->work); /* now, so that the worker finds the lock free */
}

static void drain(struct block *b)
{
    struct disk_queue *q = (struct disk_queue *)b;
    pthread_mutex_lock(&q->lock);
    q->draining = true;
    pthread_cond_signal(&q->work);
    /* The worker itself comes here when what it announces makes a device do DMA into another one's registers. */
    bool here = pthread_equal(pthread_self(), q->thread);
    while (q->waiting.first || q->busy) {
        if (here)
            serve(q, list_take(&q->waiting));
        else
            pthread_cond_wait(&q->drained, &q->lock);
    }
    q->draining = false;
    pthread_mutex_unlock(&q->lock);
}

static void event_ready(void *opaque, short revents)
{
    struct disk_queue *q = opaque;
    u64 count;
    (void)revents;
    while (read(q->event, &count, sizeof(count)) < 0 && errno == EINTR)
        continue;
    complete(q);
}

static const struct block_ops queue_ops = {.submit = submit, .drain = drain};

struct block *disk_queue_create(struct disk *d, const struct disk_config *config, struct event_loop *loop)
{
    struct disk_queue *q = calloc(1, sizeof(*q));
    if (!q) {
        fprintf(stderr, "calque: out of memory\n");
        disk_close(d);
        return NULL;
    }
    q->block = (struct block){.ops = &queue_ops,
                              .size = d->size,
                              .readonly = d->readonly,
                              .discards = config->discard && d->ops->discard};
    q->disk = d;
    q->unsafe = config->unsafe;
    q->read_error = config->read_error;
    q->write_error = config->write_error;
    q->on_error = config->on_error;
    q->error_opaque = config->opaque;
    q->option = strdup(config->option);
    q->path = strdup(config->path);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    pthread_cond_init(&q->drained, NULL);
    q->loop = loop;
    list_init(&q->waiting);
    list_init(&q->over);
    q->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->event >= 0) q->source = event_loop_add(loop, q->event, POLLIN, event_ready, q);

    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);                /* disk_map.c's */
    pthread_sigmask(SIG_BLOCK, &all, &old); /* the other signals are the main thread's */
    int err = q->source && q->option && q->path ? pthread_create(&q->thread, NULL, worker, q) : ENOMEM;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    q->started = !err;
    if (err) {
        fprintf(stderr, "calque: %s %s: cannot start a disk thread: %s\n", config->option, config->path,
                strerror(err));
        disk_queue_destroy(&q->block);
        return NULL;
    }
    return &q->block;
}

int disk_queue_stuck(struct block *b)
{
    struct disk_queue *q = (struct disk_queue *)b;
    pthread_mutex_lock(&q->lock);
    int error = q->stuck ? q->stuck->error : 0;
    pthread_mutex_unlock(&q->lock);
    return error;
}

void disk_queue_retry(struct block *b)
{
    struct disk_queue *q = (struct disk_queue *)b;
    pthread_mutex_lock(&q->lock);
    q->stuck = NULL;
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
}

const char *disk_queue_path(const struct block *b) { return ((const struct disk_queue *)b)->path; }

const char *disk_queue_format(const struct block *b) { return ((const struct disk_queue *)b)->disk->ops->name; }

int disk_queue_destroy(struct block *b)
{
    struct disk_queue *q = (struct disk_queue *)b;
    if (!q) return 0;
    if (q->started) {
        pthread_mutex_lock(&q->lock);
        q->stop = true;
        pthread_cond_signal(&q->work);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->thread, NULL);
    }
    complete(q);
    event_source_remove(q->source);
    if (q->event >= 0) close(q->event);
    int err = disk_close(q->disk);
    if (err && q->path)
        fprintf(stderr, "calque: %s %s: cannot finish writing: %s\n", q->option, q->path, strerror(-err));
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->drained);
    pthread_mutex_destroy(&q->lock);
    free(q->bounce);
    free(q->option);
    free(q->path);
    free(q);
    return err;
}

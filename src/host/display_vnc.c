/* A VNC server, by libvncserver, for as many clients as like to look.
 *
 * The library waits for clients in the middle of messages, so it has a thread of its own, which never holds the machine
 * lock: a slow or hostile client delays other clients (for CLIENT_WAIT_MS at most, then it is disconnected), not the
 * guest. All calls of the library are made by that thread. Between it and the event loop there are
 *   - the picture: the loop copies what changed into `shared`, the thread from there into what the library sends;
 *   - a queue of what clients typed and pointed at, which the loop passes on with the machine lock.
 *
 * The pointer is absolute when the guest has a tablet; else differences are sent to its mouse. */
#define _GNU_SOURCE
#include "host/display_open.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <rfb/rfbregion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/display_keysym.h"
#include "host/refresh.h"
#include "host/unix_address.h"

const bool display_vnc_present = true;

#define CLIENT_WAIT_MS 3000
#define SEND_BUFFER    (2 << 20) /* a picture mostly goes out without waiting */
#define MAX_LISTENERS  8         /* addresses a host name stands for */
#define MAX_CLIENTS    32
#define MAX_RECTS      32        /* changes kept apart */
#define EVENTS         512       /* of clients that wait for the loop */
#define EVENTS_KEEP    64        /* places for what must not get lost: releases */
#define PASSWORD_MAX   8         /* [RFB] 7.2.2: the rest of a password is ignored */

struct rect {
    int x, y, width, height;
};

enum event_kind { EVENT_KEY, EVENT_POINTER, EVENT_CLIENTS };

struct event {
    enum event_kind kind; /* what happened */
    u32 keysym;           /* KEY */
    bool down;            /* KEY */
    int x, y, buttons;    /* POINTER: place and RFB's button mask; CLIENTS: x is their number */
};

struct display_vnc {
    struct display_view view;         /* must stay first */
    struct display_listener listener; /* what changes */
    struct display_host host;         /* whose screen */
    struct refresh *refresh;          /* runs while there are clients */
    const struct display_surface *surface; /* the display's, as last told */
    struct event_source *source;      /* of event_fd */
    int last_x, last_y, last_buttons; /* of the pointer */
    int clients;                      /* as the loop knows */

    int listen_fds[MAX_LISTENERS];    /* sockets */
    int listen_count;                 /* used entries */
    char *unlink_path;                /* Unix socket to remove, NULL: none */
    bool password_required;           /* password=on */
    enum vnc_share share;             /* as configured */
    char name[128];                   /* of the desktop */
    pthread_t thread;                 /* the library's */
    bool thread_started;              /* it exists */
    int thread_fd;                    /* eventfd: the thread has something to do */
    int event_fd;                     /* eventfd: the loop has something to do */

    pthread_mutex_t lock;             /* of what follows; nobody waits for clients with it */
    u32 *shared;                      /* the picture */
    int width, height;                /* its size */
    bool resized;                     /* since the thread last looked */
    struct rect rects[MAX_RECTS];     /* what changed since the thread last looked */
    int rect_count;                   /* used entries */
    struct event events[EVENTS];      /* ring: what clients did */
    unsigned event_head, event_used;  /* its first entry and number of entries */
    char password[PASSWORD_MAX + 1];  /* "": nobody gets in */
    u8 leds;                          /* the guest's keyboard's */
    bool quit;                        /* the thread is to end */

    /* The thread's. */
    rfbScreenInfoPtr screen;          /* the library's server */
    u32 *pixels;                      /* what it sends */
    int client_count;                 /* connected */
};

static void signal_fd(int fd)
{
    static const u64 one = 1;
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR) continue;
}

static void drain_fd(int fd)
{
    u64 count;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) continue;
}

/* ---- the thread: what clients do ---- */

static void post(struct display_vnc *s, struct event e)
{
    bool release = e.kind == EVENT_CLIENTS || (e.kind == EVENT_KEY && !e.down) || (e.kind == EVENT_POINTER && !e.buttons);
    pthread_mutex_lock(&s->lock);
    struct event *last = &s->events[(s->event_head + s->event_used + EVENTS - 1) % EVENTS];
    if (e.kind == EVENT_POINTER && s->event_used && last->kind == EVENT_POINTER && last->buttons == e.buttons)
        *last = e;
    else if (s->event_used < EVENTS - (release ? 0 : EVENTS_KEEP))
        s->events[(s->event_head + s->event_used++) % EVENTS] = e;
    pthread_mutex_unlock(&s->lock);
    signal_fd(s->event_fd);
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
    post(client->screen->screenData, (struct event){.kind = EVENT_KEY, .keysym = keysym, .down = down});
}

static void on_pointer(int buttons, int x, int y, rfbClientPtr client)
{
    post(client->screen->screenData, (struct event){.kind = EVENT_POINTER, .x = x, .y = y, .buttons = buttons});
}

static void on_client_gone(rfbClientPtr client)
{
    struct display_vnc *s = client->screen->screenData;
    s->client_count--;
    post(s, (struct event){.kind = EVENT_CLIENTS, .x = s->client_count});
}

static enum rfbNewClientAction on_client(rfbClientPtr client)
{
    struct display_vnc *s = client->screen->screenData;
    s->client_count++;
    client->clientGoneHook = on_client_gone;
    post(s, (struct event){.kind = EVENT_CLIENTS, .x = s->client_count});
    return RFB_CLIENT_ACCEPT;
}

static rfbBool on_password(rfbClientPtr client, const char *response, int length)
{
    struct display_vnc *s = client->screen->screenData;
    char password[PASSWORD_MAX + 1];
    u8 expected[CHALLENGESIZE];
    pthread_mutex_lock(&s->lock);
    memcpy(password, s->password, sizeof(password));
    pthread_mutex_unlock(&s->lock);
    memcpy(expected, client->authChallenge, sizeof(expected));
    rfbEncryptBytes(expected, password);
    return password[0] && length == (int)sizeof(expected) && !memcmp(expected, response, sizeof(expected));
}

static int on_leds(rfbScreenInfoPtr screen)
{
    struct display_vnc *s = screen->screenData;
    pthread_mutex_lock(&s->lock);
    int leds = s->leds;
    pthread_mutex_unlock(&s->lock);
    return leds; /* both count scroll, num, caps from bit 0 */
}

/* ---- the thread: the picture ---- */

/* From 0x00rrggbb to the library's favourite order, red in the low byte. */
static void copy_rect(struct display_vnc *s, const struct rect *r)
{
    for (int y = r->y; y < r->y + r->height; y++) {
        const u32 *from = s->shared + (size_t)y * (size_t)s->width;
        u32 *to = s->pixels + (size_t)y * (size_t)s->width;
        for (int x = r->x; x < r->x + r->width; x++)
            to[x] = from[x] << 16 | (from[x] & 0xff00) | (from[x] >> 16 & 0xff);
    }
}

static void take_picture(struct display_vnc *s)
{
    struct rect rects[MAX_RECTS];
    int count = 0;
    u32 *old = NULL;
    pthread_mutex_lock(&s->lock);
    bool resized = s->resized;
    int width = s->width, height = s->height;
    if (resized) {
        u32 *pixels = calloc((size_t)width * (size_t)height, sizeof(*pixels));
        if (!pixels) { /* another try at the next change */
            pthread_mutex_unlock(&s->lock);
            return;
        }
        old = s->pixels;
        s->pixels = pixels;
        s->resized = false;
        copy_rect(s, &(struct rect){0, 0, width, height});
    } else {
        count = s->rect_count;
        memcpy(rects, s->rects, sizeof(rects));
        for (int i = 0; i < count; i++) copy_rect(s, &rects[i]);
    }
    s->rect_count = 0;
    pthread_mutex_unlock(&s->lock);

    if (resized) rfbNewFramebuffer(s->screen, (char *)s->pixels, width, height, 8, 3, 4);
    free(old);
    for (int i = 0; i < count; i++)
        rfbMarkRectAsModified(s->screen, rects[i].x, rects[i].y, rects[i].x + rects[i].width,
                              rects[i].y + rects[i].height);
}

/* ---- the thread: sockets ---- */

static void accept_client(struct display_vnc *s, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC), size = SEND_BUFFER;
    if (fd < 0) return;
    if (fd >= FD_SETSIZE || s->client_count >= MAX_CLIENTS) { /* the library uses select() */
        close(fd);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    rfbNewClient(s->screen, fd);
}

/* Wants a picture that there is? */
static bool has_update(rfbClientPtr c) { return FB_UPDATE_PENDING(c) && !sraRgnEmpty(c->requestedRegion); }

static bool writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) > 0;
}

/* Hear clients, and send those that can take it what they wait for. One that cannot is held: not even heard. */
static void serve_clients(struct display_vnc *s)
{
    rfbClientIteratorPtr i = rfbGetClientIterator(s->screen);
    for (rfbClientPtr c; (c = rfbClientIteratorNext(i));) c->onHold = has_update(c) && !writable(c->sock);
    rfbReleaseClientIterator(i);
    rfbProcessEvents(s->screen, 0);
}

static void wait_for_work(struct display_vnc *s)
{
    struct pollfd set[1 + MAX_LISTENERS + MAX_CLIENTS];
    nfds_t n = 0;
    set[n++] = (struct pollfd){.fd = s->thread_fd, .events = POLLIN};
    for (int i = 0; i < s->listen_count; i++) set[n++] = (struct pollfd){.fd = s->listen_fds[i], .events = POLLIN};
    rfbClientIteratorPtr i = rfbGetClientIterator(s->screen);
    for (rfbClientPtr c; (c = rfbClientIteratorNext(i)) && n < ARRAY_LEN(set);)
        set[n++] = (struct pollfd){.fd = c->sock, .events = c->onHold ? POLLOUT : has_update(c) ? POLLIN | POLLOUT : POLLIN};
    rfbReleaseClientIterator(i);
    if (poll(set, n, -1) <= 0) return;
    if (set[0].revents) drain_fd(s->thread_fd);
    for (int k = 0; k < s->listen_count; k++)
        if (set[1 + k].revents) accept_client(s, s->listen_fds[k]);
}

static void *thread(void *opaque)
{
    struct display_vnc *s = opaque;
    for (;;) {
        wait_for_work(s);
        pthread_mutex_lock(&s->lock);
        bool quit = s->quit;
        pthread_mutex_unlock(&s->lock);
        if (quit) return NULL;
        take_picture(s);
        serve_clients(s);
    }
}

/* ---- the loop: clients' events ---- */

static void pointer(struct display_vnc *s, const struct event *e)
{
    /* [RFB] 7.5.5: bits 0-2 are buttons, 3 and 4 the wheel, 5 and 6 the other wheel. */
    static const u8 buttons[] = {INPUT_BUTTON_left, INPUT_BUTTON_middle, INPUT_BUTTON_right, INPUT_BUTTON_wheel_up,
                                 INPUT_BUTTON_wheel_down, INPUT_BUTTON_wheel_left, INPUT_BUTTON_wheel_right};
    struct input *in = s->host.input;
    int width = MAX(s->surface->width - 1, 1), height = MAX(s->surface->height - 1, 1);
    if (e->x != s->last_x || e->y != s->last_y) {
        if (input_is_absolute(in))
            input_move_to(in, (int)((s64)e->x * INPUT_ABS_MAX / width), (int)((s64)e->y * INPUT_ABS_MAX / height));
        else if (s->last_x >= 0)
            input_move_by(in, e->x - s->last_x, e->y - s->last_y);
        s->last_x = e->x;
        s->last_y = e->y;
    }
    for (size_t i = 0; i < ARRAY_LEN(buttons); i++)
        if ((e->buttons ^ s->last_buttons) >> i & 1) input_button(in, buttons[i], e->buttons >> i & 1);
    s->last_buttons = e->buttons;
    input_sync(in);
}

static void clients_changed(struct display_vnc *s, int count)
{
    if (count < s->clients) { /* its keys and buttons stay down otherwise */
        input_release_all(s->host.input);
        s->last_buttons = 0;
    }
    if (!count) s->last_x = s->last_y = -1;
    s->clients = count;
    refresh_run(s->refresh, count > 0);
}

static void on_events(void *opaque, short revents)
{
    struct display_vnc *s = opaque;
    (void)revents;
    drain_fd(s->event_fd);
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool any = s->event_used > 0;
        struct event e = s->events[s->event_head];
        if (any) {
            s->event_head = (s->event_head + 1) % EVENTS;
            s->event_used--;
        }
        pthread_mutex_unlock(&s->lock);
        if (!any) return;
        switch (e.kind) {
        case EVENT_KEY: display_keysym(s->host.input, e.keysym, e.down); break;
        case EVENT_POINTER: pointer(s, &e); break;
        case EVENT_CLIENTS: clients_changed(s, e.x); break;
        }
    }
}

/* ---- the loop: the picture ---- */

static void on_resized(void *opaque, const struct display_surface *surface)
{
    struct display_vnc *s = opaque;
    u32 *shared = calloc((size_t)surface->width * (size_t)surface->height, sizeof(*shared));
    pthread_mutex_lock(&s->lock);
    if (shared) {
        free(s->shared);
        s->shared = shared;
        s->width = surface->width;
        s->height = surface->height;
        s->resized = true;
        s->rect_count = 0;
    }
    pthread_mutex_unlock(&s->lock);
    s->surface = surface;
    signal_fd(s->thread_fd);
}

static void on_changed(void *opaque, int x, int y, int width, int height)
{
    struct display_vnc *s = opaque;
    pthread_mutex_lock(&s->lock);
    if (s->width != s->surface->width || s->height != s->surface->height) { /* there was no memory for it */
        pthread_mutex_unlock(&s->lock);
        return;
    }
    for (int line = y; line < y + height; line++)
        memcpy(s->shared + (size_t)line * (size_t)s->width + x,
               s->surface->pixels + (size_t)line * (size_t)s->surface->stride + x, (size_t)width * sizeof(u32));
    if (s->rect_count == MAX_RECTS) { /* one around them all */
        struct rect *all = &s->rects[0];
        for (int i = 1; i < MAX_RECTS; i++) {
            const struct rect *r = &s->rects[i];
            int right = MAX(all->x + all->width, r->x + r->width), bottom = MAX(all->y + all->height, r->y + r->height);
            all->x = MIN(all->x, r->x);
            all->y = MIN(all->y, r->y);
            all->width = right - all->x;
            all->height = bottom - all->y;
        }
        s->rect_count = 1;
    }
    s->rects[s->rect_count++] = (struct rect){x, y, width, height};
    pthread_mutex_unlock(&s->lock);
}

static void tick(void *opaque)
{
    struct display_vnc *s = opaque;
    display_update(s->host.display);
    pthread_mutex_lock(&s->lock);
    bool wake = s->rect_count || s->leds != input_leds(s->host.input);
    s->leds = input_leds(s->host.input);
    pthread_mutex_unlock(&s->lock);
    if (wake) signal_fd(s->thread_fd);
}

/* ---- listening ---- */

static int listen_unix(struct display_vnc *s, const char *path)
{
    struct sockaddr_un address;
    int failed = unix_address(&address, path, true);
    int fd = failed ? failed : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return failed ? failed : -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8)) {
        int err = -errno;
        close(fd);
        return err;
    }
    s->unlink_path = strdup(path);
    s->listen_fds[s->listen_count++] = fd;
    return 0;
}

static int listen_address(const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, 8)) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* All addresses of the host at the first port where one of them is free. */
static int listen_tcp(struct display_vnc *s, const struct display_config *c, const char **why)
{
    for (unsigned port = c->port; port <= c->last_port; port++) {
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
        char service[8];
        snprintf(service, sizeof(service), "%u", port);
        int err = getaddrinfo(c->host && c->host[0] ? c->host : NULL, service, &hints, &list);
        if (err) {
            *why = gai_strerror(err);
            return -EINVAL;
        }
        for (const struct addrinfo *a = list; a && s->listen_count < MAX_LISTENERS; a = a->ai_next) {
            int fd = listen_address(a);
            if (fd >= 0) s->listen_fds[s->listen_count++] = fd;
            else if (fd != -EAFNOSUPPORT) *why = strerror(-fd);
        }
        freeaddrinfo(list);
        if (s->listen_count) return 0;
    }
    return -EADDRINUSE;
}

static bool start_listening(struct display_vnc *s, const struct display_config *c)
{
    const char *why = "no address";
    int err = c->path ? listen_unix(s, c->path) : listen_tcp(s, c, &why);
    if (!err) return true;
    fprintf(stderr, "calque: %s: cannot listen: %s\n", c->option, c->path ? strerror(-err) : why);
    return false;
}

/* ---- life ---- */

static bool start_server(struct display_vnc *s)
{
    static char *no_list[] = {NULL}; /* there is a password, which our function checks */
    rfbLogEnable(0);
    s->pixels = calloc((size_t)s->width * (size_t)s->height, sizeof(*s->pixels));
    s->screen = s->pixels ? rfbGetScreen(NULL, NULL, s->width, s->height, 8, 3, 4) : NULL;
    if (!s->screen) return false;
    rfbScreenInfoPtr r = s->screen;
    r->frameBuffer = (char *)s->pixels;
    r->screenData = s;
    r->desktopName = s->name;
    r->port = r->ipv6port = 0; /* we listen */
    r->cursor = NULL;          /* the guest draws its own */
    r->kbdAddEvent = on_key;
    r->ptrAddEvent = on_pointer;
    r->newClientHook = on_client;
    r->getKeyboardLedStateHook = on_leds;
    r->deferUpdateTime = 0; /* our ticks are far enough apart */
    r->maxClientWait = CLIENT_WAIT_MS;
    r->alwaysShared = s->share == VNC_SHARE_IGNORE;
    r->neverShared = FALSE;
    r->dontDisconnect = s->share == VNC_SHARE_FORCE;
    if (s->password_required) {
        r->authPasswdData = no_list;
        r->passwordCheck = on_password;
    }
    rfbInitServer(r);

    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    s->thread_started = !pthread_create(&s->thread, NULL, thread, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return s->thread_started;
}

static void vnc_destroy(struct display_view *v)
{
    struct display_vnc *s = (struct display_vnc *)v;
    if (s->thread_started) {
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        pthread_mutex_unlock(&s->lock);
        signal_fd(s->thread_fd);
        pthread_join(s->thread, NULL);
    }
    if (s->screen) {
        rfbShutdownServer(s->screen, TRUE);
        rfbScreenCleanup(s->screen);
    }
    for (int i = 0; i < s->listen_count; i++) close(s->listen_fds[i]);
    if (s->unlink_path) unlink(s->unlink_path);
    free(s->unlink_path);
    if (s->surface) display_unlisten(s->host.display, &s->listener);
    event_source_remove(s->source);
    refresh_destroy(s->refresh);
    if (s->thread_fd >= 0) close(s->thread_fd);
    if (s->event_fd >= 0) close(s->event_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->shared);
    free(s->pixels);
    free(s);
}

static int vnc_set_password(struct display_view *v, const char *password)
{
    struct display_vnc *s = (struct display_vnc *)v;
    if (!s->password_required) return -ENOTSUP;
    pthread_mutex_lock(&s->lock);
    snprintf(s->password, sizeof(s->password), "%.*s", PASSWORD_MAX, password ? password : "");
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static const struct display_view_ops vnc_ops = {.destroy = vnc_destroy, .set_password = vnc_set_password};

struct display_view *display_vnc_open(const struct display_config *config, const struct display_host *host)
{
    struct display_vnc *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: %s: out of memory\n", config->option);
        return NULL;
    }
    s->view.ops = &vnc_ops;
    s->host = *host;
    s->listener = (struct display_listener){.resized = on_resized, .changed = on_changed, .opaque = s};
    s->last_x = s->last_y = -1;
    s->password_required = config->password;
    s->share = config->share;
    snprintf(s->name, sizeof(s->name), host->name ? "Calque (%s)" : "Calque", host->name);
    pthread_mutex_init(&s->lock, NULL);
    s->thread_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->thread_fd >= 0 && s->event_fd >= 0 && (s->refresh = refresh_create(host->loop, tick, s)) &&
        (s->source = event_loop_add(host->loop, s->event_fd, POLLIN, on_events, s))) {
        if (!start_listening(s, config)) {
            vnc_destroy(&s->view);
            return NULL;
        }
        display_listen(host->display, &s->listener);
        if (s->shared && start_server(s)) return &s->view;
    }
    fprintf(stderr, "calque: %s: cannot start the server\n", config->option);
    vnc_destroy(&s->view);
    return NULL;
}

/* -chardev, and the short forms that -serial and -debugcon take. */
#include "machine/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/option_list.h"

static int find(const struct options *o, const char *id)
{
    for (int i = 0; i < o->chardev_count; i++)
        if (!strcmp(o->chardevs[i].label, id)) return i;
    return -1;
}

int options_chardev_add(struct options *o, const char *option, const struct chardev_config *config)
{
    if (o->chardev_count == OPTIONS_CHARDEVS) {
        fprintf(stderr, "calque: %s: too many character devices\n", option);
        return -EINVAL;
    }
    if (find(o, config->label) >= 0) {
        fprintf(stderr, "calque: %s: duplicate chardev id '%s'\n", option, config->label);
        return -EINVAL;
    }
    if (config->kind == CHARDEV_STDIO) {
        for (int i = 0; i < o->chardev_count; i++) {
            if (o->chardevs[i].kind != CHARDEV_STDIO) continue;
            fprintf(stderr, "calque: %s: stdio is already in use by %s\n", option, o->chardevs[i].label);
            return -EINVAL;
        }
    }
    o->chardevs[o->chardev_count] = *config;
    o->chardevs[o->chardev_count].label = strdup(config->label);
    return o->chardev_count++;
}

int options_chardev_take(struct options *o, const char *option, const char *id, int *ref)
{
    int index = find(o, id);
    if (index < 0) {
        fprintf(stderr, "calque: %s: chardev '%s' not found\n", option, id);
        return -EINVAL;
    }
    if (o->chardev_used[index] && !o->chardevs[index].mux) {
        fprintf(stderr, "calque: %s: chardev '%s' is in use\n", option, id);
        return -EINVAL;
    }
    o->chardev_used[index] = true;
    *ref = index;
    return 0;
}

/* Forget a configuration that was not added; its label is the caller's. */
static void discard(struct chardev_config *c)
{
    free((char *)c->path);
    free((char *)c->host);
    free((char *)c->port);
}

/* The properties of a socket, common to all forms. */
static int socket_properties(struct option_list *l, struct chardev_config *c, bool server_default)
{
    c->server = server_default;
    int err = option_list_bool(l, "server", &c->server);
    c->wait = c->server;
    bool wait_given = option_list_get(l, "wait") != NULL;
    if (!err) err = option_list_bool(l, "wait", &c->wait);
    if (!err) err = option_list_bool(l, "telnet", &c->telnet);
    if (!err && wait_given && !c->server) {
        fprintf(stderr, "calque: %s: wait is for server sockets\n", l->option);
        err = -EINVAL;
    }
    if (!err && c->kind == CHARDEV_TCP) {
        bool delay = true;
        err = option_list_bool(l, "nodelay", &c->nodelay);
        if (!err) err = option_list_bool(l, "delay", &delay);
        if (!delay) c->nodelay = true;
    }
    return err;
}

/* "HOST:PORT", "[ADDRESS]:PORT" or ":PORT". */
static int split_address(const char *option, const char *text, struct chardev_config *c)
{
    const char *colon = strrchr(text, ':');
    if (!colon || !colon[1]) {
        fprintf(stderr, "calque: %s: '%s': expected HOST:PORT\n", option, text);
        return -EINVAL;
    }
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    c->host = strndup(text, len);
    c->port = strdup(colon + 1);
    return 0;
}

/* "unix:PATH,..." and "tcp:HOST:PORT,..." behind their colon. */
static int short_socket(const char *option, const char *text, struct chardev_config *c, bool telnet)
{
    struct option_list l;
    int err = option_list_parse(&l, option, text, "address");
    if (err) return err;
    const char *address = option_list_get(&l, "address");
    if (!address || !*address) {
        fprintf(stderr, "calque: %s: no address in '%s'\n", option, text);
        err = -EINVAL;
    } else if (c->kind == CHARDEV_UNIX) {
        c->path = strdup(address);
    } else {
        err = split_address(option, address, c);
    }
    c->telnet = telnet;
    if (!err) err = socket_properties(&l, c, false);
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int short_path(const char *option, const char *text, struct chardev_config *c)
{
    if (!*text) {
        fprintf(stderr, "calque: %s: no file name\n", option);
        return -EINVAL;
    }
    c->path = strdup(text);
    return 0;
}

static const char *behind(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) ? NULL : text + n;
}

int options_chardev_target(struct options *o, const char *option, const char *text, const char *label, int *ref)
{
    struct chardev_config c = {.label = label, .signals = !o->nographic};
    const char *rest;
    int err = 0;
    bool monitor = (rest = behind(text, "mon:")) != NULL;
    if (monitor) text = rest;

    if (!monitor && !strcmp(text, "none")) {
        *ref = CHARDEV_NONE;
        return 0;
    }
    if ((rest = behind(text, "chardev:"))) return options_chardev_take(o, option, rest, ref);
    if (!strcmp(text, "null")) {
        c.kind = CHARDEV_NULL;
    } else if (!strcmp(text, "stdio")) {
        c.kind = CHARDEV_STDIO;
        c.mux = o->nographic; /* the way out is Ctrl-A x */
    } else if (!strcmp(text, "pty")) {
        c.kind = CHARDEV_PTY;
    } else if ((rest = behind(text, "file:"))) {
        c.kind = CHARDEV_FILE;
        err = short_path(option, rest, &c);
    } else if ((rest = behind(text, "pipe:"))) {
        c.kind = CHARDEV_PIPE;
        err = short_path(option, rest, &c);
    } else if ((rest = behind(text, "unix:"))) {
        c.kind = CHARDEV_UNIX;
        err = short_socket(option, rest, &c, false);
    } else if ((rest = behind(text, "tcp:"))) {
        c.kind = CHARDEV_TCP;
        err = short_socket(option, rest, &c, false);
    } else if ((rest = behind(text, "telnet:"))) {
        c.kind = CHARDEV_TCP;
        err = short_socket(option, rest, &c, true);
    } else {
        fprintf(stderr, "calque: %s: '%s' is not a supported character device\n", option, text);
        err = -EINVAL;
    }
    c.mux |= monitor;
    c.signals &= !monitor; /* Ctrl-C is the guest's */
    int index = err ? err : options_chardev_add(o, option, &c);
    if (index < 0) {
        discard(&c);
        return index;
    }
    o->chardev_used[index] = true;
    *ref = index;
    return monitor ? options_monitor_add(o, option, index, false, false) : 0;
}

/* A property that must be there: a copy, or NULL with a message. */
static char *required(struct option_list *l, const char *key)
{
    const char *value = option_list_get(l, key);
    if (value && *value) return strdup(value);
    fprintf(stderr, "calque: %s: property '%s' is missing\n", l->option, key);
    return NULL;
}

static bool good_id(const char *id)
{
    if (!isalpha((unsigned char)*id)) return false;
    for (; *id; id++)
        if (!isalnum((unsigned char)*id) && !strchr("-._", *id)) return false;
    return true;
}

int options_add_fd(struct options *o, const char *option, const char *text)
{
    (void)option;
    struct option_list l;
    u64 set = 0, fd = 0;
    int err = option_list_parse(&l, "-add-fd", text, NULL);
    if (err) return err;
    bool complete = option_list_get(&l, "set") && option_list_get(&l, "fd");
    option_list_get(&l, "opaque");
    err = option_list_number(&l, "set", INT32_MAX, &set);
    if (!err) err = option_list_number(&l, "fd", INT32_MAX, &fd);
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    if (!err && (!complete || o->fd_count == OPTIONS_CHARDEVS)) {
        fprintf(stderr, "calque: -add-fd %s: %s\n", text, complete ? "too many" : "set and fd are needed");
        err = -EINVAL;
    }
    if (err) return err;
    o->fds[o->fd_count].set = (int)set;
    o->fds[o->fd_count++].fd = (int)fd;
    return 0;
}

/* "/dev/fdset/N" becomes the name of a descriptor of that set. */
static int from_fdset(const struct options *o, const char **path)
{
    u64 set;
    char name[32];
    if (strncmp(*path, "/dev/fdset/", 11) || !option_number(*path + 11, INT32_MAX, &set)) return 0;
    for (int i = 0; i < o->fd_count; i++) {
        if (o->fds[i].set != (int)set) continue;
        snprintf(name, sizeof(name), "/dev/fd/%d", o->fds[i].fd);
        free((char *)*path);
        *path = strdup(name);
        return 0;
    }
    fprintf(stderr, "calque: -chardev: %s: no such set of descriptors\n", *path);
    return -EINVAL;
}

static int define(struct options *o, struct option_list *l)
{
    const char *kind = option_list_get(l, "backend");
    const char *id = option_list_get(l, "id");
    struct chardev_config c = {.label = id, .signals = !o->nographic};
    int err = 0;

    if (!kind || !*kind) {
        fprintf(stderr, "calque: -chardev: no kind of character device\n");
        return -EINVAL;
    }
    if (!id) {
        fprintf(stderr, "calque: -chardev %s: property 'id' is missing\n", kind);
        return -EINVAL;
    }
    if (!good_id(id)) {
        fprintf(stderr, "calque: -chardev %s: '%s' is not a valid id\n", kind, id);
        return -EINVAL;
    }
    if (!strcmp(kind, "null")) {
        c.kind = CHARDEV_NULL;
    } else if (!strcmp(kind, "stdio")) {
        c.kind = CHARDEV_STDIO;
        err = option_list_bool(l, "signal", &c.signals);
    } else if (!strcmp(kind, "file")) {
        c.kind = CHARDEV_FILE;
        if (!(c.path = required(l, "path"))) err = -EINVAL;
        if (!err) err = from_fdset(o, &c.path);
        if (!err) err = option_list_bool(l, "append", &c.append);
    } else if (!strcmp(kind, "pipe")) {
        c.kind = CHARDEV_PIPE;
        if (!(c.path = required(l, "path"))) err = -EINVAL;
    } else if (!strcmp(kind, "pty") || !strcmp(kind, "serial-pty")) {
        c.kind = CHARDEV_PTY;
    } else if (!strcmp(kind, "socket")) {
        const char *path = option_list_get(l, "path"), *given = option_list_get(l, "fd");
        if (path || given) {
            c.kind = CHARDEV_UNIX;
            c.path = strdup(path ? path : given);
            c.has_fd = given;
            u64 fd = 0;
            err = option_list_number(l, "fd", INT32_MAX, &fd);
            c.fd = (int)fd;
        } else {
            const char *host = option_list_get(l, "host");
            c.kind = CHARDEV_TCP;
            c.host = strdup(host ? host : "");
            if (!(c.port = required(l, "port"))) err = -EINVAL;
        }
        if (!err) err = socket_properties(l, &c, false);
    } else {
        fprintf(stderr, "calque: -chardev: kind '%s' not supported\n", kind);
        err = -EINVAL;
    }
    if (!err) err = option_list_bool(l, "mux", &c.mux);
    if (!err) err = option_list_check(l);
    if (!err) err = options_chardev_add(o, "-chardev", &c);
    if (err >= 0) return 0;
    discard(&c);
    return err;
}

int options_chardev_define(struct options *o, const char *text)
{
    struct option_list l;
    int err = option_list_parse(&l, "-chardev", text, "backend");
    if (err) return err;
    err = define(o, &l);
    option_list_free(&l);
    return err;
}

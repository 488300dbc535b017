/* Images that come and go while the machine runs: blockdev-add, blockdev-del. They are discs and floppies for drives that
 * there are (blockdev-insert-medium); drives themselves cannot be plugged in.
 *
 * A node that is only a file, for one of a format on top of it, is not opened before it is inserted itself. */
#include "machine/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine/machine.h"

struct node {
    struct block *block;         /* its contents, NULL: not open */
    struct drive_events *events; /* whose events its are */
    bool inserted;               /* in drive number events->drive, whose contents it is */
};

struct control_nodes {
    struct options options;            /* of which only the drives are used */
    struct node nodes[OPTIONS_DRIVES]; /* likewise */
};

/* -1: there is none of that name. */
static int find(const struct control_nodes *n, const char *name)
{
    for (int i = 0; n && i < n->options.drive_count; i++)
        if (n->options.drives[i].id && !strcmp(n->options.drives[i].id, name)) return i;
    return -1;
}

static bool open_node(struct machine *m, int i)
{
    const struct drive_option *d = &m->nodes->options.drives[i];
    struct node *node = &m->nodes->nodes[i];
    if (!node->block) node->block = pc_open_image(m, d, node->events, "blockdev-add", d->file, d->format, d->readonly);
    return node->block != NULL;
}

/* Forget node i, which nobody uses; what it stands on is free again. */
static void drop(struct control_nodes *n, int i)
{
    struct drive_option *d = &n->options.drives[i];
    int below = d->below ? find(n, d->below) : -1;
    if (below >= 0) {
        n->options.drives[below].taken = false;
        n->options.drives[below].file = d->file;
        d->file = NULL;
    }
    disk_queue_destroy(n->nodes[i].block);
    free(n->nodes[i].events);
    options_drive_drop(&n->options, i);
    memmove(&n->nodes[i], &n->nodes[i + 1], sizeof(n->nodes) - (size_t)(i + 1) * sizeof(n->nodes[0]));
    n->nodes[OPTIONS_DRIVES - 1] = (struct node){0};
}

static json_t *add(struct machine *m, json_t *args, struct control_error *e)
{
    const char *name = json_string_value(json_object_get(args, "node-name"));
    const char *driver = json_string_value(json_object_get(args, "driver"));
    enum disk_format format;
    if (strcmp(driver, "file") && strcmp(driver, "host_device") && !disk_format_parse(driver, &format))
        return control_fail(e, ERROR_GENERIC, "Parameter 'driver' does not accept value '%.200s'", driver);
    if (!m->nodes && !(m->nodes = calloc(1, sizeof(*m->nodes)))) return control_fail(e, ERROR_GENERIC, "Out of memory");
    struct control_nodes *n = m->nodes;
    bool exists = find(n, name) >= 0;
    for (int i = 0; i < m->options->drive_count; i++)
        exists |= m->options->drives[i].id && !strcmp(m->options->drives[i].id, name);
    if (exists) return control_fail(e, ERROR_GENERIC, "Duplicate nodes with node-name='%.200s'", name);

    char *text = json_dumps(args, 0);
    int i = n->options.drive_count;
    int err = text ? options_blockdev(&n->options, "blockdev-add", text) : -ENOMEM;
    free(text);
    const char *why = "the error is on the emulator's standard error";
    if (!err) {
        const struct drive_option *d = &n->options.drives[i];
        n->nodes[i].events = malloc(sizeof(*n->nodes[i].events));
        if (n->nodes[i].events) *n->nodes[i].events = (struct drive_events){.machine = m};
        if (!n->nodes[i].events)
            err = -ENOMEM, why = "Out of memory";
        else if (access(d->file, R_OK))
            err = -errno, control_fail(e, ERROR_GENERIC, "Could not open '%.200s': %s", d->file, strerror(errno));
        else if (!d->plain && !open_node(m, i))
            err = -EIO;
    }
    if (!err) return json_object();
    if (i < n->options.drive_count) drop(n, i);
    return e->class ? NULL : control_fail(e, ERROR_GENERIC, "Could not open '%.200s': %s", name, why);
}

static json_t *del(struct machine *m, json_t *args, struct control_error *e)
{
    const char *name = json_string_value(json_object_get(args, "node-name"));
    int i = find(m->nodes, name);
    if (i < 0) return control_fail(e, ERROR_GENERIC, "Failed to find node with node-name='%.200s'", name);
    if (m->nodes->nodes[i].inserted || m->nodes->options.drives[i].taken)
        return control_fail(e, ERROR_GENERIC, "Block device %.200s is in use", name);
    drop(m->nodes, i);
    return json_object();
}

/* ---- for control_block.c ---- */

struct block *control_node_take(struct machine *m, const char *name, int drive, struct control_error *e)
{
    int i = find(m->nodes, name);
    if (i < 0) {
        control_fail(e, ERROR_GENERIC, "Node '%.200s' not found", name);
    } else if (m->nodes->nodes[i].inserted || m->nodes->options.drives[i].taken) {
        control_fail(e, ERROR_GENERIC, "Node '%.200s' is in use", name);
    } else if (!open_node(m, i)) {
        control_fail(e, ERROR_GENERIC, "Could not open '%.200s'", name);
    } else {
        m->nodes->nodes[i].inserted = true;
        m->nodes->nodes[i].events->drive = drive;
        return m->nodes->nodes[i].block;
    }
    return NULL;
}

bool control_node_release(struct machine *m, const struct block *b)
{
    for (int i = 0; b && m->nodes && i < m->nodes->options.drive_count; i++) {
        if (m->nodes->nodes[i].block != b) continue;
        m->nodes->nodes[i].inserted = false;
        return true;
    }
    return false;
}

const struct drive_option *control_node_option(struct machine *m, int i, const struct block **b, bool *inserted)
{
    if (!m->nodes || i >= m->nodes->options.drive_count) return NULL;
    *b = m->nodes->nodes[i].block;
    *inserted = m->nodes->nodes[i].inserted;
    return &m->nodes->options.drives[i];
}

void control_nodes_close(struct machine *m)
{
    while (m->nodes && m->nodes->options.drive_count) {
        int last = m->nodes->options.drive_count - 1;
        m->nodes->options.drives[last].taken = false;
        drop(m->nodes, last);
    }
    free(m->nodes);
    m->nodes = NULL;
}

const struct control_command control_nodes[] = {
    {"blockdev-add", "driver:s node-name:s ...", add},
    {"blockdev-del", "node-name:s", del},
    {0},
};

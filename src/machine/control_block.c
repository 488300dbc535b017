/* Commands about drives and what is in them.
 *
 * A drive is called by its id, or as QEMU calls those without: ide0-hd0, ide1-cd0, floppy0. */
#include "machine/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block.h"
#include "devices/fdc.h"
#include "devices/piix3_ide.h"
#include "host/disk.h"
#include "machine/machine.h"

static const char *drive_name(const struct drive_option *d, char *buf, size_t size)
{
    if (d->id) return d->id;
    if (d->interface == DRIVE_VIRTIO)
        snprintf(buf, size, "virtio%d", d->index);
    else if (d->interface == DRIVE_FLOPPY)
        snprintf(buf, size, "floppy%d", d->index);
    else
        snprintf(buf, size, "ide%d-%s%d", d->index >> 1, d->cdrom ? "cd" : "hd", d->index & 1);
    return buf;
}

/* By either of the arguments device and id; -1 with the error set. */
static int find_drive(struct machine *m, json_t *args, struct control_error *e)
{
    const char *name = json_string_value(json_object_get(args, "device"));
    if (!name) name = json_string_value(json_object_get(args, "id"));
    if (!name) {
        control_fail(e, ERROR_GENERIC, "Need exactly one of 'device' and 'id'");
        return -1;
    }
    for (int i = 0; i < m->options->drive_count; i++) {
        char buf[32];
        if (!strcmp(name, drive_name(&m->options->drives[i], buf, sizeof(buf)))) return i;
    }
    control_fail(e, ERROR_DEVICE, "Device '%.200s' not found", name);
    return -1;
}

/* ---- what there is ---- */

static json_t *image_info(const struct block *b)
{
    struct stat st;
    const char *path = disk_queue_path(b);
    bool known = !stat(path, &st);
    return json_pack("{sssssIsIsb}", "filename", path, "format", disk_queue_format(b), "virtual-size", (json_int_t)b->size,
                     "actual-size", known ? (json_int_t)st.st_blocks * 512 : 0, "dirty-flag", false);
}

/* A BlockDeviceInfo. Nothing is throttled. */
static json_t *block_info(const struct drive_option *d, const struct block *b, const char *node)
{
    json_t *info = json_pack("{sssssbsssbsisssi}", "file", disk_queue_path(b), "node-name", node, "ro", b->readonly, "drv",
                             disk_queue_format(b), "encrypted", false, "backing_file_depth", 0, "detect_zeroes", "off",
                             "write_threshold", 0);
    static const char *const limits[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) json_object_set_new(info, limits[i], json_integer(0));
    json_object_set_new(info, "cache", json_pack("{sbsbsb}", "writeback", !d->write_through, "direct", d->direct, "no-flush",
                                                 d->unsafe));
    json_object_set_new(info, "image", image_info(b));
    return info;
}

/* The node of blockdev-add whose contents these are; NULL: of none. */
static const struct drive_option *node_of(struct machine *m, const struct block *b)
{
    const struct drive_option *d;
    const struct block *contents;
    bool inserted;
    for (int i = 0; (d = control_node_option(m, i, &contents, &inserted)); i++)
        if (contents == b) return d;
    return NULL;
}

static json_t *query_block(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *list = json_array();
    (void)args;
    (void)e;
    for (int i = 0; i < m->options->drive_count; i++) {
        const struct drive_option *d = &m->options->drives[i];
        const struct block *b = *pc_drive(m, i);
        char buf[32];
        const char *name = drive_name(d, buf, sizeof(buf));
        if (d->interface == DRIVE_NONE && d->taken) continue; /* a node below another one */
        bool open = false, locked = false;
        bool floppy = d->interface == DRIVE_FLOPPY;
        bool tray = d->interface == DRIVE_IDE && piix3_ide_tray(pc_ide(m), d->index, &open, &locked);
        json_t *item = json_pack("{sssssbsb}", "device", name, "type", "unknown", "removable", d->cdrom || floppy, "locked", locked);
        if (d->interface != DRIVE_NONE) json_object_set_new(item, "qdev", json_string(name));
        int stuck = b ? disk_queue_stuck(*pc_drive(m, i)) : 0;
        if (d->interface != DRIVE_NONE)
            json_object_set_new(item, "io-status", json_string(!stuck ? "ok" : stuck == -ENOSPC ? "nospace" : "failed"));
        if (tray) json_object_set_new(item, "tray_open", json_boolean(open));
        const struct drive_option *node = b ? node_of(m, b) : NULL;
        if (b) json_object_set_new(item, "inserted", block_info(node ? node : d, b, node ? node->id : name));
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *query_named_nodes(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *list = json_array();
    (void)args;
    (void)e;
    for (int i = 0; i < m->options->drive_count; i++) {
        char buf[32];
        const struct block *b = *pc_drive(m, i);
        const struct drive_option *d = &m->options->drives[i];
        if (b && !node_of(m, b)) json_array_append_new(list, block_info(d, b, drive_name(d, buf, sizeof(buf))));
    }
    const struct drive_option *d;
    const struct block *b;
    bool inserted;
    for (int i = 0; (d = control_node_option(m, i, &b, &inserted)); i++)
        if (b) json_array_append_new(list, block_info(d, b, d->id));
    return list;
}

/* ---- trays and media ---- */

/* The CD or floppy drive that is meant; -1 with the error set. */
static int find_tray(struct machine *m, json_t *args, struct control_error *e)
{
    int i = find_drive(m, args, e);
    if (i < 0) return -1;
    const struct drive_option *d = &m->options->drives[i];
    char buf[32];
    if ((d->interface == DRIVE_IDE && d->cdrom) || d->interface == DRIVE_FLOPPY) return i;
    control_fail(e, ERROR_GENERIC, "Device '%.200s' is not removable", drive_name(d, buf, sizeof(buf)));
    return -1;
}

static bool move_tray(struct machine *m, int i, bool open, bool force, struct control_error *e)
{
    const struct drive_option *d = &m->options->drives[i];
    char buf[32];
    if (d->interface == DRIVE_FLOPPY) return true; /* no tray, and nothing locks it */
    if (!piix3_ide_move_tray(pc_ide(m), d->index, open, force)) return true;
    control_fail(e, ERROR_GENERIC,
                 "Device '%.200s' is locked and force was not specified, wait for tray to open and try again",
                 drive_name(d, buf, sizeof(buf)));
    return false;
}

/* Put b, or nothing, in place of what is in the open tray. */
static void replace(struct machine *m, int i, struct block *b)
{
    struct block **at = pc_drive(m, i), *old = *at;
    const struct drive_option *d = &m->options->drives[i];
    *at = b;
    if (d->interface == DRIVE_FLOPPY)
        fdc_change_medium(pc_fdc(m), (unsigned)d->index, b);
    else
        piix3_ide_change_medium(pc_ide(m), d->index, b, true);
    if (!control_node_release(m, old)) disk_queue_destroy(old);
}

static bool is_true(json_t *args, const char *key) { return json_is_true(json_object_get(args, key)); }

static json_t *open_tray(struct machine *m, json_t *args, struct control_error *e)
{
    int i = find_tray(m, args, e);
    return i >= 0 && move_tray(m, i, true, is_true(args, "force"), e) ? json_object() : NULL;
}

static json_t *close_tray(struct machine *m, json_t *args, struct control_error *e)
{
    int i = find_tray(m, args, e);
    return i >= 0 && move_tray(m, i, false, false, e) ? json_object() : NULL;
}

/* Else the error is set. A floppy drive always is. */
static bool is_open(struct machine *m, int i, struct control_error *e)
{
    const struct drive_option *d = &m->options->drives[i];
    bool open = true, locked;
    char buf[32];
    if (d->interface == DRIVE_IDE) piix3_ide_tray(pc_ide(m), d->index, &open, &locked);
    if (!open) control_fail(e, ERROR_GENERIC, "Tray of device '%.200s' is not open", drive_name(d, buf, sizeof(buf)));
    return open;
}

static json_t *remove_medium(struct machine *m, json_t *args, struct control_error *e)
{
    int i = find_tray(m, args, e);
    if (i < 0 || !is_open(m, i, e)) return NULL;
    if (*pc_drive(m, i)) replace(m, i, NULL);
    return json_object();
}

static json_t *eject(struct machine *m, json_t *args, struct control_error *e)
{
    int i = find_tray(m, args, e);
    if (i < 0 || !move_tray(m, i, true, is_true(args, "force"), e)) return NULL;
    if (*pc_drive(m, i)) replace(m, i, NULL);
    return json_object();
}

static json_t *change_medium(struct machine *m, json_t *args, struct control_error *e)
{
    const char *file = json_string_value(json_object_get(args, "filename"));
    const char *format = json_string_value(json_object_get(args, "format"));
    const char *mode = json_string_value(json_object_get(args, "read-only-mode"));
    enum disk_format as = DISK_AUTO;
    int i = find_tray(m, args, e);
    if (i < 0) return NULL;
    bool floppy = m->options->drives[i].interface == DRIVE_FLOPPY, readonly = !floppy;
    if (mode && strcmp(mode, "retain"))
        readonly = !strcmp(mode, "read-only");
    else if (floppy)
        readonly = *pc_drive(m, i) ? (*pc_drive(m, i))->readonly : m->options->drives[i].readonly;
    if (format && !disk_format_parse(format, &as))
        return control_fail(e, ERROR_GENERIC, "Unknown driver '%.200s'", format);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return control_fail(e, ERROR_GENERIC, "Could not open '%.200s': %s", file, strerror(errno));
    close(fd);
    struct block *b = pc_open_image(m, &m->options->drives[i], pc_drive_events(m, i), "change", file, as, readonly);
    if (b && floppy && !fdc_drive_type(b->size)) {
        disk_queue_destroy(b);
        return control_fail(e, ERROR_GENERIC, "'%.200s' has not the size of a floppy disk", file);
    }
    if (!b) return control_fail(e, ERROR_GENERIC, "Could not open '%.200s'", file);
    if (!move_tray(m, i, true, is_true(args, "force"), e)) {
        disk_queue_destroy(b);
        return NULL;
    }
    replace(m, i, b);
    move_tray(m, i, false, false, e);
    return json_object();
}

static json_t *insert_medium(struct machine *m, json_t *args, struct control_error *e)
{
    const char *node = json_string_value(json_object_get(args, "node-name"));
    int i = find_tray(m, args, e);
    if (i < 0 || !is_open(m, i, e)) return NULL;
    const struct drive_option *d = &m->options->drives[i];
    char buf[32];
    if (*pc_drive(m, i))
        return control_fail(e, ERROR_GENERIC, "There already is a medium in device '%.200s'", drive_name(d, buf, sizeof(buf)));
    struct block *b = control_node_take(m, node, i, e);
    if (!b) return NULL;
    if (d->interface == DRIVE_FLOPPY && !fdc_drive_type(b->size)) {
        control_node_release(m, b);
        return control_fail(e, ERROR_GENERIC, "'%.200s' has not the size of a floppy disk", node);
    }
    replace(m, i, b);
    return json_object();
}

/* ---- events ---- */

void control_tray_moved(void *opaque, bool open)
{
    struct drive_events *x = opaque;
    char buf[32];
    const char *name = drive_name(&x->machine->options->drives[x->drive], buf, sizeof(buf));
    control_event(x->machine, "DEVICE_TRAY_MOVED", json_pack("{sssbss}", "device", name, "tray-open", open, "id", name));
}

void control_block_failed(void *opaque, const struct block_request *r, enum disk_action action)
{
    struct drive_events *x = opaque;
    char buf[32];
    const char *name = drive_name(&x->machine->options->drives[x->drive], buf, sizeof(buf));
    control_event(x->machine, "BLOCK_IO_ERROR",
                  json_pack("{sssssssssbss}", "device", name, "node-name", name, "operation",
                            r->op == BLOCK_READ ? "read" : "write", "action", action == DISK_STOP ? "stop" : "report", "nospace", r->error == -ENOSPC,
                            "reason", strerror(-r->error)));
    if (action == DISK_STOP) machine_stop(x->machine, RUN_IO_ERROR);
}

const struct control_command control_block[] = {
    {"query-block", "", query_block},
    {"query-named-block-nodes", "flat:b?", query_named_nodes},
    {"eject", "device:s? id:s? force:b?", eject},
    {"blockdev-open-tray", "device:s? id:s? force:b?", open_tray},
    {"blockdev-close-tray", "device:s? id:s?", close_tray},
    {"blockdev-remove-medium", "id:s", remove_medium},
    {"blockdev-insert-medium", "id:s node-name:s", insert_medium},
    {"blockdev-change-medium", "device:s? id:s? filename:s format:s? force:b? read-only-mode:retain|read-only|read-write?",
     change_medium},
    {0},
};

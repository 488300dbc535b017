/* What can be asked of a running machine: one table of commands on JSON values, of which QMP (qmp.c) and the monitor for
 * people (monitor.c) are two views. Names, arguments and answers are QMP's.
 *
 * Everything here happens on the event loop's thread, with the machine lock. */
#ifndef MACHINE_CONTROL_H
#define MACHINE_CONTROL_H

#include <jansson.h>

#include "core/types.h"
#include "host/disk.h"

struct machine;

#define ERROR_GENERIC    "GenericError"
#define ERROR_COMMAND    "CommandNotFound"
#define ERROR_DEVICE     "DeviceNotFound"
#define ERROR_NOT_ACTIVE "DeviceNotActive"

struct control_error {
    const char *class; /* ERROR_*; NULL: none */
    char text[512];    /* for people */
};

/* Set the error; NULL, so that handlers can return it. */
json_t *control_fail(struct control_error *e, const char *class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* args is an object that fits the command's schema. A new reference, or NULL with the error set. */
typedef json_t *control_handler(struct machine *m, json_t *args, struct control_error *e);

struct control_command {
    const char *name; /* QMP's */
    /* Arguments, separated by blanks: NAME:TYPE, with a ? behind those that may be missing. TYPE is s(tring), i(nteger),
     * n(umber), b(oolean), o(bject), a(rray), * (anything), or the words of an enumeration, separated by |
     * (of two letters or more each). "..." at the end: others, too, which the handler looks at. */
    const char *args;
    control_handler *run; /* what it does */
};

/* The table's parts, by subject, each ending with an empty row. */
extern const struct control_command control_vm[], control_block[], control_nodes[], control_devices[], control_input[],
    control_probe[];

/* Run a command; args may be NULL. A new reference, or NULL with the error set. */
json_t *control_run(struct machine *m, const char *name, json_t *args, struct control_error *e);
/* An array of {"name": NAME}. */
json_t *control_list(void);
/* What query-qmp-schema answers. */
json_t *control_schema(void);
/* Does the value fit the schema? Else the error is set; path names it in the message. */
bool control_check(const char *schema, json_t *args, struct control_error *e);

/* Somebody who hears of events. */
struct control_listener {
    struct control_listener *next; /* the machine's list */
    void (*event)(void *opaque, json_t *event); /* borrowed */
    void *opaque;                  /* its first argument */
};
void control_listen(struct machine *m, struct control_listener *l);
void control_unlisten(struct machine *m, struct control_listener *l);
/* Tell them: with data (a reference that is taken over; NULL: none). */
void control_event(struct machine *m, const char *name, json_t *data);
/* RESET and SHUTDOWN: with one of machine.h's CAUSE_* */
void control_event_cause(struct machine *m, const char *name, const char *cause);

/* RTC_CHANGE: the guest has set its clock to that many seconds since 1970. */
void control_clock_set(void *machine, s64 seconds);

/* ---- control_nodes.c ---- */

struct drive_option;

/* The contents of that node, for a drive (its index) to have: NULL with the error set. */
struct block *control_node_take(struct machine *m, const char *name, int drive, struct control_error *e);
/* The drive does not have it any more; false: it is no node's, and to be destroyed. */
bool control_node_release(struct machine *m, const struct block *b);
/* What node number i is, its contents (NULL: not open), and whether it is in a drive. NULL: there are no more. */
const struct drive_option *control_node_option(struct machine *m, int i, const struct block **b, bool *inserted);
/* Close them all; no drive has one. */
void control_nodes_close(struct machine *m);

/* ---- control_block.c: events of drives ---- */

/* One of options->drives, as what these are called with. */
struct drive_events {
    struct machine *machine; /* where it is */
    int drive;               /* its index */
};
void control_tray_moved(void *drive_events, bool open);
void control_block_failed(void *drive_events, const struct block_request *r, enum disk_action action);

#endif

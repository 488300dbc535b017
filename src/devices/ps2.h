/* The wire between the keyboard controller and a PS/2 device: bytes down, a queue of bytes up. */
#ifndef DEVICES_PS2_H
#define DEVICES_PS2_H

#include "core/device.h"
#include "core/types.h"

/* Bytes on their way up. Answers to commands go ahead of what the user does, which may overflow. */
struct ps2_queue {
    u8 data[256];  /* ring */
    unsigned head; /* next byte out */
    unsigned used; /* bytes in the ring */
};

/* First member of each PS/2 device's struct. */
struct ps2_device {
    struct device dev;                              /* what the machine sees */
    void (*receive)(struct ps2_device *d, u8 byte); /* a byte from the host */
    void (*ready)(void *opaque); /* tells the controller that there may be data; set by ps2_attach() */
    void *ready_opaque;          /* for ready() */
    struct ps2_queue replies;    /* answers to commands */
    struct ps2_queue events;     /* keys, movements */
    u8 last_sent;                /* for the resend command */
};

/* The controller's side. */
void ps2_attach(struct ps2_device *d, void (*ready)(void *opaque), void *opaque);
bool ps2_has_data(const struct ps2_device *d);
u8 ps2_take(struct ps2_device *d); /* only when there is data */

/* The device's side. A full queue drops the byte (false). */
bool ps2_queue_put(struct ps2_queue *q, u8 byte);
void ps2_queue_clear(struct ps2_queue *q);
void ps2_reply(struct ps2_device *d, u8 byte);
void ps2_notify(struct ps2_device *d);

#endif

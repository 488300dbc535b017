/* USB devices as a host controller sees them: packets to endpoints; the control pipe and standard requests are common.
 *
 * A device embeds struct usb_device as its first member, fills in what is fixed about it and calls usb_device_init(). */
#ifndef DEVICES_USB_H
#define DEVICES_USB_H

#include "core/device.h"
#include "core/types.h"

/* [USB] table 8-1 */
enum { USB_PID_OUT = 0xe1, USB_PID_IN = 0x69, USB_PID_SETUP = 0x2d };

/* What becomes of a packet, if not a number of bytes. */
enum { USB_NAK = -1, USB_STALL = -2 };

/* [USB] table 9-2 */
struct usb_setup {
    u8 type;            /* bmRequestType */
    u8 request;         /* bRequest */
    u16 value, index;   /* wValue, wIndex */
    u16 length;         /* wLength */
};
#define USB_TYPE_IN    0x80
#define USB_TYPE_CLASS 0x20
#define USB_TYPE_MASK  0x60

#define USB_CONTROL_MAX 1024 /* bytes of a control transfer */

struct usb_device;

struct usb_device_ops {
    /* A request that is not a standard one, or a descriptor of the class's. To the host: fill data, return the length;
     * from the host: data has setup->length bytes, return 0. USB_STALL: not known. */
    int (*request)(struct usb_device *d, const struct usb_setup *setup, u8 *data);
    /* An interrupt endpoint is read: bytes put into data (size at most), USB_NAK or USB_STALL. */
    int (*in)(struct usb_device *d, u8 endpoint, u8 *data, unsigned size);
    /* The device was reset, or its configuration changed. */
    void (*configured)(struct usb_device *d, bool configured);
};

struct usb_device {
    struct device dev;                 /* what the machine sees; must stay first */
    const struct usb_device_ops *ops;  /* what it does */
    const u8 *device_descriptor;       /* [USB] 9.6.1 */
    const u8 *config_descriptor;       /* with all that belongs to it, 9.6.3 */
    const char *const *strings;        /* from index 1 on, up to NULL */
    void (*wake)(void *opaque);        /* there is something to be read; set by the controller */
    void *wake_opaque;                 /* for wake */

    u8 address;                        /* on the bus */
    u8 new_address;                    /* from the end of this transfer on; 0: no change */
    u8 configuration;                  /* 0: none */
    bool halted;                       /* the interrupt endpoint is */
    struct usb_setup setup;            /* the control transfer that goes on */
    u8 data[USB_CONTROL_MAX];          /* its data */
    unsigned length, position;         /* bytes there are, bytes done */
    bool stalled;                      /* it failed */
};

void usb_device_init(struct usb_device *d);
/* Bus reset. */
void usb_device_reset(struct usb_device *d);
/* A packet for this device: bytes taken or given, USB_NAK or USB_STALL. */
int usb_device_packet(struct usb_device *d, u8 pid, u8 endpoint, u8 *data, unsigned size);
/* Something can be read now. */
void usb_device_wake(struct usb_device *d);

#endif

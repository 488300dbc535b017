/* The control pipe of USB devices, and the requests that all of them know.
 *
 * Data toggles are not checked: nothing gets lost on this bus, and the host's software keeps them in step.
 *
 * References: [USB] Universal Serial Bus Specification 1.1, chapters 8 and 9. */
#include "devices/usb.h"

#include <string.h>

/* [USB] table 9-4 */
enum {
    GET_STATUS = 0,
    CLEAR_FEATURE = 1,
    SET_FEATURE = 3,
    SET_ADDRESS = 5,
    GET_DESCRIPTOR = 6,
    GET_CONFIGURATION = 8,
    SET_CONFIGURATION = 9,
    GET_INTERFACE = 10,
    SET_INTERFACE = 11,
};
enum { DESCRIPTOR_DEVICE = 1, DESCRIPTOR_CONFIGURATION = 2, DESCRIPTOR_STRING = 3 }; /* [USB] table 9-5 */

void usb_device_init(struct usb_device *d) { usb_device_reset(d); }

void usb_device_reset(struct usb_device *d)
{
    d->address = d->new_address = d->configuration = 0;
    d->halted = d->stalled = false;
    d->length = d->position = 0;
    d->ops->configured(d, false);
}

void usb_device_wake(struct usb_device *d)
{
    if (d->wake) d->wake(d->wake_opaque);
}

static int string_descriptor(const struct usb_device *d, unsigned index, u8 *data)
{
    static const u8 languages[] = {4, DESCRIPTOR_STRING, 0x09, 0x04}; /* US English */
    if (!index) {
        memcpy(data, languages, sizeof(languages));
        return sizeof(languages);
    }
    for (unsigned i = 1; i <= index; i++)
        if (!d->strings[i - 1]) return USB_STALL;
    const char *text = d->strings[index - 1];
    unsigned n = (unsigned)MIN(strlen(text), (size_t)126);
    data[0] = (u8)(2 + 2 * n);
    data[1] = DESCRIPTOR_STRING;
    for (unsigned i = 0; i < n; i++) {
        data[2 + 2 * i] = (u8)text[i];
        data[3 + 2 * i] = 0;
    }
    return data[0];
}

static int get_descriptor(struct usb_device *d, const struct usb_setup *s, u8 *data)
{
    switch (s->value >> 8) {
    case DESCRIPTOR_DEVICE: memcpy(data, d->device_descriptor, d->device_descriptor[0]); return data[0];
    case DESCRIPTOR_CONFIGURATION: {
        unsigned total = d->config_descriptor[2] | d->config_descriptor[3] << 8;
        if (s->value & 0xff) return USB_STALL;
        memcpy(data, d->config_descriptor, total);
        return (int)total;
    }
    case DESCRIPTOR_STRING: return string_descriptor(d, s->value & 0xff, data);
    default: return d->ops->request(d, s, data);
    }
}

/* To the host: the length of the answer. */
static int standard_in(struct usb_device *d, const struct usb_setup *s, u8 *data)
{
    switch (s->request) {
    case GET_STATUS:
        data[0] = (s->type & 0x1f) == 2 && s->index & 0xf ? d->halted : 0;
        data[1] = 0;
        return 2;
    case GET_DESCRIPTOR: return get_descriptor(d, s, data);
    case GET_CONFIGURATION: data[0] = d->configuration; return 1;
    case GET_INTERFACE: data[0] = 0; return 1;
    default: return USB_STALL;
    }
}

static int standard_out(struct usb_device *d, const struct usb_setup *s)
{
    bool endpoint = (s->type & 0x1f) == 2;
    switch (s->request) {
    case SET_ADDRESS: d->new_address = s->value & 0x7f; return 0;
    case SET_CONFIGURATION:
        if (s->value > 1) return USB_STALL;
        d->configuration = (u8)s->value;
        d->halted = false;
        d->ops->configured(d, s->value != 0);
        return 0;
    case SET_INTERFACE: return s->value ? USB_STALL : 0;
    case SET_FEATURE:
    case CLEAR_FEATURE:
        if (endpoint && s->value == 0) d->halted = s->request == SET_FEATURE; /* ENDPOINT_HALT */
        return 0;
    default: return USB_STALL;
    }
}

/* The transfer's request, when all that the host has to say about it is there. */
static int request(struct usb_device *d)
{
    const struct usb_setup *s = &d->setup;
    if (s->type & USB_TYPE_MASK) return d->ops->request(d, s, d->data);
    return s->type & USB_TYPE_IN ? standard_in(d, s, d->data) : standard_out(d, s);
}

static int control_setup(struct usb_device *d, const u8 *p, unsigned size)
{
    if (size != 8) return USB_STALL;
    d->setup = (struct usb_setup){.type = p[0], .request = p[1], .value = (u16)(p[2] | p[3] << 8),
                                  .index = (u16)(p[4] | p[5] << 8), .length = (u16)(p[6] | p[7] << 8)};
    d->position = 0;
    d->length = d->setup.length;
    d->stalled = d->length > USB_CONTROL_MAX && !(d->setup.type & USB_TYPE_IN);
    if (d->setup.type & USB_TYPE_IN && d->length) {
        int n = request(d);
        d->stalled = n < 0;
        d->length = n < 0 ? 0 : MIN((unsigned)n, d->setup.length);
    } else if (!d->length) {
        d->stalled = request(d) < 0;
    }
    return 8; /* [USB] 8.5.2: a setup packet is always accepted; failure shows in the next stage */
}

static int control_in(struct usb_device *d, u8 *data, unsigned size)
{
    if (d->stalled) return USB_STALL;
    if (!(d->setup.type & USB_TYPE_IN) || !d->setup.length) { /* status stage */
        if (d->new_address) d->address = d->new_address;
        d->new_address = 0;
        return 0;
    }
    unsigned n = MIN(size, d->length - d->position);
    memcpy(data, d->data + d->position, n);
    d->position += n;
    return (int)n;
}

static int control_out(struct usb_device *d, const u8 *data, unsigned size)
{
    if (d->stalled) return USB_STALL;
    if (d->setup.type & USB_TYPE_IN) return (int)size; /* status stage */
    unsigned n = MIN(size, d->length - d->position);
    memcpy(d->data + d->position, data, n);
    d->position += n;
    if (n && d->position == d->length) d->stalled = request(d) < 0;
    return (int)size;
}

int usb_device_packet(struct usb_device *d, u8 pid, u8 endpoint, u8 *data, unsigned size)
{
    if (endpoint == 0) {
        switch (pid) {
        case USB_PID_SETUP: return control_setup(d, data, size);
        case USB_PID_IN: return control_in(d, data, size);
        default: return control_out(d, data, size);
        }
    }
    if (pid != USB_PID_IN || !d->configuration || d->halted) return USB_STALL;
    return d->ops->in(d, endpoint, data, size);
}

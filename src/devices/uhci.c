/* The universal host controller of the PIIX3: registers, root hub, and the schedule in guest memory.
 *
 * A frame is a millisecond. Its list of transfer descriptors (TDs) and queue heads (QHs) is followed as the hardware does,
 * with bounds on the work that a broken or circular schedule can cause. When nothing moves, several frames are done at
 * once, so that an idle bus costs little; a device with something to say cuts that short.
 * Full-speed devices only. Left out: isochronous timing, suspended ports, global resume, the PIIX3's trapping of
 * legacy keyboard ports (its register can be read and written).
 *
 * References: [UHCI] Universal Host Controller Interface Design Guide 1.1. [PIIX3] Intel 82371SB. */
#include "devices/uhci.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define FRAME_NS       1000000ull
#define FRAMES         1024 /* in the list */
#define IDLE_FRAMES    16   /* done at once when nothing moves */
#define LATE_FRAMES    64   /* more that were missed are not made up for */
#define FRAME_BYTES    1280 /* [UHCI] 1.3: what fits into a frame */
#define FRAME_STEPS    256  /* QHs and TDs looked at in a frame */
#define PACKET_OVERHEAD 8   /* bytes, about, of tokens and handshakes */
#define PACKET_MAX     1280 /* [UHCI] 3.2.3: longer packets are a process error */

/* Registers [UHCI] 2.1 */
enum { USBCMD = 0, USBSTS = 2, USBINTR = 4, FRNUM = 6, FLBASEADD = 8, SOFMOD = 12, PORTSC = 16, REGISTERS = 20 };

#define CMD_RUN       0x0001
#define CMD_HCRESET   0x0002
#define CMD_GRESET    0x0004
#define CMD_MASK      0x00ff
#define STS_INT       0x0001 /* a TD with IOC ended, or a short packet */
#define STS_ERROR     0x0002
#define STS_PROCESS   0x0010 /* the schedule makes no sense */
#define STS_HALTED    0x0020
#define STS_MASK      0x003f
#define INTR_TIMEOUT  0x0001
#define INTR_IOC      0x0004
#define INTR_SHORT    0x0008

#define PORT_CONNECTED         0x0001
#define PORT_CONNECT_CHANGE    0x0002
#define PORT_ENABLED           0x0004
#define PORT_ENABLE_CHANGE     0x0008
#define PORT_ONE               0x0080
#define PORT_RESET             0x0200
#define PORT_SUSPEND           0x1000
#define PORT_WRITABLE          (PORT_ENABLED | PORT_RESET | PORT_SUSPEND)

/* Links [UHCI] 3.1, 3.2.1 */
#define LINK_END   1u
#define LINK_QH    2u
#define LINK_DEPTH 4u

/* TD control and status [UHCI] 3.2.2 */
#define TD_TIMEOUT (1u << 18)
#define TD_NAK     (1u << 19)
#define TD_STALLED (1u << 22)
#define TD_ACTIVE  (1u << 23)
#define TD_STATUS  (0x7eu << 16)
#define TD_IOC     (1u << 24)
#define TD_ERRORS  (3u << 27)
#define TD_SHORT   (1u << 29)

#define CONFIG_RELEASE 0x60 /* [PIIX3] serial bus release number */
#define CONFIG_LEGACY  0xc0 /* [PIIX3] legacy support */

struct uhci_port {
    struct usb_device *device; /* plugged in, NULL: nothing */
    u16 status;                /* PORTSC */
};

struct uhci {
    struct pci_device pci;               /* function, first */
    struct clock *clock;                 /* frames follow it */
    struct timer *timer;                 /* the next frames */
    u16 command, status, interrupts;     /* USBCMD, USBSTS, USBINTR */
    u16 frame;                           /* FRNUM: the frame to be done next */
    u32 list;                            /* FLBASEADD */
    u8 sof;                              /* SOFMOD */
    bool ioc, short_packet;              /* why STS_INT is set */
    u64 frame_start;                     /* when frame `frame` starts */
    bool moved;                          /* something was transferred in the frame */
    struct uhci_port ports[UHCI_PORTS];  /* the root hub */
};

struct td {
    u32 link, control, token, buffer;
};

static void update_irq(struct uhci *u)
{
    bool on = (u->status & STS_ERROR && u->interrupts & INTR_TIMEOUT) || (u->ioc && u->interrupts & INTR_IOC) ||
              (u->short_packet && u->interrupts & INTR_SHORT) || u->status & STS_PROCESS;
    pci_set_irq(&u->pci, on);
}

static void process_error(struct uhci *u, const char *why)
{
    log_printf(LOG_GUEST_ERROR, "uhci: %s\n", why);
    u->status |= STS_PROCESS | STS_HALTED;
    u->command &= (u16)~CMD_RUN;
}

/* ---- the schedule ---- */

static bool read_words(struct uhci *u, u32 address, u32 *words, size_t count)
{
    u8 bytes[16];
    if (!pci_dma_read(&u->pci, address, bytes, 4 * count)) return false;
    for (size_t i = 0; i < count; i++) words[i] = pci_get32(bytes + 4 * i);
    return true;
}

static void write_word(struct uhci *u, u32 address, u32 value)
{
    u8 bytes[4];
    pci_put32(bytes, value);
    pci_dma_write(&u->pci, address, bytes, sizeof(bytes));
}

static struct usb_device *find_device(const struct uhci *u, u8 address)
{
    for (int i = 0; i < UHCI_PORTS; i++) {
        const struct uhci_port *p = &u->ports[i];
        if (p->device && p->status & PORT_ENABLED && p->device->address == address) return p->device;
    }
    return NULL;
}

enum outcome { TD_DONE, TD_RETRY, TD_FAILED, TD_SHORT_END };

/* Nobody answers: [UHCI] 3.2.2, the error counter. */
static enum outcome time_out(struct uhci *u, struct td *td)
{
    u32 left = (td->control & TD_ERRORS) >> 27;
    td->control |= TD_TIMEOUT;
    if (left) td->control -= 1u << 27;
    if (left != 1) return TD_RETRY;
    td->control = (td->control & ~TD_ACTIVE) | TD_STALLED;
    u->status |= STS_ERROR;
    return TD_FAILED;
}

/* Make the transfer of an active TD. *bytes: what it took of the frame. */
static enum outcome transfer(struct uhci *u, struct td *td, unsigned *bytes)
{
    u8 data[PACKET_MAX], pid = (u8)td->token;
    unsigned size = ((td->token >> 21) + 1) & 0x7ff;
    *bytes = PACKET_OVERHEAD;
    if (size > PACKET_MAX || (pid != USB_PID_IN && pid != USB_PID_OUT && pid != USB_PID_SETUP)) {
        process_error(u, "a transfer descriptor makes no sense");
        return TD_FAILED;
    }
    td->control &= ~TD_STATUS | TD_ACTIVE;
    struct usb_device *d = find_device(u, td->token >> 8 & 0x7f);
    if (!d) return time_out(u, td);
    if (pid != USB_PID_IN && !pci_dma_read(&u->pci, td->buffer, data, size)) return TD_FAILED;
    int n = usb_device_packet(d, pid, td->token >> 15 & 0xf, data, size);
    if (n == USB_NAK) {
        td->control |= TD_NAK;
        return TD_RETRY;
    }
    u->moved = true;
    td->control &= ~TD_ACTIVE;
    if (n < 0) {
        td->control |= TD_STALLED;
        u->status |= STS_ERROR;
        return TD_FAILED;
    }
    *bytes += (unsigned)n;
    if (pid == USB_PID_IN) pci_dma_write(&u->pci, td->buffer, data, (u64)n);
    td->control = (td->control & ~0x7ffu) | (((u32)n - 1) & 0x7ff);
    return pid == USB_PID_IN && (unsigned)n < size ? TD_SHORT_END : TD_DONE;
}

/* A TD where the schedule leads: whether its queue goes on behind it. */
static bool do_td(struct uhci *u, u32 address, struct td *td, unsigned *budget)
{
    unsigned bytes = 0;
    if (!(td->control & TD_ACTIVE)) return false;
    enum outcome outcome = transfer(u, td, &bytes);
    *budget = bytes < *budget ? *budget - bytes : 0;
    if (u->status & STS_PROCESS) return false;
    write_word(u, address + 4, td->control);
    if (outcome != TD_RETRY && td->control & TD_IOC) u->ioc = true;
    if (outcome == TD_SHORT_END && td->control & TD_SHORT) u->short_packet = true;
    if (u->ioc || u->short_packet) u->status |= STS_INT;
    return outcome == TD_DONE || (outcome == TD_SHORT_END && !(td->control & TD_SHORT));
}

/* The TD at the front of a queue. */
static void do_queue(struct uhci *u, u32 head, u32 element, unsigned *budget, unsigned *steps)
{
    while (!(element & (LINK_END | LINK_QH)) && *budget && *steps) {
        u32 address = element & ~0xfu;
        struct td td;
        u32 words[4];
        --*steps;
        if (!read_words(u, address, words, 4)) return;
        td = (struct td){words[0], words[1], words[2], words[3]};
        if (!do_td(u, address, &td, budget)) return;
        element = td.link;
        write_word(u, head + 4, element & ~LINK_DEPTH);
        if (!(element & LINK_DEPTH)) return; /* breadth first: the next queue's turn */
    }
}

static void do_frame(struct uhci *u)
{
    unsigned budget = FRAME_BYTES, steps = FRAME_STEPS;
    u32 link, first_idle = LINK_END; /* the first queue since something moved */
    u->moved = false;
    if (!read_words(u, u->list + (u->frame & (FRAMES - 1)) * 4u, &link, 1)) return;
    bool moved = false;
    while (!(link & LINK_END) && budget && steps && !(u->status & STS_PROCESS)) {
        u32 address = link & ~0xfu, words[4];
        steps--;
        if (link & LINK_QH) {
            if (!read_words(u, address, words, 2)) break;
            if (u->moved) first_idle = LINK_END;
            moved |= u->moved;
            u->moved = false;
            if (address == first_idle) break; /* [UHCI] 3.4: a circle, for what time is left; nothing moves any more */
            if (first_idle == LINK_END) first_idle = address;
            if (words[1] & LINK_QH && !(words[1] & LINK_END)) {
                link = words[1]; /* queues within a queue: that way only */
                continue;
            }
            do_queue(u, address, words[1], &budget, &steps);
            link = words[0];
        } else {
            if (!read_words(u, address, words, 4)) break;
            struct td td = {words[0], words[1], words[2], words[3]};
            do_td(u, address, &td, &budget);
            link = td.link;
        }
    }
    u->moved |= moved;
}

/* Do the frames that have started. */
static void run_frames(struct uhci *u)
{
    u64 now = clock_now(u->clock);
    if (!(u->command & CMD_RUN) || u->frame_start > now) return;
    if (now >= u->frame_start + LATE_FRAMES * FRAME_NS) {
        u64 missed = (now - u->frame_start) / FRAME_NS - IDLE_FRAMES;
        u->frame = (u16)((u->frame + missed) & 0x7ff);
        u->frame_start += missed * FRAME_NS;
    }
    bool moved = false;
    while (u->command & CMD_RUN && u->frame_start <= now) {
        do_frame(u);
        moved |= u->moved;
        u->frame = (u->frame + 1) & 0x7ff;
        u->frame_start += FRAME_NS;
    }
    update_irq(u);
    if (u->command & CMD_RUN)
        timer_arm(u->timer, u->frame_start + (moved || u->status & STS_INT ? 0 : (IDLE_FRAMES - 1) * FRAME_NS));
}

static void timer_fired(void *opaque) { run_frames(opaque); }

/* A device has something to say. */
static void wake(void *opaque)
{
    struct uhci *u = opaque;
    if (u->command & CMD_RUN) timer_arm(u->timer, MAX(u->frame_start, clock_now(u->clock)));
}

/* ---- the root hub ---- */

static void port_reset(struct uhci_port *p)
{
    if (p->device) usb_device_reset(p->device);
    p->status &= (u16)~PORT_ENABLED;
}

static void write_port(struct uhci_port *p, u16 value)
{
    u16 old = p->status;
    if (value & PORT_RESET && !(old & PORT_RESET)) port_reset(p);
    p->status &= (u16)~(value & (PORT_CONNECT_CHANGE | PORT_ENABLE_CHANGE));
    p->status = (u16)((p->status & ~PORT_WRITABLE) | (value & PORT_WRITABLE));
    if (!(p->status & PORT_CONNECTED) || p->status & PORT_RESET) p->status &= (u16)~PORT_ENABLED;
}

static void reset_hub(struct uhci *u)
{
    for (int i = 0; i < UHCI_PORTS; i++) {
        struct uhci_port *p = &u->ports[i];
        port_reset(p);
        p->status = PORT_ONE | (p->device ? PORT_CONNECTED | PORT_CONNECT_CHANGE : 0);
    }
}

bool uhci_plug(struct uhci *u, struct usb_device *d)
{
    for (int i = 0; i < UHCI_PORTS; i++) {
        if (u->ports[i].device) continue;
        u->ports[i].device = d;
        u->ports[i].status |= PORT_CONNECTED | PORT_CONNECT_CHANGE;
        d->wake = wake;
        d->wake_opaque = u;
        return true;
    }
    return false;
}

/* ---- registers ---- */

static void reset_controller(struct uhci *u)
{
    u->command = u->interrupts = u->frame = 0;
    u->status = STS_HALTED;
    u->list = 0;
    u->sof = 0x40;
    u->ioc = u->short_packet = false;
    timer_cancel(u->timer);
    reset_hub(u);
    update_irq(u);
}

static void write_command(struct uhci *u, u16 value)
{
    if (value & CMD_HCRESET) { /* [UHCI] 2.1.1: clears itself */
        reset_controller(u);
        return;
    }
    if (value & CMD_GRESET) reset_hub(u);
    bool start = value & CMD_RUN && !(u->command & CMD_RUN);
    u->command = value & CMD_MASK;
    if (!(value & CMD_RUN)) {
        u->status |= STS_HALTED;
        timer_cancel(u->timer);
    } else if (start) {
        u->status &= (u16)~STS_HALTED;
        u->frame_start = clock_now(u->clock) + FRAME_NS;
        timer_arm(u->timer, u->frame_start);
    }
}

static u64 uhci_read(void *opaque, u64 offset, unsigned size)
{
    struct uhci *u = opaque;
    (void)size;
    switch (offset) {
    case USBCMD: return u->command;
    case USBSTS: return u->status;
    case USBINTR: return u->interrupts;
    case FRNUM:
        run_frames(u);
        return u->frame;
    case FLBASEADD: return u->list & 0xffff;
    case FLBASEADD + 2: return u->list >> 16;
    case SOFMOD: return u->sof;
    case PORTSC: return u->ports[0].status;
    case PORTSC + 2: return u->ports[1].status;
    default: return 0; /* no further ports: they would have PORT_ONE */
    }
}

static void uhci_write(void *opaque, u64 offset, u64 value64, unsigned size)
{
    struct uhci *u = opaque;
    u16 value = (u16)value64;
    (void)size;
    switch (offset) {
    case USBCMD: write_command(u, value); break;
    case USBSTS:
        u->status &= (u16)~(value & STS_MASK & ~STS_HALTED);
        if (value & STS_INT) u->ioc = u->short_packet = false;
        break;
    case USBINTR: u->interrupts = value & 0xf; break;
    case FRNUM:
        if (u->status & STS_HALTED) u->frame = value & 0x7ff;
        break;
    case FLBASEADD: u->list = (u->list & 0xffff0000) | (value & 0xf000); break;
    case FLBASEADD + 2: u->list = (u->list & 0xffff) | (u32)value << 16; break;
    case SOFMOD: u->sof = (u8)(value & 0x7f); break;
    case PORTSC:
    case PORTSC + 2: write_port(&u->ports[(offset - PORTSC) / 2], value); break;
    default: break;
    }
    update_irq(u);
}

static const struct region_ops uhci_ops = {.read = uhci_read, .write = uhci_write, .min_size = 2, .max_size = 2};

/* ---- life ---- */

static void uhci_reset(struct device *d)
{
    struct uhci *u = container_of(d, struct uhci, pci.dev);
    pci_device_reset(&u->pci);
    reset_controller(u);
    pci_put16(u->pci.config + CONFIG_LEGACY, 0x2000);
}

static void uhci_destroy(struct device *d)
{
    struct uhci *u = container_of(d, struct uhci, pci.dev);
    timer_destroy(u->timer);
    pci_device_destroy(&u->pci);
    free(u);
}

static const struct device_class uhci_class = {.name = "piix3-usb-uhci", .reset = uhci_reset, .destroy = uhci_destroy};
static const struct pci_info uhci_info = {
    .vendor = 0x8086, .device = 0x7020, .revision = 1, .class_code = 0x0c0300, .interrupt_pin = 4};

struct uhci *uhci_create(struct pci_bus *pci, int devfn, struct clock *clock)
{
    struct uhci *u = calloc(1, sizeof(*u));
    if (!u || !(u->timer = timer_create_on(clock, timer_fired, u))) {
        fprintf(stderr, "calque: no memory for the USB controller\n");
        free(u);
        return NULL;
    }
    if (pci_device_init(&u->pci, pci, devfn, &uhci_info, &uhci_class)) {
        timer_destroy(u->timer);
        free(u);
        return NULL;
    }
    u->clock = clock;
    u->pci.config[CONFIG_RELEASE] = 0x10;
    pci_put16(u->pci.wmask + CONFIG_LEGACY, 0x20bf);
    pci_add_bar(&u->pci, 4, PCI_BAR_IO, 32, "uhci", &uhci_ops, u);
    uhci_reset(&u->pci.dev);
    return u;
}

struct device *uhci_device(struct uhci *u) { return &u->pci.dev; }

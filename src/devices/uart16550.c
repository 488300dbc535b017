/* A National 16550A UART on a character back end.
 *
 * Models all registers: both FIFOs' control, the receiver's trigger levels and character timeout, interrupt
 * priorities, line errors and break, modem control with loopback and deltas. A carrier, a ready data set and
 * clear-to-send are always there.
 * Leaves out DMA mode, sending a break, and the time that characters take: the transmitter is always empty,
 * and input arrives as fast as the FIFO is read. The baud rate only times the character timeout.
 *
 * DEVIATION: on a PC board OUT2 gates the interrupt. Here it does not, as in other emulators.
 *
 * [16550D] National Semiconductor PC16550D data sheet, June 1995 */
#include "devices/uart16550.h"

#include <stdio.h>
#include <stdlib.h>

/* register offsets; RBR, THR, IER and FCR/IIR share theirs with others */
enum { REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDA  0x01 /* received data, and character timeout */
#define IER_THRE 0x02
#define IER_RLS  0x04 /* receiver line status */
#define IER_MS   0x08 /* modem status */

#define IIR_NONE    0x01
#define IIR_MS      0x00
#define IIR_THRE    0x02
#define IIR_RDA     0x04
#define IIR_RLS     0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO    0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02

#define LCR_BREAK 0x40
#define LCR_DLAB  0x80

#define MCR_LOOP 0x10

#define LSR_DR     0x01
#define LSR_OE     0x02
#define LSR_PE     0x04
#define LSR_FE     0x08
#define LSR_BI     0x10
#define LSR_THRE   0x20
#define LSR_TEMT   0x40
#define LSR_FIFO   0x80 /* an error somewhere in the FIFO */
#define LSR_ERRORS (LSR_OE | LSR_PE | LSR_FE | LSR_BI)

#define MSR_DCTS 0x01
#define MSR_DDSR 0x02
#define MSR_TERI 0x04
#define MSR_DDCD 0x08
#define MSR_CTS  0x10
#define MSR_DSR  0x20
#define MSR_RI   0x40
#define MSR_DCD  0x80

#define FIFO_SIZE 16
#define CLOCK_HZ  1843200 /* the PC's crystal; a baud takes 16 of its clocks times the divisor */

struct uart16550 {
    struct device dev;     /* what the machine sees */
    struct irq_line irq;   /* INTRPT */
    struct clock *clock;   /* time source */
    struct timer *timeout; /* the character timeout */
    struct chardev *chr;   /* the other end of the cable, or NULL */
    struct region *region; /* eight ports */
    u16 divisor;           /* DLL, DLM */
    u8 ier, fcr, lcr, mcr; /* as written */
    u8 msr, scr;           /* as read */
    u8 errors;             /* LSR_ERRORS that were seen at the head of the FIFO, or overrun */
    bool thre_pending;     /* the transmitter empty interrupt is due */
    bool timed_out;        /* the character timeout interrupt is due */
    u8 data[FIFO_SIZE];    /* receiver FIFO; without FIFO mode only one place is used */
    u8 flags[FIFO_SIZE];   /* LSR_PE, LSR_FE, LSR_BI of each */
    u8 head, used;         /* first byte; bytes in the FIFO */
    u8 last;               /* what a read of the empty receiver gives */
};

static bool fifo_mode(const struct uart16550 *u) { return u->fcr & FCR_ENABLE; }

static unsigned capacity(const struct uart16550 *u) { return fifo_mode(u) ? FIFO_SIZE : 1; }

static unsigned trigger(const struct uart16550 *u)
{
    static const u8 levels[] = {1, 4, 8, 14};
    return fifo_mode(u) ? levels[u->fcr >> 6] : 1;
}

/* ---- interrupts ---- */

/* The highest-priority interrupt that is enabled and due [16550D] table IV. */
static u8 interrupt_id(const struct uart16550 *u)
{
    if ((u->ier & IER_RLS) && u->errors) return IIR_RLS;
    if ((u->ier & IER_RDA) && u->used >= trigger(u)) return IIR_RDA;
    if ((u->ier & IER_RDA) && u->timed_out) return IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending) return IIR_THRE;
    if ((u->ier & IER_MS) && (u->msr & 0x0f)) return IIR_MS;
    return IIR_NONE;
}

static void update_irq(struct uart16550 *u) { irq_set(&u->irq, interrupt_id(u) != IIR_NONE); }

/* Four character times [16550D] 8.0 "FIFO Interrupt Mode Operation" */
static u64 timeout_ns(const struct uart16550 *u)
{
    unsigned half_bits =
        2 * (1 + 5 + (u->lcr & 3)) + (u->lcr & 8 ? 2 : 0) + (u->lcr & 4 ? (u->lcr & 3 ? 4 : 3) : 2);
    u32 divisor = u->divisor ? u->divisor : 0x10000;
    return muldiv64(4 * half_bits, NS_PER_SECOND * 8 * divisor, CLOCK_HZ);
}

/* A byte came in or was read: the timeout starts anew while bytes wait. */
static void restart_timeout(struct uart16550 *u)
{
    u->timed_out = false;
    if (fifo_mode(u) && u->used && (u->ier & IER_RDA))
        timer_arm(u->timeout, clock_now(u->clock) + timeout_ns(u));
    else
        timer_cancel(u->timeout);
}

static void timeout_fired(void *opaque)
{
    struct uart16550 *u = opaque;
    u->timed_out = fifo_mode(u) && u->used;
    update_irq(u);
}

/* ---- the receiver ---- */

/* A byte's errors show in LSR when the byte comes to the head of the FIFO [16550D] 8.4. */
static void head_changed(struct uart16550 *u)
{
    if (u->used) u->errors |= u->flags[u->head];
}

static void receive_byte(struct uart16550 *u, u8 byte, u8 flags)
{
    if (u->used == capacity(u)) {
        u->errors |= LSR_OE;
        if (fifo_mode(u)) return; /* the byte in the shift register is lost; else the one in RBR */
        u->used = 0;
    }
    unsigned at = (u->head + u->used) % FIFO_SIZE;
    u->data[at] = byte;
    u->flags[at] = flags;
    if (u->used++ == 0) head_changed(u);
}

static u8 read_byte(struct uart16550 *u)
{
    if (!u->used) return u->last;
    u->last = u->data[u->head];
    u->flags[u->head] = 0;
    u->head = (u->head + 1) % FIFO_SIZE;
    u->used--;
    head_changed(u);
    return u->last;
}

static void clear_receiver(struct uart16550 *u)
{
    u->head = u->used = 0;
    u->timed_out = false;
    timer_cancel(u->timeout);
}

/* ---- the cable ---- */

static size_t can_receive(void *opaque)
{
    struct uart16550 *u = opaque;
    return u->mcr & MCR_LOOP ? 0 : capacity(u) - u->used;
}

static void chardev_receive(void *opaque, const u8 *buf, size_t len)
{
    struct uart16550 *u = opaque;
    if (u->mcr & MCR_LOOP) return;
    for (size_t i = 0; i < len; i++)
        receive_byte(u, buf[i], 0);
    if (len) restart_timeout(u);
    update_irq(u);
}

static void break_received(void *opaque)
{
    struct uart16550 *u = opaque;
    if (u->mcr & MCR_LOOP) return;
    receive_byte(u, 0, LSR_BI);
    restart_timeout(u);
    update_irq(u);
}

static const struct chardev_front front = {
    .can_receive = can_receive, .receive = chardev_receive, .break_received = break_received};

static void transmit(struct uart16550 *u, u8 byte)
{
    if (u->mcr & MCR_LOOP) {
        /* [16550D] 8.6: the transmitter's output goes to the receiver, with its word length. */
        receive_byte(u, byte & (0xff >> (3 - (u->lcr & 3))), 0);
        restart_timeout(u);
    } else {
        chardev_write(u->chr, &byte, 1);
    }
    u->thre_pending = true; /* empty again at once */
}

/* The modem inputs, MSR bits 7-4, with the deltas that the change makes [16550D] 8.7. */
static void set_modem_inputs(struct uart16550 *u, u8 inputs)
{
    u8 changed = u->msr ^ inputs;
    u8 deltas = u->msr & 0x0f;
    if (changed & MSR_CTS) deltas |= MSR_DCTS;
    if (changed & MSR_DSR) deltas |= MSR_DDSR;
    if ((changed & MSR_RI) && !(inputs & MSR_RI)) deltas |= MSR_TERI;
    if (changed & MSR_DCD) deltas |= MSR_DDCD;
    u->msr = (inputs & 0xf0) | deltas;
}

static u8 modem_inputs(const struct uart16550 *u)
{
    if (!(u->mcr & MCR_LOOP)) return MSR_DCD | MSR_DSR | MSR_CTS;
    /* Loopback wires RTS to CTS, DTR to DSR, OUT1 to RI and OUT2 to DCD. */
    return (u->mcr & 0x02 ? MSR_CTS : 0) | (u->mcr & 0x01 ? MSR_DSR : 0) | (u->mcr & 0x04 ? MSR_RI : 0) |
           (u->mcr & 0x08 ? MSR_DCD : 0);
}

/* ---- registers ---- */

static u8 read_lsr(struct uart16550 *u)
{
    u8 value = LSR_THRE | LSR_TEMT | u->errors | (u->used ? LSR_DR : 0);
    if (fifo_mode(u))
        for (unsigned i = 0; i < u->used; i++)
            if (u->flags[(u->head + i) % FIFO_SIZE]) value |= LSR_FIFO;
    u->errors = 0;
    if (u->used) u->flags[u->head] = 0; /* the head's errors have been told */
    return value;
}

static u64 uart16550_read(void *opaque, u64 offset, unsigned size)
{
    struct uart16550 *u = opaque;
    u8 value = 0;
    (void)size;
    switch (offset) {
    case REG_DATA:
        if (u->lcr & LCR_DLAB) return u->divisor & 0xff;
        value = read_byte(u);
        restart_timeout(u);
        update_irq(u);
        if (!(u->mcr & MCR_LOOP)) chardev_accept_input(u->chr);
        return value;
    case REG_IER: return u->lcr & LCR_DLAB ? u->divisor >> 8 : u->ier;
    case REG_IIR:
        value = interrupt_id(u);
        /* [16550D] table IV: reading IIR resets this interrupt, if it is the source. */
        if (value == IIR_THRE) u->thre_pending = false;
        update_irq(u);
        return value | (fifo_mode(u) ? IIR_FIFO : 0);
    case REG_LCR: return u->lcr;
    case REG_MCR: return u->mcr;
    case REG_LSR:
        value = read_lsr(u);
        update_irq(u);
        return value;
    case REG_MSR:
        value = u->msr;
        u->msr &= 0xf0;
        update_irq(u);
        return value;
    default: return u->scr;
    }
}

static void write_ier(struct uart16550 *u, u8 value)
{
    value &= 0x0f;
    /* [16550D] 8.5: enabling the interrupt with an empty transmitter makes it due at once. */
    if (value & ~u->ier & IER_THRE) u->thre_pending = true;
    bool rda_enabled = value & ~u->ier & IER_RDA;
    u->ier = value;
    if (rda_enabled && !u->timed_out) restart_timeout(u);
}

static void write_fcr(struct uart16550 *u, u8 value)
{
    /* [16550D] 8.3: changing the mode clears the FIFOs; without bit 0 the other bits are not programmed. */
    if ((u->fcr ^ value) & FCR_ENABLE || ((value & FCR_ENABLE) && (value & FCR_CLEAR_RX))) clear_receiver(u);
    u->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
    chardev_accept_input(u->chr);
}

static void write_lcr(struct uart16550 *u, u8 value)
{
    bool break_on = value & ~u->lcr & LCR_BREAK;
    u->lcr = value;
    if (break_on && (u->mcr & MCR_LOOP)) receive_byte(u, 0, LSR_BI);
}

static void write_mcr(struct uart16550 *u, u8 value)
{
    bool loop_ended = (u->mcr & MCR_LOOP) && !(value & MCR_LOOP);
    u->mcr = value & 0x1f;
    set_modem_inputs(u, modem_inputs(u));
    if (loop_ended) chardev_accept_input(u->chr);
}

static void uart16550_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct uart16550 *u = opaque;
    (void)size;
    switch (offset) {
    case REG_DATA:
        if (u->lcr & LCR_DLAB)
            u->divisor = (u->divisor & 0xff00) | (u8)value;
        else
            transmit(u, value);
        break;
    case REG_IER:
        if (u->lcr & LCR_DLAB)
            u->divisor = (u->divisor & 0x00ff) | (u8)value << 8;
        else
            write_ier(u, value);
        break;
    case REG_IIR: write_fcr(u, value); break;
    case REG_LCR: write_lcr(u, value); break;
    case REG_MCR: write_mcr(u, value); break;
    case REG_LSR: /* writes are for factory tests [16550D] 8.4 */
    case REG_MSR: break;
    default: u->scr = value; break;
    }
    update_irq(u);
}

static const struct region_ops uart16550_ops = {uart16550_read, uart16550_write, 1, 1};

/* ---- the device ---- */

static void uart16550_reset(struct device *d)
{
    struct uart16550 *u = container_of(d, struct uart16550, dev);
    u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->errors = u->last = 0;
    u->divisor = 12; /* 9600 baud; the chip leaves it undefined */
    u->thre_pending = false;
    clear_receiver(u);
    u->msr = modem_inputs(u);
    update_irq(u);
    if (u->chr && u->chr->front) chardev_accept_input(u->chr);
}

static void uart16550_destroy(struct device *d)
{
    struct uart16550 *u = container_of(d, struct uart16550, dev);
    if (u->chr) u->chr->front = NULL;
    region_remove(u->region);
    timer_destroy(u->timeout);
    free(u);
}

static const struct device_class uart16550_class = {"uart16550", uart16550_reset, uart16550_destroy};

struct device *uart16550_create(struct bus *ports, u16 base, struct irq_line irq, struct clock *clock,
                                struct chardev *chr)
{
    struct uart16550 *u = calloc(1, sizeof(*u));
    if (!u || !(u->timeout = timer_create_on(clock, timeout_fired, u))) {
        fprintf(stderr, "calque: uart16550: out of memory\n");
        free(u);
        return NULL;
    }
    u->dev.cls = &uart16550_class;
    u->irq = irq;
    u->clock = clock;
    u->chr = chr;
    u->region = bus_add(ports, "uart16550", base, 8, 0, &uart16550_ops, u);
    uart16550_reset(&u->dev);
    chardev_attach(chr, &front, u);
    return &u->dev;
}

/* The fake board, and the interpreter of the bytes: accesses, configuration cycles, time, memory contents for DMA, and
 * events from outside. */
#include "board.h"

#include <stdlib.h>
#include <string.h>

#include "core/audio.h"

#define DISK_SIZE    (8ull << 30)
#define LOW_BARS     0x80000 /* in the middle of RAM, so that devices often find registers where they look for memory */
#define LOW_BAR_MAX  0x20000
#define HIGH_BARS    0xe0000000
#define TIME_MAX     (2 * NS_PER_SECOND) /* of one input: what fast timers do then is bounded */
#define REPEAT_MAX   512
#define REQUESTS_MAX 4096 /* accesses in one input, so that none takes seconds */

/* ---- back ends ---- */

static void line_changed(void *opaque, int n, int level)
{
    (void)opaque;
    (void)n;
    (void)level;
}

static void disk_submit(struct block *block, struct block_request *r)
{
    struct board_disk *d = container_of(block, struct board_disk, block);
    if (r->op != BLOCK_FLUSH && (r->offset % BLOCK_SECTOR || r->size % BLOCK_SECTOR || r->offset > block->size ||
                                 r->size > block->size - r->offset))
        abort(); /* the controller must have refused that */
    struct block_request **at = &d->pending;
    while (*at) at = &(*at)->next;
    *at = r;
}

static void disk_complete(struct board_disk *d, int error)
{
    struct block_request *r = d->pending;
    if (!r) return;
    d->pending = r->next;
    r->error = error;
    r->good = error ? r->size / 2 / BLOCK_SECTOR * BLOCK_SECTOR : r->size;
    size_t inside = r->offset < sizeof(d->data) ? MIN(r->size, sizeof(d->data) - (size_t)r->offset) : 0;
    if (r->op == BLOCK_READ) {
        block_put(r, 0, NULL, r->size);
        block_put(r, 0, d->data + (inside ? r->offset : 0), inside);
    } else if (r->op == BLOCK_WRITE) {
        u8 *copy = malloc(r->size + 1); /* all of it must be there */
        if (!copy) abort();
        block_get(r, 0, copy, r->size);
        memcpy(d->data + (inside ? r->offset : 0), copy, inside);
        free(copy);
    }
    r->done(r);
}

static const struct block_ops disk_ops = {.submit = disk_submit};

static void net_transmit(struct netdev *n, const u8 *frame, size_t len)
{
    u8 *copy = malloc(len ? len : 1); /* all of it must be there, and not more than back ends take */
    if (!copy || len > NETDEV_FRAME_MAX) abort();
    memcpy(copy, frame, len);
    netdev_deliver(n, copy, len); /* a hub that echoes */
    free(copy);
}

static void net_destroy(struct netdev *n) { (void)n; }
static const struct netdev_ops net_ops = {.transmit = net_transmit, .destroy = net_destroy};

static void chr_write(struct chardev *c, const u8 *buf, size_t len)
{
    u8 sum = 0;
    for (size_t i = 0; i < len; i++) sum ^= buf[i];
    c->lossy = sum & 1;
}

static const struct chardev_ops chr_ops = {.write = chr_write};

/* ---- the board ---- */

void board_add(struct board *b, struct device *d)
{
    if (!d || b->device_count == BOARD_DEVICES) abort();
    b->devices[b->device_count++] = d;
}

static void add_window(struct board *b, struct bus *bus, gpa base, u64 size)
{
    if (b->window_count == BOARD_WINDOWS) abort();
    b->windows[b->window_count++] = (struct board_window){bus, base, size};
}

void board_ports(struct board *b, gpa base, u64 size) { add_window(b, b->ports, base, size); }
void board_memory(struct board *b, gpa base, u64 size) { add_window(b, b->memory, base, size); }

/* Does what firmware does: gives BARs addresses and switches the devices on. */
static void place_bars(struct board *b)
{
    gpa io = 0xc000, low = LOW_BARS, high = HIGH_BARS;
    b->window_count = b->fixed_windows;
    for (int devfn = 0; devfn < 256; devfn++) {
        struct pci_device *d = pci_bus_device(b->pci, devfn);
        if (!d) continue;
        for (int i = 0; i < PCI_ROM_INDEX; i++) {
            const struct pci_bar *bar = &d->bar[i];
            if (!bar->size) continue;
            bool is_io = bar->flags & PCI_BAR_IO;
            gpa *next = is_io ? &io : bar->size <= LOW_BAR_MAX ? &low : &high;
            gpa base = (*next + bar->size - 1) & ~(bar->size - 1);
            *next = base + bar->size;
            pci_bus_config_write(b->pci, devfn, (unsigned)(PCI_BAR0 + 4 * i), (u32)base, 4);
            add_window(b, is_io ? b->ports : b->memory, base, bar->size);
        }
        pci_bus_config_write(b->pci, devfn, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    }
}

static void reset(struct board *b)
{
    for (int i = 0; i < b->device_count; i++)
        if (b->devices[i]->cls->reset) b->devices[i]->cls->reset(b->devices[i]);
}

static struct board *board_create(void (*create)(struct board *b))
{
    struct board *b = calloc(1, sizeof(*b));
    if (!b) abort();
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->ram = ram_create(BOARD_RAM + (20u << 20));
    b->clock = clock_create_manual();
    b->pci = pci_bus_create(b->memory, b->ports);
    b->apics = apic_bus_create();
    b->input = input_create(b->clock);
    if (!b->memory || !b->ports || !b->ram || !b->clock || !b->pci || !b->apics || !b->input) abort();
    /* Below BARs: they cover parts of it. */
    bus_add_ram(b->memory, "ram", 0, BOARD_RAM, PCI_BAR_PRIORITY - 1, b->ram, ram_alloc(b->ram, BOARD_RAM), false);
    b->line = (struct irq_line){line_changed, b, 0};
    b->net.ops = &net_ops;
    b->net.id = "fuzz";
    b->chr.ops = &chr_ops;
    b->chr.up = true;
    for (int i = 0; i < BOARD_DISKS; i++)
        b->disk[i].block = (struct block){.ops = &disk_ops, .size = DISK_SIZE, .discards = true};
    clock_set_wall(b->clock, 1000000000);
    create(b);
    b->fixed_windows = b->window_count;
    reset(b);
    place_bars(b);
    return b;
}

/* In the order of the machine: disks finish what they have when the devices are gone. */
static void board_destroy(struct board *b)
{
    for (int i = b->device_count - 1; i >= 0; i--) b->devices[i]->cls->destroy(b->devices[i]);
    for (int i = 0; i < BOARD_DISKS; i++)
        while (b->disk[i].pending) disk_complete(&b->disk[i], 0);
    netdev_close(&b->net);
    pci_bus_destroy(b->pci);
    apic_bus_destroy(b->apics);
    bus_destroy(b->memory);
    bus_destroy(b->ports);
    audio_destroy(b->audio);
    if (b->display) display_destroy(b->display);
    input_destroy(b->input);
    ram_destroy(b->ram);
    clock_destroy(b->clock);
    free(b);
}

/* ---- the interpreter ---- */

static const struct board_window *take_window(const struct board *b, struct fuzz_bytes *in)
{
    u8 n = (u8)fuzz_take(in, 1);
    return b->window_count ? &b->windows[n % b->window_count] : NULL;
}

/* Numbers that devices are likely to take for something. */
static u64 take_value(const struct board *b, struct fuzz_bytes *in, u8 kind)
{
    switch (kind % 8) {
    case 0: return fuzz_take(in, 1);
    case 1: return fuzz_take(in, 2);
    case 2: return fuzz_take(in, 8);
    case 3: return fuzz_take(in, 2) << 4; /* RAM */
    case 4: {                             /* a register, in memory if there are such */
        const struct board_window *w = take_window(b, in);
        for (int i = 0; i < b->window_count && w->bus != b->memory; i++)
            w = w == b->windows ? w + b->window_count - 1 : w - 1;
        return w ? w->base + fuzz_take(in, 2) * 4 % w->size : 0;
    }
    case 5: return BOARD_RAM - fuzz_take(in, 1); /* the end of RAM */
    case 6: return ~fuzz_take(in, 1);
    default: return fuzz_take(in, 4);
    }
}

static gpa take_address(const struct board_window *w, struct fuzz_bytes *in)
{
    return w->base + fuzz_take(in, w->size > 0x10000 ? 3 : w->size > 0x100 ? 2 : 1) % w->size;
}

/* Something happens outside. */
static void take_event(struct board *b, struct fuzz_bytes *in)
{
    u8 kind = (u8)fuzz_take(in, 1), arg = (u8)fuzz_take(in, 1);
    switch (kind % 10) {
    case 0:
    case 1: disk_complete(&b->disk[kind % BOARD_DISKS], arg & 1 ? -(int)(arg >> 1) : 0); break;
    case 2: {
        size_t len = fuzz_take(in, 2);
        u8 *frame = calloc(1, len + 1);
        if (!frame) abort();
        for (size_t i = 0; i < arg && i < len; i++) frame[i] = (u8)fuzz_take(in, 1);
        if (b->net.front) netdev_deliver(&b->net, frame, MIN(len, NETDEV_FRAME_MAX));
        free(frame);
        break;
    }
    case 3: netdev_set_link(&b->net, arg & 1); break;
    case 4: input_key(b->input, arg % INPUT_KEY_COUNT, kind & 0x80); break;
    case 5:
        input_move_by(b->input, (s8)arg, (s8)fuzz_take(in, 1) * 100);
        input_move_to(b->input, (int)fuzz_take(in, 2), arg << 7);
        input_button(b->input, arg % INPUT_BUTTON_COUNT, kind & 0x80);
        input_sync(b->input);
        break;
    case 6: {
        u8 text[256];
        for (size_t i = 0; i < sizeof(text); i++) text[i] = (u8)(arg + i);
        const struct chardev_front *front = b->chr.front;
        if (!front) break;
        if (kind & 0x80 && front->break_received) front->break_received(b->chr.front_opaque);
        size_t room = front->can_receive(b->chr.front_opaque);
        front->receive(b->chr.front_opaque, text, MIN(room, arg));
        break;
    }
    case 7: {
        static struct display_text text;
        if (!b->display) break;
        const struct display_surface *s = display_update(b->display);
        if (s->width <= 0 || s->height <= 0 || s->stride < s->width) abort();
        display_read_text(b->display, &text);
        break;
    }
    default:
        if (b->poke) b->poke(b, b->poke_opaque, in);
    }
}

void fuzz_board(void (*create)(struct board *b), const u8 *data, size_t size)
{
    struct fuzz_bytes in = {data, data + size};
    struct board *b = board_create(create);
    u64 end = clock_now(b->clock) + TIME_MAX;
    int budget = REQUESTS_MAX;
    while (in.at < in.end && budget > 0) {
        u8 op = (u8)fuzz_take(&in, 1), kind = (u8)fuzz_take(&in, 1);
        unsigned width = 1u << (op >> 4 & 3);
        const struct board_window *w;
        budget--;
        switch (op & 15) {
        case 0:
        case 1:
        case 2:
        case 3: /* write a register */
            if (!(w = take_window(b, &in))) break;
            gpa at = take_address(w, &in);
            bus_write(w->bus, at, take_value(b, &in, kind), width);
            break;
        case 4:
        case 5: /* read one */
            if ((w = take_window(b, &in))) bus_read(w->bus, take_address(w, &in), width);
            break;
        case 6: /* the same address several times: FIFOs */
            if (!(w = take_window(b, &in))) break;
            at = take_address(w, &in);
            for (int i = 0; i < MIN(kind * 2, REPEAT_MAX); i++, budget--) {
                if (op & 0x80) bus_read(w->bus, at, width);
                else bus_write(w->bus, at, fuzz_take(&in, op & 0x40 ? width : 0), width);
            }
            break;
        case 7: { /* configuration space */
            unsigned offset = (unsigned)fuzz_take(&in, 1) & ~(MIN(width, 4) - 1);
            int devfn = -1;
            for (int i = 0, n = kind >> 3 & 7; i < 256; i++)
                if (pci_bus_device(b->pci, i) && (devfn < 0 || n-- > 0)) devfn = i;
            if (devfn < 0) break;
            if (op & 0x40) pci_bus_config_read(b->pci, devfn, offset, MIN(width, 4));
            else pci_bus_config_write(b->pci, devfn, offset, (u32)take_value(b, &in, kind), MIN(width, 4));
            break;
        }
        case 8:
        case 9: /* memory: some bytes */
            at = fuzz_take(&in, 2) << 4;
            for (int i = 0; i < kind % 64; i++) bus_write(b->memory, at + (gpa)i, fuzz_take(&in, 1), 1);
            break;
        case 10:
        case 11: /* memory: a number */
            at = fuzz_take(&in, 2) << 2;
            bus_write(b->memory, at, take_value(b, &in, kind), width);
            break;
        case 12: { /* time */
            u64 ns = (u64)kind << (op >> 4) * 2;
            if (clock_now(b->clock) + ns < end) clock_advance(b->clock, ns);
            break;
        }
        case 13:
            if (kind) break;
            reset(b);
            place_bars(b);
            break;
        default: take_event(b, &in);
        }
    }
    board_destroy(b);
}

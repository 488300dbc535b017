/* Run alone: build/tests/test_uhci
 *
 * The UHCI's registers and schedules, and the HID devices on it, on fake buses and a manual clock. */
#include <criterion/criterion.h>

#include <string.h>

#include "core/bus.h"
#include "core/input.h"
#include "devices/uhci.h"
#include "devices/usb_hid.h"

#define BASE   0xc000u
#define LIST   0x10000u
#define QH     0x20000u
#define TDS    0x21000u
#define BUFFER 0x22000u
#define ACTIVE (1u << 23)
#define IOC    (1u << 24)
#define TRIES  (3u << 27)
#define SPD    (1u << 29)
#define END    1u

static struct clock *guest_clock;
static struct bus *memory, *ports;
static struct pci_bus *pci;
static struct ram *ram;
static struct uhci *uhci;
static struct input *in;
static struct usb_device *tablet, *keyboard;
static int pirq_level[4];

static void pirq(void *opaque, int n, int level)
{
    (void)opaque;
    pirq_level[n] = level;
}

static void out(unsigned reg, u32 value, unsigned size) { bus_write(ports, BASE + reg, value, size); }
static u16 get(unsigned reg) { return (u16)bus_read(ports, BASE + reg, 2); }
static u32 word(u32 at) { return (u32)bus_read(memory, at, 4); }
static void put(u32 at, u32 value) { bus_write(memory, at, value, 4); }
static void frames(unsigned n) { clock_advance(guest_clock, n * 1000000ull); }

static void setup(void)
{
    guest_clock = clock_create_manual();
    memory = bus_create("memory", 1ull << 52);
    ports = bus_create("ports", 0x10000);
    pci = pci_bus_create(memory, ports);
    pci_bus_set_pirq_handler(pci, pirq, NULL);
    ram = ram_create(0x100000);
    bus_add_ram(memory, "ram", 0, 0x100000, 0, ram, ram_alloc(ram, 0x100000), false);
    in = input_create(guest_clock);
    uhci = uhci_create(pci, PCI_DEVFN(1, 2), guest_clock);
    tablet = usb_hid_create(USB_HID_TABLET, guest_clock, in);
    keyboard = usb_hid_create(USB_HID_KEYBOARD, guest_clock, in);
    cr_assert(uhci_plug(uhci, tablet));
    cr_assert(uhci_plug(uhci, keyboard));
    cr_assert_not(uhci_plug(uhci, keyboard), "two ports");
    pci_bus_config_write(pci, PCI_DEVFN(1, 2), PCI_BAR0 + 16, BASE, 4);
    pci_bus_config_write(pci, PCI_DEVFN(1, 2), PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
    /* All frames lead to one queue head, which leads nowhere. */
    for (u32 i = 0; i < 1024; i++) put(LIST + i * 4, QH | 2);
    put(QH, END);
    put(QH + 4, END);
    out(8, LIST, 4);
    out(4, 0xf, 2);
}

static void enable_port(unsigned reg)
{
    out(reg, 0x200, 2);
    out(reg, 0, 2);
    out(reg, 0x4 | 0xa, 2);
    cr_assert_eq(get(reg) & 0x20f, 0x5);
}

static void td(unsigned n, u32 link, u32 control, u8 pid, u8 address, u8 endpoint, unsigned size, u32 buffer)
{
    put(TDS + n * 16, link);
    put(TDS + n * 16 + 4, control);
    put(TDS + n * 16 + 8, pid | (u32)address << 8 | (u32)endpoint << 15 | ((size - 1) & 0x7ff) << 21);
    put(TDS + n * 16 + 12, buffer);
}
static u32 td_status(unsigned n) { return word(TDS + n * 16 + 4); }

/* A control transfer with up to 8 bytes in or out; the status of its last stage's TD. */
static u32 control(u8 address, const u8 *request, u8 *data)
{
    unsigned length = request[6];
    bool to_host = request[0] & 0x80;
    bus_write_block(memory, BUFFER, request, 8);
    if (data && !to_host) bus_write_block(memory, BUFFER + 16, data, length);
    td(0, (TDS + 16) | 4, ACTIVE | TRIES, 0x2d, address, 0, 8, BUFFER);
    unsigned n = 1;
    if (length) {
        td(1, (TDS + 32) | 4, ACTIVE | TRIES, to_host ? 0x69 : 0xe1, address, 0, length, BUFFER + 16);
        n = 2;
    }
    td(n, END, ACTIVE | TRIES | IOC, to_host && length ? 0xe1 : 0x69, address, 0, 0, 0);
    put(QH + 4, TDS);
    frames(10);
    if (data && to_host) bus_read_block(memory, BUFFER + 16, data, length);
    return td_status(n);
}

static void configure(unsigned port, u8 address)
{
    enable_port(port);
    cr_assert_eq(control(0, (u8[]){0, 5, address, 0, 0, 0, 0, 0}, NULL) & 0xff0000, 0);
    cr_assert_eq(control(address, (u8[]){0, 9, 1, 0, 0, 0, 0, 0}, NULL) & 0xff0000, 0);
}

Test(uhci, function_and_reset)
{
    setup();
    cr_assert_eq(pci_bus_config_read(pci, PCI_DEVFN(1, 2), 0, 4), 0x70208086);
    cr_assert_eq(pci_bus_config_read(pci, PCI_DEVFN(1, 2), 8, 4), 0x0c030001);
    cr_assert_eq(pci_bus_config_read(pci, PCI_DEVFN(1, 2), 0x60, 1), 0x10);
    cr_assert_eq(get(2), 0x20, "halted");
    cr_assert_eq(get(0x10), 0x83, "connected, changed");
    out(0x10, 0x2, 2);
    cr_assert_eq(get(0x10), 0x81);
    cr_assert_eq(get(0x14) & 0x80, 0, "there is no third port");
    out(0, 1, 2);
    cr_assert_eq(get(2), 0);
    frames(100);
    u16 frame = get(6);
    cr_assert(frame >= 99 && frame <= 101);
    out(0, 2, 2);
    cr_assert_eq(get(0), 0);
    cr_assert_eq(get(2), 0x20);
    cr_assert_eq(get(6), 0);
}

Test(uhci, control_transfers)
{
    u8 data[16];
    setup();
    out(0, 1, 2);
    enable_port(0x10);
    cr_assert_eq(control(0, (u8[]){0x80, 6, 0, 1, 0, 0, 8, 0}, data) & 0xff0000, 0);
    cr_assert_eq(memcmp(data, (u8[]){18, 1, 0x10, 1, 0, 0, 0, 8}, 8), 0);
    cr_assert_eq(td_status(1) & 0x7ff, 7, "actual length less one");
    cr_assert_eq(word(QH + 4) & 1, 1, "the queue is at its end");
    cr_assert_eq(get(2) & 1, 1, "interrupt on completion");
    cr_assert_eq(pirq_level[pci_pirq_of(PCI_DEVFN(1, 2), 4)], 1);
    out(2, 1, 2);
    cr_assert_eq(pirq_level[pci_pirq_of(PCI_DEVFN(1, 2), 4)], 0);

    configure(0x10, 5);
    cr_assert_eq(control(5, (u8[]){0x80, 8, 0, 0, 0, 0, 1, 0}, data) & 0xff0000, 0);
    cr_assert_eq(data[0], 1);
    /* An unknown request stalls. */
    td_status(0);
    control(5, (u8[]){0x80, 77, 0, 0, 0, 0, 1, 0}, data);
    cr_assert_eq(td_status(1) & 0xff0000, 1u << 22);
    cr_assert_eq(get(2) & 2, 2);
}

Test(uhci, nobody_answers)
{
    setup();
    out(0, 1, 2);
    td(0, END, ACTIVE | TRIES | IOC, 0x69, 9, 1, 8, BUFFER);
    put(QH + 4, TDS);
    frames(40);
    cr_assert_eq(td_status(0) & 0xff0000, 1u << 22 | 1u << 18, "stalled after three time-outs");
    cr_assert_eq(td_status(0) & TRIES, 0);
    cr_assert_eq(get(2) & 3, 3);
}

Test(uhci, short_packets_stop_a_queue)
{
    setup();
    out(0, 1, 2);
    enable_port(0x10);
    /* The device descriptor has 18 bytes: the third packet of 8 is short. */
    bus_write_block(memory, BUFFER, (u8[]){0x80, 6, 0, 1, 0, 0, 64, 0}, 8);
    td(0, (TDS + 16) | 4, ACTIVE | TRIES, 0x2d, 0, 0, 8, BUFFER);
    for (unsigned i = 1; i <= 5; i++)
        td(i, (TDS + 16 + i * 16) | 4, ACTIVE | TRIES | SPD, 0x69, 0, 0, 8, BUFFER + 8 + i * 8);
    td(6, END, ACTIVE | TRIES, 0xe1, 0, 0, 0, 0);
    put(QH + 4, TDS);
    frames(20);
    cr_assert_eq(td_status(3) & (ACTIVE | 0x7ff), 1);
    cr_assert_eq(td_status(4) & ACTIVE, ACTIVE);
    cr_assert_eq(word(QH + 4) & ~0xfu, TDS + 48, "the queue stays there");
    cr_assert_eq(get(2) & 1, 1);
}

Test(uhci, tablet)
{
    u8 report[6];
    setup();
    out(0, 1, 2);
    configure(0x10, 3);
    cr_assert_not(input_is_absolute(in) && input_current(in, INPUT_TAKES_ABSOLUTE)->active, "nobody reads it");
    td(7, END, ACTIVE | TRIES | IOC, 0x69, 3, 1, 8, BUFFER);
    put(QH + 4, TDS + 7 * 16);
    frames(20);
    cr_assert_eq(td_status(7) & 0xff0000, ACTIVE | 1u << 19, "nothing to say");
    cr_assert(input_current(in, INPUT_TAKES_ABSOLUTE)->active);
    input_move_to(in, 0x1234, 0x7fff);
    input_button(in, INPUT_BUTTON_right, true);
    input_button(in, INPUT_BUTTON_wheel_up, true);
    input_sync(in);
    input_button(in, INPUT_BUTTON_right, false);
    input_sync(in);
    frames(2); /* the device wakes the idle controller */
    cr_assert_eq(td_status(7) & 0xff07ff, 5);
    bus_read_block(memory, BUFFER, report, 6);
    cr_assert_eq(memcmp(report, (u8[]){2, 0x34, 0x12, 0xff, 0x7f, 1}, 6), 0);
    td(7, END, ACTIVE | TRIES | IOC, 0x69, 3, 1, 8, BUFFER);
    put(QH + 4, TDS + 7 * 16);
    frames(20);
    bus_read_block(memory, BUFFER, report, 6);
    cr_assert_eq(memcmp(report, (u8[]){0, 0x34, 0x12, 0xff, 0x7f, 0}, 6), 0, "the release is a report of its own");
    out(0x10, 0x200, 2);
    cr_assert_not(input_current(in, INPUT_TAKES_ABSOLUTE)->active, "after a reset");
}

static const u8 *read_keys(u8 *report)
{
    td(7, END, ACTIVE | TRIES, 0x69, 4, 1, 8, BUFFER);
    put(QH + 4, TDS + 7 * 16);
    frames(20);
    if (td_status(7) & ACTIVE) return NULL;
    bus_read_block(memory, BUFFER, report, 8);
    return report;
}

Test(uhci, keyboard)
{
    u8 r[8];
    setup();
    out(0, 1, 2);
    configure(0x12, 4);
    cr_assert_null(read_keys(r));
    input_key(in, INPUT_KEY_shift_r, true);
    input_key(in, INPUT_KEY_a, true);
    input_key(in, INPUT_KEY_a, false);
    cr_assert_eq(memcmp(read_keys(r), (u8[]){0x20, 0, 0, 0, 0, 0, 0, 0}, 8), 0);
    cr_assert_eq(memcmp(read_keys(r), (u8[]){0x20, 0, 4, 0, 0, 0, 0, 0}, 8), 0);
    cr_assert_eq(memcmp(read_keys(r), (u8[]){0x20, 0, 0, 0, 0, 0, 0, 0}, 8), 0);
    cr_assert_null(read_keys(r));
    /* Seven keys are too many for a report. */
    for (enum input_key k = INPUT_KEY_1; k <= INPUT_KEY_7; k++) {
        input_key(in, k, true);
        read_keys(r);
    }
    cr_assert_eq(memcmp(r + 2, (u8[]){1, 1, 1, 1, 1, 1}, 6), 0);
    input_release_all(in);
    while (read_keys(r)) continue;
    cr_assert_eq(memcmp(r, (u8[8]){0}, 8), 0);
    u8 leds = 7;
    control(4, (u8[]){0x21, 9, 0, 2, 0, 0, 1, 0}, &leds);
    cr_assert_eq(input_leds(in), 7);
    /* More than it can hold waits in the router. */
    for (int i = 0; i < 100; i++) input_key(in, INPUT_KEY_b, i % 2 == 0);
    int reports = 0;
    while (read_keys(r)) reports++;
    cr_assert_eq(reports, 100);
}

Test(uhci, schedules_that_make_no_sense)
{
    setup();
    out(0, 1, 2);
    enable_port(0x10);
    /* A queue head that leads to itself, one to itself as its element, a TD in a circle, and wild pointers. */
    put(QH, QH | 2);
    frames(10);
    put(QH + 4, QH | 2);
    frames(10);
    put(QH + 4, TDS);
    td(0, TDS, ACTIVE | TRIES, 0x69, 0, 0, 8, BUFFER);
    frames(10);
    td(0, TDS | 4, ACTIVE, 0x69, 77, 0, 8, BUFFER); /* no limit of errors */
    frames(10);
    cr_assert_eq(td_status(0) & ACTIVE, ACTIVE);
    put(QH, 0xfffffff0 | 2);
    put(QH + 4, END);
    frames(10);
    out(8, 0xfffff000, 4);
    frames(10);
    out(8, LIST, 4);
    put(LIST + 4, TDS);
    td(0, TDS | 4, ACTIVE | TRIES, 0x2d, 0, 0, 8, 0xfffffffc); /* a buffer at the end of the world */
    frames(2000);
    cr_assert_eq(get(2) & 0x30, 0, "it still runs");

    /* What hardware stops at. */
    put(QH, END);
    put(QH + 4, TDS);
    td(0, END, ACTIVE | TRIES, 0x55, 0, 0, 8, BUFFER);
    for (u32 i = 0; i < 1024; i++) put(LIST + i * 4, QH | 2);
    frames(20);
    cr_assert_eq(get(2) & 0x30, 0x30, "process error, halted");
    cr_assert_eq(get(0) & 1, 0);
    cr_assert_eq(pirq_level[pci_pirq_of(PCI_DEVFN(1, 2), 4)], 1);
    out(2, 0x10, 2);
    put(QH + 4, 0xdeadbee0); /* where all reads are ones */
    out(0, 1, 2);
    frames(20);
    cr_assert_eq(get(2) & 0x30, 0x30, "a wild pointer");
    out(2, 0x10, 2);
    td(0, END, ACTIVE | TRIES, 0x69, 0, 0, 1500, BUFFER);
    put(QH + 4, TDS);
    out(0, 1, 2);
    frames(20);
    cr_assert_eq(get(2) & 0x30, 0x30, "too long");
}

Test(uhci, any_schedule_ends)
{
    /* Random memory as lists, queues and descriptors (run with sanitizers). */
    u32 seed = 7;
    setup();
    enable_port(0x10);
    enable_port(0x12);
    for (int round = 0; round < 200; round++) {
        for (u32 at = LIST; at < LIST + 0x1000; at += 4) {
            seed = seed * 1664525 + 1013904223;
            put(at, (seed >> 8 & 0xff3) | LIST);
        }
        for (u32 at = LIST + 8; at < LIST + 0x1000; at += 16) {
            static const u8 pids[] = {0x69, 0xe1, 0x2d, 0x69};
            seed = seed * 1664525 + 1013904223;
            put(at, pids[seed >> 30] | (seed & 0x01ff8000) | (seed >> 4 & 0x100));
            put(at - 4, ACTIVE | seed >> 3);
        }
        out(0, 1, 2);
        frames(20);
        out(2, 0x3f, 2);
    }
}

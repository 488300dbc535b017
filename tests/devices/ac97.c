// build/tests/test_ac97
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/audio.h"
#include "devices/ac97.h"

#define NAM   0xc000u
#define NABM  0xc400u
#define PO    (NABM + 0x10)
#define RAM   (4u << 20)
#define LIST  0x1000u
#define SOUND 0x10000u
#define MS    1000000ull

static struct bus *memory, *ports;
static struct ram *ram;
static struct pci_bus *pci;
static struct clock *clk;
static struct audio *audio;
static struct device *card;
static int irq;
static u32 heard;
static s16 last[2], sound[65536][2];

static void listen(struct audio_sink *s, const s16 *frames, u32 count)
{
    (void)s;
    for (u32 i = 0; i < count; i++, heard++) memcpy(sound[heard % 65536], frames + 2 * i, 4);
    memcpy(last, frames + 2 * (count - 1), 4);
}

static void deaf(struct audio_sink *s) { (void)s; }
static struct audio_sink sink = {listen, deaf};

static void pirq(void *opaque, int n, int level)
{
    (void)opaque;
    (void)n;
    irq = level;
}

static u32 in(u32 port, unsigned size) { return (u32)bus_read(ports, port, size); }
static void out(u32 port, u32 value, unsigned size) { bus_write(ports, port, value, size); }

static void setup(void)
{
    memory = bus_create("memory", 1ull << 52);
    ports = bus_create("ports", 0x10000);
    ram = ram_create(RAM);
    bus_add_ram(memory, "ram", 0, RAM, 0, ram, ram_alloc(ram, RAM), false);
    pci = pci_bus_create(memory, ports);
    pci_bus_set_pirq_handler(pci, pirq, NULL);
    clk = clock_create_manual();
    audio = audio_create(clk, &sink, 48000);
    irq = 0;
    heard = 0;
    card = ac97_create(pci, PCI_DEVFN(3, 0), audio);
    cr_assert(card);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 0x10, NAM, 4);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 0x14, NABM, 4);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 4, 7, 2);
    out(NABM + 0x2c, 2, 4); /* out of cold reset */
    out(NAM + 0x02, 0, 2);
    out(NAM + 0x18, 0x0808, 2);
}

static void teardown(void)
{
    card->cls->destroy(card);
    audio_destroy(audio);
    pci_bus_destroy(pci);
    bus_destroy(memory);
    bus_destroy(ports);
    ram_destroy(ram);
    clock_destroy(clk);
}

TestSuite(ac97, .init = setup, .fini = teardown);

static void descriptor(u32 i, u32 address, u16 samples, u16 flags)
{
    bus_write(memory, LIST + 8 * i, address, 4);
    bus_write(memory, LIST + 8 * i + 4, samples, 2);
    bus_write(memory, LIST + 8 * i + 6, flags, 2);
}

static void start(u8 lvi)
{
    out(PO + 0xb, 2, 1);
    out(PO, LIST, 4);
    out(PO + 5, lvi, 1);
    out(PO + 0xb, 0x1d, 1);
}

Test(ac97, identity)
{
    cr_assert_eq(pci_bus_config_read(pci, PCI_DEVFN(3, 0), 0, 4), 0x24158086u);
    cr_assert_eq(pci_bus_config_read(pci, PCI_DEVFN(3, 0), 8, 4) >> 16, 0x0401u);
    cr_assert_eq(in(NABM + 0x30, 4) & 0x100, 0x100u);
    cr_assert_eq(in(NAM + 0x7c, 2), 0x8384u);
    cr_assert_eq(in(NAM + 0x26, 2), 0x000fu);
}

Test(ac97, five_bit_volumes_saturate)
{
    out(NAM + 0x02, 0x2020, 2);
    cr_assert_eq(in(NAM + 0x02, 2), 0x1f1fu);
    out(NAM + 0x18, 0xffff, 2);
    cr_assert_eq(in(NAM + 0x18, 2), 0x9f1fu);
}

Test(ac97, rates_need_vra)
{
    out(NAM + 0x2c, 22050, 2);
    cr_assert_eq(in(NAM + 0x2c, 2), 48000u);
    out(NAM + 0x2a, 1, 2);
    out(NAM + 0x2c, 22050, 2);
    cr_assert_eq(in(NAM + 0x2c, 2), 22050u);
    out(NAM + 0x2c, 100, 2);
    cr_assert_eq(in(NAM + 0x2c, 2), 4000u);
    out(NAM + 0x2a, 0, 2);
    cr_assert_eq(in(NAM + 0x2c, 2), 48000u);
}

Test(ac97, plays_buffers_in_time)
{
    for (u32 i = 0; i < 960; i++) { /* 20 ms */
        bus_write(memory, SOUND + 4 * i, 1000 + i, 2);
        bus_write(memory, SOUND + 4 * i + 2, (u16)(-1000 - (int)i), 2);
    }
    descriptor(0, SOUND, 960, 0x8000);
    descriptor(1, SOUND + 1920, 960, 0x8000);
    start(1);
    cr_assert_eq(in(PO + 8, 2), 960u);
    clock_advance(clk, 5 * MS);
    cr_assert_eq(in(PO + 4, 1), 0u);
    cr_assert_eq(in(PO + 8, 2), 480u, "to the sample, between the mixer's ticks");
    cr_assert_eq(irq, 0);
    clock_advance(clk, 6 * MS);
    cr_assert_eq(in(PO + 4, 1), 1u);
    cr_assert_eq(in(PO + 6, 1) & 0x1f, 8u);
    cr_assert_eq(irq, 1);
    cr_assert_eq(in(NABM + 0x30, 4) & 0x40, 0x40u);
    out(PO + 6, 8, 1);
    cr_assert_eq(irq, 0);
    clock_advance(clk, 20 * MS);
    cr_assert_eq(in(PO + 6, 1), 0x0fu, "halted, last valid buffer, completed, IOC");
    cr_assert_eq(irq, 1);
    cr_assert_geq(heard, 960u);
    cr_assert_eq(sound[1][0], 1000, "the resampler is one frame behind");
    cr_assert_eq(sound[960 - 1][0], 1000 + 958);
    cr_assert_eq(sound[960 - 1][1], -1000 - 958);
    clock_advance(clk, 1000 * MS);
    cr_assert_leq(heard, 1500u, "nothing runs while nothing plays");
}

Test(ac97, goes_on_when_lvi_moves)
{
    for (u32 i = 0; i < 4; i++) descriptor(i, SOUND, 96, 0);
    start(0);
    clock_advance(clk, 20 * MS);
    cr_assert_eq(in(PO + 6, 1) & 3, 3u);
    out(PO + 5, 3, 1);
    cr_assert_eq(in(PO + 6, 1) & 3, 0u);
    cr_assert_eq(in(PO + 4, 1), 1u);
    clock_advance(clk, 20 * MS);
    cr_assert_eq(in(PO + 4, 1), 3u);
    cr_assert_eq(in(PO + 6, 1) & 3, 3u);
}

Test(ac97, pauses_and_resumes)
{
    descriptor(0, SOUND, 9600, 0);
    start(0);
    clock_advance(clk, 20 * MS);
    u32 left = in(PO + 8, 2);
    out(PO + 0xb, 0, 1);
    clock_advance(clk, 50 * MS);
    cr_assert_eq(in(PO + 8, 2), left);
    cr_assert_eq(in(PO + 6, 1) & 1, 1u);
    out(PO + 0xb, 1, 1);
    clock_advance(clk, 10 * MS);
    cr_assert_eq(in(PO + 8, 2), left - 960);
}

Test(ac97, volume_and_mute)
{
    for (u32 i = 0; i < 9600; i++) bus_write(memory, SOUND + 2 * i, 10000, 2);
    descriptor(0, SOUND, 19200, 0);
    out(NAM + 0x02, 0x0400, 2); /* left: -6 dB */
    start(0);
    clock_advance(clk, 30 * MS);
    cr_assert(last[0] > 4950 && last[0] < 5060, "%d", last[0]);
    cr_assert_eq(last[1], 10000);
    out(NAM + 0x02, 0x8000, 2);
    clock_advance(clk, 30 * MS);
    cr_assert_eq(last[0], 0);
    out(NAM + 0x02, 0, 2);
    out(NAM + 0x18, 0, 2); /* +12 dB: saturates */
    clock_advance(clk, 30 * MS);
    cr_assert_eq(last[0], 32767);
}

Test(ac97, malformed_lists)
{
    /* Empty buffers only: halts, however the indices stand. */
    for (u32 i = 0; i < 32; i++) descriptor(i, 0xfffffffe, 0, 0xffff);
    start(31);
    clock_advance(clk, 20 * MS);
    cr_assert_eq(in(PO + 6, 1) & 7, 7u);
    /* Beyond RAM, of the greatest length, at the end of the address space; on a list there. */
    for (u32 i = 0; i < 32; i++) descriptor(i, 0xfffffffe, 0xffff, 0xffff);
    start(255);
    clock_advance(clk, 100 * MS);
    cr_assert_eq(in(PO + 6, 1) & 1, 0u);
    out(PO + 0xb, 0, 1);
    out(PO + 0xb, 2, 1);
    out(PO, 0xfffffff8, 4);
    out(PO + 0xb, 1, 1);
    clock_advance(clk, 100 * MS);
    /* Without bus mastering */
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 4, 1, 2);
    start(5);
    clock_advance(clk, 100 * MS);
    cr_assert_eq(in(NABM + 0x30, 4) & 0x100, 0x100u);
}

Test(ac97, records_silence)
{
    bus_write(memory, SOUND, 0x12345678, 4);
    descriptor(0, SOUND, 960, 0x8000);
    out(NABM + 0, LIST, 4);
    out(NABM + 5, 0, 1);
    out(NABM + 0xb, 0x11, 1);
    clock_advance(clk, 20 * MS);
    cr_assert_eq(bus_read(memory, SOUND, 4), 0u);
    cr_assert_eq(in(NABM + 0x30, 4) & 0xe0, 0x20u);
    cr_assert_eq(irq, 1);
}

Test(ac97, cold_reset_and_semaphore)
{
    descriptor(0, SOUND, 9600, 0);
    start(0);
    cr_assert_eq(in(NABM + 0x34, 1), 0u);
    cr_assert_eq(in(NABM + 0x34, 1), 1u);
    in(NAM, 2);
    cr_assert_eq(in(NABM + 0x34, 1), 0u);
    out(NABM + 0x2c, 0, 4);
    cr_assert_eq(in(PO + 6, 1), 1u);
    cr_assert_eq(in(NABM + 0x30, 4) & 0x100, 0u);
    cr_assert_eq(in(NAM + 0x02, 2), 0xffffu);
    out(NABM + 0x2c, 2, 4);
    cr_assert_eq(in(NAM + 0x02, 2), 0x8000u);
}

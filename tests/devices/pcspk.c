// build/tests/test_pcspk
#include <criterion/criterion.h>
#include <stdlib.h>

#include "devices/pcspk.h"

#define MS 1000000ull

static struct bus *ports;
static struct clock *clk;
static struct audio *audio;
static struct i8254 *pit;
static struct device *speaker;
static u32 heard, rises;
static s16 last, loudest;

static void listen(struct audio_sink *s, const s16 *frames, u32 count)
{
    (void)s;
    for (u32 i = 0; i < count; i++, heard++) {
        s16 now = frames[2 * i];
        rises += last < 0 && now >= 0;
        if (abs(now) > loudest) loudest = (s16)abs(now);
        last = now;
    }
}

static void deaf(struct audio_sink *s) { (void)s; }
static struct audio_sink sink = {listen, deaf};

static void setup(void)
{
    ports = bus_create("ports", 0x10000);
    clk = clock_create_manual();
    audio = audio_create(clk, &sink, 44100);
    pit = i8254_create(ports, (struct irq_line){0}, clk);
    speaker = pcspk_create(pit, audio);
    heard = rises = 0;
    last = loudest = 0;
}

static void teardown(void)
{
    speaker->cls->destroy(speaker);
    i8254_device(pit)->cls->destroy(i8254_device(pit));
    audio_destroy(audio);
    bus_destroy(ports);
    clock_destroy(clk);
}

TestSuite(pcspk, .init = setup, .fini = teardown);

static void tone(u32 hertz)
{
    u32 count = I8254_HZ / hertz;
    bus_write(ports, 0x43, 0xb6, 1);
    bus_write(ports, 0x42, count & 0xff, 1);
    bus_write(ports, 0x42, count >> 8, 1);
}

Test(pcspk, square_wave)
{
    tone(1000);
    bus_write(ports, 0x61, 3, 1);
    clock_advance(clk, 1000 * MS);
    cr_assert(heard > 43000 && heard <= 44100, "%u", heard);
    cr_assert(rises >= 980 && rises <= 1001, "%u", rises);
    cr_assert(loudest > 8000);
    tone(250);
    rises = 0;
    clock_advance(clk, 1000 * MS);
    cr_assert(rises >= 248 && rises <= 252, "%u", rises);
    bus_write(ports, 0x61, 0, 1);
    clock_advance(clk, 500 * MS);
    u32 until = heard;
    cr_assert(until < 44100 * 5 / 2, "%u", until);
    clock_advance(clk, 500 * MS);
    cr_assert_eq(heard, until, "nothing runs in silence");
}

Test(pcspk, reading_the_port_loses_no_time)
{
    tone(1000);
    bus_write(ports, 0x61, 3, 1);
    for (int i = 0; i < 10000; i++) {
        clock_advance(clk, MS / 10);
        bus_read(ports, 0x61, 1);
    }
    cr_assert(rises >= 980 && rises <= 1001, "%u", rises);
}

Test(pcspk, toggled_by_hand)
{
    tone(20); /* its output is high for the first 25 ms of every 50 */
    for (int i = 0; i < 20; i++) {
        bus_write(ports, 0x61, i & 1 ? 1 : 3, 1);
        clock_advance(clk, MS);
    }
    clock_advance(clk, 20 * MS);
    cr_assert(rises >= 8, "%u", rises);
}

Test(pcspk, silent_unless_connected)
{
    tone(1000);
    bus_write(ports, 0x61, 1, 1);
    clock_advance(clk, 100 * MS);
    cr_assert_eq(heard, 0u);
}

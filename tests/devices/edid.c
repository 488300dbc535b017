/* Run alone: build/tests/test_edid */
#include <criterion/criterion.h>
#include <string.h>

#include "devices/edid.h"

/* Of the first detailed timing [E-EDID] 3.10.2: active and blank pixels or lines. */
static unsigned active(const u8 *d, int at) { return d[at] | (unsigned)(d[at + 2] >> 4) << 8; }
static unsigned blank(const u8 *d, int at) { return d[at + 1] | (unsigned)(d[at + 2] & 15) << 8; }

Test(edid, checksum_and_preferred_mode)
{
    static const unsigned modes[][2] = {{320, 200}, {640, 480}, {1024, 768}, {1280, 800}, {1366, 768}, {1920, 1080}, {4095, 4095}};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        u8 e[EDID_SIZE], sum = 0;
        edid_make(e, modes[i][0], modes[i][1], 0, 0);
        for (unsigned k = 0; k < EDID_SIZE; k++) sum = (u8)(sum + e[k]);
        cr_expect_eq(sum, 0);
        cr_expect_eq(e[0], 0);
        cr_expect_eq(e[1], 0xff);
        const u8 *d = e + 54;
        unsigned x = active(d, 2), y = active(d, 5);
        cr_expect_eq(x, modes[i][0]);
        cr_expect_eq(y, modes[i][1]);
        double clock = (d[0] | d[1] << 8) * 10000.0;
        double rate = clock / ((x + blank(d, 2)) * (double)(y + blank(d, 5)));
        if (x < 4095) cr_expect(rate > 58 && rate <= 60, "%ux%u: %f Hz", x, y, rate);
        cr_expect(blank(d, 5) > (d[10] >> 4) + (d[10] & 15u), "sync within the blanking");
    }
}

/* 1280x800 is 1280x800R in [CVT]: 71 MHz, 1440 by 823. */
Test(edid, reduced_blanking)
{
    u8 e[EDID_SIZE];
    edid_make(e, 1280, 800, 0, 0);
    cr_expect_eq(e[54] | e[55] << 8, 7100);
    cr_expect_eq(blank(e + 54, 2), 160);
    cr_expect_eq(blank(e + 54, 5), 23);
}

Test(edid, no_more_than_the_maximum)
{
    u8 e[EDID_SIZE];
    edid_make(e, 800, 600, 1280, 1024);
    cr_expect_eq(e[35], 0x21);
    cr_expect_eq(e[36], 0x08);
    cr_expect(!memcmp(e + 38, ((u8[]){1280 / 8 - 31, 0, 1280 / 8 - 31, 2 << 6, 1, 1, 1, 1}), 8));
    edid_make(e, 800, 600, 0, 0);
    cr_expect_neq(e[38 + 15], 1, "all are used");
}

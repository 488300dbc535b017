/* The base block of a digital monitor's EDID: identity, sRGB, 60 Hz modes, and one preferred mode with the timing that
 * [CVT] gives it (reduced blanking). Leaves out extension blocks.
 *
 *   0 header | 8 identity | 18 version | 20 display | 25 colours | 35 established and 38 standard timings
 *   54 four descriptors of 18 bytes: preferred timing, range limits, name, unused | 126 extensions | 127 checksum
 *
 * References: [E-EDID] VESA Enhanced EDID Standard 1.4. [CVT] VESA Coordinated Video Timings 1.1. */
#include "devices/edid.h"

#include <string.h>

#define DPI 100

/* [CVT] 5.4: reduced blanking. */
#define H_BLANK    160u
#define H_FRONT    48u
#define H_SYNC     32u
#define V_FRONT    3u
#define V_BACK_MIN 6u
#define V_BLANK_NS 460000u
#define REFRESH    60u

/* [CVT] table 3-2: the width of the vertical sync tells the aspect ratio. */
static unsigned v_sync_lines(unsigned x, unsigned y)
{
    if (x * 3 == y * 4) return 4;
    if (x * 9 == y * 16) return 5;
    if (x * 10 == y * 16) return 6;
    if (x * 4 == y * 5 || x * 9 == y * 15) return 7;
    return 10;
}

/* [E-EDID] 3.10.2 */
static void detailed_timing(u8 *d, unsigned x, unsigned y)
{
    unsigned v_sync = v_sync_lines(x, y);
    unsigned line_ns = (1000000000 / REFRESH - V_BLANK_NS) / y;
    unsigned v_blank = MAX(V_BLANK_NS / line_ns + 1, V_FRONT + v_sync + V_BACK_MIN);
    unsigned clock = REFRESH * (x + H_BLANK) * (y + v_blank) / 250000 * 25; /* units of 10 kHz, steps of 250 */
    unsigned width = x * 254 / (DPI * 10), height = y * 254 / (DPI * 10);   /* mm */
    clock = MIN(clock, 0xffffu);
    d[0] = (u8)clock;
    d[1] = (u8)(clock >> 8);
    d[2] = (u8)x;
    d[3] = (u8)H_BLANK;
    d[4] = (u8)(x >> 8 << 4 | H_BLANK >> 8);
    d[5] = (u8)y;
    d[6] = (u8)v_blank;
    d[7] = (u8)(y >> 8 << 4 | v_blank >> 8);
    d[8] = H_FRONT;
    d[9] = H_SYNC;
    d[10] = (u8)(V_FRONT << 4 | v_sync);
    d[11] = 0; /* more bits of those four */
    d[12] = (u8)width;
    d[13] = (u8)height;
    d[14] = (u8)(width >> 8 << 4 | height >> 8);
    d[17] = 0x1a; /* digital separate sync, horizontal positive, vertical negative */
}

static void text_descriptor(u8 *d, u8 tag, const char *text)
{
    size_t n = strlen(text);
    d[3] = tag;
    memset(d + 5, ' ', 13);
    memcpy(d + 5, text, n);
    d[5 + n] = '\n';
}

/* Modes of the established and standard timings, at 60 Hz. */
static const struct {
    u16 x, y;     /* pixels */
    u8 byte, bit; /* established: where; standard: 0 and the code of the aspect ratio [E-EDID] 3.9 */
} modes[] = {
    {640, 480, 35, 0x20}, {800, 600, 35, 0x01}, {1024, 768, 36, 0x08}, {1280, 800, 0, 0}, {1280, 1024, 0, 2},
    {1440, 900, 0, 0},    {1600, 1200, 0, 1},   {1680, 1050, 0, 0},    {1920, 1080, 0, 3}, {1920, 1200, 0, 0},
    {2048, 1152, 0, 3},
};

void edid_make(u8 edid[EDID_SIZE], unsigned xres, unsigned yres, unsigned xmax, unsigned ymax)
{
    static const u8 header[8] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    static const u8 srgb[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    static const u8 limits[15] = {0xfd, 0, 50, 125, 30, 160, 255, 0x01, '\n', ' ', ' ', ' ', ' ', ' ', ' '};
    unsigned maker = ('C' - '@') << 10 | ('L' - '@') << 5 | ('Q' - '@');
    memset(edid, 0, EDID_SIZE);
    memcpy(edid, header, sizeof(header));
    edid[8] = (u8)(maker >> 8);
    edid[9] = (u8)maker;
    edid[10] = 1;           /* product */
    edid[16] = 0;           /* no week */
    edid[17] = 2026 - 1990; /* of manufacture */
    edid[18] = 1;
    edid[19] = 4;
    edid[20] = 0xa5; /* digital, 8 bits a colour, DisplayPort */
    edid[21] = (u8)MIN(xres * 254 / (DPI * 100), 255u); /* cm */
    edid[22] = (u8)MIN(yres * 254 / (DPI * 100), 255u);
    edid[23] = 120;  /* gamma 2.2 */
    edid[24] = 0x06; /* sRGB, the first timing is the native one */
    memcpy(edid + 25, srgb, sizeof(srgb));
    memset(edid + 38, 0x01, 16); /* unused */
    u8 *standard = edid + 38;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if ((xmax && modes[i].x > xmax) || (ymax && modes[i].y > ymax)) continue;
        if (modes[i].byte) {
            edid[modes[i].byte] |= modes[i].bit;
        } else {
            *standard++ = (u8)(modes[i].x / 8 - 31);
            *standard++ = (u8)(modes[i].bit << 6 | (REFRESH - 60));
        }
    }
    detailed_timing(edid + 54, xres, yres);
    memcpy(edid + 72 + 3, limits, sizeof(limits));
    text_descriptor(edid + 90, 0xfc, "Calque");
    edid[108 + 3] = 0x10; /* dummy */
    u8 sum = 0;
    for (unsigned i = 0; i < EDID_SIZE - 1; i++) sum = (u8)(sum + edid[i]);
    edid[EDID_SIZE - 1] = (u8)-sum;
}

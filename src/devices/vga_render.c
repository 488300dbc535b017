/* The picture that the VGA's registers and memory make: text, planar, CGA, 256-colour and VBE modes.
 *
 * Models what software uses the display pipeline for: start address, offset, line compare, panning, preset
 * row scan, CGA row addressing, cursor, blinking, both character maps, the attribute controller's palette,
 * the DAC. A picture is as large as the mode's pixels: scan doubling is undone. Left out: overscan, sync and
 * blanking positions, changes of registers in the middle of a frame.
 *
 * References: [VGA] IBM PS/2 Hardware Interface Technical Reference, Video Subsystem. */
#include "devices/vga.h"

#include <string.h>

#include "devices/vga_state.h"

/* [VGA] the cursor blinks every 16 frames, characters every 32, at about 60 Hz. */
#define CURSOR_BLINK_NS 266000000ull
#define TEXT_BLINK_NS   533000000ull

static bool vga_is_graphics(const struct vga *v) { return (v->gfx[GFX_MISC] & GFX_MISC_GRAPHICS) != 0; }
static bool vga_is_256(const struct vga *v) { return (v->gfx[GFX_MODE] & 0x40) != 0; }

static bool vga_is_on(const struct vga *v)
{
    return v->attr_index & ATTR_INDEX_SCREEN_ON && !(v->seq[SEQ_CLOCKING] & SEQ_CLOCKING_OFF);
}

static int vga_cell_width(const struct vga *v) { return v->seq[SEQ_CLOCKING] & SEQ_CLOCKING_8_DOTS ? 8 : 9; }

static struct vga_scan vga_scan(const struct vga *v)
{
    const u8 *c = v->crtc;
    struct vga_scan s = {
        .columns = c[CRTC_H_DISPLAY_END] + 1,
        .lines = vga_crtc_value(v, CRTC_V_DISPLAY_END, 1, 6) + 1,
        .row_lines = (c[CRTC_MAX_SCAN] & 0x1f) + 1,
        .doubling = c[CRTC_MAX_SCAN] & 0x80 ? 2 : 1,
        .line_compare = vga_crtc_value(v, CRTC_LINE_COMPARE, 4, -1) | (c[CRTC_MAX_SCAN] & 0x40) << 3,
        .start = (u32)(c[CRTC_START_HIGH] << 8 | c[CRTC_START_LOW]) + (c[CRTC_PRESET_ROW] >> 5 & 3),
        .pitch = c[CRTC_OFFSET] * 2u,
    };
    s.step = s.doubling;
    /* In graphics without CGA row addressing all lines of a row are alike. */
    if (vga_is_graphics(v) && (c[CRTC_MODE] & 3) == 3) s.step *= s.row_lines;
    return s;
}

/* The address counter and row scan counter at the start of scan line n. */
static void vga_scan_line(const struct vga *v, const struct vga_scan *s, int n, u32 *address, int *row_scan)
{
    u32 base = s->start;
    int line;
    if (n > s->line_compare) {
        base = 0;
        line = (n - s->line_compare - 1) / s->doubling;
    } else {
        line = n / s->doubling + (v->crtc[CRTC_PRESET_ROW] & 0x1f) % s->row_lines;
    }
    *address = base + (u32)(line / s->row_lines) * s->pitch;
    *row_scan = line % s->row_lines;
}

/* ---- colours ---- */

static u32 vga_dac_color(const struct vga *v, u8 index)
{
    const u8 *c = v->dac[index & v->dac_mask];
    if (v->vbe[VBE_ENABLE] & VBE_DAC_8BIT) return (u32)c[0] << 16 | (u32)c[1] << 8 | c[2];
    u32 color = 0;
    for (int i = 0; i < 3; i++) color = color << 8 | (u32)((c[i] & 0x3f) << 2 | (c[i] & 0x3f) >> 4);
    return color;
}

/* The attribute controller: four plane bits to a DAC index ([VGA] internal palette, color select). */
static u8 vga_attr_color(const struct vga *v, u8 planes)
{
    u8 color = v->attr[planes & v->attr[ATTR_PLANES] & 0xf] & 0x3f;
    u8 select = v->attr[ATTR_COLOR_SELECT];
    if (v->attr[ATTR_MODE] & ATTR_MODE_P54) color = (u8)((color & 0x0f) | (select & 3) << 4);
    return (u8)(color | (select & 0x0c) << 4);
}

static const u8 *vga_cell(const struct vga *v, u32 address)
{
    return v->vram + ((u64)(address & 0xffff) * 4 & (v->vram_size - 1));
}

/* ---- text ---- */

static u32 vga_font(const struct vga *v, bool map_a)
{
    u8 r = v->seq[SEQ_CHARACTER_MAP];
    u32 map = map_a ? (u32)((r >> 2 & 3) | (r >> 3 & 4)) : (u32)((r & 3) | (r >> 2 & 4));
    /* [VGA] character map select: maps 4-7 lie between maps 0-3. */
    return ((map & 3) << 1 | map >> 2) * 0x2000;
}

static bool vga_cursor_enabled(const struct vga *v)
{
    return !(v->crtc[CRTC_CURSOR_START] & 0x20) &&
           (v->crtc[CRTC_CURSOR_START] & 0x1f) <= (v->crtc[CRTC_CURSOR_END] & 0x1f);
}

/* One scan line of a cell as dots, leftmost in bit 8. */
static u32 vga_glyph(const struct vga *v, u8 character, u8 attribute, int row_scan)
{
    u32 font = vga_font(v, (attribute & 8) != 0) + character * 32u + (u32)row_scan;
    u32 dots = (u32)vga_cell(v, font)[2] << 1;
    if (v->attr[ATTR_MODE] & ATTR_MODE_LINE && (character & 0xe0) == 0xc0) dots |= dots >> 1 & 1;
    if (v->attr[ATTR_MODE] & ATTR_MODE_MONO && (attribute & 0x77) == 0x01 &&
        row_scan == (v->crtc[CRTC_UNDERLINE] & 0x1f))
        dots = 0x1ff;
    return dots;
}

static void vga_text_line(const struct vga *v, const struct vga_scan *s, u32 address, int row_scan, u8 *line)
{
    u64 now = clock_now(v->clock);
    u32 cursor = (u32)(v->crtc[CRTC_CURSOR_HIGH] << 8 | v->crtc[CRTC_CURSOR_LOW]);
    bool cursor_line = vga_cursor_enabled(v) && now / CURSOR_BLINK_NS % 2 == 0 &&
                       row_scan >= (v->crtc[CRTC_CURSOR_START] & 0x1f) &&
                       row_scan <= (v->crtc[CRTC_CURSOR_END] & 0x1f);
    bool blinking = (v->attr[ATTR_MODE] & ATTR_MODE_BLINK) != 0, blanked = now / TEXT_BLINK_NS % 2 != 0;
    int width = vga_cell_width(v);
    for (int x = 0; x <= s->columns; x++) {
        const u8 *cell = vga_cell(v, address + (u32)x);
        u8 foreground = cell[1] & 0xf, background = cell[1] >> 4;
        u32 dots = vga_glyph(v, cell[0], cell[1], row_scan);
        if (blinking) {
            background &= 7;
            if (cell[1] & 0x80 && blanked) dots = 0;
        }
        if (cursor_line && address + (u32)x == cursor) dots = 0x1ff;
        u8 colors[2] = {vga_attr_color(v, background), vga_attr_color(v, foreground)};
        for (int i = 0; i < width; i++) *line++ = colors[dots >> (8 - i) & 1];
    }
}

bool vga_text_screen(const struct vga *v, struct display_text *t)
{
    if (vga_vbe_on(v) || vga_is_graphics(v) || !vga_is_on(v)) return false;
    struct vga_scan s = vga_scan(v);
    t->columns = s.columns;
    t->rows = s.lines / (s.row_lines * s.doubling);
    t->cell_width = vga_cell_width(v);
    t->cell_height = s.row_lines;
    if (t->rows < 1 || t->columns * t->rows > DISPLAY_TEXT_MAX) return false;
    u32 cursor = (u32)(v->crtc[CRTC_CURSOR_HIGH] << 8 | v->crtc[CRTC_CURSOR_LOW]);
    t->cursor_x = t->cursor_y = -1;
    for (int y = 0; y < t->rows; y++) {
        u32 address;
        int row_scan;
        vga_scan_line(v, &s, y * s.row_lines * s.doubling, &address, &row_scan);
        for (int x = 0; x < t->columns; x++) {
            const u8 *cell = vga_cell(v, address + (u32)x);
            t->cells[y * t->columns + x] = (u16)(cell[1] << 8 | cell[0]);
        }
        if (cursor >= address && cursor < address + (u32)t->columns) {
            t->cursor_x = (int)(cursor - address);
            t->cursor_y = y;
        }
    }
    t->cursor_visible = t->cursor_y >= 0 && vga_cursor_enabled(v);
    return true;
}

/* ---- graphics ---- */

/* The dots of one character clock: 8, or 4 with 256 colours, as DAC indices. */
static int vga_graphics_cell(const struct vga *v, u32 address, u8 *dots)
{
    const u8 *p = vga_cell(v, address);
    switch (v->gfx[GFX_MODE] & GFX_MODE_SHIFT) {
    case 0x00:
        for (int i = 0; i < 8; i++) {
            int bit = 7 - i;
            u8 planes = (u8)((p[0] >> bit & 1) | (p[1] >> bit & 1) << 1 | (p[2] >> bit & 1) << 2 |
                             (p[3] >> bit & 1) << 3);
            dots[i] = vga_attr_color(v, planes);
        }
        return 8;
    case 0x20: /* [VGA] shift register interleave: pairs of bits, planes 0 and 1 in turn; 2 and 3 on top */
        for (int i = 0; i < 8; i++) {
            int shift = 6 - 2 * (i & 3);
            dots[i] = vga_attr_color(v, (u8)((p[i / 4] >> shift & 3) | (p[2 + i / 4] >> shift & 3) << 2));
        }
        return 8;
    default: memcpy(dots, p, 4); return 4;
    }
}

static void vga_graphics_line(const struct vga *v, const struct vga_scan *s, u32 address, int row_scan,
                              u8 *line)
{
    u8 mode = v->crtc[CRTC_MODE];
    /* The CRTC puts row scan bits on address lines 13 and 14 for CGA and Hercules layouts; in word mode that
     * is one bit lower in packed addresses, in doubleword mode two. */
    int shift = v->crtc[CRTC_UNDERLINE] & 0x40 ? 2 : mode & 0x40 ? 0 : 1;
    u32 clear = 0, set = 0;
    if (!(mode & 1)) {
        clear |= 1u << (13 - shift);
        set |= (u32)(row_scan & 1) << (13 - shift);
    }
    if (!(mode & 2)) {
        clear |= 1u << (14 - shift);
        set |= (u32)(row_scan >> 1 & 1) << (14 - shift);
    }
    for (int x = 0; x <= s->columns; x++)
        line += vga_graphics_cell(v, ((address + (u32)x) & ~clear) | set, line);
}

/* Dots that panning moves out to the left ([VGA] horizontal PEL panning register). */
static int vga_panning(const struct vga *v, bool below_split)
{
    int pan = v->attr[ATTR_PANNING] & 0xf;
    if (below_split && v->attr[ATTR_MODE] & ATTR_MODE_PAN_SPLIT) return 0;
    if (vga_is_graphics(v)) return vga_is_256(v) ? (pan & 7) / 2 : pan & 7;
    if (vga_cell_width(v) == 9) return pan >= 8 ? 0 : pan + 1;
    return pan & 7;
}

/* ---- VBE ---- */

/* The picture is at most as wide as the line in memory: what lies beyond the end of video memory is black. */
static void vga_vbe_line(const struct vga *v, const struct vga_frame *f, int y, u32 *out)
{
    int bpp = v->vbe[VBE_BPP];
    u64 bytes = (bpp + 7u) / 8, line = (u64)(y + v->vbe[VBE_Y_OFFSET]) * vga_vbe_pitch(v);
    if (bpp == 4) {
        for (int x = 0; x < f->width; x++) {
            u64 column = (u64)x + v->vbe[VBE_X_OFFSET], at = line + column / 8 * 4;
            u8 planes = 0;
            for (int i = 0; i < 4 && at + 4 <= v->vram_size; i++)
                planes |= (u8)((v->vram[at + (u64)i] >> (7 - (column & 7)) & 1) << i);
            out[x] = f->palette[vga_attr_color(v, planes)];
        }
        return;
    }
    u64 at = line + v->vbe[VBE_X_OFFSET] * bytes;
    int width = (int)MIN((u64)f->width, at < v->vram_size ? (v->vram_size - at) / bytes : 0);
    const u8 *p = v->vram + at;
    memset(out + width, 0, (size_t)(f->width - width) * sizeof(*out));
    for (int x = 0; x < width; x++, p += bytes) {
        u32 value = p[0];
        switch (bpp) {
        case 8: out[x] = f->palette[value]; break;
        case 15:
            value |= (u32)p[1] << 8;
            out[x] = (value & 0x7c00) << 9 | (value & 0x7000) << 4 | (value & 0x3e0) << 6 | (value & 0x380) << 1 |
                     (value & 0x1f) << 3 | (value & 0x1c) >> 2;
            break;
        case 16:
            value |= (u32)p[1] << 8;
            out[x] = (value & 0xf800) << 8 | (value & 0xe000) << 3 | (value & 0x7e0) << 5 | (value & 0x600) >> 1 |
                     (value & 0x1f) << 3 | (value & 0x1c) >> 2;
            break;
        default: out[x] = value | (u32)p[1] << 8 | (u32)p[2] << 16; break;
        }
    }
}

/* ---- the whole picture ---- */

void vga_frame_begin(const struct vga *v, struct vga_frame *f)
{
    f->on = vga_is_on(v);
    f->vbe = vga_vbe_on(v);
    for (int i = 0; i < 256; i++) f->palette[i] = vga_dac_color(v, (u8)i);
    memset(f->dots, 0, sizeof(f->dots));
    f->scan = vga_scan(v);
    if (f->vbe) {
        f->width = v->vbe[VBE_XRES];
        f->height = v->vbe[VBE_YRES];
        return;
    }
    int dots = !vga_is_graphics(v) ? vga_cell_width(v) : vga_is_256(v) ? 4 : 8;
    f->width = f->scan.columns * dots;
    f->height = MAX(f->scan.lines / f->scan.step, 1);
}

void vga_frame_line(const struct vga *v, struct vga_frame *f, int y, u32 *out)
{
    if (!f->on) {
        memset(out, 0, (size_t)f->width * sizeof(*out));
        return;
    }
    if (f->vbe) {
        vga_vbe_line(v, f, y, out);
        return;
    }
    u32 address;
    int row_scan, n = y * f->scan.step;
    vga_scan_line(v, &f->scan, n, &address, &row_scan);
    if (vga_is_graphics(v)) vga_graphics_line(v, &f->scan, address, row_scan, f->dots);
    else vga_text_line(v, &f->scan, address, row_scan, f->dots);
    const u8 *dots = f->dots + vga_panning(v, n > f->scan.line_compare);
    for (int x = 0; x < f->width; x++) out[x] = f->palette[dots[x]];
}

void vga_frame_size(const struct vga *v, int *width, int *height)
{
    struct vga_frame f;
    vga_frame_begin(v, &f);
    *width = f.width;
    *height = f.height;
}

void vga_render(const struct vga *v, u32 *pixels, int width, int height, int stride)
{
    struct vga_frame f;
    vga_frame_begin(v, &f);
    for (int y = 0; y < height; y++) {
        u32 *out = pixels + (size_t)y * (size_t)stride;
        if (y < f.height && width >= f.width) vga_frame_line(v, &f, y, out);
        if (y >= f.height) memset(out, 0, (size_t)width * sizeof(*out));
    }
}

u64 vga_blink_phase(const struct vga *v)
{
    if (vga_vbe_on(v) || vga_is_graphics(v)) return 0;
    u64 now = clock_now(v->clock);
    bool blinking = (v->attr[ATTR_MODE] & ATTR_MODE_BLINK) != 0;
    return (vga_cursor_enabled(v) ? now / CURSOR_BLINK_NS % 2 : 0) | (blinking ? now / TEXT_BLINK_NS % 2 << 1 : 0);
}

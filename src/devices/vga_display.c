/* Which parts of the VGA's picture changed.
 *
 * Lines are drawn again when the memory they come from was written, all of them when a register was; what really
 * differs from the last picture is reported. Outside VBE modes lines share memory in too many ways, and all are
 * candidates. */
#include "devices/vga_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/display.h"

/* Pages of video memory that may have been written since the last picture; whether there are any. */
static bool vga_take_dirty(struct vga *v, u64 *pages)
{
    size_t words = (v->vram_size >> GUEST_PAGE_SHIFT) / 64;
    /* Stores may have gone unnoticed between the moment the flags were cleared and the moment the vCPUs knew. */
    bool settled = ram_dirty_settled(v->ram), any = false;
    memcpy(pages, v->dirty, words * sizeof(*pages));
    if (settled) memset(v->dirty, 0, words * sizeof(*pages));
    ram_take_dirty(v->ram, v->vram_offset, v->vram_size, v->dirty);
    for (size_t i = 0; i < words; i++) any |= (pages[i] |= v->dirty[i]) != 0;
    return any;
}

static bool vga_any_dirty(const u64 *pages, u64 first, u64 last)
{
    for (u64 i = first; i <= last; i++)
        if (pages[i / 64] >> i % 64 & 1) return true;
    return false;
}

/* Is line y of a VBE mode in one of these pages? */
static bool vga_line_dirty(const struct vga *v, const u64 *pages, int y)
{
    u64 pitch = vga_vbe_pitch(v), start = (u64)(y + v->vbe[VBE_Y_OFFSET]) * pitch;
    if (start >= v->vram_size) return false;
    u64 end = MIN(start + pitch, v->vram_size) - 1;
    return vga_any_dirty(pages, start >> GUEST_PAGE_SHIFT, end >> GUEST_PAGE_SHIFT);
}

/* Copy a line to the surface: the first and last pixel that differ, or false. */
static bool vga_put_line(u32 *to, const u32 *from, int width, int *first, int *last)
{
    int a = 0, b = width - 1;
    if (!memcmp(to, from, (size_t)width * sizeof(*to))) return false;
    while (to[a] == from[a]) a++;
    while (to[b] == from[b]) b--;
    memcpy(to + a, from + a, (size_t)(b - a + 1) * sizeof(*to));
    *first = a;
    *last = b;
    return true;
}

static void vga_draw(struct vga *v, struct display *d, const u64 *pages, bool all, bool everything)
{
    struct vga_frame f;
    vga_frame_begin(v, &f);
    bool fresh;
    struct display_surface *s = display_surface_of_size(d, f.width, f.height, &fresh);
    u32 *line = malloc((size_t)f.width * sizeof(*line));
    if (!line || s->width != f.width || s->height != f.height) { /* no memory: the picture stays as it is */
        free(line);
        return;
    }
    everything |= fresh;
    all |= everything;
    int top = -1, left = 0, right = 0; /* the rectangle being collected, none: -1 */
    for (int y = 0; y <= f.height; y++) {
        int a = 0, b = 0;
        bool candidate = y < f.height && (all || !vga_vbe_packed(v) || vga_line_dirty(v, pages, y));
        bool differs = false;
        if (candidate) {
            vga_frame_line(v, &f, y, line);
            differs = vga_put_line(s->pixels + (size_t)y * (size_t)s->stride, line, f.width, &a, &b);
        }
        if (differs) {
            left = top < 0 ? a : MIN(left, a);
            right = top < 0 ? b : MAX(right, b);
            if (top < 0) top = y;
        } else if (top >= 0) {
            if (!everything) display_changed(d, left, top, right - left + 1, y - top);
            top = -1;
        }
    }
    if (everything) display_changed(d, 0, 0, f.width, f.height);
    free(line);
}

static void vga_update(void *opaque, struct display *d, bool everything)
{
    struct vga *v = opaque;
    u64 *pages = malloc((v->vram_size >> GUEST_PAGE_SHIFT) / 8);
    if (!pages) return;
    bool dirty = vga_take_dirty(v, pages);
    u64 phase = vga_blink_phase(v);
    if (everything || dirty || v->registers_changed || phase != v->blink_phase) {
        bool all = v->registers_changed;
        v->registers_changed = false;
        v->blink_phase = phase;
        vga_draw(v, d, pages, all, everything);
    }
    free(pages);
}

static bool vga_text(void *opaque, struct display_text *t) { return vga_text_screen(opaque, t); }

void vga_connect(struct vga *v, struct display *d)
{
    static const struct display_source source = {.update = vga_update, .text = vga_text};
    if (v->display) display_set_source(v->display, NULL, NULL);
    v->display = d;
    if (d) display_set_source(d, &source, v);
}

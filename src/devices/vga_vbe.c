/* The Bochs VBE extension ("dispi"): high-resolution modes by a handful of 16-bit registers.
 *
 * Models interface version 5: linear framebuffer, banks, virtual screens with offsets, 8-bit DAC, 4, 8, 15,
 * 16, 24 and 32 bits per pixel. Left out: DDC bits (index 0xb).
 *
 * References: [VBE] Bochs VBE display API, vbe_display_api.txt of its video BIOS. */
#include "devices/vga_state.h"

#include <string.h>

#define VBE_ID_FIRST 0xb0c0
#define VBE_ID_LAST  0xb0c5
#define VBE_MAX_XRES 16000
#define VBE_MAX_YRES 12000
#define VBE_MAX_BPP  32

static u32 vga_vbe_bytes(const struct vga *v, u32 pixels)
{
    u16 bpp = v->vbe[VBE_BPP];
    if (bpp <= 4) return pixels / 2; /* all four interleaved planes together */
    return pixels * ((bpp + 7u) / 8);
}

u32 vga_vbe_pitch(const struct vga *v) { return vga_vbe_bytes(v, v->vbe[VBE_VIRT_WIDTH]); }

/* Make the registers consistent: the display must lie within the virtual screen, and that in memory. */
static void vga_vbe_fix(struct vga *v)
{
    u16 *r = v->vbe;
    switch (r[VBE_BPP]) {
    case 4:
    case 8:
    case 15:
    case 16:
    case 24:
    case 32: break;
    default: r[VBE_BPP] = 8; break;
    }
    r[VBE_XRES] = (u16)MIN(MAX(r[VBE_XRES] & ~7, 8), VBE_MAX_XRES);
    r[VBE_VIRT_WIDTH] = (u16)MIN(MAX(r[VBE_VIRT_WIDTH] & ~7, r[VBE_XRES]), VBE_MAX_XRES);
    u32 lines = (u32)(v->vram_size / vga_vbe_pitch(v));
    r[VBE_YRES] = (u16)MIN(MAX(r[VBE_YRES], 1u), MIN(lines, VBE_MAX_YRES));
    r[VBE_VIRT_HEIGHT] = (u16)MIN(lines, 0xffffu);
    r[VBE_X_OFFSET] = MIN(r[VBE_X_OFFSET], (u16)(r[VBE_VIRT_WIDTH] - r[VBE_XRES]));
    r[VBE_Y_OFFSET] = MIN(r[VBE_Y_OFFSET], (u16)(r[VBE_VIRT_HEIGHT] - r[VBE_YRES]));
}

void vga_vbe_reset(struct vga *v)
{
    memset(v->vbe, 0, sizeof(v->vbe));
    v->vbe_index = 0;
    v->vbe[VBE_ID] = VBE_ID_LAST;
    v->vbe[VBE_MEMORY_64K] = (u16)(v->vram_size >> 16);
}

u16 vga_vbe_read(struct vga *v, unsigned index)
{
    if (index >= VBE_COUNT) return 0;
    if (v->vbe[VBE_ENABLE] & VBE_GET_CAPS) {
        switch (index) {
        case VBE_XRES: return VBE_MAX_XRES;
        case VBE_YRES: return VBE_MAX_YRES;
        case VBE_BPP: return VBE_MAX_BPP;
        default: break;
        }
    }
    return v->vbe[index];
}

static void vga_vbe_enable(struct vga *v, u16 value)
{
    bool was_on = vga_vbe_on(v);
    v->vbe[VBE_ENABLE] = value;
    if (!(value & VBE_ENABLED)) {
        v->vbe[VBE_BANK] = 0;
        return;
    }
    if (was_on) return;
    v->vbe[VBE_BANK] = 0;
    v->vbe[VBE_VIRT_WIDTH] = 0;
    v->vbe[VBE_X_OFFSET] = 0;
    v->vbe[VBE_Y_OFFSET] = 0;
    vga_vbe_fix(v);
    if (!(value & VBE_NO_CLEAR)) {
        u64 size = MIN((u64)vga_vbe_pitch(v) * v->vbe[VBE_YRES], v->vram_size);
        memset(v->vram, 0, size);
        ram_note_write(v->ram, v->vram_offset, size);
    }
}

void vga_vbe_write(struct vga *v, unsigned index, u16 value)
{
    if (index != VBE_BANK) v->registers_changed = true;
    switch (index) {
    case VBE_ID:
        if (value >= VBE_ID_FIRST && value <= VBE_ID_LAST) v->vbe[VBE_ID] = value;
        break;
    case VBE_XRES:
    case VBE_YRES:
    case VBE_BPP:
    case VBE_VIRT_WIDTH:
    case VBE_X_OFFSET:
    case VBE_Y_OFFSET:
        v->vbe[index] = value;
        if (vga_vbe_on(v)) vga_vbe_fix(v);
        break;
    case VBE_BANK:
        if ((u64)value << 16 < v->vram_size) v->vbe[VBE_BANK] = value;
        break;
    case VBE_ENABLE: vga_vbe_enable(v, value); break;
    default: break; /* read-only or not there */
    }
}

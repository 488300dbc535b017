/* The VGA's window at 0xa0000: how processor accesses reach the four planes.
 *
 * Models memory maps, chain-4, odd/even and sequential addressing, both read modes, the four write modes with
 * latches, set/reset, rotation, logic functions and the bit mask; and the VBE banks.
 *
 * DEVIATION: hardware drops the low address bits it chains planes by, leaving holes that the CRTC skips with
 * its word and doubleword modes. Here the addresses are packed in both places. Software sees a difference
 * only if it looks at one mode's video memory through another mode's addressing.
 *
 * References: [VGA] IBM PS/2 Hardware Interface Technical Reference, Video Subsystem. [VBE] Bochs VBE display
 * API as used by its video BIOS. */
#include "devices/vga_state.h"

/* Where an address within the 128 KiB window falls in the memory map, or -1 ([VGA] miscellaneous register of
 * the graphics controller). */
static s64 vga_mem_map(const struct vga *v, u64 offset)
{
    if (!(v->misc & 0x02)) return -1; /* video RAM disabled */
    if (vga_vbe_packed(v)) return offset < 0x10000 ? (s64)offset : -1;
    switch (v->gfx[GFX_MISC] & GFX_MISC_MAP) {
    case 0x00: return (s64)offset;
    case 0x04: return offset < 0x10000 ? (s64)offset : -1;
    case 0x08: return offset >= 0x10000 && offset < 0x18000 ? (s64)offset - 0x10000 : -1;
    default: return offset >= 0x18000 ? (s64)offset - 0x18000 : -1;
    }
}

static u32 vga_mem_load(const struct vga *v, u64 group)
{
    const u8 *p = v->vram + (group * 4 & (v->vram_size - 1));
    return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

static void vga_mem_store(struct vga *v, u64 group, u32 value, u32 mask)
{
    u64 at = group * 4 & (v->vram_size - 1);
    u8 *p = v->vram + at;
    for (int plane = 0; plane < 4; plane++)
        if (mask >> plane * 8 & 0xff) p[plane] = (u8)(value >> plane * 8);
    ram_note_write(v->ram, v->vram_offset + at, 4);
}

/* Bit p of planes -> byte p all ones. */
static u32 vga_mem_expand(u8 planes)
{
    u32 mask = 0;
    for (int plane = 0; plane < 4; plane++)
        if (planes >> plane & 1) mask |= 0xffu << plane * 8;
    return mask;
}

static u32 vga_mem_replicate(u8 byte) { return byte * 0x01010101u; }

/* An address in the window selects a group of four plane bytes, and perhaps certain planes. */
static u64 vga_mem_group(const struct vga *v, u64 address, bool odd_even, u8 *planes)
{
    u64 bank = vga_vbe_on(v) ? (u64)v->vbe[VBE_BANK] << 16 : 0;
    if (v->seq[SEQ_MEMORY_MODE] & SEQ_MEMORY_CHAIN_4) {
        *planes = (u8)(1 << (address & 3));
        return (address + bank) >> 2;
    }
    if (odd_even) {
        *planes = address & 1 ? 0xa : 0x5;
        return (address + bank) >> 1;
    }
    *planes = 0xf;
    return address + bank;
}

static u8 vga_mem_read_byte(struct vga *v, u64 offset)
{
    s64 address = vga_mem_map(v, offset);
    if (address < 0) return 0xff;
    if (vga_vbe_packed(v)) {
        u64 at = (u64)address + ((u64)v->vbe[VBE_BANK] << 16);
        return at < v->vram_size ? v->vram[at] : 0xff;
    }
    u8 planes;
    u64 group = vga_mem_group(v, (u64)address, v->gfx[GFX_MODE] & GFX_MODE_ODD_EVEN, &planes);
    v->latch = vga_mem_load(v, group);
    if (v->gfx[GFX_MODE] & GFX_MODE_READ_COMPARE) {
        /* Pixels whose colour equals the compare register in all planes that are cared for. */
        u32 care = vga_mem_expand(v->gfx[GFX_COLOR_DONT_CARE]);
        u32 differ = (v->latch ^ vga_mem_expand(v->gfx[GFX_COLOR_COMPARE])) & care;
        differ |= differ >> 16;
        return (u8)~(differ | differ >> 8);
    }
    int plane = v->gfx[GFX_READ_MAP] & 3;
    if (planes != 0xf) {
        if (v->seq[SEQ_MEMORY_MODE] & SEQ_MEMORY_CHAIN_4) plane = address & 3;
        else plane = (plane & 2) | (address & 1);
    }
    return (u8)(v->latch >> plane * 8);
}

/* [VGA] data rotate register: the function of the data with the latches. */
static u32 vga_mem_combine(const struct vga *v, u32 data)
{
    switch (v->gfx[GFX_ROTATE] >> 3 & 3) {
    case 1: return data & v->latch;
    case 2: return data | v->latch;
    case 3: return data ^ v->latch;
    default: return data;
    }
}

static void vga_mem_write_byte(struct vga *v, u64 offset, u8 value)
{
    s64 address = vga_mem_map(v, offset);
    if (address < 0) return;
    if (vga_vbe_packed(v)) {
        u64 at = (u64)address + ((u64)v->vbe[VBE_BANK] << 16);
        if (at >= v->vram_size) return;
        v->vram[at] = value;
        ram_note_write(v->ram, v->vram_offset + at, 1);
        return;
    }
    u8 planes;
    bool odd_even = !(v->seq[SEQ_MEMORY_MODE] & SEQ_MEMORY_SEQUENTIAL);
    u64 group = vga_mem_group(v, (u64)address, odd_even, &planes);
    u32 plane_mask = vga_mem_expand(planes & v->seq[SEQ_MAP_MASK]);
    if (!plane_mask) return;

    unsigned rotate = v->gfx[GFX_ROTATE] & 7;
    u8 rotated = (u8)(value >> rotate | value << (8 - rotate));
    u32 bit_mask = vga_mem_replicate(v->gfx[GFX_BIT_MASK]);
    u32 set_reset = vga_mem_expand(v->gfx[GFX_SET_RESET]);
    u32 data;
    switch (v->gfx[GFX_MODE] & 3) {
    case 0: {
        u32 use_set_reset = vga_mem_expand(v->gfx[GFX_ENABLE_SET_RESET]);
        data = (vga_mem_replicate(rotated) & ~use_set_reset) | (set_reset & use_set_reset);
        data = vga_mem_combine(v, data);
        break;
    }
    case 1: /* the latches as they are */
        data = v->latch;
        bit_mask = 0xffffffff;
        break;
    case 2: /* one bit of the data for each plane */
        data = vga_mem_combine(v, vga_mem_expand(value & 0xf));
        break;
    default: /* set/reset, where the rotated data and the bit mask have ones */
        bit_mask &= vga_mem_replicate(rotated);
        data = vga_mem_combine(v, set_reset);
        break;
    }
    vga_mem_store(v, group, (data & bit_mask) | (v->latch & ~bit_mask), plane_mask);
}

/* The datapath is a byte wide: wider accesses are made of single ones, in ascending order. */
static u64 vga_mem_read(void *opaque, u64 offset, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++) value |= (u64)vga_mem_read_byte(opaque, offset + i) << i * 8;
    return value;
}

static void vga_mem_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) vga_mem_write_byte(opaque, offset + i, (u8)(value >> i * 8));
}

const struct region_ops vga_mem_ops = {
    .read = vga_mem_read, .write = vga_mem_write, .min_size = 1, .max_size = 8};

/* The VGA's registers, and its PCI function.
 *
 * Models the register files of the sequencer, graphics, CRT and attribute controllers and the DAC behind the
 * usual ports, in colour and monochrome addressing, with input status derived from the clock and the CRTC
 * timing; the same registers memory-mapped in BAR 2; 16 MiB of video memory in BAR 0 (vga_mem.c and vga_vbe.c
 * have the legacy window and the VBE modes, vga_render.c the picture).
 * Left out: the vertical retrace interrupt (no PC wired it reliably), feature connector, light pen, the monitor's DDC wires.
 *
 * BAR 2:  0x000 EDID | 0x400 ports 0x3c0-0x3df | 0x500 VBE registers, 16 bits each | 0x600 size and byte order register
 *
 * DEVIATION: the palette registers can be written while the screen is on.
 *
 * References: [VGA] IBM PS/2 Hardware Interface Technical Reference, Video Subsystem. [VBE] Bochs VBE display
 * API. [STDVGA] the interface of the Linux bochs-drm and SeaBIOS drivers for device 1234:1111. */
#include "devices/vga.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "devices/vga_state.h"

#define MISC_COLOR 0x01 /* CRTC and status at 0x3dx, else at 0x3bx */

/* Writable bits of each register. */
static const u8 vga_seq_mask[SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const u8 vga_gfx_mask[GFX_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const u8 vga_attr_mask[ATTR_COUNT] = {
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f};

/* A vertical position: 8 bits in their own register, more in the overflow register. */
int vga_crtc_value(const struct vga *v, int low, int overflow_bit8, int overflow_bit9)
{
    int value = v->crtc[low];
    if (v->crtc[CRTC_OVERFLOW] >> overflow_bit8 & 1) value |= 0x100;
    if (overflow_bit9 >= 0 && v->crtc[CRTC_OVERFLOW] >> overflow_bit9 & 1) value |= 0x200;
    return value;
}

/* ---- input status ---- */

/* [VGA] input status 1: bit 0 outside the picture, bit 3 vertical retrace. */
static u8 vga_status1(struct vga *v)
{
    static const u32 dot_clocks[4] = {25175000, 28322000, 25175000, 25175000};
    u64 characters = v->crtc[CRTC_H_TOTAL] + 5u;
    u64 shown = v->crtc[CRTC_H_DISPLAY_END] + 1u;
    u64 dots = v->seq[SEQ_CLOCKING] & SEQ_CLOCKING_8_DOTS ? 8 : 9;
    u64 lines = (u64)vga_crtc_value(v, CRTC_V_TOTAL, 0, 5) + 2;
    u64 displayed = (u64)vga_crtc_value(v, CRTC_V_DISPLAY_END, 1, 6) + 1;
    u64 retrace = (u64)vga_crtc_value(v, CRTC_V_RETRACE_START, 2, 7);
    u64 retrace_lines = (v->crtc[CRTC_V_RETRACE_END] - retrace) & 15;
    if (v->seq[SEQ_CLOCKING] & SEQ_CLOCKING_HALF) dots *= 2;
    if (vga_vbe_packed(v) || lines < 100 || characters < 40 || retrace >= lines) {
        /* No sensible timing was programmed: that of 640x480. */
        characters = 100;
        shown = 80;
        dots = 8;
        lines = 525;
        displayed = 480;
        retrace = 490;
        retrace_lines = 2;
    }
    if (!retrace_lines) retrace_lines = 16;
    u64 line_ns = characters * dots * NS_PER_SECOND / dot_clocks[v->misc >> 2 & 3];
    u64 in_frame = clock_now(v->clock) % (line_ns * lines);
    u64 line = in_frame / line_ns, column = in_frame % line_ns * characters / line_ns;
    u8 status = 0;
    if (line >= displayed || column >= shown) status |= 0x01;
    if (line >= retrace && line < retrace + retrace_lines) status |= 0x08;
    return status;
}

/* ---- registers ---- */

static void vga_write_attr(struct vga *v, u8 value)
{
    if (!v->attr_data) {
        v->attr_index = value & 0x3f;
    } else {
        unsigned index = v->attr_index & 0x1f;
        if (index < ATTR_COUNT) v->attr[index] = value & vga_attr_mask[index];
    }
    v->registers_changed = true;
    v->attr_data = !v->attr_data;
}

static u8 vga_read_crtc(const struct vga *v)
{
    if (v->crtc_index <= CRTC_LAST) return v->crtc[v->crtc_index];
    if (v->crtc_index == CRTC_LATCH) return (u8)(v->latch >> (v->gfx[GFX_READ_MAP] & 3) * 8);
    if (v->crtc_index == CRTC_FLIP_FLOP) return (u8)(v->attr_data << 7);
    return 0;
}

static void vga_write_crtc(struct vga *v, u8 value)
{
    unsigned index = v->crtc_index;
    if (index > CRTC_LAST) return;
    /* [VGA] vertical retrace end register, bit 7: registers 0-7 are protected, but for line compare's bit. */
    if (index <= CRTC_OVERFLOW && v->crtc[CRTC_V_RETRACE_END] & 0x80) {
        if (index == CRTC_OVERFLOW) v->crtc[index] = (u8)((v->crtc[index] & ~0x10) | (value & 0x10));
        v->registers_changed = true;
        return;
    }
    if (v->crtc[index] != value) v->registers_changed = true;
    v->crtc[index] = value;
}

static u8 vga_read_dac(struct vga *v)
{
    u8 value = v->dac[v->dac_read][v->dac_component];
    if (!(v->vbe[VBE_ENABLE] & VBE_DAC_8BIT)) value &= 0x3f;
    if (++v->dac_component == 3) {
        v->dac_component = 0;
        v->dac_read++;
    }
    return value;
}

static void vga_write_dac(struct vga *v, u8 value)
{
    v->dac_cache[v->dac_component] = v->vbe[VBE_ENABLE] & VBE_DAC_8BIT ? value : value & 0x3f;
    if (++v->dac_component < 3) return;
    /* The entry changes when its third component arrives. */
    v->registers_changed = true;
    memcpy(v->dac[v->dac_write++], v->dac_cache, 3);
    v->dac_component = 0;
}

/* Registers that the picture depends on, as bits: drawing changes the others all the time. */
#define SEQ_PICTURE (1u << SEQ_CLOCKING | 1u << SEQ_CHARACTER_MAP)
#define GFX_PICTURE (1u << GFX_MODE | 1u << GFX_MISC)

static void vga_write_file(struct vga *v, u8 *file, u8 index, u8 value, unsigned picture)
{
    if (picture >> index & 1 && file[index] != value) v->registers_changed = true;
    file[index] = value;
}

/* CRTC and status registers answer at one of two places. */
static bool vga_port_decoded(const struct vga *v, unsigned port)
{
    switch (port & 0xff0) {
    case 0x3b0: return !(v->misc & MISC_COLOR);
    case 0x3d0: return (v->misc & MISC_COLOR) != 0;
    default: return true;
    }
}

static u8 vga_read_port(struct vga *v, unsigned port)
{
    if (!vga_port_decoded(v, port)) return 0xff;
    switch (port) {
    case 0x3c0: return v->attr_index;
    case 0x3c1: return (v->attr_index & 0x1f) < ATTR_COUNT ? v->attr[v->attr_index & 0x1f] : 0;
    case 0x3c2: return 0x10; /* input status 0: the switch senses a colour monitor */
    case 0x3c3: return v->enable;
    case 0x3c4: return v->seq_index;
    case 0x3c5: return v->seq[v->seq_index];
    case 0x3c6: return v->dac_mask;
    case 0x3c7: return v->dac_state;
    case 0x3c8: return v->dac_write;
    case 0x3c9: return vga_read_dac(v);
    case 0x3ca: return v->feature;
    case 0x3cc: return v->misc;
    case 0x3ce: return v->gfx_index;
    case 0x3cf: return v->gfx[v->gfx_index];
    case 0x3b4:
    case 0x3d4: return v->crtc_index;
    case 0x3b5:
    case 0x3d5: return vga_read_crtc(v);
    case 0x3ba:
    case 0x3da:
        v->attr_data = false; /* [VGA] attribute address register: this resets the flip-flop */
        return vga_status1(v);
    default: return 0xff;
    }
}

static void vga_write_port(struct vga *v, unsigned port, u8 value)
{
    if (!vga_port_decoded(v, port)) return;
    switch (port) {
    case 0x3c0:
    case 0x3c1: vga_write_attr(v, value); break;
    case 0x3c2: v->misc = value & 0xef; break;
    case 0x3c3: v->enable = value & 1; break;
    case 0x3c4: v->seq_index = value & 7; break;
    case 0x3c5: vga_write_file(v, v->seq, v->seq_index, value & vga_seq_mask[v->seq_index], SEQ_PICTURE); break;
    case 0x3c6:
        v->dac_mask = value;
        v->registers_changed = true;
        break;
    case 0x3c7:
        v->dac_read = value;
        v->dac_component = 0;
        v->dac_state = 3;
        break;
    case 0x3c8:
        v->dac_write = value;
        v->dac_component = 0;
        v->dac_state = 0;
        break;
    case 0x3c9: vga_write_dac(v, value); break;
    case 0x3ce: v->gfx_index = value & 0xf; break;
    case 0x3cf: vga_write_file(v, v->gfx, v->gfx_index, value & vga_gfx_mask[v->gfx_index], GFX_PICTURE); break;
    case 0x3b4:
    case 0x3d4: v->crtc_index = value & 0x3f; break;
    case 0x3b5:
    case 0x3d5: vga_write_crtc(v, value); break;
    case 0x3ba:
    case 0x3da: v->feature = value & 0x08; break;
    default: break;
    }
}

/* Regions of ports pass offsets from 0x3b0. */
static u64 vga_ports_read(void *opaque, u64 offset, unsigned size)
{
    (void)size;
    return vga_read_port(opaque, 0x3b0 + (unsigned)offset);
}

static void vga_ports_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    (void)size;
    vga_write_port(opaque, 0x3b0 + (unsigned)offset, (u8)value);
}

#define VGA_PORT_WINDOW(name, base)                                                                      \
    static u64 name##_read(void *opaque, u64 offset, unsigned size)                                      \
    {                                                                                                    \
        return vga_ports_read(opaque, offset + (base) - 0x3b0, size);                                    \
    }                                                                                                    \
    static void name##_write(void *opaque, u64 offset, u64 value, unsigned size)                         \
    {                                                                                                    \
        vga_ports_write(opaque, offset + (base) - 0x3b0, value, size);                                   \
    }                                                                                                    \
    static const struct region_ops name##_ops = {                                                        \
        .read = name##_read, .write = name##_write, .min_size = 1, .max_size = 1}

VGA_PORT_WINDOW(vga_3b4, 0x3b4);
VGA_PORT_WINDOW(vga_3ba, 0x3ba);
VGA_PORT_WINDOW(vga_3c0, 0x3c0);

/* Ports 0x1ce (index), 0x1cf and 0x1d0 (data), each 16 bits wide: those of the PC, and for aligned access
 * ([VBE]). */
static u64 vga_vbe_port_read(void *opaque, u64 offset, unsigned size)
{
    struct vga *v = opaque;
    (void)size;
    return offset ? vga_vbe_read(v, v->vbe_index) : v->vbe_index;
}

static void vga_vbe_port_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct vga *v = opaque;
    (void)size;
    if (offset) vga_vbe_write(v, v->vbe_index, (u16)value);
    else v->vbe_index = (u16)value;
}

static const struct region_ops vga_vbe_port_ops = {
    .read = vga_vbe_port_read, .write = vga_vbe_port_write, .min_size = 1, .max_size = 2};

/* ---- BAR 2 ---- */

#define BAR_PORTS      0x400u
#define BAR_VBE        0x500u
#define BAR_QEXT       0x600u
#define QEXT_SIZE      8u
#define QEXT_LITTLE    0x1e1e1e1eu

static u64 vga_bar_read(void *opaque, u64 offset, unsigned size)
{
    struct vga *v = opaque;
    if (offset < BAR_PORTS && v->has_edid) {
        u64 value = 0;
        for (unsigned i = 0; i < size && offset + i < EDID_SIZE; i++) value |= (u64)v->edid[offset + i] << i * 8;
        return value;
    }
    if (offset >= BAR_PORTS && offset < BAR_PORTS + 0x20) {
        u64 value = 0;
        for (unsigned i = 0; i < size; i++)
            value |= (u64)vga_read_port(v, 0x3c0 + (unsigned)(offset - BAR_PORTS) + i) << i * 8;
        return value;
    }
    if (offset >= BAR_VBE && offset < BAR_VBE + 2 * VBE_COUNT) {
        u16 value = vga_vbe_read(v, (unsigned)(offset - BAR_VBE) / 2);
        return offset & 1 ? value >> 8 : value;
    }
    /* [STDVGA] extension registers: the size of this block, and the framebuffer's byte order. */
    if (offset == BAR_QEXT) return QEXT_SIZE;
    if (offset == BAR_QEXT + 4) return QEXT_LITTLE;
    return ~0ull;
}

static void vga_bar_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct vga *v = opaque;
    if (offset >= BAR_PORTS && offset < BAR_PORTS + 0x20) {
        for (unsigned i = 0; i < size; i++)
            vga_write_port(v, 0x3c0 + (unsigned)(offset - BAR_PORTS) + i, (u8)(value >> i * 8));
    } else if (offset >= BAR_VBE && offset < BAR_VBE + 2 * VBE_COUNT && !(offset & 1)) {
        vga_vbe_write(v, (unsigned)(offset - BAR_VBE) / 2, (u16)value);
    }
}

static const struct region_ops vga_bar_ops = {
    .read = vga_bar_read, .write = vga_bar_write, .min_size = 1, .max_size = 4};

/* ---- device ---- */

static void vga_reset(struct device *d)
{
    struct vga *v = container_of(d, struct vga, pci.dev);
    pci_device_reset(&v->pci);
    v->misc = v->feature = 0;
    v->enable = 1;
    v->seq_index = v->gfx_index = v->crtc_index = v->attr_index = 0;
    v->attr_data = false;
    memset(v->seq, 0, sizeof(v->seq));
    memset(v->gfx, 0, sizeof(v->gfx));
    memset(v->crtc, 0, sizeof(v->crtc));
    memset(v->attr, 0, sizeof(v->attr));
    v->latch = 0;
    v->dac_mask = 0xff;
    v->dac_read = v->dac_write = v->dac_component = v->dac_state = 0;
    memset(v->dac, 0, sizeof(v->dac));
    vga_vbe_reset(v);
    v->registers_changed = true;
    memset(v->vram, 0, v->vram_size);
    ram_note_write(v->ram, v->vram_offset, v->vram_size);
}

static void vga_destroy(struct device *d)
{
    struct vga *v = container_of(d, struct vga, pci.dev);
    for (size_t i = 0; i < ARRAY_LEN(v->regions); i++)
        if (v->regions[i]) region_remove(v->regions[i]);
    pci_device_destroy(&v->pci);
    vga_connect(v, NULL);
    free(v->dirty);
    free(v);
}

static const struct device_class vga_class = {.name = "vga", .reset = vga_reset, .destroy = vga_destroy};

/* Revision 2 tells drivers of the extension registers in BAR 2. */
static const struct pci_info vga_info = {
    .vendor = 0x1234, .device = 0x1111, .revision = 2, .class_code = 0x030000};

struct vga *vga_create(struct pci_bus *pci, const struct vga_config *config, struct ram *ram, struct clock *clock,
                       const void *rom, size_t rom_size)
{
    struct bus *ports = pci_bus_ports(pci);
    u64 vram_size = config->vram_size;
    struct vga *v = calloc(1, sizeof(*v));
    if (!v) {
        fprintf(stderr, "calque: no memory for the VGA\n");
        return NULL;
    }
    v->dirty = calloc(vram_size >> GUEST_PAGE_SHIFT >> 6, sizeof(*v->dirty));
    if (!v->dirty || pci_device_init(&v->pci, pci, config->devfn, &vga_info, &vga_class)) {
        free(v->dirty);
        free(v);
        return NULL;
    }
    v->clock = clock;
    v->has_edid = config->edid;
    edid_make(v->edid, config->xres, config->yres, config->xmax, config->ymax);
    v->ram = ram;
    v->vram_size = vram_size;
    v->vram_offset = ram_alloc(ram, vram_size);
    v->vram = ram->host + v->vram_offset;
    pci_add_bar_ram(&v->pci, 0, PCI_BAR_MEM32 | PCI_BAR_PREFETCH, vram_size, "vga-vram", ram, v->vram_offset);
    pci_add_bar(&v->pci, 2, PCI_BAR_MEM32, 0x1000, "vga-mmio", &vga_bar_ops, v);
    if (rom) pci_add_rom(&v->pci, "vga-rom", ram, rom, rom_size);
    v->regions[0] = bus_add(pci_bus_memory(pci), "vga-window", 0xa0000, 0x20000, 0, &vga_mem_ops, v);
    v->regions[1] = bus_add(ports, "vga-3b4", 0x3b4, 2, 0, &vga_3b4_ops, v);
    v->regions[2] = bus_add(ports, "vga-3ba", 0x3ba, 1, 0, &vga_3ba_ops, v);
    v->regions[3] = bus_add(ports, "vga-3c0", 0x3c0, 0x20, 0, &vga_3c0_ops, v);
    v->regions[4] = bus_add(ports, "vga-vbe", 0x1ce, 4, 0, &vga_vbe_port_ops, v);
    vga_reset(&v->pci.dev);
    return v;
}

struct device *vga_device(struct vga *v) { return &v->pci.dev; }
u64 vga_vram_offset(const struct vga *v) { return v->vram_offset; }

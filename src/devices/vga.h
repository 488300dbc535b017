/* A VGA with the Bochs VBE extensions, as PCI function 1234:1111. */
#ifndef DEVICES_VGA_H
#define DEVICES_VGA_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/display.h"
#include "core/types.h"
#include "devices/pci.h"

struct vga;

struct vga_config {
    int devfn;           /* where the function is, -1: a free slot */
    u64 vram_size;       /* bytes of video memory: a power of two, at least 256 KiB */
    bool edid;           /* the monitor says what it is: */
    unsigned xres, yres; /* the mode that it prefers */
    unsigned xmax, ymax; /* the largest one, 0: any */
};
#define VGA_DEFAULT {.devfn = PCI_DEVFN(2, 0), .vram_size = 16u << 20, .edid = true, .xres = 1280, .yres = 800}

/* Claims the VGA ports and 0xa0000-0xbffff; video memory is taken from ram. rom: the video BIOS, or NULL. NULL with a
 * message on stderr. */
struct vga *vga_create(struct pci_bus *pci, const struct vga_config *config, struct ram *ram, struct clock *clock,
                       const void *rom, size_t rom_size);
struct device *vga_device(struct vga *v);
/* RAM offset of video memory. */
u64 vga_vram_offset(const struct vga *v);
/* Show its picture there. NULL: nowhere any more. */
void vga_connect(struct vga *v, struct display *d);

/* ---- what is on the screen (vga_render.c) ---- */

/* false: not in a text mode, or the screen is off. */
bool vga_text_screen(const struct vga *v, struct display_text *t);
/* Size of the picture in pixels. A screen that is off has the size of its mode. */
void vga_frame_size(const struct vga *v, int *width, int *height);
/* Draw the picture of that size: 0x00rrggbb pixels, stride in pixels. */
void vga_render(const struct vga *v, u32 *pixels, int width, int height, int stride);

#endif

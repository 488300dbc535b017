/* A VGA with the Bochs VBE extensions, as PCI function 1234:1111. */
#ifndef DEVICES_VGA_H
#define DEVICES_VGA_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/display.h"
#include "core/types.h"
#include "devices/pci.h"

#define VGA_VRAM_SIZE 0x1000000u /* 16 MiB */

struct vga;

/* Plugs the function in at devfn (-1: a free slot), claims the VGA ports and 0xa0000-0xbffff. VRAM_SIZE bytes
 * of ram become video memory (power of two, at least 256 KiB). rom: the video BIOS, or NULL. NULL with a
 * message on stderr. */
struct vga *vga_create(struct pci_bus *pci, int devfn, struct ram *ram, u64 vram_size, struct clock *clock,
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

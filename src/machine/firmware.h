/* Firmware files: where they are, and how the BIOS image appears in the address space. */
#ifndef MACHINE_FIRMWARE_H
#define MACHINE_FIRMWARE_H

#include "core/bus.h"
#include "core/types.h"
#include "machine/options.h"

#define FIRMWARE_DEFAULT_BIOS "bios-256k.bin"
#define FIRMWARE_VGA_BIOS     "vgabios-stdvga.bin"
#define FIRMWARE_E1000        "efi-e1000.rom"
#define FIRMWARE_RTL8139      "efi-rtl8139.rom"
#define FIRMWARE_NE2000       "efi-ne2k_pci.rom"
#define FIRMWARE_VIRTIO_NET   "efi-virtio.rom"

/* A file's contents. */
struct firmware {
    u8 *data;    /* heap, NULL: none */
    size_t size; /* bytes */
};

/* Read a file given by path or, when there is no such file, by name in the -L directories, $CALQUE_DATADIR and the
 * usual places. False with a message. */
bool firmware_read(struct firmware *f, const struct options *o, const char *name, size_t max);
/* Is there a file of that name? */
bool firmware_exists(const struct options *o, const char *name);
void firmware_free(struct firmware *f);

/* Is it a BIOS image: a multiple of 64 KiB up to 16 MiB? False with a message. */
bool firmware_check_bios(const struct firmware *f, const char *name);
/* Show it below 4 GiB, and its last 128 KiB below 1 MiB under the host bridge's shadow memory. ram has room. */
void firmware_map_bios(const struct firmware *f, struct bus *memory, struct ram *ram);

#endif

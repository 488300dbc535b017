/* The boot ROMs of roms/, built into the program. */
#ifndef MACHINE_ROMS_H
#define MACHINE_ROMS_H

#include "core/types.h"

extern const u8 rom_linuxboot[];
extern const size_t rom_linuxboot_size;
extern const u8 rom_multiboot[];
extern const size_t rom_multiboot_size;

#endif

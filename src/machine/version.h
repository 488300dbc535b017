/* The version that -version, SMBIOS and the Multiboot information show. */
#ifndef MACHINE_VERSION_H
#define MACHINE_VERSION_H

#define CALQUE_VERSION "0.1"

#endif

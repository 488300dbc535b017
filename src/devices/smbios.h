/* SMBIOS tables, handed to firmware through fw_cfg. */
#ifndef DEVICES_SMBIOS_H
#define DEVICES_SMBIOS_H

#include "core/types.h"
#include "devices/fw_cfg.h"

struct smbios_config {
    unsigned cpus;          /* one socket each */
    u32 cpu_signature;      /* CPUID leaf 1 EAX */
    u32 cpu_features;       /* CPUID leaf 1 EDX */
    const char *cpu_vendor; /* as in CPUID leaf 0 */
    const char *cpu_model;  /* marketing name */
    u64 low_ram;            /* bytes of DRAM below 4 GiB */
    u64 high_ram;           /* bytes of DRAM from 4 GiB */
    const u8 *uuid;         /* 16 bytes, in the order of the text form; NULL: unset */
    const char *version;    /* of Calque */
};

/* Adds etc/smbios/smbios-anchor and etc/smbios/smbios-tables. 0 or -errno with a message. */
int smbios_add(struct fw_cfg *f, const struct smbios_config *config);

#endif

/* Built without libvmdk or libvhdi. */
#include "host/disk.h"

#include <stdio.h>
#include <unistd.h>

struct disk *disk_foreign_open(int fd, const struct disk_config *config, enum disk_format format)
{
    fprintf(stderr, "calque: %s %s: %s images not supported by this build; convert it with qemu-img convert -O qcow2\n",
            config->option, config->path, format == DISK_VMDK ? "VMDK" : "VHD");
    close(fd);
    return NULL;
}

/* Finds firmware files and maps the BIOS image. */
#define _GNU_SOURCE
#include "machine/firmware.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/i440fx.h"
#include "machine/loader.h"

#define BIOS_UNIT 0x10000u
#define BIOS_MAX  0x1000000u
#define ISA_SIZE  0x20000u

static const char *const places[] = {
    "/usr/local/share/calque", "/usr/share/calque", "/usr/local/share/seabios", "/usr/share/seabios",
    "/usr/local/share/qemu",   "/usr/share/qemu",   "/usr/lib/ipxe/qemu",
};

/* The path of a readable file called name in dir; NULL: there is none. */
static char *in_directory(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) return NULL;
    if (access(path, R_OK) == 0) return path;
    free(path);
    return NULL;
}

static char *find(const struct options *o, const char *name)
{
    if (access(name, R_OK) == 0) return strdup(name);
    char *path = NULL;
    for (int i = 0; i < o->path_count && !path; i++) path = in_directory(o->paths[i], name);
    const char *dir = getenv("CALQUE_DATADIR");
    if (!path && dir) path = in_directory(dir, name);
    for (size_t i = 0; i < ARRAY_LEN(places) && !path; i++) path = in_directory(places[i], name);
    /* Not found: let the open say why. */
    return path ? path : strdup(name);
}

bool firmware_read(struct firmware *f, const struct options *o, const char *name, size_t max)
{
    char *path = find(o, name);
    f->data = path ? loader_read_file(path, "firmware", max, &f->size) : NULL;
    free(path);
    return f->data != NULL;
}

bool firmware_exists(const struct options *o, const char *name)
{
    char *path = find(o, name);
    bool exists = path && access(path, R_OK) == 0;
    free(path);
    return exists;
}

void firmware_free(struct firmware *f)
{
    free(f->data);
    f->data = NULL;
}

bool firmware_check_bios(const struct firmware *f, const char *name)
{
    if (f->size && f->size % BIOS_UNIT == 0 && f->size <= BIOS_MAX) return true;
    fprintf(stderr, "calque: firmware %s: %zu bytes are not a BIOS image (a multiple of 64 KiB, up to 16 MiB)\n", name,
            f->size);
    return false;
}

void firmware_map_bios(const struct firmware *f, struct bus *memory, struct ram *ram)
{
    u64 at = ram_alloc(ram, f->size);
    memcpy(ram->host + at, f->data, f->size);
    u64 isa = MIN(f->size, (size_t)ISA_SIZE);
    bus_add_ram(memory, "bios", 0x100000000ull - f->size, f->size, I440FX_PRIORITY_DRAM, ram, at, true);
    bus_add_ram(memory, "isa-bios", 0x100000 - isa, isa, I440FX_PRIORITY_DRAM, ram, at + f->size - isa, true);
}

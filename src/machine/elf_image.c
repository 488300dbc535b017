/* ELF executables for i386 and x86-64: their segments at their physical addresses.
 *
 * References: [ELF] System V ABI, chapters 4 and 5; [PVH] Xen public/elfnote.h for the entry note. */
#include "machine/loader.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/boot_block.h"

#define NOTE_PHYS32_ENTRY 18

/* A program header, of either class. */
struct segment_header {
    u32 type;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};

static int bad(const char *path, const char *why)
{
    fprintf(stderr, "calque: kernel %s: %s\n", path, why);
    return -EINVAL;
}

bool elf_image_is(const u8 *file, size_t size) { return size >= SELFMAG && !memcmp(file, ELFMAG, SELFMAG); }

static struct segment_header read_header(const u8 *p, bool is_64)
{
    struct segment_header h;
    if (is_64) {
        Elf64_Phdr ph;
        memcpy(&ph, p, sizeof(ph));
        h = (struct segment_header){ph.p_type, ph.p_offset, ph.p_vaddr, ph.p_paddr, ph.p_filesz, ph.p_memsz, ph.p_align};
    } else {
        Elf32_Phdr ph;
        memcpy(&ph, p, sizeof(ph));
        h = (struct segment_header){ph.p_type, ph.p_offset, ph.p_vaddr, ph.p_paddr, ph.p_filesz, ph.p_memsz, ph.p_align};
    }
    return h;
}

/* The entry point in a PT_NOTE segment, 0: it has none. */
static u64 find_pvh_note(const u8 *notes, u64 size, u64 align)
{
    u64 mask = align == 8 ? 7 : 3;
    while (size >= 12) {
        u64 name_size = loader_get32(notes), desc_size = loader_get32(notes + 4);
        u64 desc = 12 + ((name_size + mask) & ~mask);
        if (align == 8) desc = (12 + name_size + mask) & ~mask;
        u64 next = (desc + desc_size + mask) & ~mask;
        if (desc + desc_size > size) return 0;
        if (loader_get32(notes + 8) == NOTE_PHYS32_ENTRY && name_size == 4 && !memcmp(notes + 12, "Xen", 4) &&
            desc_size >= 4)
            return desc_size >= 8 ? loader_get64(notes + desc) : loader_get32(notes + desc);
        if (next >= size) return 0;
        notes += next;
        size -= next;
    }
    return 0;
}

int elf_image_check_place(const char *path, u64 base, u64 size, u64 limit)
{
    u64 end = base + size;
    if (end < base || end > limit) return bad(path, "does not fit into the guest's memory");
    if (base < BOOT_BLOCK_ADDRESS + sizeof(struct boot_block))
        return bad(path, "wants memory that the boot ROM needs (below 0x2800)");
    if (base < 0x100000 && end > 0x9f000) return bad(path, "wants memory that firmware needs (0x9f000-0xfffff)");
    return 0;
}

int elf_image_load(struct elf_image *e, const char *path, const u8 *file, size_t size, u64 limit)
{
    memset(e, 0, sizeof(*e));
    if (size < EI_NIDENT) return bad(path, "the ELF image is truncated");
    e->is_64 = file[EI_CLASS] == ELFCLASS64;
    if ((!e->is_64 && file[EI_CLASS] != ELFCLASS32) || file[EI_DATA] != ELFDATA2LSB)
        return bad(path, "an ELF image of another machine");

    u64 table, entry;
    unsigned count, step, machine;
    if (e->is_64) {
        Elf64_Ehdr eh;
        if (size < sizeof(eh)) return bad(path, "the ELF image is truncated");
        memcpy(&eh, file, sizeof(eh));
        table = eh.e_phoff, entry = eh.e_entry, count = eh.e_phnum, step = eh.e_phentsize, machine = eh.e_machine;
        if (count && step < sizeof(Elf64_Phdr)) return bad(path, "a bad ELF image");
    } else {
        Elf32_Ehdr eh;
        if (size < sizeof(eh)) return bad(path, "the ELF image is truncated");
        memcpy(&eh, file, sizeof(eh));
        table = eh.e_phoff, entry = eh.e_entry, count = eh.e_phnum, step = eh.e_phentsize, machine = eh.e_machine;
        if (count && step < sizeof(Elf32_Phdr)) return bad(path, "a bad ELF image");
    }
    if (machine != EM_386 && machine != EM_X86_64) return bad(path, "an ELF image of another machine");
    if (table > size || (u64)count * step > size - table) return bad(path, "the ELF image is truncated");

    /* Where does it all go? */
    u64 low = UINT64_MAX, high = 0;
    e->entry = entry;
    for (unsigned i = 0; i < count; i++) {
        struct segment_header h = read_header(file + table + (u64)i * step, e->is_64);
        if (h.type != PT_LOAD && h.type != PT_NOTE) continue;
        if (h.offset > size || h.filesz > size - h.offset) return bad(path, "the ELF image is truncated");
        if (h.type == PT_NOTE) {
            if (!e->pvh_entry) e->pvh_entry = find_pvh_note(file + h.offset, h.filesz, h.align);
            continue;
        }
        if (!h.memsz) continue;
        if (h.filesz > h.memsz || h.paddr + h.memsz < h.paddr) return bad(path, "a bad ELF image");
        low = MIN(low, h.paddr);
        high = MAX(high, h.paddr + h.memsz);
        if (entry >= h.vaddr && entry - h.vaddr < h.memsz) e->entry = entry - h.vaddr + h.paddr;
    }
    if (low >= high) return bad(path, "the ELF image has nothing to load");
    int err = elf_image_check_place(path, low, high - low, limit);
    if (err) return err;

    e->base = low;
    e->size = high - low;
    e->data = calloc(1, e->size);
    if (!e->data) return bad(path, "out of memory");
    for (unsigned i = 0; i < count; i++) {
        struct segment_header h = read_header(file + table + (u64)i * step, e->is_64);
        if (h.type == PT_LOAD && h.memsz) memcpy(e->data + (h.paddr - low), file + h.offset, h.filesz);
    }
    return 0;
}

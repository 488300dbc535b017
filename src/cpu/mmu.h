/* Segmentation and paging: linear and physical addresses, and guest memory accesses by linear address. */
#ifndef CPU_MMU_H
#define CPU_MMU_H

#include "cpu/cpu.h"

/* What kind of access... */
#define ACC_READ  0u
#define ACC_WRITE 1u
#define ACC_EXEC  2u
/* ... and on whose behalf: by default at the current CPL. */
#define ACC_SUPER    4u  /* explicit supervisor access whatever the CPL (pushes on an inner stack) */
#define ACC_IMPLICIT 8u  /* implicit supervisor access: GDT, LDT, IDT, TSS (SDM vol 3A 4.6.1) */
#define ACC_AS_USER  16u /* as if CPL were 3 */

/* #PF error code bits, SDM vol 3A 4.7. */
#define PF_P    0x01u
#define PF_W    0x02u
#define PF_U    0x04u
#define PF_RSVD 0x08u
#define PF_I    0x10u
#define PF_PK   0x20u

/* The TLB's context of an access: ACC_IMPLICIT goes before ACC_SUPER, and both before ACC_AS_USER. */
static inline unsigned mmu_context(const struct cpu *cpu, unsigned acc)
{
    if (!(acc & (ACC_SUPER | ACC_IMPLICIT | ACC_AS_USER))) return cpu->mode_key >> 2 & 3;
    if (!(acc & (ACC_SUPER | ACC_IMPLICIT))) return TLB_USER;
    if (!(cpu->cr4 & CR4_SMAP)) return TLB_SUPERVISOR;
    return (acc & ACC_IMPLICIT) || !(cpu->eflags & EFLAGS_AC) ? TLB_SUPERVISOR_SMAP : TLB_SUPERVISOR;
}

/* Linear to physical for one byte. False: #PF is recorded (CR2 is set when it is delivered... at once here). */
bool mmu_translate(struct cpu *cpu, gla lin, unsigned acc, gpa *out);
/* The same, without side effects (no A/D bits, no fault): for the debugger and the log. */
bool mmu_probe(struct cpu *cpu, gla lin, gpa *out);

/* size bytes of RAM, in one page, were stored to by the vCPU itself otherwise than through its TLB: code may have changed. same: the
 * bytes were there before. */
void cpu_stored(struct cpu *cpu, u64 offset, unsigned size, bool same);

/* For translated code: put the page into the TLB for an access (ACC_READ, ACC_WRITE or ACC_EXEC) at the current privilege. False: not to
 * be had that way (a fault, a device, a page that takes a look at each access, or it was there already). Runs while the
 * guest's vector state is live (fpu_live.h), and saves it when it must. */
bool mmu_fill(struct cpu *cpu, gla lin, unsigned acc);
/* Large pages around a linear address, one after the other with this addend, that may be accessed (ACC_READ or ACC_WRITE)
 * without the TLB as long as nothing is flushed. False: the address is not in one. */
bool mmu_large(struct cpu *cpu, gla lin, u64 addend, unsigned acc, gla *start, u64 *size);
/* Global pages around a linear address, one after the other with this addend, that may be read, whether they were read before or not; as
 * long as none of them is flushed. False: there are none. */
bool mmu_mapped(struct cpu *cpu, gla lin, u64 addend, gla *start, u64 *size);
/* After that: plain RAM that may be written at the current privilege, except that its page may hold code; or NULL. Likewise. */
u8 *mmu_writable(struct cpu *cpu, gla lin);

/* One page's part of an access. */
struct mmu_piece {
    gpa phys;            /* valid where there is no host address */
    struct bus_target t; /* ram is NULL where a write leaves nothing to note: no code page, already dirty */
};
/* False: #PF is recorded. Runs while the guest's vector state is live, too. */
bool mmu_resolve(struct cpu *cpu, gla lin, unsigned acc, struct mmu_piece *p);

/* Accesses by linear address (lin.c), any size and alignment, possibly crossing a page. Both pages are checked before anything is
 * written. False: an exception is recorded (#PF; #GP(0) when not canonical). No alignment check (#AC). */
bool lin_read(struct cpu *cpu, gla lin, void *buf, unsigned size, unsigned acc);
bool lin_write(struct cpu *cpu, gla lin, const void *buf, unsigned size, unsigned acc);
/* Check that a later write of [lin, lin + size) cannot fault. */
bool lin_probe_write(struct cpu *cpu, gla lin, unsigned size, unsigned acc);

/* Segment checks of an access of size bytes at seg:offset (limit, type, canonical, and #AC): the linear address in *lin.
 * False: #GP(0)/#SS(0)/#AC(0) is recorded. Follows the current mode's rules. */
bool seg_linear(struct cpu *cpu, unsigned seg, u64 offset, unsigned size, bool write, gla *lin);

/* seg_linear() and lin_*(), at the current CPL. */
bool seg_read(struct cpu *cpu, unsigned seg, u64 offset, void *buf, unsigned size);
bool seg_write(struct cpu *cpu, unsigned seg, u64 offset, const void *buf, unsigned size);

/* TLB maintenance. */
void tlb_flush_all(struct cpu *cpu);
void tlb_flush_page(struct cpu *cpu, gla lin);
/* 64-bit code of this context (TLB_*) gave way to other code: translated 32-bit code relies on finding no address above 4 GiB. */
void tlb_forget_context(struct cpu *cpu, unsigned context);
/* CR3 was loaded: go on in this address space (0 without CR4.PCIDE), with what is known of it if `keep`. Global pages stay. */
void tlb_switch_space(struct cpu *cpu, unsigned pcid, bool keep);
/* Everything but global pages: of one address space, of all. */
void tlb_flush_space(struct cpu *cpu, unsigned pcid);
void tlb_flush_spaces(struct cpu *cpu);
/* Forget what the translator's accesses found last (struct tlb_recent). */
void tlb_forget_recent(struct cpu *cpu);
/* The page at this RAM offset now holds code: stores to it must take the slow path. */
void tlb_protect_code(struct cpu *cpu, u64 ram_offset);

/* The physical memory map changed: forget which host memory is behind it (besides tlb_flush_all()). */
void mmu_forget_map(struct cpu *cpu);

/* PAE: load the four PDPTEs from CR3 (after MOV CR3, or CR0/CR4 changes that turn PAE paging on).
 * False: reserved bits, #GP(0) is recorded and nothing is changed. */
bool mmu_load_pdptes(struct cpu *cpu, u64 cr3);

/* Bits of a physical address; CPUID 0x80000008 reports it. */
#define PHYS_BITS 40
#define PHYS_MASK ((1ull << PHYS_BITS) - 1)

static inline bool canonical(u64 a) { return (u64)((s64)(a << 16) >> 16) == a; }

#endif

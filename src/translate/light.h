/* Light functions: what translated code calls without giving up the host's vector registers, which may hold the guest's
 * (cpu/fpu_live.h): a call costs no more than the registers that any C function may change. A file with such functions is in
 * CMakeLists.txt's list of general-register files. When one has to do more, it calls fpu_save(), and the code that called
 * it must not count on the live state any more. */
#ifndef TRANSLATE_LIGHT_H
#define TRANSLATE_LIGHT_H

#include "cpu/cpu.h"

/* Arguments: T_B, T_A. The result is left in T_A; see emit_light(). */
typedef u64 light_fn(struct cpu *cpu, u64 addr, u64 a);

/* After a TLB miss at linear address `addr`: 1 when the probe will succeed now, else 0. a: ACC_READ, ACC_WRITE, or FILL_DIRTY for a
 * page to be written only after what may fault: found if it is known to have been written before, so that it need not be marked. */
#define FILL_DIRTY 0x100u
light_fn light_fill;
/* A shared probe has missed: the addend of this address. a: ACC_READ or ACC_WRITE; above bit 8 the number of bytes; above bit 16 what
 * they must be aligned to, less 1. If there is none, or for this access only, the caller goes on elsewhere (struct probe_site). */
light_fn light_probe;
/* addr: a struct look, in the executable view, that misses. Decides whether it goes on looking. The page's addend. */
light_fn light_missed;
/* The same for one at a range of what kernels have mapped for long (tlb.h); a: the addend of cpu->lin. Decides where it looks on. */
light_fn light_unmapped;
/* a is the host address of GS's base, found by an access to page `addr` from there, | 256 if for writing: remembered for more of them.
 * Returns it. */
light_fn light_gs_page;
/* Before instructions that need the vector state live: addr is what, FPU_*. Non-zero: it is. */
light_fn light_fpu_load;
/* PAUSE. */
light_fn light_pause;
/* A call is below return_limit: make it fit. Non-zero: there are events. */
light_fn light_limit;
/* addr: a struct link, in the executable view. The host code of its target, page_rip set, the jump patched; or 0: cpu->rip is set,
 * and an exception recorded if the target cannot be an address. */
light_fn light_link;
/* addr: a RIP. Its jump_entry with translated code, or 0. */
light_fn light_find;

#endif

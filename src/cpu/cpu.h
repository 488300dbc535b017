/* One virtual CPU: architectural state, its hooks into the machine, and its event lines. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/types.h"
#include "cpu/engine.h"
#include "cpu/insn.h"
#include "cpu/tlb.h"

enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI, R_8, R_9, R_10, R_11, R_12, R_13, R_14, R_15 };

/* Exception vectors, Intel SDM vol 3A table 6-1. */
enum {
    EXC_DE, EXC_DB, EXC_NMI, EXC_BP, EXC_OF, EXC_BR, EXC_UD, EXC_NM, EXC_DF,
    EXC_TS = 10, EXC_NP, EXC_SS, EXC_GP, EXC_PF, EXC_MF = 16, EXC_AC, EXC_MC, EXC_XM, EXC_VE, EXC_CP,
};

/* EFLAGS outside the arithmetic flags. */
#define EFLAGS_TF   0x00000100u
#define EFLAGS_IF   0x00000200u
#define EFLAGS_DF   0x00000400u
#define EFLAGS_IOPL 0x00003000u
#define EFLAGS_NT   0x00004000u
#define EFLAGS_RF   0x00010000u
#define EFLAGS_VM   0x00020000u
#define EFLAGS_AC   0x00040000u
#define EFLAGS_VIF  0x00080000u
#define EFLAGS_VIP  0x00100000u
#define EFLAGS_ID   0x00200000u
#define EFLAGS_ARITH 0x000008d5u

#define CR0_PE 0x00000001u
#define CR0_MP 0x00000002u
#define CR0_EM 0x00000004u
#define CR0_TS 0x00000008u
#define CR0_ET 0x00000010u
#define CR0_NE 0x00000020u
#define CR0_WP 0x00010000u
#define CR0_AM 0x00040000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u

#define CR4_VME        0x00000001u
#define CR4_PVI        0x00000002u
#define CR4_TSD        0x00000004u
#define CR4_DE         0x00000008u
#define CR4_PSE        0x00000010u
#define CR4_PAE        0x00000020u
#define CR4_MCE        0x00000040u
#define CR4_PGE        0x00000080u
#define CR4_PCE        0x00000100u
#define CR4_OSFXSR     0x00000200u
#define CR4_OSXMMEXCPT 0x00000400u
#define CR4_UMIP       0x00000800u
#define CR4_LA57       0x00001000u
#define CR4_FSGSBASE   0x00010000u
#define CR4_PCIDE      0x00020000u
#define CR4_OSXSAVE    0x00040000u
#define CR4_SMEP       0x00100000u
#define CR4_SMAP       0x00200000u
#define CR4_PKE        0x00400000u

#define DEBUG_STEP 0x40u /* in cpu->pending_debug: a single step (DR6.BS >> 8) */

#define EFER_SCE 0x001u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u

/* Segment attributes: descriptor bits 40..55 (SDM vol 3A 3.4.5). An unusable (null) segment has P clear. */
#define SEG_TYPE  0x000fu
#define SEG_S     0x0010u
#define SEG_DPL   0x0060u
#define SEG_P     0x0080u
#define SEG_AVL   0x1000u
#define SEG_L     0x2000u
#define SEG_DB    0x4000u
#define SEG_G     0x8000u

struct segment {
    u16 selector; /* visible part */
    u16 attr;     /* SEG_* */
    u32 limit;    /* bytes, granularity already applied */
    u64 base;
};

struct descriptor_table {
    u64 base;
    u32 limit; /* bytes, inclusive */
};

/* What a segment register allows, in the form the access fast path wants; derived by cpu_update_mode(). */
struct segment_window {
    u64 base;        /* added to the offset (0 in 64-bit mode but for FS, GS) */
    u64 read_end;  /* offset + size must not exceed it; 0: always take the slow path */
    u64 write_end; /* likewise for writes */
};

/* XSAVE standard-format area: legacy FXSAVE image, header, AVX upper halves, PKRU. */
struct xsave_area {
    u8 legacy[512];   /* SDM vol 1 table 10-2 */
    u8 header[64];    /* XSTATE_BV, XCOMP_BV */
    u8 ymm_high[256]; /* at 576: upper 128 bits of YMM0..15 */
    u8 reserved[1856]; /* up to offset 2688, where the host's layout has PKRU */
    u8 pkru[8];
} __attribute__((aligned(64)));

/* Pending exception. */
struct exception {
    s16 vector;     /* -1: none */
    u8 has_error;   /* an error code is pushed */
    u32 error_code;
};

/* Asynchronous event bits in cpu->events. */
#define EVENT_INTR       0x001u /* the interrupt line is asserted (level) */
#define EVENT_NMI        0x002u
#define EVENT_INIT       0x004u
#define EVENT_SIPI       0x008u /* vector in cpu->sipi_vector */
#define EVENT_SMI        0x010u
#define EVENT_KICK       0x020u /* leave run() */
#define EVENT_TLB_FLUSH  0x040u /* the physical memory map changed */
#define EVENT_INVALIDATE 0x080u /* engine: queued code invalidation */
#define EVENT_RESET      0x100u /* machine reset requested: leave run() */
#define EVENT_NMI2       0x400u /* a second NMI came before the first was taken: cpu_raise_nmi() */
#define EVENT_STEP       0x200u /* engine-internal: single step, debug traps or shadow to look at */

/* What the CPU needs from the machine around it. Hooks are called on the vCPU's thread; those marked L with
 * the machine lock taken by the caller. */
struct cpu_hooks {
    void *opaque;
    void (*lock)(void *opaque);   /* take the machine lock (device accesses) */
    void (*unlock)(void *opaque);
    u64 (*tsc)(void *opaque);     /* TSC ticks since power-on, before TSC_ADJUST/offset */
    const struct clock_scale *scale; /* the same, but for cpu->tsc_zero; NULL: only tsc() knows */
    int (*ack_interrupt)(void *opaque);                     /* L: vector 0..255, or -1 when it went away */
    bool (*apic_msr_read)(void *opaque, u32 msr, u64 *value); /* L: 0x1b, 0x800..0x83f, 0x6e0; false: #GP */
    bool (*apic_msr_write)(void *opaque, u32 msr, u64 value); /* L */
    u64 (*cr8_read)(void *opaque);                          /* L: TPR class */
    void (*cr8_write)(void *opaque, u64 value);             /* L */
    void (*ferr)(void *opaque, int level);                  /* L: FERR# output (IRQ13) when CR0.NE is 0 */
    u32 (*apic_id)(void *opaque);                           /* for CPUID */
};

/* What a call in translated code leaves on the host's stack, which is cpu->returns[] there: where its return goes on. */
struct return_entry {
    void *host; /* in the caller's translated code, ... */
    u64 rip;    /* ... if the guest's stack says this */
};
#define CODE_SEGMENTS 1024u /* that segmented code can run in before all is forgotten */
#define RETURN_ENTRIES 1024u
#define RETURN_ROOM    8u /* below them: for what translated code calls by the way */
#define RETURN_NONE    4u /* above them: a return to 0 goes on at cpu->return_other */
#define CODE_SEEN_WORDS 256u

/* cpu->mode_key: enum code_size in bits 0-1, the TLB context in bits 2-3, and: */
#define MODE_FLAT 0x10u /* translated code may ignore ES, SS, DS and the limit of CS, and alignment checks */
#define MODE_RING0 0x40u /* CPL 0: privileged instructions need no check */
/* Without MODE_FLAT, but in 64-bit code: */
#define MODE_STACK32 0x20u /* SS.B: the stack pointer is ESP, else SP */
#define MODE_64K     0x80u /* ES, SS and DS may be read and written up to 64 KiB at least, and start at multiples of 16 */

struct store_log;
struct cpu_model; /* what CPUID reports; cpuid.h */

struct cpu {
    /* ---- general state ---- */
    u64 regs[18];  /* RAX..R15, [REG_ZERO] = 0, [REG_RIP] = block_rip (so that RIP-relative = plain base) */
    u64 rip;       /* EIP/RIP; exact only outside a block, else insn_rip() */
    u64 block_rip; /* RIP of the first instruction of the running block */
    u16 aflags;    /* arithmetic flags as LAHF and SETO AL leave them: AH = SF ZF 0 AF 0 PF 1 CF, AL = OF (0 or 1) */
    u16 aflags_pending; /* with AFLAG_PENDING in aflags: see translate/flags.c */
    u8 cpl;
    u8 code_size;  /* enum code_size, from CS and EFER */
    u32 eflags;    /* all flags but EFLAGS_ARITH; bit 1 set */
    u64 lin_mask;  /* linear addresses: 0xffffffff, or all ones in 64-bit mode */
    u64 ip_mask;   /* instruction pointer: 0xffff, 0xffffffff or all ones */
    struct segment seg[SEG_COUNT];
    struct segment ldtr, tr;
    struct descriptor_table gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, xcr0;
    u64 dr[8];     /* DR4/5 unused */
    u64 efer, star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, misc_enable, tsc_offset, tsc_adjust, spec_ctrl;
    u64 tsc_zero;  /* the clock's time at power-on */
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    u64 mcg_status, mcg_ctl, mc_bank[40];
    u64 smbase;
    u32 pkru;
    struct xsave_area fpu; /* x87, MMX, SSE, AVX state; kept in memory by the interpreter */
    u64 pdpte[4];          /* PAE: loaded with CR3 (SDM vol 3A 4.4.1) */

    /* ---- derived state: recompute with cpu_update_mode() ---- */
    struct segment_window win[SEG_COUNT];
    u8 mode_key;           /* what decoded and translated code depends on: MODE_* */
    bool plain_real;       /* loads of segment registers change selectors and bases, nothing else: real or V86 mode, 16-bit, MODE_64K */
    u64 code_limit;        /* highest valid instruction offset: CS limit, or all ones in 64-bit mode */
    struct tlb *tlb;       /* the part of tlbs[] for the current privilege, SMAP and AC */

    /* ---- execution ---- */
    struct exception exc;  /* set by raise_*(), taken by deliver_exception() */
    u8 shadow;             /* interrupts inhibited after STI (1) or MOV SS (2) until after the next instruction */
    bool unfinished;       /* a repeated string instruction was left between two elements: its interrupt is pushed with RF */
    bool halted;           /* HLT */
    bool wait_sipi;        /* application processor before SIPI, or after INIT */
    bool shutdown;         /* triple fault */
    bool nmi_blocked;      /* until IRET */
    bool in_exception_delivery; /* error codes get EXT, nested faults become double faults */
    u8 pending_debug;      /* debug traps due after the current instruction: DR6 B0..B3, and DEBUG_STEP */
    bool step;             /* single-instruction mode: TF, breakpoints or shadow need a look */
    u8 watch;              /* DR7 has data (1) or I/O (2) breakpoints enabled */
    u32 events;            /* EVENT_*: __atomic accesses, any thread */
    u32 event_mask;        /* those of EVENT_* that the running block must be left for */
    u8 sipi_vector;
    u32 index;             /* vCPU number */
    struct cpu *const *all; /* with smp: all vCPUs by number, this one too; NULL: not created yet */
    u32 count;             /* of those */
    bool smp;              /* other vCPUs share the memory */
    u8 pauses;             /* PAUSE instructions, modulo 256 */
    u64 pause_since, pause_last; /* the host's TSC at the first and the last of a run of them */
    bool in_guest;         /* run() is executing: __atomic accesses; others read it */
    u64 locked_offset;     /* RAM offset of a locked operation in a page that holds code, to be reported after it */
    u8 locked_size;        /* its bytes; 0: nothing to report */
    struct store_log *log; /* records stores while the translator is checked (store_log.h); else NULL */
    struct tlb tlbs[TLB_CONTEXTS];
    struct tlb2 tlb2;
    struct bus_span spans[2];  /* RAM that page walks met lately; while the map stands */
    u64 code_gen;              /* changes when code may be elsewhere than it was: validates what is kept by linear address */
    u64 code_gen_kernel;       /* the same for CPL 0, whose code usually is in all address spaces */
    bool code_local;           /* CPL 0 may have run code of one address space only: a page that is not global */
    u64 code_gen_last, code_gen_floor; /* the last one given; older ones than this never come back */
    u64 code_key;              /* the one of the current CPL; in bits 46-55 the number of CS, in 56-63 mode_key */
    u64 code_segments[CODE_SEGMENTS]; /* by number: base and limit of CS (code_gen.c); 0: none */
    u64 code_tag;              /* number of the current CS, shifted left by 32; 0: flat or 64-bit code */
    u64 code_seen[CODE_SEEN_WORDS];         /* the linear pages, hashed, that code was looked up in since the floor was raised */
    u64 insn_count;        /* instructions retired (approximately: counted by blocks) */

    /* ---- the translator's ---- */
    u64 page_rip;          /* RIP of the page that translated code runs in */
    u64 lin;               /* linear address that is being looked up in the TLB */
    u64 shared[17];        /* addends that several accesses of a block share (translate/group.c, run.c) */
    u64 compared;          /* what the last comparison with memory has had from there */
    u64 target;            /* of an indirect call, while its return address is pushed */
    u8 fpu_live;           /* fpu_live.h: what of `fpu` is in the host's registers instead */
    u64 x87_page;          /* RIP of the page of the x87's last instruction, while that is live */
    s32 blocks_left;       /* -d check: blocks that may still begin */
    u32 scratch;           /* what is about to be loaded into MXCSR or the x87's control word */
    void *jumps;           /* the block cache's jump_entry table */
    void *host_sp;         /* the stack of the C code around translated code */
    struct return_entry returns[TLB_CONTEXTS][RETURN_ROOM + RETURN_ENTRIES + RETURN_NONE]; /* stacks of what calls expect */
    struct return_entry *return_sp;                  /* the top of the current one, while C code runs... */
    struct return_entry *returns_saved[TLB_CONTEXTS]; /* ... and of the others */
    u64 return_limit[TLB_CONTEXTS]; /* calls below it have something done first: make room, look at events. Any thread may set it */
    u8 returns_context;    /* whose the current one is */
    u8 returns_mode[TLB_CONTEXTS]; /* mode_key of the code in them */
    void *return_other;    /* translated code that leaves for RIP 0; NULL: there are no stacks */

    /* ---- wiring ---- */
    struct bus *mem, *io;
    struct ram *ram;
    const struct cpu_hooks *hooks;
    const struct cpu_model *model;
    const struct engine_ops *engine_ops;
    void *engine; /* the engine's own data */
};

/* ---- life cycle (machine's side) ---- */

/* NULL with a message. The vCPU comes up in reset state; index 0 is the boot processor. */
struct cpu *cpu_create(u32 index, struct bus *mem, struct bus *io, struct ram *ram, const struct cpu_hooks *hooks,
                       const struct cpu_model *model, const struct engine_ops *engine);
void cpu_destroy(struct cpu *cpu);
/* Power-on reset (SDM vol 3A table 9-1), or INIT when init is set. Only while the vCPU does not run. */
void cpu_reset(struct cpu *cpu, bool init);

/* Any thread: raise or clear event bits (and make run() notice). Waking a sleeping thread is the machine's job. */
static inline void cpu_event_set(struct cpu *cpu, u32 bits)
{
    __atomic_fetch_or(&cpu->events, bits, __ATOMIC_SEQ_CST);
    for (unsigned n = 0; n < TLB_CONTEXTS; n++) __atomic_store_n(&cpu->return_limit[n], ~0ull, __ATOMIC_RELEASE);
}
static inline void cpu_event_clear(struct cpu *cpu, u32 bits) { __atomic_fetch_and(&cpu->events, ~bits, __ATOMIC_SEQ_CST); }
/* What an APIC message does to the vCPU; any thread. An INIT drops start-up messages that came before it, and keeps those that
 * come after it, even when it is handled only then. One NMI waits while another is being handled, two while none is. */
void cpu_raise_nmi(struct cpu *cpu);
void cpu_raise_init(struct cpu *cpu);
void cpu_raise_sipi(struct cpu *cpu, u8 vector);
/* PAUSE: the guest may wait for another vCPU, which may need the host CPU this one is on, or, without others, for time to pass; then
 * the thread sleeps for a part of it. Runs while the guest's vector state is live (fpu_live.h). */
void cpu_pause(struct cpu *cpu);
/* The guest has seen a device, or an interrupt: it does not only wait. */
static inline void cpu_pause_ends(struct cpu *cpu) { cpu->pause_last = 0; }
/* A halted vCPU should run again. */
bool cpu_has_work(const struct cpu *cpu);

/* Print all registers, one screen, to f (triple faults, `info registers`, -d cpu). */
struct _IO_FILE;
void cpu_dump(const struct cpu *cpu, struct _IO_FILE *f);

/* ---- state helpers (state.c) ---- */

u32 cpu_get_eflags(const struct cpu *cpu);
/* Set every bit of EFLAGS as given (callers apply their own masks); updates what depends on it. */
void cpu_set_eflags(struct cpu *cpu, u32 value);
/* Recompute win[], masks, code_size, tlb context and step after any change of CPL, segments, CR0, CR4, EFER, EFLAGS.{TF,VM,AC},
 * DR7, or shadow. */
void cpu_update_mode(struct cpu *cpu);

/* ---- code kept by linear address (block.h, the translator) ---- */

/* code_seen is a Bloom filter with three bits a page. */
static inline unsigned code_seen_bit(gla lin, unsigned n)
{
    return (unsigned)((lin >> 12) * 0x9e3779b97f4a7c15ull >> (50 - 14 * n)) % (CODE_SEEN_WORDS * 64);
}
static inline void cpu_code_seen(struct cpu *cpu, gla lin)
{
    for (unsigned n = 0; n < 3; n++) cpu->code_seen[code_seen_bit(lin, n) >> 6] |= 1ull << (code_seen_bit(lin, n) & 63);
}
static inline bool cpu_code_was_seen(const struct cpu *cpu, gla lin)
{
    u64 all = 1;
    for (unsigned n = 0; n < 3; n++) all &= cpu->code_seen[code_seen_bit(lin, n) >> 6] >> (code_seen_bit(lin, n) & 63);
    return all;
}
/* Set up the stacks of expected returns, with return_other. */
void cpu_init_returns(struct cpu *cpu, void *other);
struct return_entry *cpu_returns_base(struct cpu *cpu, unsigned context);
/* Set return_limit[] to what the stacks need: until the next event. */
void cpu_limit_returns(struct cpu *cpu);
/* No return is predicted any more; of this context. These and what follows run while the guest's vector state is live (fpu_live.h). */
void cpu_forget_returns(struct cpu *cpu);
void cpu_empty_returns(struct cpu *cpu, unsigned context);
/* Linear addresses may lead to other code from now on, in all address spaces. */
void cpu_code_flush(struct cpu *cpu);
/* CS has another base or limit. */
void cpu_code_segment(struct cpu *cpu);
/* mode_key has changed, or CS; context: that of the TLB. */
void cpu_code_mode(struct cpu *cpu, unsigned context);
/* Another address space: code_gen becomes `gen`, which it was when that was left, with nothing changed in it since; 0: a new one. */
void cpu_code_switch(struct cpu *cpu, u64 gen);

static inline bool cpu_protected(const struct cpu *cpu) { return cpu->cr0 & CR0_PE; }
static inline bool cpu_v86(const struct cpu *cpu) { return cpu->eflags & EFLAGS_VM; }
static inline bool cpu_long(const struct cpu *cpu) { return cpu->efer & EFER_LMA; } /* IA-32e, either submode */
static inline bool cpu_code64(const struct cpu *cpu) { return cpu->code_size == CODE_64; }
static inline unsigned cpu_iopl(const struct cpu *cpu) { return cpu->eflags >> 12 & 3; }

#endif

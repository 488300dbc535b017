/* Descriptors, segment register loads, and the stacks that privilege changes use. For the protected-mode
 * files only. */
#ifndef CPU_SEGMENT_H
#define CPU_SEGMENT_H

#include "cpu/exec.h"

/* An unpacked segment or system descriptor. Bits of attr as in struct segment. */
struct descriptor {
    u64 raw;  /* the eight bytes as they are in the table */
    gla addr; /* where they are */
    u64 base;
    u32 limit; /* bytes, granularity applied */
    u16 attr;
};

/* System descriptor types, SDM vol 3A table 3-2: attr & (SEG_S | SEG_TYPE). */
enum {
    SYS_TSS16_AVAIL = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INT16 = 6,
    SYS_TRAP16 = 7,
    SYS_TSS_AVAIL = 9,
    SYS_TSS_BUSY = 11,
    SYS_CALL = 12,
    SYS_INT = 14,
    SYS_TRAP = 15,
};

static inline unsigned seg_dpl(u16 attr) { return attr >> 5 & 3; }
static inline bool seg_is_code(u16 attr) { return (attr & (SEG_S | 8)) == (SEG_S | 8); }
static inline bool seg_is_conforming(u16 attr) { return (attr & (SEG_S | 8 | 4)) == (SEG_S | 8 | 4); }
static inline bool seg_is_writable(u16 attr) { return (attr & (SEG_S | 8 | 2)) == (SEG_S | 2); }
/* Data, or code that may be read. */
static inline bool seg_is_readable(u16 attr) { return (attr & SEG_S) && (!(attr & 8) || (attr & 2)); }
static inline unsigned sys_type(u16 attr) { return attr & (SEG_S | SEG_TYPE); }

static inline bool selector_null(u16 selector) { return (selector & 0xfffc) == 0; }
static inline bool raise_sel(struct cpu *cpu, int vector, u16 selector)
{
    return raise_err(cpu, vector, selector & 0xfffcu);
}

/* Fetch a descriptor. Beyond its table: vector(selector) is recorded. */
bool descriptor_read(struct cpu *cpu, u16 selector, int vector, struct descriptor *d);
/* The same for LAR and the like: beyond the table *valid is false; returns false only for a page fault. */
bool descriptor_lookup(struct cpu *cpu, u16 selector, struct descriptor *d, bool *valid);
/* In IA-32e mode, the other eight bytes of an LDT or TSS descriptor: completes d->base. */
bool descriptor_read_high(struct cpu *cpu, u16 selector, int vector, struct descriptor *d);
void descriptor_unpack(struct descriptor *d, u64 raw);
/* Set the accessed bit in the table, if it is clear. */
bool descriptor_set_accessed(struct cpu *cpu, struct descriptor *d);
/* Locked byte operation on a system structure: *addr = (*addr & ~clear) | set. */
bool lin_modify8(struct cpu *cpu, gla addr, u8 clear, u8 set);

/* Put a descriptor into a segment register (no checks, no cpu_update_mode()). */
static inline void segment_set(struct segment *s, u16 selector, const struct descriptor *d)
{
    s->selector = selector;
    s->attr = d->attr;
    s->limit = d->limit;
    s->base = d->base;
}
/* CS and CPL. */
static inline void segment_set_cs(struct cpu *cpu, u16 selector, const struct descriptor *d, unsigned cpl)
{
    segment_set(&cpu->seg[SEG_CS], (u16)((selector & 0xfffc) | cpl), d);
    cpu->cpl = (u8)cpl;
}
/* A null selector in a segment register: the base of FS and GS goes too, as Intel's processors have it. */
static inline void segment_set_null(struct segment *s, u16 selector)
{
    *s = (struct segment){.selector = selector};
}

/* Is rip a valid instruction pointer in the code segment d? False: #GP(0) is recorded. */
bool code_offset_check(struct cpu *cpu, const struct descriptor *d, u64 rip);

/* ES, DS, FS, GS that the new, lower privilege may not use become null (RETF, IRET to an outer level). */
void segments_drop_privileged(struct cpu *cpu);

/* LLDT and LTR. */
bool load_ldtr(struct cpu *cpu, u16 selector, int vector);
bool load_tr(struct cpu *cpu, u16 selector);

/* ---- stacks ---- */

struct stack {
    u64 base;
    u64 mask; /* of the stack pointer */
    u32 limit;
    u16 attr;     /* SEG_* of the stack segment */
    bool flat64;  /* 64-bit mode: no segmentation */
    u32 error;    /* error code of #SS when a push does not fit */
    unsigned acc; /* ACC_SUPER, or 0 for the current CPL */
};

struct stack stack_current(const struct cpu *cpu);
struct stack stack_of(const struct descriptor *ss, u16 selector);
struct stack stack_flat64(void);

/* Push size bytes (in memory order) made of units of that many bytes below sp. All or nothing. */
bool stack_push(struct cpu *cpu, const struct stack *s, u64 sp, const void *frame, unsigned size,
                unsigned unit);
/* Read the n-th unit above the current stack pointer without popping. */
bool stack_peek(struct cpu *cpu, unsigned unit, unsigned n, u64 *value);

/* Inner-level stack from the TSS (legacy format), and the checks of its SS. */
bool tss_inner_stack(struct cpu *cpu, unsigned dpl, u16 *ss, u32 *sp);
bool inner_ss_check(struct cpu *cpu, u16 ss, unsigned dpl, struct descriptor *d);
/* 64-bit TSS: RSP0-2 as slots 0-2, IST1-7 as slots 4-10. */
bool tss_stack64(struct cpu *cpu, unsigned slot, u64 *rsp);

#endif

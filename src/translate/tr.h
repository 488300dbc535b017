/* The translator's own view of a block being translated, shared by its files: translate.c drives; flags.c, access.c, slow.c serve;
 * integer.c, jumps.c and so on translate instructions by subject. */
#ifndef TRANSLATE_TR_H
#define TRANSLATE_TR_H

#include "cpu/decode.h"
#include "translate/emit.h"
#include "translate/form.h"
#include "translate/light.h"
#include "translate/listing.h"
#include "translate/translate.h"

/* Scratch registers, and where guest RSP and R12 live; the other resident guest registers have their own. */
enum { T_A = H_15, T_B = H_14, H_GSP = H_12, H_G12 = H_13 };
#define RESIDENT 13u /* guest registers in host registers; the others stay in cpu->regs */

#define MAX_STUBS 256
#define MAX_MISSES 256
#define MAX_EXITS 10

/* An out-of-line path. */
struct stub {
    u8 *sites[8]; /* jumps to it */
    u8 nsites;
    bool settle;   /* the flags may be pending */
    bool recover;  /* the flags must be recovered and saved first */
    bool restore;  /* the fast path goes on with the guest's flags in the host's */
    u8 rec_len;    /* recovery code */
    u8 rec[24];
    u8 *start;     /* its code */
    u8 fpu;        /* FPU_*: what must be live where the fast path goes on */
    bool leave;    /* ... which is in the block's plain translation */
    u16 span;      /* of a group's or run's probe: nothing has been done of the instruction, which the plain translation does... */
    u8 *code;      /* ... or for a run this code; else 0 and NULL */
    const struct insn *insn;
    u8 *back; /* where the fast path goes on */
};

/* An address as the sum of resident registers, a displacement, and at most one value in memory. */
struct sum {
    struct rm m;     /* resident base and index, displacement */
    struct rm extra; /* what is added from struct cpu */
    bool has_extra;
    bool extra_scaled; /* it is the index, and m.scale applies to it */
    bool half;       /* m is cut to 16 bits before */
    u8 segment;      /* extra is the base of this segment, 1 + SEG_*, whose limit counts; 0: of none */
};

/* A TLB probe's way out: fill the TLB and probe again, or take the stub. */
struct miss {
    struct stub *stub;
    u8 *site;      /* the jump */
    u8 *retry;     /* where to probe again */
    struct sum lin; /* the linear address */
    bool wide;     /* ... as 64 bits */
    bool write;
    u8 *ended;     /* where the probe ends, with the addend in T_A; NULL: no shared probe can do the rest */
    u8 *again;     /* ... and slot: as in struct probe_site */
    u16 size;
    u8 align;
    u8 slot;
};

/* An access whose page is not the recent one that it looks at: the full probe. */
struct other_page {
    struct stub *stub;
    u8 *start, *sites[2], *back; /* of the look; the jumps to it; where to go on */
    struct sum lin;
    u16 size;
    u8 align;
    u16 slot;        /* in tlb.recent[], at these displacements */
    u8 *fields[3];
    bool write, cut; /* cut: the sum is of 32 bits */
    bool run;        /* for all accesses of a run */
    bool gs;         /* instead, it looks at tlb.gs_pages[] */
};

/* A call of a shared probe. */
struct probe_call {
    struct stub *stub;
    u8 *back, *again; /* as in struct probe_site */
    u8 slot;
};

/* Accesses that share a probe (group.c). */
struct group {
    struct sum sum;          /* the first byte, where they are probed */
    s64 lo, hi;              /* displacements that they cover, from what the registers were at `since` */
    u8 align;                /* `lo` must be a multiple of this */
    bool write;
    bool open;               /* the probe is done */
    u8 count, first, last;   /* of the instructions */
    u8 since;                /* the registers do not change from here on, but by what is known */
    u8 probe;                /* before this instruction they are probed */
};
#define GROUP_MAX  16
#define GROUP_RUN  GROUP_MAX /* accesses of a run */
#define GROUP_NONE 0xff

/* An instruction's access to memory. */
struct place {
    u8 base, index, scale, seg; /* guest registers */
    s32 disp;
    struct sum sum;             /* the same */
    unsigned size;
    u8 align;                   /* of how many bytes it must be a multiple */
    bool write;
};

/* Where the guest's flags are. */
struct flags_place {
    bool host;      /* in the host's */
    bool mem;       /* in cpu->aflags */
    bool entry;     /* with mem: nothing has changed them since the block began, and they may be pending; or they are */
    bool carry_mem; /* CF is in cpu->aflags, whatever else is; how to make the flags again relies on it */
    u8 rec_len;     /* recoverable by this code; 0: no */
    u8 rec[24];
    u32 rec_regs;   /* host registers it depends on */
};

/* Flags are left pending. */
struct pending {
    u8 *site;   /* what names emit_pending()'s code for it */
    u8 rec_len; /* how they are made again */
    u8 rec[24];
};

/* Instructions one after the other that share a probe (run.c). */
struct run {
    u8 first, end;  /* of the instructions; behind the last one */
    bool write;
    bool leave;     /* groups are open behind it */
    struct sum sum; /* the first byte that they access, before the run */
    u16 span;       /* ... how many bytes */
    struct stub *stub;                /* of the probe; NULL: it was not emitted */
    struct flags_place before, after; /* behind the probe, and behind the run */
    u8 *back;       /* where that is */
};
#define RUN_MAX 16

/* A direct jump's way out. */
struct exit_jump {
    struct link *link;
    u8 *misses[2]; /* jumps to it besides the link's own */
    u8 *returns;   /* it is a call, whose return goes on here; else NULL */
    bool settle;   /* the flags may be pending */
};

/* A way out of the middle of a trace. */
struct side_exit {
    u8 *site;               /* the jump to it */
    const struct insn *insn; /* that leaves the trace... */
    s32 off;                /* ... for this offset of the page */
    struct flags_place flags; /* there; and what becomes of those that are only in the host's */
    u8 fate;                /* enum flags_fate */
    bool counted;           /* -d check has it leave translated code */
};

/* The end of a block by an indirect jump whose target the jump cache does not have. */
struct find {
    u8 *misses[2];     /* jumps to it: with T_B the RIP; with T_A an entry for it that no longer holds */
    u8 *back;          /* where to go on with the entry in T_A; NULL: the block does not end so */
    struct stub *stub; /* or what else to do; NULL: leave for the RIP, with the stack pointer moved */
    s32 move_sp;       /* by so much */
};

/* A call that has something to do first: light_limit(). */
struct too_low {
    u8 *site, *retry; /* the jump to it; NULL: none. Where to go on */
    struct stub *stub; /* instead, if there are events */
};

/* A return that the call which it belongs to has left no word of. */
struct unexpected {
    u8 *site;          /* the jump to it; NULL: none */
    s32 move_sp;       /* for the stack pointer */
    struct stub *stub; /* what to do if nothing is found */
};

struct tr {
    struct emit e; /* first */
    struct bt *bt;
    struct cpu *cpu;
    struct block *b;      /* what is translated: a block, or... */
    struct block *home;   /* ... the trace of this one; else the same */
    bool is64;
    bool loop, close;     /* it runs again soon, mostly; ... or within very little time */
    bool segmented;       /* neither flat nor 64-bit: the page has its place in CS, block_place(); all segments have a base and a limit */
    bool half_stack;      /* the stack pointer is SP */
    u32 page_rip, limit;  /* segmented: RIP of the page's start; the limit of CS */
    unsigned context;     /* TLB context */
    const struct insn *i; /* being translated */
    s32 align;            /* what emit_address() checks the address for: bytes, a power of two; 0: nothing */
    struct rm at;         /* the probed host address of its memory operand */
    union {
        struct flags_place flags;
        struct { /* the same */
            bool host, mem, entry, carry_mem;
            u8 rec_len, rec[24];
            u32 rec_regs;
        };
    };
    struct pending pending[MAX_EXITS];
    unsigned npending;
    struct stub stubs[MAX_STUBS];
    unsigned nstubs;
    struct miss misses[MAX_MISSES];
    unsigned nmisses;
    struct other_page others[MAX_MISSES];
    unsigned nothers;
    struct probe_call calls[MAX_MISSES];
    unsigned ncalls;
    struct exit_jump exits[MAX_EXITS];
    unsigned nexits;
    struct side_exit sides[2 * MAX_EXITS];
    unsigned nsides;
    struct find find;
    struct imm_site *imms;
    struct too_low too_low;
    struct unexpected unexpected;
    struct listing listing; /* for the log */
    s32 ahead; /* T_B is so much more than cpu->page_rip; 0: it is something else */
    bool poll; /* the block's end must look at events: IF may have been set */
    u8 fpu[BLOCK_MAX + 1]; /* FPU_* that instruction n and those behind it need live */
    u8 fpu_after;          /* ... those behind the one being translated */
    u8 *fpu_site;          /* the block's entry found them not live; NULL: it does not look */
    u8 *fpu_back;          /* where it goes on when they are */
    bool x87_page;         /* cpu->x87_page is set */
    struct group groups[GROUP_MAX + 1]; /* the last one: of the run that is open */
    unsigned ngroups;
    u8 group_of[BLOCK_MAX]; /* of each instruction's memory operand, or GROUP_NONE */
    const struct group *shared; /* whose addend T_A is... */
    u8 *shared_until;      /* ... if the code is at this place */
    struct run runs[RUN_MAX];
    unsigned nruns;
    struct run *run;       /* the one that is open, or done once more out of line; or NULL */
    s32 moved;             /* in it: what the stack pointer has yet to be moved */
    bool plain;            /* this is the block's plain translation, which has no groups */
    u8 *plain_at[BLOCK_MAX];    /* where each instruction is there, ... */
    bool plain_host[BLOCK_MAX]; /* ... and whether the flags are in the host's */
};

static inline void emit_bytes(struct emit *e, const u8 *bytes, unsigned n)
{
    memcpy(e->p, bytes, n);
    e->p += n;
}

static inline u8 *thunk_rw(const struct bt *bt, const u8 *rx) { return bt->code.rw + (rx - bt->code.rx); }

/* ---- registers ---- */

static inline bool resident(unsigned guest) { return guest < RESIDENT; }
static inline unsigned host_reg(unsigned guest) { return guest == R_SP ? H_GSP : guest == R_12 ? H_G12 : guest; }
static inline struct rm guest_mem(unsigned guest) { return rm_cpu(offsetof(struct cpu, regs) + 8 * guest); }
/* The stack pointer becomes that register plus n. */
static inline void emit_set_sp(struct tr *t, unsigned reg, s32 n)
{
    emit_op(&t->e, t->is64 ? E_W : t->half_stack ? E_66 : 0, 0, 0x8d, H_GSP, rm_mem(reg, n));
}
static inline void emit_move_sp(struct tr *t, s32 n) { emit_set_sp(t, H_GSP, n); }
/* What CALL, RET, PUSHF and LEAVE move: 64 bits in 64-bit code, 32 in flat code: the other operand sizes are the handlers' there. */
static inline bool stack_size_ok(const struct tr *t) { return t->segmented || t->i->opsize == (t->is64 ? 8 : 4); }
static inline unsigned size_prefix(unsigned size) { return size == 8 ? E_W : size == 2 ? E_66 : 0; }
/* A register or memory of that size into a register, zero-extended. */
static inline void emit_load_size(struct emit *e, unsigned size, unsigned reg, struct rm rm)
{
    if (size == 2) emit_op(e, 0, 1, 0xb7, reg, rm);
    else emit_op(e, size == 8 ? E_W : 0, 0, 0x8b, reg, rm);
}

/* Equal: it is an address of 64-bit code. Uses T_A. */
static inline void emit_compare_canonical(struct emit *e, unsigned reg)
{
    emit_store(e, reg, rm_reg(T_A));
    emit_shift(e, 4, T_A, 16);
    emit_shift(e, 7, T_A, 16);
    emit_op(e, E_W, 0, 0x3b, T_A, rm_reg((u8)reg));
}

static inline bool in_page(s32 off) { return off >= 0 && off < (s32)GUEST_PAGE_SIZE; }

/* Jumps to later code cannot make a loop by themselves, and need not look at events. */
static inline bool is_forward(const struct tr *t, s32 off) { return off > t->b->offset; }

/* ---- what instructions do (effect.c) ---- */

struct effect {
    u32 written; /* guest registers that it may write, in whole or in part... */
    u8 moved;    /* ... and the one among them that a constant is added to, and nothing else; REG_ZERO: none */
    s64 by;      /* the constant */
    bool faults; /* it may fault */
    bool vector; /* it is not of integers */
};

/* Fill *x for an instruction that does nothing besides to registers, flags (see flags_of()) and its operand in memory. False: it is none,
 * or it does not exist. */
bool effect_of(const struct tr *t, const struct insn *i, struct effect *x);

/* ---- traces (trace.c) ---- */

/* The trace of a block, to be given to it; NULL: it is translated by itself. */
struct block *trace_of(const struct tr *t);
/* The trace goes on after t->i, at t->i[1], wherever that is. */
static inline bool trace_goes_on(const struct tr *t) { return t->i + 1 < t->b->insns + t->b->count; }
/* The ways out of its middle. */
void emit_side_exits(struct tr *t);

/* ---- flags (flags.c) ---- */

/* lahf/seto form into cpu->aflags; host flags stay. Uses T_B. */
void emit_flags_save(struct emit *e);
void emit_flags_restore(struct emit *e);
/* EFLAGS, from cpu->aflags and the others (RF and VM are never set where translated code runs); and cpu->aflags from EFLAGS, which
 * T_A and T_B both are. */
void emit_eflags(struct emit *e, unsigned reg, unsigned scratch);
void emit_set_aflags(struct emit *e);
void flags_to_host(struct tr *t);
/* CF only, before an instruction that makes all the others. */
void flags_carry_to_host(struct tr *t);
void emit_carry(struct emit *e);
void flags_to_mem(struct tr *t);
/* Before an instruction that clobbers the host's flags without meaning to (a TLB probe), and writes host registers `written`;
 * `full`: it then sets all the guest's flags. */
void flags_before(struct tr *t, bool clobbers, u32 written, bool full);
/* After it: what could be recovered from those registers no longer can. */
void registers_written(struct tr *t, u32 written);
/* The guest's flags were just made by host code, all of them or on top of those that were there. */
void flags_made(struct tr *t);
/* What becomes of the flags at this place of the page... */
enum flags_fate {
    FLAGS_LIVE,    /* something reads them, as far as is known */
    FLAGS_PENDING, /* they are overwritten first; until then a fault can be given them if they are left pending */
    FLAGS_DEAD,    /* they are overwritten, and nothing can fault before */
};
enum flags_fate flags_at(struct tr *t, s32 off);
/* Nobody sees what t->i leaves of the flags: instructions that cannot fault overwrite them all. */
bool flags_unseen(const struct tr *t);
/* After t->i comes a conditional jump, and then flags that can be made again out of these host registers may be left pending. */
bool flags_worth(struct tr *t, u32 regs);
/* Leave them pending: to be computed when somebody asks. Only where flags_at() says so. */
void flags_pend(struct tr *t);
/* Save them, leave them pending, or let them go, as the place where the block goes on needs it. */
void flags_leave(struct tr *t, s32 off);
/* The same before a call, which may itself fault and then changes the stack pointer. */
void flags_call(struct tr *t, s32 off);
/* The code that computes pending flags. */
void emit_pending(struct tr *t);
/* On a way out of translated code: compute them if they are pending. Uses T_A and T_B. */
void emit_settle(struct tr *t);

/* ---- out-of-line paths (slow.c) ---- */

/* A path for t->i, from the state of flags and registers that stands now. */
struct stub *new_stub(struct tr *t);
/* Emit a jump to it. */
void stub_from(struct tr *t, struct stub *s, unsigned cc);
/* Emit the jump (not equal) of a TLB probe that missed. A light function (light.h) fills the TLB, then the code at `retry` runs
 * again, with all registers as they are here, but T_A unknown and T_B the linear address; or the stub is taken. */
void stub_miss(struct tr *t, struct stub *s, u8 *retry, const struct sum *lin, bool wide, bool write);
/* The probe has just ended, with the addend in T_A: after a miss, the shared probe may do the rest. */
struct miss *miss_ends(struct tr *t, unsigned size);
void emit_miss(struct tr *t, const struct miss *m);
/* Call a thunk. */
void emit_call(struct tr *t, const u8 *thunk);
/* Here the fast path of the instruction ends, and the slow one comes back. */
void stub_back(struct tr *t, struct stub *s);
void emit_stub(struct tr *t, struct stub *s);
/* Call the handler of t->i, with the flags in memory. */
void emit_handler(struct tr *t);
/* The interpreter's handler in the instruction's place. */
void by_handler(struct tr *t);

/* ---- memory (access.c) ---- */

/* Can the memory operand's address be computed inline? */
bool address_ok(const struct tr *t);
/* The operand of a LEA that computes the offset; false: not in one instruction. */
bool address_rm(const struct tr *t, struct rm *m);
/* The memory operand's offset in its segment, into T_A or T_B; may use the other. */
void emit_offset(struct tr *t, bool wide, unsigned reg);
/* A sum plus a constant into a scratch register. */
void emit_sum(struct tr *t, bool wide, unsigned reg, const struct sum *a, s32 plus);
/* Probe the TLB for the memory operand, for a resident base register + disp on the stack, or for an index register of a string
 * instruction in that segment: T_A becomes part of its host address, which is t->at until the registers in it change. T_B is free
 * again. */
void emit_address(struct tr *t, struct stub *s, unsigned size, bool write);
void emit_stack(struct tr *t, struct stub *s, unsigned base, s32 disp, unsigned size, bool write);
void emit_element(struct tr *t, struct stub *s, unsigned seg, unsigned base, unsigned size, bool write);
/* Probe the page that a register points into, all of it: T_A becomes the addend. */
void emit_probe_run(struct tr *t, struct stub *s, unsigned base, bool write);
/* For BT and its kind with a register for the bit: probe the unit the bit is in, and leave its number there in cpu->target. */
void emit_bit_address(struct tr *t, struct stub *s, bool write);
/* An operand's sum in 64-bit code, or false; the sum with `reg` added to it, as an operand: may change `reg`. */
bool address_sum(const struct tr *t, const struct insn *i, struct sum *a);
struct rm with_register(struct tr *t, unsigned reg, struct rm m);
/* Probe so many bytes at once, up to their addend (and what else there is in memory) in T_A. */
void emit_probe_group(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write);
/* The same for accesses of up to 8 bytes each, by one register. */
void emit_probe_span(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write);
/* What follows the block's own code for its accesses to recent pages. */
void emit_other_page(struct tr *t, const struct other_page *o);
/* Out of line, call the shared probe for a sum, which is of 64 bits or 32 (wide), with t->align; stack: see bt->stack_probes. Where it
 * is possible; T_A becomes the addend, or the stub is taken. */
bool can_call_probe(const struct tr *t, const struct stub *s, unsigned size);
struct probe_call *call_probe(struct tr *t, struct stub *s, const struct sum *a, bool wide, unsigned size, bool write, bool stack);
/* Emit the shared probes. */
void emit_probes(struct bt *bt, struct emit *e);
/* The probed operand must lie in one cache line. Uses T_B. */
void emit_one_line(struct tr *t, struct stub *s, unsigned size);

/* ---- accesses that share a probe (group.c) ---- */

/* Find the block's groups, if they are wanted. */
void group_plan(struct tr *t, bool wanted);
/* Emit the probes that come before instruction n. */
void group_probe(struct tr *t, unsigned n);
/* The group of t->i's memory operand, if it needs no probe of its own, and its address into t->at; flags and T_B stay. */
struct group *group_member(struct tr *t);
void group_address(struct tr *t, struct group *g);
/* There are accesses behind t->i that rely on what was probed before. */
bool groups_open(const struct tr *t);
/* What was probed may not hold any more. */
void groups_close(struct tr *t);
/* T_A still has what it had where t->i began, or what group_address() left there. */
static inline bool shared_held(const struct tr *t) { return t->shared && t->shared_until == t->e.p; }

/* The access of an instruction that can share a probe; that of one that has it by what it is (PUSH, POP, CALL, RET). */
bool groupable(const struct tr *t, const struct insn *i, struct place *p);
bool stack_place(const struct tr *t, const struct insn *i, struct place *p);

/* ---- runs of accesses by one register (run.c) ---- */

/* Find the block's runs. */
void run_plan(struct tr *t);
/* Before instruction n: begin the run that begins there. */
void run_before(struct tr *t, unsigned n);
/* After it: end the run that ends there. */
void run_after(struct tr *t, unsigned n);
/* Whatever comes, the run ends before instruction n. */
void run_end(struct tr *t, unsigned n);
/* Move the stack pointer, or leave that for later in the run. */
void run_move_sp(struct tr *t, s32 n);
/* What the runs' instructions do when the probe finds no page for all. */
void emit_runs_slow(struct tr *t);

/* ---- instructions by subject: false: left to the handler ---- */

/* Any of them. *ended: nothing follows. */
bool translate_insn(struct tr *t, bool *ended);
bool translate_integer(struct tr *t);
bool translate_string(struct tr *t);
bool translate_simd(struct tr *t);
/* Guest registers that such an instruction writes besides its operands; whether its memory operand may share a probe. */
u32 simd_writes(const struct insn *i);
bool simd_groupable(const struct insn *i);
/* The memory operand of an integer instruction may share a probe. */
bool integer_groupable(const struct insn *i);
/* FPU_* that must be live for an instruction translate_simd() takes. */
unsigned simd_needs(const struct tr *t, const struct insn *i);
/* At the entry of the block: have all live that it needs, or let it be interpreted. The second part goes out of line. */
void emit_fpu_entry(struct tr *t);
void emit_fpu_entry_slow(struct tr *t);
/* After C code: have them live again, or leave for the RIP at this page offset. Flags are lost, T_A and T_B too. */
void emit_fpu_again(struct tr *t, unsigned need, s32 off);
/* *ended: nothing follows in the block. */
bool translate_jump(struct tr *t, bool *ended);
bool translate_system(struct tr *t, bool *ended);
bool translate_syscall(struct tr *t, bool *ended);
/* The thunks that it calls, and what they share with others: the mode and the TLB's context become these. Uses T_A. */
void syscall_thunks(struct emit *e, struct bt *bt);
void emit_context(struct emit *e, unsigned from, unsigned to, u8 mode);
/* Look T_B, a RIP, up in the jump cache. T_A becomes its entry, or there is a jump: with T_B the RIP, or T_A an entry for it that no
 * longer holds. */
void emit_find(struct emit *e, u8 *misses[2]);
/* Enter the page of the RIP in the entry T_A. Uses T_B. */
void emit_enter_page(struct emit *e, bool segmented);
/* RIP of a page offset into a register. */
void emit_rip(struct tr *t, unsigned reg, s32 off);
/* Leave translated code for the RIP in T_B. */
void emit_exit_rip(struct tr *t);
/* Below: there may be events, which bt->limit knows. */
void emit_compare_returns(struct tr *t);
/* Leave translated code for this offset from the page's start if there are events; flags are in memory. Uses T_B. */
void emit_poll(struct tr *t, s32 off);
/* Go on at this offset from the page's start, flags in memory (or dead there). */
void emit_go(struct tr *t, s32 off);
/* The same in the mode that cpu->mode_key now has. */
void emit_go_mode(struct tr *t, s32 off);
/* What follows the block's own code for its jumps. */
void emit_ways_out(struct tr *t);

#endif

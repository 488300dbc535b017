/* The oracle: random instruction sequences run on the host's own processor and on an engine, and everything a program
 * can see compared.
 *
 * Both sides see the same 64 KiB window of linear addresses (WINDOW), with code, data and stack pages in it, user
 * accessible, at CPL 3; nothing else is mapped below 4 GiB. A sequence ends with INT3, so that every case, natively and
 * in the engine, ends with an exception; which one, and the whole state at that point, is the result. */
#ifndef ORACLE_H
#define ORACLE_H

#include "core/types.h"
#include "cpu/decode.h"
#include "cpu/insn.h"

/* ---- the window ---- */

#define WINDOW       0x10000000u
#define WINDOW_SIZE  0x10000u
#define WINDOW_PAGES 16u
#define CODE_OFF     0x1000u /* two pages: read, write, execute; the page after them is not mapped */
#define CODE_SIZE    0x2000u
#define DATA_OFF     0x5000u /* four pages: read, write */
#define DATA_SIZE    0x4000u
#define RO_OFF       0x9000u /* one page: read only; after it, nothing */
#define STACK_OFF    0xc000u /* two pages: read, write */
#define STACK_SIZE   0x2000u

enum page_kind { PAGE_NONE, PAGE_RWX, PAGE_RW, PAGE_RO };
enum page_kind window_page(unsigned page);

/* Mapped pages only, in order: what a memory image consists of. */
#define IMAGE_PAGES 9u
#define IMAGE_SIZE  (IMAGE_PAGES * GUEST_PAGE_SIZE)
#define CODE_PAGES  3u /* by bit: the code is what begins it */
/* Offset in the image of a window offset, or -1. */
int image_offset(unsigned window_offset);
/* And back. */
unsigned image_to_window(unsigned image_off);

/* ---- segments ---- */

/* The host's GDT (Linux), and the LDT both sides use. */
#define SEL_CODE32_FLAT 0x23
#define SEL_DATA_FLAT   0x2b
#define SEL_CODE64      0x33
#define SEL_LDT(n)      ((u16)((n) << 3 | 7))
enum {
    LDT_CODE16, /* base WINDOW, limit 64K */
    LDT_DATA16, /* likewise; as a stack segment, 16-bit SP */
    LDT_CODE32, /* base WINDOW, limit 64K */
    LDT_DATA32, /* likewise; as a stack segment, 32-bit ESP */
    LDT_SHORT,  /* data, limit in the middle of the data pages */
    LDT_DOWN,   /* expand-down data */
    LDT_RO,     /* read-only data */
    LDT_XO,     /* execute-only code */
    LDT_ABSENT, /* data, not present */
    LDT_COUNT
};
#define LDT_SHORT_LIMIT 0x6fffu
#define LDT_DOWN_LIMIT  0x5fffu
/* Base, as a program sees it, of a selector that loads (0 for the flat ones). */
u64 selector_base(u16 selector);

/* ---- a case ---- */

struct machine_state {
    u64 regs[16]; /* RAX, RCX, RDX, RBX, RSP, ... */
    u64 rip;      /* offset in CS */
    u64 rflags;
    u16 es, cs, ss, ds, fs, gs;
    u64 fs_base, gs_base;
    u8 legacy[512];   /* FXSAVE image */
    u8 ymm_high[256]; /* upper halves of YMM0..15 */
};

#define MAX_INSNS 64
#define MAX_CODE  704

struct oracle_case {
    u64 index;            /* with the seed, names the case */
    enum code_size mode;
    struct machine_state in;
    unsigned code_off;    /* window offset of the first instruction */
    unsigned code_len;
    u8 code[MAX_CODE];
    unsigned ninsns;
    u16 at[MAX_INSNS];    /* offset of each instruction in code[] */
    u8 len[MAX_INSNS];    /* and its length */
    u16 mnemonic[MAX_INSNS];
    u16 undefined_at[MAX_INSNS + 1]; /* EFLAGS bits that may be anything before instruction k (the last: at the end) */
};

#define VECTOR_TIMEOUT (-1) /* did not end */
#define VECTOR_SYSCALL (-2) /* tried a system call: no result */
#define VECTOR_CRASH   (-3) /* the native side died, or the engine shut down */

struct oracle_result {
    int vector;
    u64 error_code;
    u64 cr2; /* for #PF */
    struct machine_state out;
    bool patched;         /* the code is not as the case had it, but as in the image */
    u32 changed;          /* pages of the image that are not as the case found them, by bit: only they... */
    u8 image[IMAGE_SIZE]; /* ... are here, unless result_complete() added the others */
};

#define BATCH 128u /* cases that share one base image */

/* The window becomes the image, and has the case's code, ... */
void window_fill(u8 *window, const u8 *image);
void window_put_code(u8 *window, const struct oracle_case *c);
/* ... and after the case: what changed goes to the result, and the window is the image again. */
void window_collect(u8 *window, const u8 *image, const struct oracle_case *c, struct oracle_result *r);
/* Do both leave the same memory? (They are of the same case.) */
bool result_same_memory(const struct oracle_result *a, const struct oracle_result *b);
/* The pages that did not change, too. */
void result_complete(struct oracle_result *r, const u8 *image, const struct oracle_case *c);

/* ---- generate.c ---- */

struct cpu_model;
struct generator_options {
    enum code_size mode;
    u64 seed;
    unsigned min_insns, max_insns;
    const char *only;  /* mnemonic, or NULL */
    bool undefined_opcodes; /* also byte strings that decode() refuses */
    const struct cpu_model *model;
};
struct generator;
struct generator *generator_create(const struct generator_options *o);
void generator_destroy(struct generator *g);
/* The data both sides start from, for cases batch * BATCH... */
void generate_image(const struct generator *g, u64 batch, u8 *image);
void generate_case(struct generator *g, u64 index, struct oracle_case *c);
/* How many mnemonics can be generated; whether this one can. */
unsigned generator_mnemonics(const struct generator *g);

/* ---- native.c: the host's processor ---- */

struct native;
/* On the nth of the processors that there are for us, and round again. NULL with a message when the host cannot (no LDT, not x86-64). */
struct native *native_create(unsigned nth);
/* Which of the host's that is. */
unsigned native_processor(const struct native *n);
void native_destroy(struct native *n);
/* The LDT as the host has it. */
const u64 *native_ldt(const struct native *n);
/* Run count (<= BATCH) cases from `image`, each for less than a tenth of a second, or for two when patient; the
 * results stay valid until the next call. 0, or -errno. */
int native_run(struct native *n, const u8 *image, const struct oracle_case *cases, unsigned count, bool patient);
struct oracle_result *native_result(const struct native *n, unsigned k);

/* ---- guest.c: an engine ---- */

struct guest;
struct guest *guest_create(const char *engine, const struct cpu_model *model, const u64 *ldt, unsigned processor);
void guest_destroy(struct guest *g);
/* The data that the cases from now on start from. */
void guest_image(struct guest *g, const u8 *image);
/* Patient: for ten seconds, not for a fifth of one. */
void guest_run(struct guest *g, const struct oracle_case *c, struct oracle_result *r, bool patient);
/* Blocks that the translator has translated; 0: the engine is another. */
u64 guest_translated(const struct guest *g);

#endif

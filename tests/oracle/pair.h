/* Shared by the parts of the pair: pair.c runs and compares, pair_long.c and pair_segments.c make programs.
 */
#ifndef ORACLE_PAIR_H
#define ORACLE_PAIR_H

#include <string.h>

#include "core/bus.h"
#include "cpu/cpu.h"
#include "random.h"

/* Physical memory: LARGE bytes of RAM, so that a large page can show all of it once more; a page of ROM
 * behind. */
#define LARGE   0x200000u
#define ROM_AT  0x50000000ull
#define MMIO_AT 0x40000000ull

enum {
    TABLES = 0x1000, /* of two address spaces: PML4, PDPT, PD, PT each */
    SPACE = 0x4000,  /* bytes of tables of each */
    IDT = 0x9000,
    GDT = 0xa000,
    TSS = 0xa800,
    HANDLERS = 0xc000, /* 16 bytes each */
};

#define MAX_INSNS 4096u

/* What a case runs on. */
struct machine {
    struct ram *ram;
    struct bus *mem, *io;
    struct cpu *cpu;
    struct cpu_hooks hooks;
    u64 seen; /* hash of what the device has been asked */
    int vector;
};

/* The program being made, and how memory is when it starts. */
extern struct rng rng;
extern u8 image[LARGE + GUEST_PAGE_SIZE];
extern u32 at;                         /* where the next instruction goes */
extern u32 starts[MAX_INSNS], nstarts; /* of instructions */

static inline unsigned below(unsigned n) { return rng_below(&rng, n); }
static inline bool percent(unsigned n) { return rng_percent(&rng, n); }
#define PICK(...) ((const u64[]){__VA_ARGS__}[below(sizeof((const u64[]){__VA_ARGS__}) / 8)])

static inline void byte(u64 v) { image[at++] = (u8)v; }
static inline void word(u64 v) { memcpy(image + at, &v, 2), at += 2; }
static inline void dword(u64 v) { memcpy(image + at, &v, 4), at += 4; }
static inline void qword(u64 v) { memcpy(image + at, &v, 8), at += 8; }
static inline void put64(u32 where, u64 v) { memcpy(image + where, &v, 8); }
static inline void begin_here(void)
{
    if (nstarts < MAX_INSNS) starts[nstarts++] = at;
}

/* A kind of program. */
struct kind {
    const char *name;
    enum code_size size;
    void (*generate)(void);
    void (*load)(struct cpu *cpu);
    /* A stop in the handler of this vector: what was pushed, as RIP, CS, flags, SP, SS, error code, and more.
     */
    void (*frame)(const struct machine *m, unsigned vector, u64 frame[12]);
    /* Go on from there at this RIP. */
    void (*go_on)(struct cpu *cpu, const u64 frame[12], u64 rip);
    bool (*strayed)(const struct machine *m); /* it cannot be compared any more; NULL: it always can */
};
extern const struct kind pair_long, pair_real, pair_v86, pair_protected16, pair_protected32;

static inline bool has_error(unsigned v) { return v == 8 || (v >= 10 && v <= 14) || v == 17; }

#endif

/*
 * The benchmark's items: pieces of work of a fixed size, run natively and in guests alike (bench/suite.sh).
 *
 * An item's function does `rounds` rounds and returns a sum over what it computed: the sum keeps the compiler
 * from leaving the work out, and it must come out the same everywhere, which checks the emulator on the way.
 */
#ifndef BENCH_GUEST_ITEM_H
#define BENCH_GUEST_ITEM_H

#include <stddef.h>
#include <stdint.h>

struct item {
    const char *class;                /* the geometric mean that it belongs to */
    const char *name;                 /* as printed and asked for */
    uint64_t (*run)(unsigned rounds); /* the work */
    unsigned rounds;                  /* of a full run: a third of a second or so on a host of 2023 */
    int (*supported)(void);           /* whether the processor can run it, where not all can */
};

/* One array for each class, ended by an item without a name. */
extern const struct item integer_items[], float_items[], memory_items[], call_items[], syscall_items[],
    process_items[], fault_items[], smc_items[];

/* What the program was started as, for items that execute it again with the argument "-n": do nothing. */
extern const char *item_program;

#define NOINLINE __attribute__((noinline, noclone))

/* Where the compiler must assume that memory, and the value, are looked at and changed. */
#define OPAQUE(value) __asm__ volatile("" : "+r"(value) : : "memory")

/* A reproducible sequence (Marsaglia's xorshift with shifts 13, 17, 5). */
static inline uint32_t item_random(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

/* End the program with a message if a system call that must work does not. */
void item_check(int ok, const char *what);

#endif

/* Memory: copies, chains of pointers, scattered and unaligned accesses, within caches and TLBs and beyond. */
#include "item.h"

#include <stdlib.h>
#include <string.h>

/* Zeroed memory that has its pages. */
static void *memory(size_t size)
{
    void *at = malloc(size);
    item_check(at != NULL, "malloc");
    memset(at, 1, size);
    return at;
}

static uint64_t copy(unsigned rounds)
{
    char *from = memory(8 << 20), *to = memory(8 << 20);
    while (rounds--) {
        from[rounds] = (char)rounds;
        memcpy(to, from, 8 << 20);
        OPAQUE(to);
    }
    return (uint64_t)to[3];
}

/* Copies of 8 to 200 bytes, as programs make most of theirs. */
static uint64_t copy_small(unsigned rounds)
{
    static char from[4096], to[4096];
    uint64_t sum = 0;
    for (unsigned n = 0; n < rounds; n++) {
        size_t size = 8 + n * 7 % 193;
        from[n & 255] = (char)n;
        memcpy(to + (n & 1023), from + (n & 511), size);
        sum += (uint8_t)to[(n & 1023) + 5];
    }
    return sum;
}

static uint64_t set(unsigned rounds)
{
    char *to = memory(8 << 20);
    while (rounds--) {
        memset(to, (int)rounds, 8 << 20);
        OPAQUE(to);
    }
    return (uint64_t)to[3];
}

/* Follow a random cycle through `count` slots of 64 bytes. */
static uint64_t chase(size_t count, unsigned rounds)
{
    struct slot {
        struct slot *next;
        char rest[64 - sizeof(void *)];
    } *slots = memory(count * sizeof *slots), *at = slots;
    uint32_t *order = memory(count * sizeof *order), state = 77;
    for (size_t i = 0; i < count; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t i = count - 1; i > 0; i--) {
        size_t other = item_random(&state) % (i + 1);
        uint32_t value = order[i];
        order[i] = order[other];
        order[other] = value;
    }
    for (size_t i = 0; i < count; i++) {
        slots[order[i]].next = &slots[order[(i + 1) % count]];
    }
    while (rounds--) {
        for (int i = 0; i < 1000; i++) {
            at = at->next;
        }
    }
    return (uint64_t)(at - slots);
}

static uint64_t chase_small(unsigned rounds) { return chase(256, rounds); }

static uint64_t chase_large(unsigned rounds) { return chase((32 << 20) / 64, rounds); }

/* A sum over 1 MiB of words. */
static uint64_t sum(unsigned rounds)
{
    uint32_t *words = memory(1 << 20);
    uint64_t total = 0;
    while (rounds--) {
        words[rounds & 1023] = rounds;
        for (size_t i = 0; i < (1 << 20) / sizeof *words; i += 4) {
            total += (words[i] + words[i + 1]) ^ (words[i + 2] + words[i + 3]);
        }
    }
    return total;
}

/* Stores all over 4 MiB. */
static uint64_t scatter(unsigned rounds)
{
    uint32_t *words = memory(4 << 20), state = 31;
    while (rounds--) {
        for (int i = 0; i < 1000; i++) {
            uint32_t random = item_random(&state);
            words[random >> 12] += random;
        }
    }
    return words[12345];
}

/* A word in each page of 64 MiB: more pages than any TLB holds. */
static uint64_t pages(unsigned rounds)
{
    char *at = memory(64 << 20);
    uint64_t total = 0;
    while (rounds--) {
        for (size_t page = 0; page < 16384; page++) {
            total += (uint8_t)++at[page * 4096 + (page & 63) * 64];
        }
    }
    return total;
}

/* Words at odd addresses, some across a page's end. */
static uint64_t unaligned(unsigned rounds)
{
    char *at = memory(65536);
    uint64_t total = 0;
    while (rounds--) {
        for (size_t offset = 1; offset < 65536 - 16; offset += 11) {
            uint64_t value;
            memcpy(&value, at + offset, 8);
            total += value;
            memcpy(at + offset + 3, &total, 8);
        }
    }
    return total;
}

const struct item memory_items[] = {
    {"memory", "copy", copy, 250, NULL},
    {"memory", "copy-small", copy_small, 25000000, NULL},
    {"memory", "set", set, 400, NULL},
    {"memory", "chase-small", chase_small, 150000, NULL},
    {"memory", "chase-large", chase_large, 2000, NULL},
    {"memory", "sum", sum, 3500, NULL},
    {"memory", "scatter", scatter, 60000, NULL},
    {"memory", "pages", pages, 1000, NULL},
    {"memory", "unaligned", unaligned, 50000, NULL},
    {NULL, NULL, NULL, 0, NULL},
};

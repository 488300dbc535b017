/* Code that is written while it runs: what just-in-time compilers, trampolines and old games do. */
#define _GNU_SOURCE
#include "item.h"

#include <string.h>
#include <sys/mman.h>

static uint8_t *code_memory(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    item_check(at != MAP_FAILED, "mmap");
    memset(at, 0x90, size);
    return at;
}

static unsigned call(const uint8_t *code)
{
    unsigned (*entry)(void);
    memcpy(&entry, &code, sizeof entry);
    return entry();
}

/* mov eax, value; add eax, `steps` times a constant; ret. Returns its end. */
static uint8_t *emit(uint8_t *at, uint32_t value, unsigned steps)
{
    *at++ = 0xb8;
    memcpy(at, &value, 4);
    at += 4;
    while (steps--) {
        *at++ = 0x05;
        memcpy(at, &steps, 4);
        at += 4;
    }
    *at++ = 0xc3;
    return at;
}

/* A function written anew at the same place for each call. */
static uint64_t rewrite(unsigned rounds)
{
    uint8_t *code = code_memory(4096);
    uint64_t sum = 0;
    while (rounds--) {
        emit(code, rounds, 8);
        sum += call(code);
    }
    return sum;
}

/* One constant in a loop's code changes now and then: 100 calls, then a store into the instruction. */
static uint64_t patch(unsigned rounds)
{
    uint8_t *code = code_memory(4096);
    uint64_t sum = 0;
    emit(code, 0, 8);
    while (rounds--) {
        memcpy(code + 1, &rounds, 4);
        for (int i = 0; i < 100; i++) {
            sum += call(code);
        }
    }
    return sum;
}

/* A just-in-time compiler's life: functions one after the other into 1 MiB, each called 20 times, then all
 * again. */
static uint64_t compile(unsigned rounds)
{
    enum { SIZE = 1 << 20 };
    uint8_t *code = code_memory(SIZE), *at = code;
    uint64_t sum = 0;
    while (rounds--) {
        if (at > code + SIZE - 256) {
            at = code;
        }
        uint8_t *end = emit(at, rounds, 10 + rounds % 30);
        for (int i = 0; i < 20; i++) {
            sum += call(at);
        }
        at = end;
    }
    return sum;
}

/* Code that counts in a variable on its own page: inc dword [variable]; mov eax, [variable]; ret. */
static uint64_t beside(unsigned rounds)
{
    uint8_t *code = code_memory(4096), *at = code;
    uint32_t counter = 256;
#ifdef __x86_64__
    uint32_t first = counter - 6, second = counter - 12; /* relative to the next instruction */
#else
    uint32_t first = (uint32_t)(uintptr_t)code + counter, second = first;
#endif
    memset(code + counter, 0, 4);
    *at++ = 0xff, *at++ = 0x05;
    memcpy(at, &first, 4);
    at += 4;
    *at++ = 0x8b, *at++ = 0x05;
    memcpy(at, &second, 4);
    at += 4;
    *at = 0xc3;
    uint64_t sum = 0;
    while (rounds--) {
        sum += call(code);
    }
    return sum;
}

const struct item smc_items[] = {
    {"smc", "rewrite", rewrite, 300000, NULL},
    {"smc", "patch", patch, 400000, NULL},
    {"smc", "compile", compile, 200000, NULL},
    {"smc", "data-beside", beside, 100000000, NULL},
    {NULL, NULL, NULL, 0, NULL},
};

/* Calls, returns and jumps through pointers. */
#include "item.h"

#include <setjmp.h>

NOINLINE static unsigned fibonacci(unsigned n)
{
    unsigned result = n < 2 ? n : 0;
    if (n >= 2) {
        result = fibonacci(n - 1);
        OPAQUE(n); /* keeps the compiler from unrolling the recursion */
        result += fibonacci(n - 2);
    }
    return result;
}

static uint64_t fib(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        sum += fibonacci(25);
    }
    return sum;
}

NOINLINE static unsigned leaf_add(unsigned x) { return x + 3; }
NOINLINE static unsigned leaf_xor(unsigned x) { return x ^ 0x5555; }
NOINLINE static unsigned leaf_rotate(unsigned x) { return x << 7 | x >> 25; }
NOINLINE static unsigned leaf_not(unsigned x) { return ~x; }

/* Direct calls of a small function. */
static uint64_t direct(unsigned rounds)
{
    unsigned value = 1;
    while (rounds--) {
        for (int i = 0; i < 1000; i++) {
            value = leaf_add(value);
            value = leaf_rotate(value);
        }
    }
    return value;
}

/* Calls through a table, in a random order. */
static uint64_t indirect(unsigned rounds)
{
    static unsigned (*const table[])(unsigned) = {leaf_add, leaf_xor, leaf_rotate, leaf_not};
    uint32_t state = 41;
    unsigned value = 1;
    while (rounds--) {
        for (int i = 0; i < 1000; i++) {
            value = table[item_random(&state) & 3](value);
        }
    }
    return value;
}

/* Objects with a pointer to their methods, as C++ lays them out: 64 of three kinds in turn. */
struct object;
struct methods {
    unsigned (*get)(const struct object *);
    void (*step)(struct object *);
};
struct object {
    const struct methods *methods;
    unsigned value;
};
NOINLINE static unsigned get_plain(const struct object *object) { return object->value; }
NOINLINE static unsigned get_twice(const struct object *object) { return object->value * 2; }
NOINLINE static void step_one(struct object *object) { object->value++; }
NOINLINE static void step_more(struct object *object) { object->value += 3; }

static uint64_t virtual(unsigned rounds)
{
    static const struct methods kinds[] = {
        {get_plain, step_one}, {get_twice, step_one}, {get_plain, step_more}};
    struct object objects[64];
    uint64_t sum = 0;
    for (unsigned i = 0; i < 64; i++) {
        objects[i] = (struct object){&kinds[i % 3], i};
    }
    while (rounds--) {
        for (unsigned i = 0; i < 64; i++) {
            OPAQUE(rounds);
            sum += objects[i].methods->get(&objects[i]);
            objects[i].methods->step(&objects[i]);
        }
    }
    return sum;
}

/* A chain of calls deeper than any return predictor. */
NOINLINE static unsigned descend(unsigned depth)
{
    unsigned result = depth ? descend(depth - 1) : 1;
    OPAQUE(result);
    return result + 1;
}

static uint64_t deep(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        sum += descend(500);
    }
    return sum;
}

/* Out of three calls by longjmp. */
static jmp_buf escape;
NOINLINE static void leave_now(unsigned depth) { longjmp(escape, (int)depth); }
NOINLINE static void leave_deeper(unsigned depth)
{
    leave_now(depth + 1);
    OPAQUE(depth);
}
NOINLINE static void leave(unsigned depth)
{
    leave_deeper(depth + 1);
    OPAQUE(depth);
}

static uint64_t jump(unsigned rounds)
{
    volatile uint64_t sum = 0;
    for (volatile unsigned n = 0; n < rounds; n++) {
        int depth = _setjmp(escape);
        if (!depth) {
            leave(1);
        }
        sum += n + (unsigned)depth;
    }
    return sum;
}

/* An interpreter of bytes: a switch in a loop, which becomes a jump through a table. */
static uint64_t machine(unsigned rounds)
{
    enum { PUSH, ADD, DUP, MUL, SWAP, DROP, XOR, ROT, LOOP, END };
    static const uint8_t program[] = {PUSH, 7,    DUP,  PUSH, 3,   ADD, MUL,  DUP, PUSH, 5,
                                      XOR,  SWAP, ROT,  ADD,  DUP, MUL, PUSH, 9,   DROP, ROT,
                                      XOR,  DUP,  DROP, SWAP, ADD, XOR, LOOP, END};
    uint64_t sum = 0;
    while (rounds--) {
        uint32_t stack[64] = {1, 2, 3, rounds}, count = 100;
        unsigned top = 3;
        for (const uint8_t *at = program;; at++) {
            switch (*at) {
            case PUSH: stack[++top & 63] = *++at; continue;
            case ADD:
                top--;
                stack[top & 63] += stack[(top + 1) & 63];
                continue;
            case DUP:
                top++;
                stack[top & 63] = stack[(top - 1) & 63];
                continue;
            case MUL:
                top--;
                stack[top & 63] *= stack[(top + 1) & 63] | 1;
                continue;
            case SWAP: {
                uint32_t value = stack[top & 63];
                stack[top & 63] = stack[(top - 1) & 63];
                stack[(top - 1) & 63] = value;
                continue;
            }
            case DROP: top--; continue;
            case XOR:
                top--;
                stack[top & 63] ^= stack[(top + 1) & 63];
                continue;
            case ROT: stack[top & 63] = stack[top & 63] << 5 | stack[top & 63] >> 27; continue;
            case LOOP:
                if (--count) {
                    at = program - 1;
                }
                continue;
            default: break;
            }
            break;
        }
        sum += stack[top & 63];
    }
    return sum;
}

const struct item call_items[] = {
    {"call", "fib", fib, 500, NULL},
    {"call", "direct", direct, 150000, NULL},
    {"call", "indirect", indirect, 40000, NULL},
    {"call", "virtual", virtual, 1200000, NULL},
    {"call", "deep", deep, 250000, NULL},
    {"call", "longjmp", jump, 12000000, NULL},
    {"call", "bytecode", machine, 60000, NULL},
    {NULL, NULL, NULL, 0, NULL},
};

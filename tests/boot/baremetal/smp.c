/* Several processors: locked operations, memory order, code that another processor changes, mappings that
 * change. */
#include "runtime.h"

#define ROUNDS 50000ul

static unsigned cpus;
static u8 area[8192] __attribute__((aligned(4096)));
static volatile u64 *const aligned = (u64 *)(void *)(area + 256);
static volatile u64 *const across_line = (u64 *)(void *)(area + 512 + 60);
static volatile u64 *const across_page = (u64 *)(void *)(area + 4096 - 4);
static volatile u16 *const odd = (u16 *)(void *)(area + 1025);
static volatile u32 errors;

static void add(unsigned n)
{
    (void)n;
    for (u64 k = 0; k < ROUNDS; k++) {
        u64 one = 1;
        __asm__ volatile("lock incq %0" : "+m"(*aligned));
        __asm__ volatile("lock addw $1, %0" : "+m"(*odd));
        __asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(*across_line));
        __asm__ volatile("lock addq $1, %0" : "+m"(*across_page));
    }
}

static volatile u32 lock_word;
static volatile u64 protected_count;
static void exchange(unsigned n)
{
    (void)n;
    for (u64 k = 0; k < ROUNDS; k++) {
        while (__sync_lock_test_and_set(&lock_word, 1))
            pause();
        protected_count++;
        __sync_lock_release(&lock_word);
    }
}

static volatile u64 wide[2] __attribute__((aligned(16)));
static void compare_exchange(unsigned n)
{
    (void)n;
    for (u64 k = 0; k < ROUNDS; k++) {
        u64 low = wide[0], high = wide[1];
        bool done;
        do {
            u64 new_low = low + 1, new_high = high + 3;
            __asm__ volatile("lock cmpxchg16b %1"
                             : "=@ccz"(done), "+m"(wide), "+a"(low), "+d"(high)
                             : "b"(new_low), "c"(new_high));
        } while (!done);
    }
}

static volatile u64 bits[2];
static void set_bits(unsigned n)
{
    for (u64 k = 0; k < ROUNDS; k++) {
        __asm__ volatile("lock btsq %1, %0" : : "m"(*bits), "r"((u64)n + 64) : "memory");
        __asm__ volatile("lock btrq %1, %0" : : "m"(*bits), "r"((u64)n + 64) : "memory");
    }
    __asm__ volatile("lock btsq %1, %0" : : "m"(*bits), "r"((u64)n + 64) : "memory");
}

/* Stores are seen in order. */
static volatile u64 payload, flag;
static void message(unsigned n)
{
    for (u64 k = 1; k < ROUNDS; k++) {
        if (n == 0) {
            payload = k;
            flag = k;
        } else {
            u64 seen = flag;
            if (payload < seen) errors++;
        }
    }
}

/* MOV EAX, n; RET, with n growing; the others look at it after a serialising instruction (SDM vol 3A 8.1.3).
 */
static u8 code[4096] __attribute__((aligned(4096))) = {0xb8, 0, 0, 0, 0, 0xc3};
static volatile u32 phase;
static void modify(unsigned n)
{
    if (n == 0) {
        for (u32 k = 1; k < 256; k++) {
            *(volatile u8 *)&code[1] = (u8)k;
            phase = k;
            for (volatile u32 wait = 0; wait < 2000; wait++) {
            }
        }
        phase = 1000;
        return;
    }
    for (u32 seen = phase; seen < 1000; seen = phase) {
        cpuid(0, 0);
        if (((u32(*)(void))code)() < seen) errors++;
    }
}

/* The first processor changes a mapping, the others drop their translation and must see the new page. */
static u64 tables[3][512] __attribute__((aligned(4096)));
static u8 pages[2][4096] __attribute__((aligned(4096)));
static volatile u32 request, acknowledged[8];
#define WINDOW (1ul << 39)
#define SWAPS  500u
static void shoot_down(unsigned n)
{
    if (n == 0) {
        for (u32 k = 1; k <= SWAPS; k++) {
            tables[2][0] = (u64)pages[k & 1] | 7;
            invlpg(WINDOW);
            request = k;
            for (unsigned other = 1; other < cpus; other++)
                while (acknowledged[other] != k)
                    pause();
        }
        return;
    }
    for (u32 served = 0; served < SWAPS;) {
        while (request == served)
            pause();
        served = request;
        invlpg(WINDOW);
        if (*(volatile u8 *)WINDOW != (served & 1)) errors++;
        acknowledged[n] = served;
    }
}

void test(void)
{
    cpus = cpu_count();
    if (!CHECK(start_processors())) return;
    run_everywhere(add);
    CHECK(*aligned == cpus * ROUNDS);
    CHECK(*odd == (u16)(cpus * ROUNDS));
    CHECK(*across_line == cpus * ROUNDS);
    CHECK(*across_page == cpus * ROUNDS);
    run_everywhere(exchange);
    CHECK(protected_count == cpus * ROUNDS);
    run_everywhere(compare_exchange);
    CHECK(wide[0] == cpus * ROUNDS && wide[1] == 3 * cpus * ROUNDS);
    run_everywhere(set_bits);
    CHECK(bits[0] == 0 && bits[1] == (1ul << cpus) - 1);
    run_everywhere(message);
    CHECK(errors == 0);
    run_everywhere(modify);
    CHECK(errors == 0);

    pages[1][0] = 1;
    pml4[WINDOW >> 39] = (u64)tables[0] | 7;
    tables[0][0] = (u64)tables[1] | 7;
    tables[1][0] = (u64)tables[2] | 7;
    tables[2][0] = (u64)pages[0] | 7;
    write_cr3((u64)pml4);
    run_everywhere(shoot_down);
    CHECK(errors == 0);
}

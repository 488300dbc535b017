/* What processors that share memory promise each other. Runs natively, and in a guest with several processors (smp.sh):
 *
 *   smp SECONDS [TEST...]   each test for that long; prints "smp TEST ok" or what was wrong, and a last line with the count
 *
 * Tests need two processors at the same time to mean something; litmus/4 four. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u

static double seconds = 1;
static volatile bool stop;
static bool failed;          /* the running test */
static char wrong[200];      /* what it said first */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    if (__atomic_exchange_n(&failed, true, __ATOMIC_SEQ_CST)) return;
    va_start(args, format);
    vsnprintf(wrong, sizeof wrong, format, args);
    va_end(args);
    stop = true;
}

static void *map(size_t size, int protection)
{
    void *p = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("mmap: %s", strerror(errno));
    return p;
}

static pthread_t start(void *(*main)(void *), void *argument)
{
    pthread_t t;
    if (pthread_create(&t, NULL, main, argument)) exit(2);
    return t;
}

/* Until the time is over, or `done` says so. */
static void let_run(void)
{
    for (double end = now() + seconds; !stop && now() < end;) usleep(2000);
    stop = true;
}

static inline void relax(unsigned n)
{
    if (n % 1000 == 999) sched_yield();
    else __builtin_ia32_pause();
}

static inline void serialize(void)
{
    uint32_t a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

/* ---- code ---- */

/* mov eax, imm32; ret. The immediate is aligned when the function's address is 3 modulo 4. */
static void put_function(uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    __atomic_store_n((uint32_t *)(void *)(at + 1), value, __ATOMIC_RELAXED);
    at[5] = 0xc3;
}
static uint32_t call_function(const void *at)
{
    uint32_t value;
    __asm__ volatile("call *%1" : "=a"(value) : "r"(at) : "memory", "cc");
    return value;
}

static uint8_t *code;
static volatile uint32_t written, seen; /* handshake */

/* One changes the function, says so, and waits until the other has run it after a serialising instruction. `fresh`: each time at
 * another place of a few pages that are data in between. */
static bool fresh;
static uint8_t *place(uint32_t n)
{
    return fresh ? code + n % 4 * PAGE + 3 + n * 52 % 3900 / 4 * 4 : code + 3;
}
static void *handshake_writer(void *argument)
{
    for (uint32_t n = 1; !stop; n++) {
        put_function(place(n), n);
        __atomic_store_n(&written, n, __ATOMIC_RELEASE);
        for (unsigned k = 0; seen != n && !stop; k++) relax(k);
        if (fresh) memset(place(n), (int)n, 6);
        if (fresh && n % 64 == 0) memset(code + n / 64 % 4 * PAGE, 0x90, PAGE);
    }
    return argument;
}
static void handshake(void)
{
    code = map(4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    written = seen = 0;
    put_function(place(0), 0);
    pthread_t t = start(handshake_writer, NULL);
    for (double end = now() + seconds; !stop && now() < end;) {
        for (uint32_t n = 1; n < 200; n++) {
            const uint32_t last = seen;
            for (unsigned k = 0; __atomic_load_n(&written, __ATOMIC_ACQUIRE) == last && !stop; k++) {
                relax(k);
                if (k % 64 == 0 && !fresh) call_function(place(last)); /* the old code is hot */
                if (k % 1000000 == 999999 && now() > end + 60) fail("no answer");
            }
            if (stop) break;
            serialize();
            const uint32_t value = call_function(place(written));
            if (value != written) fail("function %u returns %u", written, value);
            seen = written;
        }
    }
    stop = true;
    pthread_join(t, NULL);
    munmap(code, 4 * PAGE);
}
static void code_handshake(void) { fresh = false, handshake(); }
static void code_fresh(void) { fresh = true, handshake(); }

/* The immediate counts up while the other calls: it never sees it go back, and in the end the last one. */
static void *count_writer(void *argument)
{
    uint32_t n = 0;
    while (!stop) {
        put_function(code + 3, ++n);
        for (unsigned k = 0; k < n % 200; k++) __builtin_ia32_pause();
    }
    written = n;
    return argument;
}
static void code_racing(void)
{
    code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    put_function(code + 3, 0);
    pthread_t t = start(count_writer, NULL);
    uint32_t last = 0, value;
    for (double end = now() + seconds; !stop && now() < end;) {
        for (unsigned k = 0; k < 1000; k++, last = value)
            if ((value = call_function(code + 3)) < last) fail("after %u comes %u", last, value);
    }
    stop = true;
    pthread_join(t, NULL);
    serialize();
    if ((value = call_function(code + 3)) != written) fail("in the end %u, not %u", value, written);
    munmap(code, PAGE);
}

/* Data between the functions is counted up by both, while both call functions and one adds new ones. */
#define BESIDE 32u
static void *beside(void *argument)
{
    const unsigned me = argument != NULL;
    for (uint32_t n = 0; !stop; n++) {
        uint32_t *data = (uint32_t *)(void *)(code + n % BESIDE * 128 + 64 + me * 32);
        *data += 1;
        const unsigned slot = n / BESIDE % BESIDE;
        if (me && n % (BESIDE * 16) == 0) put_function(code + slot * 128 + 3, slot + (n / 4096 % 2 ? 1000 : 0));
        const uint32_t value = call_function(code + slot * 128 + 3) % 1000;
        if (value != slot) fail("function %u returns %u", slot, value);
        if (stop) __atomic_store_n(me ? &written : &seen, n + 1, __ATOMIC_SEQ_CST);
    }
    return argument;
}
static void code_beside(void)
{
    code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    written = seen = 0;
    for (unsigned n = 0; n < BESIDE; n++) put_function(code + n * 128 + 3, n);
    pthread_t t = start(beside, (void *)1), u = start(beside, NULL);
    let_run();
    pthread_join(t, NULL);
    pthread_join(u, NULL);
    for (unsigned me = 0; me < 2; me++) {
        uint32_t sum = 0;
        for (unsigned n = 0; n < BESIDE; n++) sum += *(uint32_t *)(void *)(code + n * 128 + 64 + me * 32);
        if (sum != (me ? written : seen) && (me ? written : seen)) fail("%u counted, %u there", me ? written : seen, sum);
    }
    munmap(code, PAGE);
}

/* ---- locked instructions ---- */

static struct {
    uint64_t add, increment, exchange, bits, pair[2] __attribute__((aligned(16)));
    uint32_t spin, guarded;
    uint8_t split[128] __attribute__((aligned(64)));
} *shared;
static uint64_t rounds[4];

static void *locked(void *argument)
{
    const size_t me = (size_t)argument;
    uint64_t n = 0;
    for (; !stop; n++) {
        uint64_t old = 1;
        __asm__ volatile("lock xaddq %0, %1" : "+r"(old), "+m"(shared->add));
        __asm__ volatile("lock incq %0" : "+m"(shared->increment));
        __asm__ volatile("lock addl $1, %0" : "+m"(*(uint32_t *)(void *)(shared->split + 62)));
        old = __atomic_load_n(&shared->exchange, __ATOMIC_RELAXED);
        uint64_t new;
        bool done;
        do {
            new = old + 3;
            __asm__ volatile("lock cmpxchgq %3, %1" : "=@ccz"(done), "+m"(shared->exchange), "+a"(old) : "r"(new));
        } while (!done);
        uint64_t low = shared->pair[0], high = shared->pair[1];
        do
            __asm__ volatile("lock cmpxchg16b %1" : "=@ccz"(done), "+m"(shared->pair), "+a"(low), "+d"(high) : "b"(low + 1), "c"(high - 1));
        while (!done);
        bool was;
        __asm__ volatile("lock btsq %2, %1" : "=@ccc"(was), "+m"(shared->bits) : "r"(me));
        if (was) fail("bit %zu is set", me);
        __asm__ volatile("lock btrq %2, %1" : "=@ccc"(was), "+m"(shared->bits) : "r"(me));
        if (!was) fail("bit %zu is not set", me);
        uint32_t one = 1;
        for (unsigned k = 0;; k++) {
            __asm__ volatile("xchgl %0, %1" : "+r"(one), "+m"(shared->spin));
            if (!one) break;
            relax(k);
        }
        shared->guarded++;
        __atomic_store_n(&shared->spin, 0, __ATOMIC_RELEASE);
    }
    rounds[me] = n;
    return argument;
}
static void atomics(void)
{
    enum { THREADS = 3 };
    pthread_t t[THREADS];
    shared = map(PAGE, PROT_READ | PROT_WRITE);
    memset(shared, 0, sizeof *shared);
    for (size_t n = 0; n < THREADS; n++) t[n] = start(locked, (void *)n);
    let_run();
    uint64_t sum = 0;
    for (size_t n = 0; n < THREADS; n++) pthread_join(t[n], NULL), sum += rounds[n];
    uint32_t split;
    memcpy(&split, shared->split + 62, sizeof split);
    if (shared->add != sum || shared->increment != sum || shared->exchange != 3 * sum || split != (uint32_t)sum ||
        shared->guarded != (uint32_t)sum || shared->pair[0] != sum || shared->pair[1] != -sum)
        fail("%llu rounds: xadd %llu inc %llu cmpxchg %llu split %u xchg %u cmpxchg16b %llu", (unsigned long long)sum,
             (unsigned long long)shared->add, (unsigned long long)shared->increment, (unsigned long long)shared->exchange, split,
             shared->guarded, (unsigned long long)shared->pair[0]);
    munmap(shared, PAGE);
}

/* ---- order ([SDM3] 9.2.3) ---- */

#define BATCH 1000u
struct pair {
    uint32_t x, pad[31], y, pad2[31];
    uint32_t seen_x, seen_y, pad3[30];
};
static struct pair *pairs;
static volatile uint32_t turn, arrived;

/* Both begin each batch together. */
static bool together(uint32_t *mine, unsigned threads)
{
    ++*mine;
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) % threads == 0) turn = *mine;
    for (unsigned k = 0; turn != *mine && !stop; k++) relax(k);
    return !stop;
}

static void *store_buffer(void *argument)
{
    uint32_t mine = 0;
    const bool me = argument;
    while (together(&mine, 2)) {
        for (unsigned n = 0; n < BATCH; n++) {
            struct pair *p = &pairs[n];
            __atomic_store_n(me ? &p->x : &p->y, mine, __ATOMIC_RELAXED);
            if (n % 2) __asm__ volatile("mfence" : : : "memory");
            else __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
            *(me ? &p->seen_y : &p->seen_x) = __atomic_load_n(me ? &p->y : &p->x, __ATOMIC_RELAXED);
        }
        if (!together(&mine, 2)) break;
        for (unsigned n = 0; n < BATCH && me; n++)
            if (pairs[n].seen_x < mine - 1 && pairs[n].seen_y < mine - 1) fail("store buffering: neither saw the other");
    }
    return argument;
}
static void *message(void *argument)
{
    uint32_t mine = 0;
    const bool me = argument;
    while (together(&mine, 2)) {
        for (unsigned n = 0; n < BATCH; n++) {
            struct pair *p = &pairs[n];
            if (me) {
                __atomic_store_n(&p->x, mine, __ATOMIC_RELAXED);
                __atomic_store_n(&p->y, mine, __ATOMIC_RELAXED);
            } else {
                const uint32_t y = __atomic_load_n(&p->y, __ATOMIC_ACQUIRE), x = __atomic_load_n(&p->x, __ATOMIC_RELAXED);
                if (y == mine && x != mine) fail("message passing: the flag, not the message");
            }
        }
    }
    return argument;
}
static void *load_buffer(void *argument)
{
    uint32_t mine = 0;
    const bool me = argument;
    while (together(&mine, 2)) {
        for (unsigned n = 0; n < BATCH; n++) {
            struct pair *p = &pairs[n];
            *(me ? &p->seen_y : &p->seen_x) = __atomic_load_n(me ? &p->y : &p->x, __ATOMIC_ACQUIRE);
            __atomic_store_n(me ? &p->x : &p->y, mine, __ATOMIC_RELAXED);
        }
        if (!together(&mine, 2)) break;
        for (unsigned n = 0; n < BATCH && me; n++)
            if (pairs[n].seen_x == mine - 1 && pairs[n].seen_y == mine - 1) fail("load buffering: both saw the other");
    }
    return argument;
}
/* Two write, two read in opposite orders: they agree on which came first. */
static void *iriw(void *argument)
{
    uint32_t mine = 0;
    const size_t me = (size_t)argument;
    while (together(&mine, 4)) {
        for (unsigned n = 0; n < BATCH; n++) {
            struct pair *p = &pairs[n];
            if (me < 2) {
                __atomic_store_n(me ? &p->x : &p->y, mine, __ATOMIC_RELAXED);
            } else {
                const uint32_t a = __atomic_load_n(me == 2 ? &p->x : &p->y, __ATOMIC_ACQUIRE);
                const uint32_t b = __atomic_load_n(me == 2 ? &p->y : &p->x, __ATOMIC_ACQUIRE);
                *(me == 2 ? &p->seen_x : &p->seen_y) = a == mine && b != mine ? mine : 0;
            }
        }
        if (!together(&mine, 4)) break;
        for (unsigned n = 0; n < BATCH && !me; n++)
            if (pairs[n].seen_x == mine - 1 && pairs[n].seen_y == mine - 1) fail("independent writes: readers disagree");
    }
    return argument;
}
static void litmus(void *(*main)(void *), size_t threads)
{
    pthread_t t[4];
    pairs = map(BATCH * sizeof *pairs, PROT_READ | PROT_WRITE);
    memset(pairs, 0, BATCH * sizeof *pairs);
    turn = arrived = 0;
    for (size_t n = 0; n < threads; n++) t[n] = start(main, (void *)n);
    let_run();
    for (size_t n = 0; n < threads; n++) pthread_join(t[n], NULL);
    munmap(pairs, BATCH * sizeof *pairs);
}
static void order_sb(void) { litmus(store_buffer, 2); }
static void order_mp(void) { litmus(message, 2); }
static void order_lb(void) { litmus(load_buffer, 2); }
static void order_iriw(void) { litmus(iriw, 4); }

/* ---- page tables: what one thread changes holds for all when the system call returns ---- */

static volatile uint32_t *target; /* what the other threads access */
static volatile uint32_t faults;
static __thread sigjmp_buf back;

static void on_fault(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}
static void *store_always(void *argument)
{
    volatile uint32_t n = 0;
    while (!stop) {
        if (sigsetjmp(back, 1)) {
            __atomic_add_fetch(&faults, 1, __ATOMIC_RELAXED);
            while (*(volatile int *)argument == 0 && !stop) relax(999);
        } else {
            for (unsigned k = 0; k < 100; k++) *target = ++n;
        }
    }
    return argument;
}
static volatile int writable;
static void tables_protect(void)
{
    signal(SIGSEGV, on_fault);
    target = map(PAGE, PROT_READ | PROT_WRITE);
    writable = 1;
    pthread_t t = start(store_always, (void *)&writable);
    for (double end = now() + seconds; !stop && (now() < end || (!faults && now() < end + 60));) {
        writable = 0;
        mprotect((void *)target, PAGE, PROT_READ);
        const uint32_t value = *target;
        for (unsigned k = 0; k < 300; k++)
            if (*target != value) fail("written while it was read-only");
        mprotect((void *)target, PAGE, PROT_READ | PROT_WRITE);
        writable = 1;
        for (unsigned k = 0; *target == value && k < 10000; k++) relax(k);
    }
    stop = true;
    pthread_join(t, NULL);
    if (!faults) fail("no store was denied");
    munmap((void *)target, PAGE);
}

/* Pages change places: after the call nobody reads or writes the old one. */
static void *compare_always(void *argument)
{
    while (!stop) {
        const uint32_t before = written, value = *target, after = written;
        if (before == after && !(before & 1) && value != before) fail("page %u, and reads %u", before, value);
    }
    return argument;
}
static void tables_replace(void)
{
    target = map(PAGE, PROT_READ | PROT_WRITE);
    written = 0;
    pthread_t t = start(compare_always, NULL);
    uint32_t n = 0;
    for (double end = now() + seconds; !stop && now() < end;) {
        uint32_t *other = map(PAGE, PROT_READ | PROT_WRITE);
        n += 2;
        *other = n;
        __atomic_store_n(&written, n - 1, __ATOMIC_SEQ_CST);
        if (mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)target) != (void *)target) fail("mremap");
        __atomic_store_n(&written, n, __ATOMIC_SEQ_CST);
    }
    stop = true;
    pthread_join(t, NULL);
    munmap((void *)target, PAGE);
}

/* After fork() the child's page stands still, whatever the parent's other thread stores. */
static void tables_fork(void)
{
    target = map(PAGE, PROT_READ | PROT_WRITE);
    writable = 1;
    pthread_t t = start(store_always, (void *)&writable);
    for (double end = now() + seconds; !stop && now() < end;) {
        const pid_t child = fork();
        if (!child) {
            const uint32_t value = *target;
            for (unsigned k = 0; k < 2000; k++)
                if (*target != value) _exit(1);
            _exit(0);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status) fail("the child's page changed (%x)", (unsigned)status);
    }
    stop = true;
    pthread_join(t, NULL);
    munmap((void *)target, PAGE);
}

/* ---- wake-ups ---- */

static uint32_t ball;
static void wait_for(uint32_t n)
{
    uint32_t v;
    while ((v = __atomic_load_n(&ball, __ATOMIC_SEQ_CST)) % 2 != n && !stop) {
        const struct timespec limit = {.tv_sec = 20};
        if (syscall(SYS_futex, &ball, FUTEX_WAIT_PRIVATE, v, &limit, NULL, 0) && errno == ETIMEDOUT) fail("nobody woke %u", n);
    }
}
static void throw_ball(void)
{
    __atomic_add_fetch(&ball, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &ball, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
static void *play(void *argument)
{
    while (!stop) wait_for(1), throw_ball();
    throw_ball();
    return argument;
}
static void wakeups(void)
{
    ball = 0;
    pthread_t t = start(play, NULL);
    for (double end = now() + seconds; !stop && now() < end;) {
        throw_ball();
        wait_for(0);
    }
    stop = true;
    throw_ball();
    throw_ball();
    pthread_join(t, NULL);
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    void (*run)(void);
    long processors;
} tests[] = {
    {"code/handshake", code_handshake, 2}, {"code/fresh", code_fresh, 2}, {"code/racing", code_racing, 2},
    {"code/beside", code_beside, 2}, {"atomics", atomics, 2}, {"order/sb", order_sb, 2}, {"order/mp", order_mp, 2},
    {"order/lb", order_lb, 2}, {"order/iriw", order_iriw, 4}, {"tables/protect", tables_protect, 2},
    {"tables/replace", tables_replace, 2}, {"tables/fork", tables_fork, 2}, {"wakeups", wakeups, 2},
};

int main(int argc, char **argv)
{
    unsigned good = 0, bad = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) seconds = atof(argv[1]);
    for (size_t n = 0; n < sizeof tests / sizeof tests[0]; n++) {
        bool chosen = argc < 3;
        for (int k = 2; k < argc; k++) chosen |= !strncmp(argv[k], tests[n].name, strlen(argv[k]));
        if (!chosen || sysconf(_SC_NPROCESSORS_ONLN) < tests[n].processors) continue;
        stop = failed = false;
        tests[n].run();
        if (failed) printf("smp %s WRONG: %s\n", tests[n].name, wrong), bad++;
        else printf("smp %s ok\n", tests[n].name), good++;
    }
    printf("smp %u passed, %u failed\n", good, bad);
    return bad != 0;
}

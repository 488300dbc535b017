/* Host time by the time-stamp counter. See tsc_time.h.
 *
 * The counter's rate is measured against CLOCK_MONOTONIC, over all the time since the start; differences are worked off by
 * running a little faster or slower, so that time never jumps back. A jump of the host's clock (it slept) is taken over at
 * once when it is forward, and kept as a lead when it is not.
 *
 * Not used where the counter is not invariant ([SDM3] 17.17.1) or the host's own time does not come from it. */
#include "core/tsc_time.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FIRST_SYNC  50000000ull  /* ns until the rate is known well enough */
#define SYNC        500000000ull /* ns between corrections */
#define JUMP        10000000     /* ns: more is not drift */
#define LATENCY     20000ull     /* ticks that reading the host's clock may take */
#define TRIES       1000u        /* until it does not */
#define AHEAD       1000u        /* ns that make up for the error of the first measurement */

static u64 host_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

/* After all loads before it, as the host's own clock reads it. */
static u64 count(void)
{
    u32 low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return low | (u64)high << 32;
}

static u64 at(u64 tsc, u64 ns, u64 mult, u64 now)
{
    return (s64)(now - tsc) < 0 ? ns : ns + (u64)((unsigned __int128)(now - tsc) * mult >> 32);
}

void tsc_time_init(struct tsc_time *t)
{
    u32 a, b, c, d = 0;
    char name[32] = "";
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (f && !fgets(name, sizeof name, f)) name[0] = 0;
    if (f) fclose(f);
    memset(t, 0, sizeof *t);
    t->reliable = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8) &&
                  (!strcmp(name, "tsc\n") || !strcmp(name, "kvm-clock\n"));
    u64 before;
    unsigned tries = 0;
    do {
        before = count();
        t->first_ns = host_ns();
        t->first_tsc = count();
    } while (t->first_tsc - before > LATENCY && ++tries < TRIES);
    t->reliable &= tries < TRIES;
}

u64 tsc_time_now(const struct tsc_time *t)
{
    if (!__atomic_load_n(&t->usable, __ATOMIC_ACQUIRE)) return host_ns();
    for (;;) {
        u32 seq = __atomic_load_n(&t->seq, __ATOMIC_ACQUIRE);
        u64 tsc = __atomic_load_n(&t->tsc, __ATOMIC_RELAXED), ns = __atomic_load_n(&t->ns, __ATOMIC_RELAXED);
        u64 mult = __atomic_load_n(&t->mult, __ATOMIC_RELAXED), now = count();
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(seq & 1) && __atomic_load_n(&t->seq, __ATOMIC_RELAXED) == seq) return at(tsc, ns, mult, now);
    }
}

static void publish(struct tsc_time *t, u64 tsc, u64 ns, u64 mult)
{
    __atomic_store_n(&t->seq, t->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&t->tsc, tsc, __ATOMIC_RELAXED);
    __atomic_store_n(&t->ns, ns, __ATOMIC_RELAXED);
    __atomic_store_n(&t->mult, mult, __ATOMIC_RELAXED);
    __atomic_store_n(&t->seq, t->seq + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&t->usable, true, __ATOMIC_RELEASE);
}

void tsc_time_sync(struct tsc_time *t)
{
    if (!t->reliable) return;
    const u64 before = count(), host = host_ns(), tsc = count();
    if (tsc - before > LATENCY || host - t->last_ns < (t->usable ? SYNC : 0)) return;
    const u64 elapsed = host - t->first_ns;
    if (elapsed < FIRST_SYNC || tsc <= t->first_tsc) return;
    const u64 rate = (u64)(((unsigned __int128)elapsed << 32) / (tsc - t->first_tsc));
    t->last_ns = host;
    if (!t->usable) {
        publish(t, tsc, host + AHEAD, rate);
        return;
    }
    const u64 now = at(t->tsc, t->ns, t->mult, tsc);
    const s64 error = (s64)(host + (u64)t->lead - now);
    if (error > JUMP || error < -JUMP) {
        t->first_ns = host;
        t->first_tsc = tsc;
        t->lead = error > 0 ? t->lead : (s64)(now - host);
        publish(t, tsc, error > 0 ? now + (u64)error : now, t->mult);
        return;
    }
    /* Halve the difference until the next correction but one. */
    publish(t, tsc, now, rate + (u64)((s64)rate * (error / 2) / (s64)SYNC));
}

/* build/tests/test_tsc_time: time by the counter never goes back and stays with the host's clock. */
#include "core/tsc_time.h"

#include <criterion/criterion.h>
#include <time.h>

static u64 host(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

Test(tsc_time, follows_the_host_and_never_goes_back)
{
    struct tsc_time t;
    tsc_time_init(&t);
    u64 last = 0, until = host() + 1300000000ull, worst = 0;
    for (unsigned n = 0; host() < until; n++) {
        u64 before = host(), now = tsc_time_now(&t), after = host();
        cr_assert_geq(now, last);
        last = now;
        u64 error = now < before ? before - now : now > after ? now - after : 0;
        if (error > worst) worst = error;
        if (n % 64 == 0) tsc_time_sync(&t);
    }
    cr_expect_lt(worst, 1000000, "off by %llu ns", (unsigned long long)worst);
}

Test(tsc_time, a_host_that_slept)
{
    struct tsc_time t;
    tsc_time_init(&t);
    if (!t.reliable) return;
    while (!t.usable) tsc_time_sync(&t);
    const u64 now = tsc_time_now(&t);
    /* As if the counter had stopped meanwhile: forward at once. */
    t.ns -= 3600ull * 1000000000;
    t.last_ns = 0;
    while (tsc_time_now(&t) < now) tsc_time_sync(&t);
    const u64 before = host(), caught_up = tsc_time_now(&t), after = host();
    cr_expect(before <= caught_up + 1000000 && caught_up <= after + 1000000);
    /* As if it had run on while the clock stood: never back. */
    t.ns += 3600ull * 1000000000;
    const u64 start = host(), ahead = tsc_time_now(&t);
    for (unsigned n = 0; n < 100; n++) {
        t.last_ns = 0;
        tsc_time_sync(&t);
        cr_expect_geq(tsc_time_now(&t), ahead);
    }
    const u64 gone = tsc_time_now(&t) - ahead;
    cr_expect_leq(gone, host() - start + 1000000);
}

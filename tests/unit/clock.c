// build/tests/test_clock
/* Guest time and timers, on a manual clock except where the host's is the point. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"

/* What fired, in order: the timers' letters. */
static char fired[64];

struct probe {
    struct timer *timer;  /* its timer */
    struct clock *clock;  /* where it hangs */
    char letter;          /* what it leaves in fired */
    u64 at;               /* clock_now() when it last fired */
    u64 period;           /* re-arm by this, when not 0 */
    int repeats;          /* how often to re-arm */
    struct timer *victim; /* timer to cancel */
    struct probe *arms;   /* probe to arm, at deadline `arms_at` */
    u64 arms_at;          /* see arms */
    bool destroys;        /* destroys its own timer */
};

static void fire(void *opaque)
{
    struct probe *p = opaque;
    size_t n = strlen(fired);
    cr_assert_lt(n, sizeof fired - 1);
    fired[n] = p->letter;
    p->at = clock_now(p->clock);
    cr_assert_not(timer_armed(p->timer), "a firing timer is not armed");
    if (p->repeats-- > 0) timer_arm(p->timer, p->at + p->period);
    if (p->victim) timer_cancel(p->victim);
    if (p->arms) timer_arm(p->arms->timer, p->arms_at);
    if (p->destroys) timer_destroy(p->timer);
}

static struct probe probe(struct clock *c, char letter)
{
    return (struct probe){.clock = c, .letter = letter};
}

#define CREATE(p) ((p).timer = timer_create_on((p).clock, fire, &(p)))

Test(clock, manual_clock_only_moves_when_told)
{
    struct clock *c = clock_create_manual();
    cr_assert_eq(clock_now(c), 0);
    clock_advance(c, 1500);
    clock_advance(c, 0);
    cr_assert_eq(clock_now(c), 1500);
    cr_assert_eq(clock_next_deadline(c), UINT64_MAX);
    clock_destroy(c);
}

Test(clock, timers_fire_at_their_own_time_in_order)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b'), d = probe(c, 'd'), e = probe(c, 'e');
    CREATE(a);
    CREATE(b);
    CREATE(d);
    CREATE(e);
    timer_arm(a.timer, 300);
    timer_arm(b.timer, 100);
    timer_arm(d.timer, 200);
    timer_arm(e.timer, 1001);
    cr_assert_eq(clock_next_deadline(c), 100);
    clock_advance(c, 1000);
    cr_assert_str_eq(fired, "bda");
    cr_assert_eq(a.at, 300);
    cr_assert_eq(b.at, 100);
    cr_assert_eq(d.at, 200);
    cr_assert(timer_armed(e.timer));
    cr_assert_not(timer_armed(a.timer));
    cr_assert_eq(clock_now(c), 1000);
    clock_advance(c, 1);
    cr_assert_str_eq(fired, "bdae");
    timer_destroy(a.timer);
    timer_destroy(b.timer);
    timer_destroy(d.timer);
    timer_destroy(e.timer);
    clock_destroy(c);
}

Test(clock, equal_deadlines_fire_in_arming_order)
{
    struct clock *c = clock_create_manual();
    struct probe p[12];
    for (int i = 0; i < 12; i++) {
        p[i] = probe(c, (char)('a' + i));
        CREATE(p[i]);
        timer_arm(p[i].timer, 50);
    }
    timer_arm(p[0].timer, 50); /* armed anew: goes to the back */
    clock_advance(c, 50);
    cr_assert_str_eq(fired, "bcdefghijkla");
    for (int i = 0; i < 12; i++)
        timer_destroy(p[i].timer);
    clock_destroy(c);
}

Test(clock, cancel_and_rearm)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b');
    CREATE(a);
    CREATE(b);
    timer_arm(a.timer, 10);
    timer_arm(b.timer, 20);
    timer_cancel(a.timer);
    cr_assert_not(timer_armed(a.timer));
    cr_assert_eq(clock_next_deadline(c), 20);
    timer_arm(b.timer, 40); /* moves, does not add */
    clock_advance(c, 30);
    cr_assert_str_eq(fired, "");
    clock_advance(c, 30);
    cr_assert_str_eq(fired, "b");
    timer_cancel(a.timer); /* not armed: nothing happens */
    timer_destroy(a.timer);
    timer_destroy(b.timer);
    clock_destroy(c);
}

Test(clock, periodic_by_rearming_in_the_callback)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b');
    CREATE(a);
    CREATE(b);
    a.period = 10;
    a.repeats = 3;
    timer_arm(a.timer, 10);
    timer_arm(b.timer, 25);
    clock_advance(c, 1000);
    cr_assert_str_eq(fired, "aabaa");
    cr_assert_eq(a.at, 40);
    timer_destroy(a.timer);
    timer_destroy(b.timer);
    clock_destroy(c);
}

Test(clock, deadline_in_the_past_fires_without_turning_time_back)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a');
    CREATE(a);
    clock_advance(c, 100);
    timer_arm(a.timer, 40);
    clock_advance(c, 0);
    cr_assert_str_eq(fired, "a");
    cr_assert_eq(a.at, 100);
    timer_destroy(a.timer);
    clock_destroy(c);
}

Test(clock, callback_may_cancel_arm_and_destroy)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b'), d = probe(c, 'd');
    CREATE(a);
    CREATE(b);
    CREATE(d);
    a.victim = b.timer;
    a.arms = &d;
    a.arms_at = 15;
    a.destroys = true;
    timer_arm(a.timer, 10);
    timer_arm(b.timer, 10);
    clock_advance(c, 100);
    cr_assert_str_eq(fired, "ad");
    cr_assert_eq(d.at, 15);
    timer_destroy(b.timer);
    timer_destroy(d.timer);
    clock_destroy(c);
}

Test(clock, run_due_fires_each_timer_once_per_round)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b'), d = probe(c, 'd');
    CREATE(a);
    CREATE(b);
    CREATE(d);
    a.period = 0;
    a.repeats = 1; /* due again at once */
    b.victim = d.timer;
    timer_arm(a.timer, 0);
    timer_arm(b.timer, 0);
    timer_arm(d.timer, 0);
    clock_run_due(c);
    cr_assert_str_eq(fired, "ab", "a's second arming waits, d was cancelled while it was due");
    cr_assert_eq(clock_next_deadline(c), 0);
    clock_run_due(c);
    cr_assert_str_eq(fired, "aba");
    clock_run_due(c);
    cr_assert_str_eq(fired, "aba");
    timer_destroy(a.timer);
    timer_destroy(b.timer);
    timer_destroy(d.timer);
    clock_destroy(c);
}

Test(clock, timer_rearmed_by_another_while_due_fires_later)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b');
    CREATE(a);
    CREATE(b);
    a.arms = &b;
    a.arms_at = 500;
    timer_arm(a.timer, 0);
    timer_arm(b.timer, 0);
    clock_run_due(c);
    cr_assert_str_eq(fired, "a");
    cr_assert_eq(clock_next_deadline(c), 500);
    clock_advance(c, 500);
    cr_assert_str_eq(fired, "ab");
    timer_destroy(a.timer);
    timer_destroy(b.timer);
    clock_destroy(c);
}

static void count(void *opaque) { ++*(int *)opaque; }

Test(clock, wakes_only_for_an_earlier_deadline)
{
    struct clock *c = clock_create_manual();
    struct probe a = probe(c, 'a'), b = probe(c, 'b');
    int wakes = 0;
    CREATE(a);
    CREATE(b);
    clock_on_earlier(c, count, &wakes);
    timer_arm(a.timer, 100);
    cr_assert_eq(wakes, 1);
    timer_arm(b.timer, 200);
    timer_arm(b.timer, 100);
    cr_assert_eq(wakes, 1);
    timer_arm(b.timer, 99);
    cr_assert_eq(wakes, 2);
    timer_arm(b.timer, 150);
    cr_assert_eq(wakes, 2, "later than before");
    timer_cancel(a.timer);
    cr_assert_eq(wakes, 2);
    timer_destroy(a.timer);
    timer_destroy(b.timer);
    clock_destroy(c);
}

/* The heap against a sorted scan, over many armings and cancellations. */
Test(clock, many_timers_stay_sorted)
{
    enum { COUNT = 60 };
    struct clock *c = clock_create_manual();
    struct timer *timers[COUNT];
    u64 deadlines[COUNT];
    int counts[COUNT] = {0};
    u32 random = 12345;
    for (int i = 0; i < COUNT; i++) {
        timers[i] = timer_create_on(c, count, &counts[i]);
        deadlines[i] = UINT64_MAX;
    }
    for (int step = 0; step < 5000; step++) {
        random = random * 1664525 + 1013904223;
        int i = (int)(random >> 8) % COUNT;
        if ((random >> 28) < 5) {
            timer_cancel(timers[i]);
            deadlines[i] = UINT64_MAX;
        } else {
            deadlines[i] = 1000 + (random >> 16) % 5000;
            timer_arm(timers[i], deadlines[i]);
        }
        u64 earliest = UINT64_MAX;
        for (int k = 0; k < COUNT; k++) {
            earliest = MIN(earliest, deadlines[k]);
            cr_assert_eq(timer_armed(timers[k]), deadlines[k] != UINT64_MAX);
        }
        cr_assert_eq(clock_next_deadline(c), earliest);
    }
    clock_advance(c, 3000);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(counts[i], deadlines[i] <= 3000, "timer %d", i);
    for (int i = 0; i < COUNT; i++)
        timer_destroy(timers[i]);
    clock_destroy(c);
}

Test(clock, wall_time_is_set_and_runs_with_the_clock)
{
    struct clock *c = clock_create_manual();
    u32 ns = 7;
    clock_advance(c, 123);
    clock_set_wall(c, 1000000000);
    cr_assert_eq(clock_wall(c, &ns), 1000000000);
    cr_assert_eq(ns, 0);
    clock_advance(c, 2 * NS_PER_SECOND + 5);
    cr_assert_eq(clock_wall(c, &ns), 1000000002);
    cr_assert_eq(ns, 5);
    clock_set_wall(c, -10);
    clock_advance(c, 1);
    cr_assert_eq(clock_wall(c, &ns), -10);
    cr_assert_eq(ns, 1);
    cr_assert_eq(clock_wall(c, NULL), -10);
    clock_destroy(c);
}

Test(clock, wall_time_goes_on_while_the_clock_is_stopped)
{
    static const struct {
        enum clock_wall_source source; /* what wall-clock time follows */
        bool goes_on;                  /* so it does */
    } cases[] = {{CLOCK_WALL_HOST, true}, {CLOCK_WALL_MONOTONIC, true}, {CLOCK_WALL_GUEST, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct clock *c = clock_create();
        clock_set_wall(c, 1000000000);
        clock_set_wall_source(c, cases[i].source);
        s64 off = clock_wall(c, NULL) - 1000000000;
        cr_assert(off >= 0 && off < 100, "%lld", (long long)off);
        s64 lead = clock_wall_lead(c);
        clock_stop(c);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        clock_start(c);
        s64 gone = clock_wall_lead(c) - lead;
        if (cases[i].goes_on)
            cr_assert(gone >= 19000000, "%lld", (long long)gone);
        else
            cr_assert_eq(gone, 0);
        clock_destroy(c);
    }
}

Test(clock, host_clock_follows_the_host)
{
    struct clock *c = clock_create();
    u64 before = clock_now(c);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    u64 after = clock_now(c);
    cr_assert_geq(after - before, 2000000);
    cr_assert_lt(after, 60 * NS_PER_SECOND, "starts at creation");
    s64 earliest = (s64)time(NULL) - 1, wall = clock_wall(c, NULL), latest = (s64)time(NULL) + 1;
    cr_assert(earliest <= wall && wall <= latest);

    struct probe a = probe(c, 'a');
    CREATE(a);
    timer_arm(a.timer, clock_now(c) + 1000000);
    clock_run_due(c);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    clock_run_due(c);
    cr_assert_str_eq(fired, "a");
    timer_destroy(a.timer);
    clock_destroy(c);
}

Test(clock, muldiv64_keeps_the_wide_product)
{
    cr_assert_eq(muldiv64(UINT64_MAX, 1193182, 1193182), UINT64_MAX);
    cr_assert_eq(muldiv64(NS_PER_SECOND * 100000, 3579545, NS_PER_SECOND), 357954500000ull);
    cr_assert_eq(muldiv64(7, 3, 2), 10);
}

Test(clock, stopped_time_stands_still)
{
    struct clock *c = clock_create_manual();
    struct probe p = probe(c, 'a');
    CREATE(p);
    timer_arm(p.timer, 100);
    clock_advance(c, 50);
    clock_stop(c);
    clock_advance(c, 100);
    cr_assert_eq(clock_now(c), 50);
    cr_assert_eq(clock_next_deadline(c), UINT64_MAX);
    timer_arm(p.timer, 20); /* due, but not now */
    clock_run_due(c);
    cr_assert_str_eq(fired, "");
    clock_start(c);
    cr_assert_eq(clock_next_deadline(c), 20);
    clock_run_due(c);
    cr_assert_str_eq(fired, "a");
    timer_destroy(p.timer);
    clock_destroy(c);
}

Test(clock, host_time_is_made_up_for)
{
    struct clock *c = clock_create();
    clock_stop(c);
    u64 stopped = clock_now(c);
    struct timespec wait = {.tv_nsec = 300000000};
    nanosleep(&wait, NULL);
    cr_assert_eq(clock_now(c), stopped);
    /* Another, for what passes from now on. */
    struct clock *other = clock_create();
    u64 start = clock_now(other);
    clock_start(c);
    u64 gone = clock_now(c) - stopped;
    cr_assert_leq(gone, clock_now(other) - start + 1000000);
    clock_destroy(other);
    clock_destroy(c);
}

/* The local APIC's timer: one-shot, periodic and TSC-deadline modes.
 *
 * The counter's input is a 1 GHz bus clock behind the divider, so one undivided tick is a nanosecond of the
 * machine's clock. Instead of counting, the model keeps the time at which the counter reaches zero; the
 * current count follows from it exactly, in any mode. The host timer is armed only when an interrupt can
 * result.
 *
 * References: [SDM3] Intel SDM volume 3A, 11.5.4 (APIC timer). */
#include "devices/lapic_state.h"

static u64 lapic_timer_tick(const struct lapic *l)
{
    /* [SDM3] figure 11-10: bits 3, 1 and 0 are log2(divisor) - 1; 111 divides by 1. */
    u32 code = ((l->timer_divide >> 1) & 4) | (l->timer_divide & 3);
    return 1ull << ((code + 1) & 7);
}

static u32 lapic_timer_mode(const struct lapic *l) { return l->lvt[LVT_TIMER] & LVT_TIMER_MODE; }

static void lapic_timer_arm(struct lapic *l)
{
    if (l->lvt[LVT_TIMER] & LVT_MASKED) {
        timer_cancel(l->timer);
    } else if (lapic_timer_mode(l) == LVT_DEADLINE) {
        u64 when = l->timer_deadline ? l->cpu.tsc_to_ns(l->cpu.opaque, l->timer_deadline) : UINT64_MAX;
        /* A conversion that rounds down must not make the timer fire at the same instant forever. */
        if (when == UINT64_MAX) timer_cancel(l->timer);
        else timer_arm(l->timer, MAX(when, clock_now(l->clock) + 1));
    } else if (l->timer_running) {
        timer_arm(l->timer, l->timer_zero);
    } else {
        timer_cancel(l->timer);
    }
}

static void lapic_timer_interrupt(struct lapic *l)
{
    if (!(l->lvt[LVT_TIMER] & LVT_MASKED)) lapic_local_interrupt(l, l->lvt[LVT_TIMER] & 0xff, false);
}

void lapic_timer_sync(struct lapic *l)
{
    u64 now = clock_now(l->clock);
    if (lapic_timer_mode(l) == LVT_DEADLINE) {
        /* [SDM3] 11.5.4.1: firing disarms and clears the MSR. */
        if (!l->timer_deadline || l->cpu.ns_to_tsc(l->cpu.opaque, now) < l->timer_deadline) return;
        l->timer_deadline = 0;
        timer_cancel(l->timer);
        lapic_timer_interrupt(l);
        return;
    }
    if (!l->timer_running || now < l->timer_zero) return;
    if (lapic_timer_mode(l) == LVT_PERIODIC) {
        /* Expirations that were missed together make one interrupt, as IRR has one bit. */
        u64 period = l->timer_initial * lapic_timer_tick(l);
        l->timer_zero += ((now - l->timer_zero) / period + 1) * period;
    } else {
        l->timer_running = false;
    }
    lapic_timer_interrupt(l);
}

void lapic_timer_fire(void *opaque)
{
    struct lapic *l = opaque;
    lapic_timer_sync(l);
    lapic_timer_arm(l);
}

u32 lapic_timer_count(struct lapic *l)
{
    lapic_timer_sync(l);
    /* [SDM3] 11.5.4.1: the count reads as zero in TSC-deadline mode. */
    if (!l->timer_running || lapic_timer_mode(l) == LVT_DEADLINE) return 0;
    u64 tick = lapic_timer_tick(l);
    return (u32)((l->timer_zero - clock_now(l->clock) + tick - 1) / tick);
}

void lapic_timer_set_lvt(struct lapic *l, u32 value)
{
    lapic_timer_sync(l); /* what was due happens under the old settings */
    u32 old_mode = lapic_timer_mode(l);
    l->lvt[LVT_TIMER] = value;
    u32 mode = lapic_timer_mode(l);
    if (old_mode != mode && (old_mode == LVT_DEADLINE || mode == LVT_DEADLINE)) {
        /* [SDM3] 11.5.4.1: changing to or from TSC-deadline mode disarms the timer. Between one-shot and
         * periodic the counter goes on undisturbed. */
        l->timer_running = false;
        l->timer_initial = 0;
        l->timer_deadline = 0;
    }
    lapic_timer_arm(l);
}

void lapic_timer_set_initial(struct lapic *l, u32 value)
{
    if (lapic_timer_mode(l) == LVT_DEADLINE) return; /* ignored, [SDM3] 11.5.4.1 */
    lapic_timer_sync(l);
    l->timer_initial = value;
    l->timer_running = value != 0;
    l->timer_zero = clock_now(l->clock) + value * lapic_timer_tick(l);
    lapic_timer_arm(l);
}

void lapic_timer_set_divide(struct lapic *l, u32 value)
{
    u32 count = lapic_timer_count(l);
    l->timer_divide = value & 0xb;
    if (!l->timer_running) return;
    l->timer_zero = clock_now(l->clock) + count * lapic_timer_tick(l);
    lapic_timer_arm(l);
}

void lapic_timer_set_deadline(struct lapic *l, u64 tsc)
{
    if (lapic_timer_mode(l) != LVT_DEADLINE) return; /* ignored in the other modes */
    l->timer_deadline = tsc;
    lapic_timer_sync(l); /* a time that has passed fires at once */
    lapic_timer_arm(l);
}

void lapic_timer_reset(struct lapic *l)
{
    timer_cancel(l->timer);
    l->timer_initial = 0;
    l->timer_divide = 0;
    l->timer_running = false;
    l->timer_zero = 0;
    l->timer_deadline = 0;
}

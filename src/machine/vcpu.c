/* A vCPU: its thread, what its CPU wants from the machine, and the wires between it and its local APIC. */
#define _GNU_SOURCE
#include "machine/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/log.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "devices/apic_bus.h"
#include "translate/bt.h"

#define PHYS_ADDRESS_BITS   40
#define LAPIC_PAGE_PRIORITY 1 /* above the window where devices' writes are message-signalled interrupts */
#define LET_LOOP_THROUGH    200

static _Thread_local struct vcpu *current;

struct vcpu *machine_current_vcpu(void) { return current; }

/* ---- the CPU's hooks ---- */

static void hook_lock(void *opaque)
{
    struct vcpu *v = opaque;
    cpu_pause_ends(v->cpu);
    /* A guest that polls a device would otherwise keep the lock from the event loop. */
    for (int i = 0; i < LET_LOOP_THROUGH && __atomic_load_n(&v->machine->loop_wants, __ATOMIC_RELAXED); i++) sched_yield();
    pthread_mutex_lock(&v->machine->lock);
}

static void hook_unlock(void *opaque)
{
    struct vcpu *v = opaque;
    pthread_mutex_unlock(&v->machine->lock);
}

static u64 hook_tsc(void *opaque)
{
    struct vcpu *v = opaque;
    _Static_assert(CPUID_TSC_HZ == NS_PER_SECOND, "a TSC tick is a nanosecond");
    return clock_now(v->machine->clock) - v->cpu->tsc_zero;
}

static int hook_ack_interrupt(void *opaque)
{
    struct vcpu *v = opaque;
    return lapic_ack(v->lapic);
}

static bool hook_apic_msr_read(void *opaque, u32 msr, u64 *value)
{
    struct vcpu *v = opaque;
    return lapic_msr_read(v->lapic, msr, value);
}

static void place_lapic_page(struct vcpu *v)
{
    gpa base = lapic_base(v->lapic);
    if (region_base(v->lapic_page) != base) region_set_base(v->lapic_page, base);
}

static bool hook_apic_msr_write(void *opaque, u32 msr, u64 value)
{
    struct vcpu *v = opaque;
    bool ok = lapic_msr_write(v->lapic, msr, value);
    if (ok) place_lapic_page(v);
    return ok;
}

static u64 hook_cr8_read(void *opaque)
{
    struct vcpu *v = opaque;
    return lapic_cr8_read(v->lapic);
}

static void hook_cr8_write(void *opaque, u64 value)
{
    struct vcpu *v = opaque;
    lapic_cr8_write(v->lapic, value);
}

static void hook_ferr(void *opaque, int level)
{
    struct vcpu *v = opaque;
    pc_ferr(v->machine, level);
}

static u32 hook_apic_id(void *opaque)
{
    struct vcpu *v = opaque;
    return lapic_initial_id(v->lapic);
}

/* ---- what the local APIC does to its CPU; with the machine lock ---- */

static void apic_set_intr(void *opaque, bool level)
{
    struct vcpu *v = opaque;
    if (!v->cpu) return;
    if (level)
        machine_event(v, EVENT_INTR);
    else
        cpu_event_clear(v->cpu, EVENT_INTR);
}

static void apic_nmi(void *opaque)
{
    struct vcpu *v = opaque;
    cpu_raise_nmi(v->cpu);
    machine_event(v, 0);
}

static void apic_init(void *opaque)
{
    struct vcpu *v = opaque;
    cpu_raise_init(v->cpu);
    machine_event(v, 0);
}

static void apic_smi(void *opaque) { machine_event(opaque, EVENT_SMI); }

static void apic_sipi(void *opaque, u8 vector)
{
    struct vcpu *v = opaque;
    cpu_raise_sipi(v->cpu, vector);
    machine_event(v, 0);
}

static u64 apic_ns_to_tsc(void *opaque, u64 ns)
{
    struct vcpu *v = opaque;
    return ns - v->cpu->tsc_zero + v->cpu->tsc_offset;
}

static u64 apic_tsc_to_ns(void *opaque, u64 tsc)
{
    struct vcpu *v = opaque;
    /* Differences, so that a TSC which software has moved or wrapped still tells past from future. */
    u64 now = clock_now(v->machine->clock);
    s64 ahead = (s64)(tsc - apic_ns_to_tsc(v, now));
    if (ahead <= 0) return now > (u64)-ahead ? now - (u64)-ahead : 0;
    return (u64)ahead > UINT64_MAX - now ? UINT64_MAX : now + (u64)ahead;
}

/* ---- the local APIC's page: each vCPU finds its own APIC there ---- */

static u64 lapic_page_read(void *opaque, u64 offset, unsigned size)
{
    struct vcpu *page = opaque;
    u64 value = ~0ull;
    if (current) lapic_mmio_read(current->lapic, region_base(page->lapic_page) + offset, size, &value);
    return value;
}

static void lapic_page_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct vcpu *page = opaque;
    gpa address = region_base(page->lapic_page) + offset;
    if (current && lapic_mmio_write(current->lapic, address, value, size)) return;
    /* A device's write, or that of a vCPU whose APIC is elsewhere. */
    if (address >> 20 == LAPIC_DEFAULT_BASE >> 20) apic_bus_msi(page->apics, address, (u32)value);
}

static const struct region_ops lapic_page_ops = {
    .read = lapic_page_read, .write = lapic_page_write, .min_size = 1, .max_size = 8};

/* ---- life ---- */

bool vcpu_create(struct machine *m, struct vcpu *v, u32 index, struct apic_bus *apics, int (*extint)(void *opaque),
                 void *extint_opaque)
{
    const struct cpu_model *model = m->options->cpu_model;
    v->machine = m;
    v->apics = apics;
    pthread_cond_init(&v->wake, NULL);
    v->hooks = (struct cpu_hooks){
        .opaque = v,
        .lock = hook_lock,
        .unlock = hook_unlock,
        .tsc = hook_tsc,
        .scale = clock_scale(m->clock),
        .ack_interrupt = hook_ack_interrupt,
        .apic_msr_read = hook_apic_msr_read,
        .apic_msr_write = hook_apic_msr_write,
        .cr8_read = hook_cr8_read,
        .cr8_write = hook_cr8_write,
        .ferr = hook_ferr,
        .apic_id = hook_apic_id,
    };
    struct lapic_config config = {
        .id = index,
        .bsp = index == 0,
        .x2apic = cpu_has_bit(model, CPUID_1_ECX, CPUID_1_ECX_X2APIC),
        .tsc_deadline = cpu_has_bit(model, CPUID_1_ECX, CPUID_1_ECX_TSC_DEADLINE),
        .directed_eoi = false,
        .phys_bits = PHYS_ADDRESS_BITS,
        .extint_ack = extint,
        .extint_opaque = extint_opaque,
    };
    struct lapic_cpu wires = {
        .opaque = v,
        .set_intr = apic_set_intr,
        .nmi = apic_nmi,
        .init = apic_init,
        .sipi = apic_sipi,
        .smi = apic_smi,
        .ns_to_tsc = apic_ns_to_tsc,
        .tsc_to_ns = apic_tsc_to_ns,
    };
    v->cpu = cpu_create(index, m->mem, m->io, m->ram, &v->hooks, model,
                        m->options->interpret ? &interp_engine : &bt_engine);
    if (!v->cpu) return false;
    m->cpus[index] = v->cpu;
    v->cpu->smp = m->options->cpus > 1;
    v->cpu->all = m->cpus;
    v->cpu->count = m->options->cpus;
    v->lapic = lapic_create(apics, m->clock, &config, &wires);
    if (!v->lapic) return false;
    v->lapic_page = bus_add(m->mem, "lapic", LAPIC_DEFAULT_BASE, GUEST_PAGE_SIZE, LAPIC_PAGE_PRIORITY, &lapic_page_ops, v);
    return machine_add_device(m, lapic_device(v->lapic));
}

void vcpu_destroy(struct vcpu *v)
{
    if (!v->machine) return; /* never created */
    if (v->lapic_page) region_remove(v->lapic_page);
    if (v->cpu) v->machine->cpus[v->cpu->index] = NULL;
    cpu_destroy(v->cpu);
    v->cpu = NULL;
    pthread_cond_destroy(&v->wake);
}

void vcpu_reset(struct vcpu *v, u64 now)
{
    cpu_reset(v->cpu, false);
    v->cpu->tsc_zero = now;
    place_lapic_page(v);
}

/* ---- running ---- */

/* Stand still while the machine is held. With the lock. */
static void park(struct vcpu *v)
{
    struct machine *m = v->machine;
    v->parked = true;
    m->parked_count++;
    pthread_cond_signal(&m->parked);
    while (m->hold && !m->stopping) pthread_cond_wait(&v->wake, &m->lock);
    m->parked_count--;
    v->parked = false;
}

static void triple_fault(struct vcpu *v)
{
    struct machine *m = v->machine;
    log_printf(LOG_CPU_RESET, "Triple fault (CPU %u)\n", v->cpu->index);
    if (m->no_reboot) {
        fprintf(stderr, "calque: triple fault on vCPU %u\n", v->cpu->index);
        cpu_dump(v->cpu, stderr);
    }
    machine_request_reset(m, CAUSE_GUEST_RESET);
}

void *vcpu_thread(void *opaque)
{
    struct vcpu *v = opaque;
    struct machine *m = v->machine;
    current = v;
    __atomic_store_n(&v->tid, gettid(), __ATOMIC_RELAXED);
    prctl(PR_SET_TIMERSLACK, 1000); /* ns: cpu_pause() sleeps for microseconds */

    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        if (m->hold) {
            park(v);
            continue;
        }
        if (!cpu_has_work(v->cpu)) {
            pthread_cond_wait(&v->wake, &m->lock);
            continue;
        }
        pthread_mutex_unlock(&m->lock);
        __atomic_store_n(&v->cpu->in_guest, true, __ATOMIC_SEQ_CST);
        enum cpu_exit why = v->cpu->engine_ops->run(v->cpu);
        __atomic_store_n(&v->cpu->in_guest, false, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&m->lock);
        switch (why) {
        case EXIT_KICK: break; /* the top of the loop knows why */
        case EXIT_HALT: break; /* and sleeps there */
        case EXIT_TRIPLE: triple_fault(v); break;
        case EXIT_BROKEN: machine_request_exit(m, EXIT_FAILURE); break;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

bool vcpu_join(struct vcpu *v, const struct timespec *deadline)
{
    if (pthread_timedjoin_np(v->thread, NULL, deadline)) return false;
    v->started = false;
    return true;
}

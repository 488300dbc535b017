/* The life of a machine, and the main thread's loop.
 *
 * Threads: each vCPU has one (vcpu.c); the main thread runs the event loop. Devices and the memory map are touched
 * under the machine lock only. To reset the machine, all vCPUs are parked first: whoever wants a reset sets `hold`,
 * every vCPU that sees it stands still, and the main thread does the rest. */
#include "machine/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "machine/control.h"
#include "machine/monitor.h"

#define STOP_TIMEOUT_S 2 /* for a vCPU thread to notice the end */

/* ---- the machine lock, as the event loop takes it ---- */

static void loop_lock(void *opaque)
{
    struct machine *m = opaque;
    __atomic_store_n(&m->loop_wants, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&m->lock);
    __atomic_store_n(&m->loop_wants, 0, __ATOMIC_SEQ_CST);
}

static bool loop_try_lock(void *opaque)
{
    struct machine *m = opaque;
    if (pthread_mutex_trylock(&m->lock)) return false;
    if (!m->stopping) return true;
    pthread_mutex_unlock(&m->lock); /* the main thread takes everything down, and does not lock for that */
    return false;
}

static void loop_unlock(void *opaque)
{
    struct machine *m = opaque;
    pthread_mutex_unlock(&m->lock);
}

/* ---- requests ---- */

void machine_event(struct vcpu *v, u32 events)
{
    cpu_event_set(v->cpu, events);
    pthread_cond_signal(&v->wake);
}

/* Make all vCPUs stand still as soon as possible, and the main thread look. */
static void hold(struct machine *m)
{
    m->hold = true;
    for (unsigned i = 0; i < m->options->cpus; i++)
        if (m->vcpus[i].cpu) machine_event(&m->vcpus[i], EVENT_KICK);
    event_loop_wake(m->loop);
}

static void release(struct machine *m)
{
    if (m->state != RUN_RUNNING || m->reset_cause || m->shutdown_cause || m->exit_wanted) return;
    m->hold = false;
    for (unsigned i = 0; i < m->options->cpus; i++) pthread_cond_signal(&m->vcpus[i].wake);
}

void machine_request_reset(struct machine *m, const char *cause)
{
    if (m->no_reboot) {
        machine_request_power_off(m, cause);
        return;
    }
    m->reset_cause = cause;
    hold(m);
}

void machine_request_power_off(struct machine *m, const char *cause)
{
    m->shutdown_cause = cause;
    hold(m);
}

void machine_request_exit(struct machine *m, int code)
{
    m->exit_code = code;
    m->exit_wanted = true;
    hold(m);
}

void machine_quit(struct machine *m) { event_loop_quit(m->loop); }

/* ---- reset ---- */

static void reset_all(struct machine *m)
{
    if (log_enabled(LOG_CPU_RESET)) {
        for (unsigned i = 0; i < m->options->cpus; i++) {
            log_write("CPU Reset (CPU %u)\n", i);
            cpu_dump(m->vcpus[i].cpu, log_stream());
        }
    }
    bus_begin_update(m->mem);
    bus_begin_update(m->io);
    pc_reset(m);
    for (int i = 0; i < m->device_count; i++)
        if (m->devices[i]->cls->reset) m->devices[i]->cls->reset(m->devices[i]);
    u64 now = clock_now(m->clock);
    for (unsigned i = 0; i < m->options->cpus; i++) vcpu_reset(&m->vcpus[i], now);
    bus_end_update(m->io);
    bus_end_update(m->mem);
}

/* ---- life ---- */

bool machine_add_device(struct machine *m, struct device *d)
{
    if (!d) {
        fprintf(stderr, "calque: cannot create the machine's devices\n");
        return false;
    }
    if (m->device_count == MACHINE_DEVICES) {
        fprintf(stderr, "calque: too many devices\n");
        d->cls->destroy(d);
        return false;
    }
    m->devices[m->device_count++] = d;
    return true;
}

static void memory_map_changed(void *opaque)
{
    struct machine *m = opaque;
    for (unsigned i = 0; i < m->options->cpus; i++)
        if (m->vcpus[i].cpu) cpu_event_set(m->vcpus[i].cpu, EVENT_TLB_FLUSH);
}

static void code_written(void *opaque, u64 offset, u64 size)
{
    struct machine *m = opaque;
    for (unsigned i = 0; i < m->options->cpus; i++) {
        struct cpu *cpu = m->vcpus[i].cpu;
        if (cpu) cpu->engine_ops->invalidate(cpu, offset, size);
    }
}

/* Stores to video memory must be noticed again. */
static void dirty_cleared(void *opaque) { memory_map_changed(opaque); }

static bool dirty_settled(void *opaque)
{
    struct machine *m = opaque;
    for (unsigned i = 0; i < m->options->cpus; i++) {
        struct cpu *cpu = m->vcpus[i].cpu;
        if (!__atomic_load_n(&cpu->in_guest, __ATOMIC_SEQ_CST)) continue;
        if (__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & EVENT_TLB_FLUSH) return false;
    }
    return true;
}

/* The guest's wall clock: -rtc. */
static void set_clock(struct machine *m)
{
    if (m->options->rtc_fixed) {
        clock_set_wall(m->clock, m->options->rtc_base);
    } else if (m->options->rtc_localtime) {
        time_t now = time(NULL);
        struct tm local;
        localtime_r(&now, &local);
        clock_set_wall(m->clock, now + local.tm_gmtoff);
    }
    clock_set_wall_source(m->clock, m->options->rtc_clock);
}

static bool open_networks(struct machine *m)
{
    const struct options *o = m->options;
    for (int i = 0; i < o->net_count; i++)
        if (!(m->nets[i] = net_open(m->loop, &o->nets[i]))) return false;
    for (int i = 0; i < o->dump_count; i++)
        if (net_dump_start(m->nets[o->dumps[i].net], m->clock, o->dumps[i].file, o->dumps[i].snap_length)) return false;
    return true;
}

static bool open_audio(struct machine *m)
{
    const struct options *o = m->options;
    const struct audio_config nobody = {.kind = AUDIO_NONE, .rate = AUDIO_DEFAULT_RATE};
    for (int i = 0; i < o->audio_count; i++)
        if (!(m->audios[i] = audio_open(&o->audios[i], m->clock))) return false;
    return (m->audios[OPTIONS_AUDIOS] = audio_open(&nobody, m->clock)) != NULL;
}

static void close_displays(struct machine *m)
{
    for (int i = 0; i < OPTIONS_DISPLAYS; i++) {
        display_close(m->views[i]);
        m->views[i] = NULL;
    }
}

static void window_closed(void *opaque)
{
    control_event_cause(opaque, "SHUTDOWN", CAUSE_HOST_UI);
    machine_request_exit(opaque, 0);
}

static void show_running(struct machine *m)
{
    for (int i = 0; i < OPTIONS_DISPLAYS; i++) display_set_running(m->views[i], m->state == RUN_RUNNING);
}

static bool open_displays(struct machine *m)
{
    const struct options *o = m->options;
    struct display_host host = {.loop = m->loop, .display = m->display, .input = m->input, .name = o->name,
                                .quit = window_closed, .opaque = m};
    for (int i = 0; i < o->display_count; i++)
        if (o->displays[i].kind != DISPLAY_NONE && !(m->views[i] = display_open(&o->displays[i], &host))) return false;
    if (o->display_missing)
        fprintf(stderr, "calque: the screen is not shown: try -display vnc=:0, -display curses or -nographic\n");
    return true;
}

struct machine *machine_create(const struct options *options)
{
    struct machine *m = calloc(1, sizeof(*m));
    if (!m || !(m->vcpus = calloc(options->cpus, sizeof(*m->vcpus))) || !(m->cpus = calloc(options->cpus, sizeof(*m->cpus)))) {
        fprintf(stderr, "calque: out of memory\n");
        if (m) free(m->vcpus);
        free(m);
        return NULL;
    }
    m->options = options;
    m->no_reboot = options->no_reboot;
    m->no_shutdown = options->no_shutdown;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->parked, NULL);

    m->clock = clock_create();
    if (!m->clock || !(m->loop = event_loop_create(m->clock))) {
        machine_destroy(m);
        return NULL;
    }
    set_clock(m);
    m->mem = bus_create("memory", 1ull << 52);
    m->io = bus_create("io", 0x10000);
    m->display = display_create();
    m->input = input_create(m->clock);
    if (!m->mem || !m->io || !m->display || !m->input) {
        fprintf(stderr, "calque: out of memory\n");
        machine_destroy(m);
        return NULL;
    }
    for (int i = 0; i < options->chardev_count; i++) {
        m->chardevs[i] = chardev_open(m->loop, &options->chardevs[i]);
        if (!m->chardevs[i]) {
            machine_destroy(m);
            return NULL;
        }
    }
    if (!open_networks(m) || !open_audio(m) || !pc_create(m) || !open_displays(m)) {
        machine_destroy(m);
        return NULL;
    }
    /* After the serial ports, which have the input first where they share a terminal with a monitor. */
    for (int i = 0; i < options->monitor_count; i++) {
        m->monitors[i] = monitor_create(m, &options->monitors[i]);
        if (!m->monitors[i]) {
            machine_destroy(m);
            return NULL;
        }
    }
    bus_on_change(m->mem, memory_map_changed, m);
    ram_on_code_write(m->ram, code_written, m);
    ram_on_dirty_cleared(m->ram, dirty_cleared, dirty_settled, m);
    reset_all(m);
    if (options->start_stopped) {
        m->state = RUN_PRELAUNCH;
        m->hold = true;
        clock_stop(m->clock);
    }
    return m;
}

void machine_destroy(struct machine *m)
{
    if (!m) return;
    if (m->leaked) {
        /* Send what waits; under the lock, which is never given back. */
        pthread_mutex_lock(&m->lock);
        pc_close_drives(m);
        close_displays(m);
        for (int i = 0; i < m->options->chardev_count; i++) chardev_close(m->chardevs[i]);
        return;
    }
    close_displays(m);
    /* Nobody looks at the maps any more. */
    if (m->mem) bus_begin_update(m->mem);
    if (m->io) bus_begin_update(m->io);
    for (int i = m->device_count - 1; i >= 0; i--) m->devices[i]->cls->destroy(m->devices[i]);
    for (unsigned i = 0; i < m->options->cpus; i++) vcpu_destroy(&m->vcpus[i]);
    pc_destroy(m);
    for (int i = 0; i <= OPTIONS_AUDIOS; i++) audio_destroy(m->audios[i]);
    for (int i = 0; i < m->options->net_count; i++) netdev_close(m->nets[i]);
    for (int i = 0; i < m->options->monitor_count; i++) monitor_destroy(m->monitors[i]);
    for (int i = 0; i < m->options->chardev_count; i++) chardev_close(m->chardevs[i]);
    if (m->mem) bus_destroy(m->mem);
    if (m->io) bus_destroy(m->io);
    ram_destroy(m->ram);
    display_destroy(m->display);
    input_destroy(m->input);
    event_loop_destroy(m->loop);
    if (m->clock) clock_destroy(m->clock);
    pthread_cond_destroy(&m->parked);
    pthread_mutex_destroy(&m->lock);
    free(m->vcpus);
    free(m->cpus);
    free(m);
}

/* ---- running ---- */

static int start_vcpus(struct machine *m)
{
    /* Signals are the main thread's, except for those that an engine's own faults raise. */
    sigset_t block, old;
    sigfillset(&block);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) sigdelset(&block, faults[i]);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    int err = 0;
    for (unsigned i = 0; i < m->options->cpus && !err; i++) {
        struct vcpu *v = &m->vcpus[i];
        err = pthread_create(&v->thread, NULL, vcpu_thread, v);
        v->started = !err;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err) fprintf(stderr, "calque: cannot start a vCPU thread: %s\n", strerror(err));
    return err;
}

/* End the threads; a vCPU that does not notice in time is left to the end of the process: false. */
static bool stop_vcpus(struct machine *m)
{
    bool all = true;
    m->stopping = true;
    hold(m);
    pthread_mutex_unlock(&m->lock);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += STOP_TIMEOUT_S;
    for (unsigned i = 0; i < m->options->cpus; i++) {
        struct vcpu *v = &m->vcpus[i];
        if (!v->started) continue;
        if (!vcpu_join(v, &deadline)) all = false;
    }
    pthread_mutex_lock(&m->lock);
    return all;
}

/* Wait until all vCPUs stand still, after hold(). False: the machine is ending. */
static bool wait_parked(struct machine *m)
{
    while (m->parked_count < m->options->cpus && !event_loop_quitting(m->loop)) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 100000000;
        if (soon.tv_nsec >= (long)NS_PER_SECOND) soon.tv_sec++, soon.tv_nsec -= (long)NS_PER_SECOND;
        pthread_cond_timedwait(&m->parked, &m->lock, &soon);
    }
    return !event_loop_quitting(m->loop);
}

bool machine_park(struct machine *m)
{
    hold(m);
    return wait_parked(m);
}

void machine_unpark(struct machine *m) { release(m); }

void machine_stop(struct machine *m, enum run_state why)
{
    if (m->state != RUN_RUNNING || !machine_park(m)) return;
    clock_stop(m->clock);
    m->state = why;
    show_running(m);
    control_event(m, "STOP", NULL);
}

bool machine_cont(struct machine *m)
{
    if (m->state == RUN_RUNNING) return true;
    if (m->state == RUN_SHUTDOWN) return false;
    control_event(m, "RESUME", NULL);
    m->state = RUN_RUNNING;
    show_running(m);
    clock_start(m->clock);
    release(m);
    pc_retry_drives(m);
    return true;
}

const char *machine_state_name(const struct machine *m)
{
    static const char *const names[] = {"running", "prelaunch", "paused", "shutdown", "io-error"};
    return names[m->state];
}

static void take_reset(struct machine *m)
{
    if (!machine_park(m)) return;
    control_event_cause(m, "RESET", m->reset_cause);
    m->reset_cause = NULL;
    reset_all(m);
    if (m->state != RUN_RUNNING) m->state = RUN_PRELAUNCH;
    release(m);
}

static void take_power_off(struct machine *m)
{
    control_event_cause(m, "SHUTDOWN", m->shutdown_cause);
    m->shutdown_cause = NULL;
    if (m->no_shutdown)
        machine_stop(m, RUN_SHUTDOWN);
    else
        m->exit_wanted = true;
}

int machine_run(struct machine *m)
{
    event_loop_set_lock(m->loop, loop_lock, loop_try_lock, loop_unlock, m);
    pthread_mutex_lock(&m->lock);
    if (start_vcpus(m)) {
        m->exit_code = EXIT_FAILURE;
        m->exit_wanted = true;
    }
    while (!m->exit_wanted && !event_loop_quitting(m->loop)) {
        event_loop_run_once(m->loop);
        if (m->shutdown_cause && !m->exit_wanted) take_power_off(m);
        if (m->reset_cause && !m->exit_wanted) take_reset(m);
    }
    if (!m->exit_wanted && !event_loop_failed(m->loop)) control_event_cause(m, "SHUTDOWN", CAUSE_HOST_SIGNAL);
    bool stopped = stop_vcpus(m);
    pthread_mutex_unlock(&m->lock);

    /* A thread that still runs uses everything: then machine_destroy() frees nothing. */
    m->leaked = !stopped;
    return event_loop_failed(m->loop) ? EXIT_FAILURE : m->exit_code;
}

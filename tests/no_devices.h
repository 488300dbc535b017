/* What a processor needs from the machine around it, where there is none: everything reads as nothing. */
#ifndef TESTS_NO_DEVICES_H
#define TESTS_NO_DEVICES_H

#include "cpu/cpu.h"

static inline void none_lock(void *opaque) { (void)opaque; }
static inline u64 none_read(void *opaque)
{
    (void)opaque;
    return 0;
}
static inline int none_interrupt(void *opaque)
{
    (void)opaque;
    return -1;
}
static inline bool none_msr_read(void *opaque, u32 msr, u64 *value)
{
    (void)opaque, (void)msr, (void)value;
    return false;
}
static inline bool none_msr_write(void *opaque, u32 msr, u64 value)
{
    (void)opaque, (void)msr, (void)value;
    return false;
}
static inline void none_write(void *opaque, u64 value) { (void)opaque, (void)value; }
static inline void none_ferr(void *opaque, int level) { (void)opaque, (void)level; }
static inline u32 none_id(void *opaque)
{
    (void)opaque;
    return 0;
}

static const struct cpu_hooks no_devices = {
    .lock = none_lock, .unlock = none_lock, .tsc = none_read, .ack_interrupt = none_interrupt,
    .apic_msr_read = none_msr_read, .apic_msr_write = none_msr_write, .cr8_read = none_read, .cr8_write = none_write,
    .ferr = none_ferr, .apic_id = none_id,
};

#endif

/* The runtime of the bare-metal test images: printing, exceptions, processors. */
#include "runtime.h"

#include <stdarg.h>

handler *handlers[256];
struct frame last;
u64 last_cr2;
volatile u32 processor_apic_id[8];
static u32 passed, failed;

extern u64 try_stack;
extern int try_vector;
extern const u8 trampoline[], trampoline_end[];
void try_end(void);
void runtime_main(void);
void runtime_exception(struct frame *f);
void processor_main(unsigned n);

void *memset(void *to, int value, u64 size)
{
    for (u8 *p = to; size--;)
        *p++ = (u8)value;
    return to;
}
void *memcpy(void *to, const void *from, u64 size)
{
    const u8 *q = from;
    for (u8 *p = to; size--;)
        *p++ = *q++;
    return to;
}

/* ---- printing ---- */

static void put(char c)
{
    while (!(inb(0x3fd) & 0x20))
        pause();
    outb(0x3f8, (u8)c);
}

static void put_number(u64 v, unsigned base)
{
    char digits[24];
    unsigned n = 0;
    do
        digits[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    while (n)
        put(digits[--n]);
}

static void print_list(const char *format, va_list list)
{
    for (; *format; format++) {
        bool wide = false;
        if (*format != '%') {
            put(*format);
            continue;
        }
        if (*++format == 'l') wide = true, format++;
        if (*format == 's') {
            for (const char *s = va_arg(list, const char *); *s; s++)
                put(*s);
        } else if (*format == 'd') {
            int v = va_arg(list, int);
            if (v < 0) put('-');
            put_number((u64)(v < 0 ? -v : v), 10);
        } else {
            put_number(wide ? va_arg(list, u64) : va_arg(list, u32), *format == 'x' ? 16 : 10);
        }
    }
}

void print(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_list(format, list);
    va_end(list);
}

bool check(bool ok, const char *format, ...)
{
    va_list list;
    if (ok) {
        passed++;
        return true;
    }
    failed++;
    va_start(list, format);
    print_list(format, list);
    va_end(list);
    put('\n');
    return false;
}

static __attribute__((noreturn)) void end(void)
{
    print("%u passed, %u failed\n", passed, failed);
    outl(0xf4, failed ? 1 : 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* ---- exceptions ---- */

void set_gate(unsigned vector, const void *target, unsigned dpl, unsigned ist, u16 selector)
{
    u64 at = (u64)target;
    idt[2 * vector] = (at & 0xffff) | (u64)selector << 16 | (u64)ist << 32 | (u64)(0x8e | dpl << 5) << 40 |
                      (at >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = at >> 32;
}

void runtime_exception(struct frame *f)
{
    if (handlers[f->vector]) {
        handlers[f->vector](f);
        return;
    }
    if (!try_stack) {
        check(false, "unexpected vector %lu, error %lx, at %lx:%lx, CR2 %lx", f->vector, f->error, f->cs,
              f->rip, read_cr2());
        end();
    }
    last = *f;
    last_cr2 = read_cr2();
    try_vector = (int)f->vector;
    f->rip = (u64)try_end;
    f->cs = 0x08;
    f->ss = 0x10;
    f->rflags = 2;
    f->rsp = try_stack;
}

void runtime_main(void)
{
    u64 base = (u64)tss;
    gdt[10] = 103 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[11] = base >> 32;
    *(u16 *)(void *)(tss + 102) = sizeof tss; /* no I/O bitmap */
    __asm__ volatile("ltr %w0" : : "r"(0x50) : "memory");
    for (unsigned n = 0; n < 256; n++)
        set_gate(n, stubs[n], n == 3 || n == 4 || n == 0x80 ? 3 : 0, 0, 0x08);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    test();
    end();
}

/* ---- processors ---- */

static volatile u32 online = 1;
static void (*volatile work[8])(unsigned n);

unsigned cpu_count(void)
{
    outw(0x510, 5); /* fw_cfg: number of processors */
    u8 low = inb(0x511);
    return low | (unsigned)inb(0x511) << 8;
}

void processor_main(unsigned n)
{
    volatile u32 *apic = (u32 *)0xfee00000ul;
    apic[0xf0 / 4] = 0x1ff;
    processor_apic_id[n] = apic[0x20 / 4] >> 24;
    __sync_fetch_and_add(&online, 1);
    for (;;) {
        sti();
        while (!work[n])
            pause();
        work[n](n);
        work[n] = 0;
    }
}

bool start_processors(void)
{
    volatile u32 *apic = (u32 *)0xfee00000ul;
    unsigned count = cpu_count();
    apic[0xf0 / 4] = 0x1ff;
    memcpy((void *)0x8000, trampoline, (u64)(trampoline_end - trampoline));
    apic[0x300 / 4] = 0xc4500; /* INIT to all others, and without any delay */
    apic[0x300 / 4] = 0xc4608; /* the start-up message */
    u64 start = rdtsc();
    while (online < count && rdtsc() - start < 20 * SECOND)
        pause();
    return online == count;
}

void run_on(unsigned n, void (*code)(unsigned n)) { work[n] = code; }
void wait_for(unsigned n)
{
    while (work[n])
        pause();
}

void run_everywhere(void (*code)(unsigned n))
{
    unsigned count = cpu_count();
    for (unsigned n = 1; n < count; n++)
        run_on(n, code);
    code(0);
    for (unsigned n = 1; n < count; n++)
        wait_for(n);
}

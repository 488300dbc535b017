/* What the bare-metal test images share. A test is a function `test`, run in 64-bit mode at CPL 0 with
 * interrupts off. */
#ifndef RUNTIME_H
#define RUNTIME_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned u32;
typedef unsigned long u64;
typedef _Bool bool;
#define true 1
#define false 0

void test(void);

/* ---- results: only failures are printed; runtime_main() ends with the counts ---- */
void print(const char *format, ...); /* %s %d %u %x, l for 64 bits */
bool check(bool ok, const char *format, ...);
#define CHECK(condition) check(condition, "%s:%d: %s", __FILE__, __LINE__, #condition)

/* ---- exceptions and interrupts ---- */
struct frame {
    u64 r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, vector, error, rip, cs, rflags, rsp, ss;
};
typedef void handler(struct frame *f);
extern handler *handlers[256]; /* NULL: ends the running try(), else the image */
extern struct frame last;      /* of the exception that ended try() */
extern u64 last_cr2;

/* Run code: -1, or the vector of the exception or interrupt that ended it. try_user() does it at CPL 3, where
 * INT 80H ends it properly. */
int try(void (*code)(u64), u64 argument);
int try_user(const void *rip, void *rsp, u64 rflags, u64 rdi, u64 rsi);
void set_gate(unsigned vector, const void *target, unsigned dpl, unsigned ist, u16 selector);

/* ---- tables that start.S sets up ---- */
extern u8 stubs[][16];
extern u64 idt[512], gdt[12], pml4[512], page_directories[2048];
extern u8 tss[104];

/* ---- other processors ---- */
unsigned cpu_count(void);
/* Start them all; they wait for work. False: not all came up. */
bool start_processors(void);
extern volatile u32 processor_apic_id[8];
/* Run code(n) on processor n (from 1), or on all of them including this one. */
void run_on(unsigned n, void (*code)(unsigned n));
void wait_for(unsigned n);
void run_everywhere(void (*code)(unsigned n));

/* ---- instructions ---- */
static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port)
{
    u8 v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline u64 rdmsr(u32 msr)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return low | (u64)high << 32;
}
static inline void wrmsr(u32 msr, u64 v)
{
    __asm__ volatile("wrmsr" : : "a"((u32)v), "d"((u32)(v >> 32)), "c"(msr) : "memory");
}
static inline u64 rdtsc(void)
{
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return low | (u64)high << 32;
}
struct cpuid {
    u32 a, b, c, d;
};
static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}
#define DEFINE_REGISTER(name)                                                                                \
    static inline u64 read_##name(void)                                                                      \
    {                                                                                                        \
        u64 v;                                                                                               \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v) : : "memory");                                      \
        return v;                                                                                            \
    }                                                                                                        \
    static inline void write_##name(u64 v) { __asm__ volatile("mov %0, %%" #name : : "r"(v) : "memory"); }
DEFINE_REGISTER(cr0)
DEFINE_REGISTER(cr2)
DEFINE_REGISTER(cr3)
DEFINE_REGISTER(cr4)
DEFINE_REGISTER(cr8)
static inline void invlpg(u64 address) { __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory"); }
static inline void pause(void) { __asm__ volatile("pause" : : : "memory"); }
static inline void nop(void) { __asm__ volatile("nop" : : : "memory"); }
static inline void sti(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void cli(void) { __asm__ volatile("cli" : : : "memory"); }

/* The TSC counts nanoseconds. */
#define SECOND 1000000000ul

#endif

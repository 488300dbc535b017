/*
 * What flushing the TLB costs, on a bare machine with 32-bit paging: a Multiboot kernel (bench/mips_start.S) that prints
 * "NAME NANOSECONDS" for each item, the best of many runs, by the time-stamp counter, which must tick once a nanosecond. Ends
 * through isa-debug-exit at 0xf4. See bench/tlb.sh.
 */
enum { PAGES = 8, ROUNDS = 1000, RUNS = 200 };
#define WINDOW 0x00800000u /* where 4 KiB pages are mapped, which are not global; all else is in global pages of 4 MiB */

static unsigned directory[1024] __attribute__((aligned(4096)));
static unsigned table[1024] __attribute__((aligned(4096)));

static void out8(unsigned short port, unsigned char value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static void print(const char *text)
{
    for (; *text; text++) {
        unsigned char status;
        do __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((unsigned short)0x3fd));
        while (!(status & 0x20));
        out8(0x3f8, (unsigned char)*text);
    }
}

static void print_number(unsigned number)
{
    char text[12], *at = text + sizeof text - 1;
    *at = 0;
    do *--at = (char)('0' + number % 10);
    while (number /= 10);
    print(at);
}

static unsigned now(void)
{
    unsigned low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low;
}

static void load_cr3(void) { __asm__ volatile("mov %0, %%cr3" : : "r"(directory) : "memory"); }
static void invlpg(unsigned page) { __asm__ volatile("invlpg (%0)" : : "r"(WINDOW + page * 4096) : "memory"); }
static void touch(unsigned page) { (void)*(volatile unsigned *)(WINDOW + page * 4096); }
static void touch_all(void)
{
    for (unsigned n = 0; n < PAGES; n++) touch(n);
}

#define ITEM(name, what) \
    do { \
        unsigned best = ~0u; \
        for (unsigned run = 0; run < RUNS; run++) { \
            unsigned start = now(), took; \
            for (volatile unsigned n = 0; n < ROUNDS; n++) { what; } \
            took = now() - start; \
            if (took < best) best = took; \
        } \
        print(name " "); \
        print_number(best / ROUNDS); \
        print("\n"); \
    } while (0)

void bare_main(void)
{
    for (unsigned n = 0; n < 1024; n++) {
        directory[n] = n << 22 | 0x183; /* present, writable, large, global */
        table[n] = 0x00400000u | n << 12 | 3;
    }
    directory[WINDOW >> 22] = (unsigned)table | 3;
    load_cr3();
    __asm__ volatile("mov %%cr4, %%eax; or $0x90, %%eax; mov %%eax, %%cr4;" /* PSE, PGE */
                     "mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0" : : : "eax", "memory");
    ITEM("loop", (void)0);
    ITEM("touch", touch_all());
    ITEM("cr3", load_cr3());
    ITEM("cr3-touch", load_cr3(); touch_all());
    ITEM("invlpg", invlpg(PAGES));
    ITEM("invlpg-touch", invlpg(0); touch(0));
    print("done\n");
    out8(0xf4, 0);
}

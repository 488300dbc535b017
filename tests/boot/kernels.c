/* A kernel for tests/boot/kernels.sh: prints on the serial port how it was started, in a form that can be compared,
 * and ends the emulator through isa-debug-exit at 0xf4. Freestanding, 32 bits. */
typedef unsigned int u32;
typedef unsigned char u8;

/* MULTIBOOT: 1: a header for ELF; 2: one with addresses; 0: none. PVH: the entry note. */
#if MULTIBOOT == 1
__asm__(".section .header,\"a\"\n .balign 4\n .long 0x1badb002, 3, -(0x1badb002 + 3)\n");
#elif MULTIBOOT == 2
__asm__(".section .header,\"a\"\n .balign 4\nheader: .long 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)\n"
        ".long header, image_start, data_end, bss_end, _start\n");
#endif
#if PVH
__asm__(".section .note.pvh,\"a\",@note\n .long 4, 4, 18\n .asciz \"Xen\"\n .long _start\n");
#endif

__asm__(".section .text\n .globl _start\n"
        "_start:\n"
        "   mov $stack + 8192, %esp\n"
        "   push %ebx\n"
        "   push %eax\n"
        "   call kernel\n"
        ".section .bss\n .balign 16\n"
        "stack: .skip 8192\n"
        ".text\n");

static void outb(unsigned port, u8 value) { __asm__ volatile("outb %0, %w1" : : "a"(value), "d"(port)); }

static void put(const char *text)
{
    while (*text) outb(0x3f8, (u8)*text++);
}

static void put_bytes(u32 address, u32 size)
{
    while (size--) outb(0x3f8, *(volatile u8 *)address++);
}

static void number(const char *name, u32 value)
{
    put(name);
    for (int shift = 28; shift >= 0; shift -= 4) outb(0x3f8, (u8) "0123456789abcdef"[value >> shift & 15]);
    put("\n");
}

static u32 cr0(void)
{
    u32 value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

static void multiboot(const u32 *info)
{
    number("flags=", info[0]);
    number("lower=", info[1]);
    number("upper=", info[2]);
    put("cmdline="), put((const char *)info[4]), put("\n");
    put("loader="), put((const char *)info[16]), put("\n");
    const u32 *module = (const u32 *)info[6];
    for (u32 i = 0; i < info[5]; i++, module += 4) {
        put("module="), put((const char *)module[2]), put(" {");
        put_bytes(module[0], module[1] - module[0]);
        put("}\n");
        number("aligned=", module[0] & 0xfff);
    }
    u32 usable = 0;
    for (u32 at = info[12]; at < info[12] + info[11]; at += *(u32 *)at + 4) {
        const u32 *entry = (const u32 *)at;
        if (entry[5] == 1) usable += entry[3];
    }
    number("usable=", usable);
}

static void pvh(const u32 *start)
{
    number("version=", start[1]);
    put("cmdline="), put((const char *)start[6]), put("\n");
    const u32 *module = (const u32 *)start[4];
    for (u32 i = 0; i < start[3]; i++, module += 8) {
        put("module={");
        put_bytes(module[0], module[2]);
        put("}\n");
    }
    put("rsdp="), put_bytes(start[8], 8), put("\n");
    u32 usable = 0;
    const u32 *entry = (const u32 *)start[10];
    for (u32 i = 0; i < start[12]; i++, entry += 6)
        if (entry[4] == 1) usable += entry[2];
    number("usable=", usable);
}

static u32 zero[64]; /* must be cleared by the loader */

void kernel(u32 eax, const u32 *ebx)
{
    u32 dirt = 0;
    for (int i = 0; i < 64; i++) dirt |= zero[i];
    number("bss=", dirt);
    number("cr0=", cr0() & 0xe0000001);
    if (eax == 0x2badb002)
        put("multiboot\n"), multiboot(ebx);
    else if (ebx && ebx[0] == 0x336ec578)
        put("pvh\n"), pvh(ebx);
    else
        put("plain\n");
    outb(0xf4, 0x10);
    for (;;) continue;
}

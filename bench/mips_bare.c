/*
 * The mixes of bench/mixes.S as a 32-bit Multiboot kernel, without an operating system, interrupts or paging.
 * The kernel's command line ends in the millions of instructions for each mix (100). On the first serial port it
 * prints "NAME INSTRUCTIONS" when a mix starts and "end" when it is done; who reads it takes the time
 * (bench/mips.sh). Ends through isa-debug-exit at 0xf4.
 */
#include "mixes.h"

static double buffer[65536 / sizeof(double)];

static void out8(unsigned short port, unsigned char value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static unsigned char in8(unsigned short port)
{
    unsigned char value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20)) {
        }
        out8(0x3f8, (unsigned char)*text);
    }
}

static void print_number(unsigned number)
{
    char text[12];
    char *at = text + sizeof text - 1;
    *at = 0;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    print(at);
}

/* The Multiboot information's flags (bit 2: there is a command line) and cmdline. */
static unsigned millions(const unsigned *info)
{
    unsigned number = 0;
    if (!(info[0] & 4)) {
        return 100;
    }
    for (const char *text = (const char *)info[4]; *text; text++) {
        if (*text >= '0' && *text <= '9') {
            number = number * 10 + (unsigned)(*text - '0');
        } else {
            number = 0;
        }
    }
    return number ? number : 100;
}

void bare_main(const unsigned *info)
{
    unsigned count = millions(info);
    for (unsigned i = 0; i < MIX_COUNT; i++) {
        unsigned length = *mixes[i].length;
        unsigned iterations = count * 1000 / length * 1000;
        for (unsigned k = 1; k < sizeof buffer / sizeof buffer[0]; k++) {
            buffer[k] = 0;
        }
        buffer[0] = 1.5;
        mixes[i].run(iterations / 100 + 1, buffer); /* warm up */
        print(mixes[i].name);
        print(" ");
        print_number(iterations / 1000 * length);
        print("000\n");
        mixes[i].run(iterations, buffer);
        print("end\n");
    }
    print("done\n");
    out8(0xf4, 0);
}

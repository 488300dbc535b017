/*
 * Millions of instructions a second, per mix of bench/mixes.S, as a program of the host or of a Linux guest.
 *   mips [MILLIONS]
 * Each mix runs for that many million instructions (200). Prints "NAME MIPS" lines. bench/mips.sh builds and runs it.
 */
#include "mixes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double buffer[65536 / sizeof(double)];

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    double instructions = (argc > 1 ? atof(argv[1]) : 200) * 1e6;
    for (size_t i = 0; i < MIX_COUNT; i++) {
        unsigned iterations = (unsigned)(instructions / *mixes[i].length) + 1;
        memset(buffer, 0, sizeof buffer);
        buffer[0] = 1.5;
        mixes[i].run(iterations / 100 + 1, buffer); /* warm up */
        double start = seconds();
        mixes[i].run(iterations, buffer);
        double elapsed = seconds() - start;
        printf("%s %.1f\n", mixes[i].name, (double)iterations * *mixes[i].length / elapsed * 1e-6);
        fflush(stdout);
    }
    return 0;
}

/*
 * Runs one item, or one command, and prints how long it took: elapsed and processor time.
 *   bench ITEM [PERCENT]       prints "SECONDS SUM CPU-SECONDS"; PERCENT of the item's rounds (100). An item
 * that the processor has no instructions for prints "- unsupported" bench -t COMMAND...        runs a
 * command, without its output; prints "SECONDS STATUS CPU-SECONDS" bench -l                   prints "CLASS
 * ITEM" for each item bench -n                   does nothing
 */
#include "item.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *item_program;

static const struct item *const classes[] = {integer_items, float_items,   memory_items, call_items,
                                             syscall_items, process_items, fault_items,  smc_items};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double cpu_seconds(void)
{
    double sum = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) { /* -1 and 0 */
        struct rusage usage;
        getrusage(who, &usage);
        sum += (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    }
    return sum;
}

void item_check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int run_command(char **command)
{
    int status, byte;
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    FILE *output = tmpfile();
    item_check(output != NULL, "tmpfile");
    double start = seconds();
    pid_t child = fork();
    item_check(child >= 0, "fork");
    if (child == 0) {
        dup2(fileno(output), 1);
        execvp(command[0], command);
        _exit(127);
    }
    item_check(waitpid(child, &status, 0) == child, "waitpid");
    double taken = seconds() - start, used = cpu_seconds();
    if (status != 0) return 1;
    rewind(output);
    while ((byte = getc_unlocked(output)) != EOF) {
        sum = (sum ^ (uint64_t)byte) * 1099511628211u;
    }
    printf("%.6f %" PRIx64 " %.6f\n", taken, sum, used);
    return 0;
}

int main(int argc, char **argv)
{
    item_program = argv[0];
    if (argc < 2 || !strcmp(argv[1], "-n")) {
        return 0;
    }
    if (!strcmp(argv[1], "-t") && argc > 2) {
        return run_command(argv + 2);
    }
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        for (const struct item *item = classes[i]; item->name; item++) {
            if (!strcmp(argv[1], "-l")) {
                printf("%s %s\n", item->class, item->name);
            } else if (!strcmp(argv[1], item->name)) {
                unsigned rounds = (unsigned)(item->rounds * (argc > 2 ? atof(argv[2]) : 100) / 100);
                if (item->supported && !item->supported()) {
                    printf("- unsupported\n");
                    return 0;
                }
                double start = seconds(), used = cpu_seconds();
                uint64_t sum = item->run(rounds ? rounds : 1);
                printf("%.6f %" PRIx64 " %.6f\n", seconds() - start, sum, cpu_seconds() - used);
                return 0;
            }
        }
    }
    return strcmp(argv[1], "-l") != 0;
}

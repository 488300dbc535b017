/* Page faults: pages that appear at a touch, that are copied on a write, and that a program protects from
 * itself. */
#define _GNU_SOURCE
#include "item.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static volatile char *map(size_t pages)
{
    void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    item_check(at != MAP_FAILED, "mmap");
    return at;
}

/* Map 1 MiB, touch each page, unmap. */
static uint64_t touch(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        volatile char *at = map(256);
        for (size_t page = 0; page < 256; page++) {
            at[page * PAGE] = 1;
            sum += (uint64_t)at[page * PAGE + 1] + 1;
        }
        munmap((void *)at, 256 * PAGE);
    }
    return sum;
}

static volatile char *guarded;
static volatile uint64_t faults;
static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    item_check(info->si_addr == (const void *)guarded, "fault address");
    faults++;
    mprotect((void *)guarded, PAGE, PROT_READ | PROT_WRITE);
}

/* Protect a page, write to it, let the handler of the fault open it: a garbage collector's write barrier. */
static uint64_t protect(unsigned rounds)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    guarded = map(1);
    while (rounds--) {
        mprotect((void *)guarded, PAGE, PROT_READ);
        *guarded = 1;
    }
    return faults;
}

/* Protect and open again 64 pages out of many that are in use. */
static uint64_t reprotect(unsigned rounds)
{
    volatile char *at = map(1024);
    uint64_t sum = 0;
    for (size_t page = 0; page < 1024; page++) {
        at[page * PAGE] = (char)page;
    }
    while (rounds--) {
        mprotect((void *)(at + 512 * PAGE), 64 * PAGE, PROT_READ);
        sum += (uint64_t)(uint8_t)at[520 * PAGE];
        mprotect((void *)(at + 512 * PAGE), 64 * PAGE, PROT_READ | PROT_WRITE);
        for (size_t page = 0; page < 1024; page += 8) {
            sum += (uint64_t)(uint8_t)at[page * PAGE];
        }
    }
    return sum;
}

/* A child writes to 128 pages that it shares with its parent. */
static uint64_t copy_on_write(unsigned rounds)
{
    volatile char *at = map(128);
    uint64_t sum = 0;
    for (size_t page = 0; page < 128; page++) {
        at[page * PAGE] = 5;
    }
    while (rounds--) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            for (size_t page = 0; page < 128; page++) {
                at[page * PAGE]++;
            }
            _exit(at[5 * PAGE]);
        }
        item_check(child > 0 && waitpid(child, &status, 0) == child, "fork");
        sum += (uint64_t)WEXITSTATUS(status);
    }
    return sum + (uint64_t)at[5 * PAGE];
}

const struct item fault_items[] = {
    {"fault", "touch", touch, 2500, NULL},
    {"fault", "write-barrier", protect, 100000, NULL},
    {"fault", "reprotect", reprotect, 40000, NULL},
    {"fault", "copy-on-write", copy_on_write, 1200, NULL},
    {NULL, NULL, NULL, 0, NULL},
};

/* System calls, and what the kernel does for them: switches between processes, signals, files. */
#define _GNU_SOURCE
#include "item.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The shortest one. */
static uint64_t getpid_call(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        sum += syscall(SYS_getppid) >= 0;
    }
    return sum;
}

/* The time, which is no system call where the kernel trusts the time stamp counter. */
static uint64_t clock_call(unsigned rounds)
{
    uint64_t sum = 0;
    struct timespec now;
    while (rounds--) {
        sum += clock_gettime(CLOCK_MONOTONIC, &now) == 0;
    }
    return sum;
}

/* 4 KiB from one device to another. */
static uint64_t read_write(unsigned rounds)
{
    static char buffer[4096];
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    uint64_t sum = 0;
    item_check(zero >= 0 && null >= 0, "/dev/zero, /dev/null");
    while (rounds--) {
        sum += (uint64_t)read(zero, buffer, sizeof buffer);
        sum += (uint64_t)write(null, buffer, sizeof buffer);
    }
    close(zero);
    close(null);
    return sum;
}

/* A byte through a pipe and back out. */
static uint64_t pipe_self(unsigned rounds)
{
    int ends[2];
    uint64_t sum = 0;
    item_check(pipe(ends) == 0, "pipe");
    while (rounds--) {
        char byte = (char)rounds;
        item_check(write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1, "pipe");
        sum += (uint8_t)byte;
    }
    return sum;
}

/* Two processes on one processor hand a byte to and fro. */
static uint64_t pipe_switch(unsigned rounds)
{
    int there[2], back[2];
    char byte = 0;
    uint64_t sum = 0;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    item_check(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();
    item_check(child >= 0, "fork");
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte++;
            if (write(back[1], &byte, 1) != 1) {
                break;
            }
        }
        _exit(0);
    }
    while (rounds--) {
        item_check(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "pipe");
        sum += (uint8_t)byte;
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    return sum;
}

/* Paths looked up, files opened and closed. */
static uint64_t files(unsigned rounds)
{
    uint64_t sum = 0;
    struct stat status;
    while (rounds--) {
        int file = open("/proc/self/status", O_RDONLY);
        item_check(file >= 0, "/proc/self/status");
        sum += (uint64_t)(fstat(file, &status) == 0) + (uint64_t)(stat("/dev/null", &status) == 0);
        close(file);
    }
    return sum;
}

static volatile unsigned caught;
static void on_signal(int number)
{
    (void)number;
    caught++;
}

/* A signal to itself, its handler and back. */
static uint64_t signals(unsigned rounds)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    while (rounds--) {
        raise(SIGUSR1);
    }
    return caught;
}

const struct item syscall_items[] = {
    {"syscall", "getppid", getpid_call, 2500000, NULL},    {"syscall", "clock", clock_call, 12000000, NULL},
    {"syscall", "read-write", read_write, 500000, NULL},   {"syscall", "pipe", pipe_self, 600000, NULL},
    {"syscall", "pipe-switch", pipe_switch, 120000, NULL}, {"syscall", "files", files, 150000, NULL},
    {"syscall", "signal", signals, 500000, NULL},          {NULL, NULL, NULL, 0, NULL},
};

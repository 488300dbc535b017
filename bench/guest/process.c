/* Processes and threads, made and ended. */
#define _GNU_SOURCE
#include "item.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t wait_for(pid_t child)
{
    int status;
    item_check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
    return 1;
}

static uint64_t fork_only(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        sum += wait_for(child);
    }
    return sum;
}

static uint64_t fork_exec(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        pid_t child = fork();
        if (child == 0) {
            execl(item_program, item_program, "-n", (char *)NULL);
            _exit(1);
        }
        sum += wait_for(child);
    }
    return sum;
}

static uint64_t vfork_exec(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        pid_t child = vfork();
        if (child == 0) {
            execl(item_program, item_program, "-n", (char *)NULL);
            _exit(1);
        }
        sum += wait_for(child);
    }
    return sum;
}

static void *thread_main(void *argument) { return argument; }

static uint64_t threads(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        pthread_t thread;
        item_check(pthread_create(&thread, NULL, thread_main, NULL) == 0, "pthread_create");
        sum += pthread_join(thread, NULL) == 0;
    }
    return sum;
}

const struct item process_items[] = {
    {"process", "fork", fork_only, 3000, NULL},
    {"process", "fork-exec", fork_exec, 500, NULL},
    {"process", "vfork-exec", vfork_exec, 600, NULL},
    {"process", "thread", threads, 20000, NULL},
    {NULL, NULL, NULL, 0, NULL},
};

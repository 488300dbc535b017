/* Going to the background: the old process waits at a pipe for what becomes of the new one, whose messages are still seen. */
#define _GNU_SOURCE
#include "host/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int daemon_fork(int *token)
{
    int ends[2];
    char told = 0;
    pid_t child = pipe2(ends, O_CLOEXEC) < 0 ? -1 : fork();
    if (child < 0) {
        fprintf(stderr, "calque: -daemonize: %s\n", strerror(errno));
        return -errno;
    }
    if (!child) {
        close(ends[0]);
        *token = ends[1];
        setsid();
        return 0;
    }
    close(ends[1]);
    while (read(ends[0], &told, 1) < 0 && errno == EINTR)
        continue;
    close(ends[0]);
    return told ? 1 : -ECHILD;
}

void daemon_ready(int token)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; nowhere >= 0 && fd <= 2; fd++) dup2(nowhere, fd);
    if (nowhere > 2) close(nowhere);
    while (write(token, "+", 1) < 0 && errno == EINTR)
        continue;
    close(token);
}

/* Calque's program: reads the command line, builds the machine, runs it. The only place that ends the process. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "host/daemon.h"
#include "host/terminal.h"
#include "machine/machine.h"
#include "machine/options.h"
#include "translate/perfmap.h"

static struct machine *running;               /* for the signal handler; NULL while it is built or taken down */
static volatile sig_atomic_t signal_received; /* the one that ended it, 0: none */

static void on_signal(int sig)
{
    if (!running) {
        terminal_restore();
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    signal_received = sig;
    machine_quit(running);
}

static void catch_signals(void)
{
    static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (size_t i = 0; i < ARRAY_LEN(sigs); i++) {
        struct sigaction old;
        /* nohup and the like stay in force. */
        if (sigaction(sigs[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(sigs[i], &action, NULL);
    }
    signal(SIGPIPE, SIG_IGN); /* writes report it */
}

static int write_pidfile(const char *path)
{
    FILE *f = fopen(path, "w");
    if (f && fprintf(f, "%ld\n", (long)getpid()) > 0 && fclose(f) == 0) return 0;
    fprintf(stderr, "calque: cannot write pidfile %s: %s\n", path, strerror(errno));
    return -errno;
}

static int run(const struct options *o)
{
    int daemon = -1, forked = o->daemonize ? daemon_fork(&daemon) : 0;
    if (forked) return forked > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    if (o->log_file && log_open(o->log_file) < 0) return EXIT_FAILURE;
    if (o->log_items) log_parse(o->log_items, &log_mask, NULL);
    if (o->perfmap && perfmap_open() < 0) return EXIT_FAILURE;
    if (o->pidfile && write_pidfile(o->pidfile) < 0) return EXIT_FAILURE;

    struct machine *m = machine_create(o);
    int code = EXIT_FAILURE;
    if (m && o->daemonize) daemon_ready(daemon);
    if (m) {
        running = m;
        code = machine_run(m);
        if (signal_received) fprintf(stderr, "calque: terminating on signal %d\n", (int)signal_received);
        machine_destroy(m);
        running = NULL;
    }
    if (o->pidfile) unlink(o->pidfile);
    return code;
}

int main(int argc, char **argv)
{
    struct options options;
    /* A vCPU allocates much and all the time: arenas of its own would grow by a system call for each page. */
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TOP_PAD, 1 << 20);
    catch_signals();
    int parsed = options_parse(&options, argc, argv);
    int code = parsed < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    if (!parsed) code = run(&options);
    options_free(&options);
    terminal_restore();
    if (fflush(stdout) && code == EXIT_SUCCESS) code = EXIT_FAILURE;
    return code;
}

/* Raw mode on the user's terminal, and its way back.
 *
 * The terminal is the process's, so this state is static: one machine per process may have it. The signal
 * handlers use only async-signal-safe calls (tcsetattr() is one, see signal-safety(7)). SIGINT, SIGTERM and
 * SIGHUP are not handled here: they end the machine in order (main.c), which ends in terminal_restore(). */
#include "host/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;          /* as we found it */
static struct termios raw;            /* as we set it */
static int terminal_fd = -1;          /* which; -1: never set */
static volatile sig_atomic_t is_raw;  /* saved must be restored */

/* Set attributes even from a background job (SIGTTOU would stop us). */
static int set_attributes(const struct termios *t)
{
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    int result;
    do result = tcsetattr(terminal_fd, TCSANOW, t);
    while (result < 0 && errno == EINTR);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return result < 0 ? -errno : 0;
}

void terminal_restore(void)
{
    if (!is_raw) return;
    is_raw = 0;
    int err = errno;
    set_attributes(&saved);
    errno = err;
}

/* A signal that kills: give the terminal back, then let it. */
static void fatal(int sig)
{
    terminal_restore();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void stop(int sig)
{
    int err = errno;
    bool was_raw = is_raw;
    terminal_restore();

    /* Stop for real: default action, and the signal unblocked while we are in its handler. */
    struct sigaction ours, dfl;
    memset(&dfl, 0, sizeof(dfl));
    dfl.sa_handler = SIG_DFL;
    sigaction(sig, &dfl, &ours);
    sigset_t unblock, old;
    sigemptyset(&unblock);
    sigaddset(&unblock, sig);
    pthread_sigmask(SIG_UNBLOCK, &unblock, &old);
    raise(sig);

    /* Continued. */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    sigaction(sig, &ours, NULL);
    if (was_raw && tcgetpgrp(terminal_fd) == getpgrp()) {
        is_raw = 1;
        set_attributes(&raw);
    }
    errno = err;
}

/* Stopped by SIGSTOP, which nobody can catch, a shell may have reset the terminal meanwhile. */
static void continued(int sig)
{
    (void)sig;
    int err = errno;
    if (is_raw && tcgetpgrp(terminal_fd) == getpgrp()) set_attributes(&raw);
    errno = err;
}

static void catch(int sig, void (*handler)(int), int flags)
{
    struct sigaction old, action;
    /* Somebody else's handler (a sanitizer's, an engine's) stays. */
    if (sigaction(sig, NULL, &old) < 0 || old.sa_handler != SIG_DFL || (old.sa_flags & SA_SIGINFO)) return;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(sig, &action, NULL);
}

int terminal_raw(int fd, bool signals)
{
    if (!isatty(fd) || tcgetpgrp(fd) != getpgrp()) return 0;
    if (tcgetattr(fd, &saved) < 0) return -errno;
    terminal_fd = fd;

    raw = saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals) raw.c_lflag &= ~(tcflag_t)ISIG;
    raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
    raw.c_cflag |= CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;

    static const int killers[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT, SIGQUIT, SIGALRM, SIGXCPU, SIGXFSZ, SIGSYS};
    for (size_t i = 0; i < ARRAY_LEN(killers); i++) catch(killers[i], fatal, SA_RESTART);
    catch(SIGTSTP, stop, SA_RESTART);
    catch(SIGCONT, continued, SA_RESTART);
    atexit(terminal_restore);

    is_raw = 1;
    return set_attributes(&raw);
}

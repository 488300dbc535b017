/* Going to the background. */
#ifndef HOST_DAEMON_H
#define HOST_DAEMON_H

/* Before any thread exists. In the new process, which has a session of its own: 0, and what daemon_ready() wants. In the old
 * one, when the new one is ready: 1; when it has ended before, or cannot be made: negative errno. */
int daemon_fork(int *token);
/* Standard input, output and error lead nowhere from now on, and the old process is told. */
void daemon_ready(int token);

#endif

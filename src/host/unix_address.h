/* Addresses of Unix sockets. */
#ifndef HOST_UNIX_ADDRESS_H
#define HOST_UNIX_ADDRESS_H

#include <sys/un.h>

#include "core/types.h"

/* 0 or -errno. For a server the socket of an earlier run, but nothing else, makes way. */
int unix_address(struct sockaddr_un *address, const char *path, bool server);

#endif

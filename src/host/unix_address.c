/* What goes into a Unix socket's address, and what is in its way. */
#include "host/unix_address.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int unix_address(struct sockaddr_un *address, const char *path, bool server)
{
    struct stat st;
    if (!path[0]) return -ENOENT;
    if (strlen(path) >= sizeof(address->sun_path)) return -ENAMETOOLONG;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    strcpy(address->sun_path, path);
    if (server && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) unlink(path);
    return 0;
}

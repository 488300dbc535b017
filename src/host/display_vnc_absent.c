/* Built without libvncserver: VNC displays are refused. */
#include "host/display_open.h"

#include <stdio.h>

const bool display_vnc_present = false;

struct display_view *display_vnc_open(const struct display_config *config, const struct display_host *host)
{
    (void)host;
    fprintf(stderr, "calque: %s: not built in\n", config->option);
    return NULL;
}

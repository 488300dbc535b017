/* Which display is which. */
#include "host/display_open.h"

#include <errno.h>
#include <stddef.h>

struct display_view *display_open(const struct display_config *config, const struct display_host *host)
{
    switch (config->kind) {
    case DISPLAY_VNC: return display_vnc_open(config, host);
    case DISPLAY_SDL: return display_sdl_open(config, host);
    case DISPLAY_CURSES: return display_curses_open(config, host);
    case DISPLAY_NONE: break;
    }
    return NULL;
}

void display_close(struct display_view *v)
{
    if (v) v->ops->destroy(v);
}

void display_set_running(struct display_view *v, bool running)
{
    if (v && v->ops->set_running) v->ops->set_running(v, running);
}

int display_set_password(struct display_view *v, const char *password)
{
    return v && v->ops->set_password ? v->ops->set_password(v, password) : -ENOTSUP;
}

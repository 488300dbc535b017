/* The host's displays: windows, VNC servers, terminals that show the guest's screen and send it keys. */
#ifndef HOST_DISPLAY_OPEN_H
#define HOST_DISPLAY_OPEN_H

#include "core/display.h"
#include "core/input.h"
#include "core/types.h"
#include "host/event_loop.h"

enum display_kind {
    DISPLAY_NONE,   /* nobody looks */
    DISPLAY_VNC,    /* clients of a VNC server */
    DISPLAY_SDL,    /* a window */
    DISPLAY_CURSES, /* text modes in our terminal */
};

enum vnc_share { VNC_SHARE_EXCLUSIVE, VNC_SHARE_FORCE, VNC_SHARE_IGNORE };

/* As given by -display, -vnc and their like. */
struct display_config {
    enum display_kind kind;  /* which */
    char *option;            /* for messages: "-vnc :1" */
    char *host;              /* VNC: NULL or "": any address */
    char *path;              /* VNC: Unix socket; NULL: TCP */
    u16 port, last_port;     /* VNC: the first that is free */
    bool password;           /* VNC: clients must know one */
    enum vnc_share share;    /* VNC: what becomes of other clients */
    bool full_screen;        /* SDL: start with it */
    bool keep_open;          /* SDL: closing the window does nothing (window-close=off) */
    bool show_cursor;        /* SDL: the host's pointer stays visible */
    unsigned grab_modifiers; /* SDL: DISPLAY_GRAB_*: what opens shortcuts */
};

enum { DISPLAY_GRAB_CTRL_ALT, DISPLAY_GRAB_CTRL_ALT_SHIFT, DISPLAY_GRAB_RIGHT_CTRL };

/* What a display is connected to. */
struct display_host {
    struct event_loop *loop;   /* where it works */
    struct display *display;   /* what it shows */
    struct input *input;       /* where keys go */
    const char *name;          /* the machine's, NULL: none */
    void (*quit)(void *opaque); /* the user closes the window */
    void *opaque;              /* for quit */
};

struct display_view;

/* NULL with a message on stderr. config and host->name must live as long as the view. */
struct display_view *display_open(const struct display_config *config, const struct display_host *host);
void display_close(struct display_view *v);
/* The machine runs, or is stopped. */
void display_set_running(struct display_view *v, bool running);
/* Clients must know it from now on; NULL or "": nobody gets in. -ENOTSUP: it has no passwords. */
int display_set_password(struct display_view *v, const char *password);

/* ---- for display_*.c ---- */

struct display_view_ops {
    void (*destroy)(struct display_view *v);
    void (*set_running)(struct display_view *v, bool running);          /* may be NULL */
    int (*set_password)(struct display_view *v, const char *password);  /* may be NULL */
};

/* First member of each view's private struct. */
struct display_view {
    const struct display_view_ops *ops;
};

extern const bool display_vnc_present, display_sdl_present, display_curses_present; /* built in */

struct display_view *display_vnc_open(const struct display_config *config, const struct display_host *host);
struct display_view *display_sdl_open(const struct display_config *config, const struct display_host *host);
struct display_view *display_curses_open(const struct display_config *config, const struct display_host *host);

#endif

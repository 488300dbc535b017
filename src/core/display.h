/* What is on the screen: between the graphics adapter, which draws, and windows, VNC and screendumps, which show.
 *
 * The adapter draws when it is asked to (display_update()), so that nobody pays for a screen nobody watches. All calls
 * need the machine lock. */
#ifndef CORE_DISPLAY_H
#define CORE_DISPLAY_H

#include "core/types.h"

#define DISPLAY_TEXT_MAX 32768 /* cells of the largest text screen */

/* A picture: 0x00rrggbb pixels. */
struct display_surface {
    u32 *pixels;       /* row by row */
    int width, height; /* pixels; never 0 */
    int stride;        /* pixels from row to row */
};

/* A text mode screen, for terminals. */
struct display_text {
    int columns, rows;           /* size */
    int cell_width, cell_height; /* pixels */
    int cursor_x, cursor_y;      /* may lie outside */
    bool cursor_visible;         /* enabled and inside; blinking is not considered */
    u16 cells[DISPLAY_TEXT_MAX]; /* row by row: attribute << 8 | character (code page 437) */
};

struct display;

/* ---- the adapter ---- */

struct display_source {
    /* Draw what changed since the last call, or everything, and report it by display_changed(). */
    void (*update)(void *opaque, struct display *d, bool everything);
    /* Read a text mode's screen; false: it is in a graphics mode or off. */
    bool (*text)(void *opaque, struct display_text *t);
};

/* NULL when memory is short. Until a source is there the picture is black. */
struct display *display_create(void);
void display_destroy(struct display *d);
void display_set_source(struct display *d, const struct display_source *source, void *opaque);
/* Before drawing: the surface of that size. A new size tells the listeners; what was on it is gone, and *fresh, which may
 * be NULL, is true. */
struct display_surface *display_surface_of_size(struct display *d, int width, int height, bool *fresh);
void display_changed(struct display *d, int x, int y, int width, int height);

/* ---- who shows it ---- */

/* Embedded in the window's struct. */
struct display_listener {
    void (*resized)(void *opaque, const struct display_surface *s); /* a new surface, whose contents are still to come */
    void (*changed)(void *opaque, int x, int y, int width, int height);
    void *opaque;                                                   /* for these */
    struct display_listener *next;                                  /* the display's list */
};

/* Calls resized() at once. */
void display_listen(struct display *d, struct display_listener *l);
void display_unlisten(struct display *d, struct display_listener *l);
/* Bring the picture up to date; the surface is valid until the next call. */
const struct display_surface *display_update(struct display *d);
bool display_read_text(struct display *d, struct display_text *t);

#endif

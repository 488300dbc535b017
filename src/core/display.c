/* The screen's surface, and who is told about its changes. */
#include "core/display.h"

#include <stdlib.h>
#include <string.h>

#define START_WIDTH  640
#define START_HEIGHT 480

struct display {
    struct display_surface surface;      /* the picture */
    size_t capacity;                     /* pixels allocated */
    const struct display_source *source; /* who draws, NULL: nobody */
    void *source_opaque;                 /* its own pointer */
    struct display_listener *listeners;  /* who looks */
    bool everything;                     /* the next update is a complete one */
};

struct display *display_create(void)
{
    struct display *d = calloc(1, sizeof(*d));
    if (!d) return NULL;
    d->everything = true;
    display_surface_of_size(d, START_WIDTH, START_HEIGHT, NULL);
    if (d->surface.pixels) return d;
    free(d);
    return NULL;
}

void display_destroy(struct display *d)
{
    if (!d) return;
    free(d->surface.pixels);
    free(d);
}

void display_set_source(struct display *d, const struct display_source *source, void *opaque)
{
    d->source = source;
    d->source_opaque = opaque;
    d->everything = true;
}

struct display_surface *display_surface_of_size(struct display *d, int width, int height, bool *fresh)
{
    struct display_surface *s = &d->surface;
    size_t pixels = (size_t)width * (size_t)height;
    if (fresh) *fresh = false;
    if (width == s->width && height == s->height) return s;
    if (pixels > d->capacity) {
        u32 *grown = realloc(s->pixels, pixels * sizeof(*grown));
        if (!grown) return s; /* the old picture stays; the adapter draws what fits */
        s->pixels = grown;
        d->capacity = pixels;
    }
    *s = (struct display_surface){s->pixels, width, height, width};
    memset(s->pixels, 0, pixels * sizeof(*s->pixels));
    if (fresh) *fresh = true;
    for (struct display_listener *l = d->listeners; l; l = l->next) l->resized(l->opaque, s);
    return s;
}

void display_changed(struct display *d, int x, int y, int width, int height)
{
    for (struct display_listener *l = d->listeners; l; l = l->next) l->changed(l->opaque, x, y, width, height);
}

void display_listen(struct display *d, struct display_listener *l)
{
    l->next = d->listeners;
    d->listeners = l;
    l->resized(l->opaque, &d->surface);
    d->everything = true;
}

void display_unlisten(struct display *d, struct display_listener *l)
{
    struct display_listener **at = &d->listeners;
    while (*at && *at != l) at = &(*at)->next;
    if (*at) *at = l->next;
}

const struct display_surface *display_update(struct display *d)
{
    bool everything = d->everything;
    d->everything = false;
    if (d->source) d->source->update(d->source_opaque, d, everything);
    return &d->surface;
}

bool display_read_text(struct display *d, struct display_text *t)
{
    return d->source && d->source->text(d->source_opaque, t);
}

/* Pictures as PNG files. */
#ifndef HOST_PNG_H
#define HOST_PNG_H

#include "core/display.h"

/* 0, or -errno with a message on stderr. */
int png_write(const char *path, const struct display_surface *s);

#endif

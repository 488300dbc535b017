/* Pictures as binary PPM files. */
#ifndef HOST_PPM_H
#define HOST_PPM_H

#include "core/display.h"

/* 0, or -errno with a message on stderr. */
int ppm_write(const char *path, const struct display_surface *s);

#endif

/* Built without libpng: PNG files are refused. */
#include "host/png.h"

#include <errno.h>
#include <stdio.h>

int png_write(const char *path, const struct display_surface *s)
{
    (void)s;
    fprintf(stderr, "calque: cannot write the picture %s: PNG is not built in\n", path);
    return -ENOTSUP;
}

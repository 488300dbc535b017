/* Pictures as binary PPM files, the format of netpbm. */
#include "host/ppm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ppm_write(const char *path, const struct display_surface *s)
{
    int error = 0;
    u8 *row = malloc((size_t)s->width * 3);
    FILE *f = row ? fopen(path, "wb") : NULL;
    if (!f) {
        error = row ? -errno : -ENOMEM;
        goto out;
    }
    fprintf(f, "P6\n%d %d\n255\n", s->width, s->height);
    for (int y = 0; y < s->height; y++) {
        for (int x = 0; x < s->width; x++) {
            u32 color = s->pixels[(size_t)y * (size_t)s->stride + (size_t)x];
            row[x * 3] = (u8)(color >> 16);
            row[x * 3 + 1] = (u8)(color >> 8);
            row[x * 3 + 2] = (u8)color;
        }
        fwrite(row, 3, (size_t)s->width, f);
    }
    if (ferror(f)) error = -EIO;
    if (fclose(f) && !error) error = -errno;
out:
    if (error) fprintf(stderr, "calque: cannot write the picture %s: %s\n", path, strerror(-error));
    free(row);
    return error;
}

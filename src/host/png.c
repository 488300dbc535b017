/* Pictures as PNG files, by libpng. */
#include "host/png.h"

#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int png_write(const char *path, const struct display_surface *s)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB};
    image.width = (png_uint_32)s->width;
    image.height = (png_uint_32)s->height;
    int error = 0;
    u8 *rgb = malloc((size_t)s->width * (size_t)s->height * 3), *p = rgb;
    FILE *f = rgb ? fopen(path, "wb") : NULL;
    if (!f) {
        error = rgb ? -errno : -ENOMEM;
        goto out;
    }
    for (int y = 0; y < s->height; y++) {
        for (int x = 0; x < s->width; x++) {
            u32 color = s->pixels[(size_t)y * (size_t)s->stride + (size_t)x];
            *p++ = (u8)(color >> 16);
            *p++ = (u8)(color >> 8);
            *p++ = (u8)color;
        }
    }
    if (!png_image_write_to_stdio(&image, f, 0, rgb, 0, NULL)) error = -EIO;
    if (fclose(f) && !error) error = -errno;
out:
    if (error) fprintf(stderr, "calque: cannot write the picture %s: %s\n", path, strerror(-error));
    free(rgb);
    return error;
}

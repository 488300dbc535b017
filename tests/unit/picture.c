/* build/tests/test_picture: screendumps as files. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/display.h"
#include "host/png.h"
#include "host/ppm.h"

static u32 pixels[] = {0xff0000, 0x00ff00, 0x999999, 0x0000ff, 0x123456, 0x999999};
static const struct display_surface surface = {pixels, 2, 2, 3};

static size_t contents(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, buffer, size);
    close(fd);
    unlink(path);
    return n < 0 ? 0 : (size_t)n;
}

static void temporary(char *path)
{
    strcpy(path, "/tmp/calque-picture-XXXXXX");
    close(mkstemp(path));
}

Test(picture, ppm)
{
    char path[64], buffer[64];
    temporary(path);
    cr_assert_eq(ppm_write(path, &surface), 0);
    cr_assert_eq(contents(path, buffer, sizeof(buffer)), 23);
    cr_assert_eq(memcmp(buffer, "P6\n2 2\n255\n\xff\0\0\0\xff\0\0\0\xff\x12\x34\x56", 23), 0);
    cr_assert_lt(ppm_write("/nonexistent/dir/x.ppm", &surface), 0);
}

Test(picture, png)
{
    char path[64], buffer[4096];
    temporary(path);
    int err = png_write(path, &surface);
    size_t size = contents(path, buffer, sizeof(buffer));
    if (err == -ENOTSUP) return; /* not built in */
    cr_assert_eq(err, 0);
    cr_assert_gt(size, 57);
    /* Signature, then the IHDR chunk: width, height, 8 bits, RGB. */
    cr_assert_eq(memcmp(buffer, "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\2\0\0\0\2\x08\x02", 26), 0);
    cr_assert_lt(png_write("/nonexistent/dir/x.png", &surface), 0);
}

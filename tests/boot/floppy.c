/* Formats /dev/fdX, whose type is known, through Linux's driver, as fdformat does (Debian does not have that any more):
 * floppy DEVICE. For tests/boot/floppy.sh. */
#include <fcntl.h>
#include <linux/fd.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    struct floppy_struct geometry;
    struct format_descr track;
    int fd = argc > 1 ? open(argv[1], O_RDWR) : -1;
    if (fd < 0 || ioctl(fd, FDGETPRM, &geometry) < 0 || ioctl(fd, FDFMTBEG, NULL) < 0) {
        perror("FDFMTBEG");
        return 1;
    }
    for (track.track = 0; track.track < geometry.track; track.track++) {
        for (track.head = 0; track.head < geometry.head; track.head++) {
            if (!ioctl(fd, FDFMTTRK, &track)) continue;
            perror("FDFMTTRK");
            return 1;
        }
    }
    if (ioctl(fd, FDFMTEND, NULL) < 0) {
        perror("FDFMTEND");
        return 1;
    }
    printf("formatted %u cylinders, %u heads, %u sectors\n", geometry.track, geometry.head, geometry.sect);
    return 0;
}

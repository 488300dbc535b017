/* Sound into a WAV file: 16-bit stereo PCM. Only what plays is written; the file has no gaps of silence between.
 * The header's sizes are brought up to date about every second, and at the end. */
#include "host/audio_open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER 44u
#define FRAME  4u
#define MOST   (UINT32_MAX - HEADER - 3 * FRAME) /* the format's sizes have 32 bits */

struct audio_wav {
    struct audio_sink sink; /* must stay first */
    int fd;                 /* the file; -1: writing failed, and we have said so */
    char *path;             /* for messages */
    u32 rate;               /* frames a second */
    u32 size;               /* bytes of sound in the file */
    u32 told;               /* as the header says */
};

static void put(u8 *p, u32 value, int bytes)
{
    for (int i = 0; i < bytes; i++) p[i] = (u8)(value >> (8 * i));
}

static bool store(struct audio_wav *w, const void *data, size_t len, off_t at)
{
    while (len && w->fd >= 0) {
        ssize_t n = pwrite(w->fd, data, len, at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            fprintf(stderr, "calque: -audiodev wav: %s: %s\n", w->path, n ? strerror(errno) : "nothing written");
            close(w->fd);
            w->fd = -1;
            return false;
        }
        data = (const u8 *)data + n;
        len -= (size_t)n;
        at += n;
    }
    return w->fd >= 0;
}

static bool store_header(struct audio_wav *w)
{
    u8 h[HEADER] = "RIFF....WAVEfmt ";
    put(h + 4, w->size + HEADER - 8, 4);
    put(h + 16, 16, 4); /* length of what follows up to "data" */
    put(h + 20, 1, 2);  /* PCM */
    put(h + 22, 2, 2);  /* channels */
    put(h + 24, w->rate, 4);
    put(h + 28, w->rate * FRAME, 4);
    put(h + 32, FRAME, 2);
    put(h + 34, 16, 2); /* bits a sample */
    memcpy(h + 36, "data", 4);
    put(h + 40, w->size, 4);
    w->told = w->size;
    return store(w, h, sizeof(h), 0);
}

static void wav_write(struct audio_sink *s, const s16 *frames, u32 count)
{
    struct audio_wav *w = (struct audio_wav *)s;
    if (w->fd < 0 || count * FRAME > MOST - w->size) return;
    if (!store(w, frames, count * FRAME, (off_t)HEADER + w->size)) return; /* x86: little-endian as the format */
    w->size += count * FRAME;
    if (w->size - w->told >= w->rate * FRAME) store_header(w);
}

static void wav_destroy(struct audio_sink *s)
{
    struct audio_wav *w = (struct audio_wav *)s;
    if (w->fd >= 0) store_header(w);
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    free(w);
}

struct audio_sink *audio_wav_open(const struct audio_config *config)
{
    const char *path = config->path ? config->path : "calque.wav";
    struct audio_wav *w = calloc(1, sizeof(*w));
    char *copy = strdup(path);
    if (!w || !copy) {
        fprintf(stderr, "calque: -audiodev wav: out of memory\n");
        free(w);
        free(copy);
        return NULL;
    }
    *w = (struct audio_wav){.sink = {wav_write, wav_destroy}, .path = copy, .rate = config->rate};
    w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) fprintf(stderr, "calque: -audiodev wav: %s: %s\n", path, strerror(errno));
    if (w->fd >= 0 && store_header(w)) return &w->sink;
    wav_destroy(&w->sink);
    return NULL;
}

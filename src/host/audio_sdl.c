/* Sound through SDL2, whose thread takes frames from a queue. The guest's clock and the sound card's drift apart: a
 * queue that has grown beyond a fifth of a second loses what comes; an empty one plays silence.
 *
 * The queue is ours: the thread of SDL's own queue has a stack of 64 KiB, which our thread-local data alone fill. */
#include "host/audio_open.h"

#include <SDL.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME 4u

struct audio_sdl {
    struct audio_sink sink;   /* must stay first */
    SDL_AudioDeviceID device; /* what SDL calls it */
    u32 limit;                /* bytes that may wait */
    u32 first, size;          /* those that do: where they start in queue, and how many; under SDL's lock of the device */
    u8 *queue;                /* limit bytes, a ring */
};

const bool audio_sdl_present = true;

/* On SDL's thread. */
static void play(void *opaque, u8 *to, int len)
{
    struct audio_sdl *a = opaque;
    u32 n = MIN((u32)len, a->size), until_end = MIN(n, a->limit - a->first);
    memcpy(to, a->queue + a->first, until_end);
    memcpy(to + until_end, a->queue, n - until_end);
    memset(to + n, 0, (u32)len - n);
    a->first = (a->first + n) % a->limit;
    a->size -= n;
}

static void sdl_write(struct audio_sink *s, const s16 *frames, u32 count)
{
    struct audio_sdl *a = (struct audio_sdl *)s;
    SDL_LockAudioDevice(a->device);
    u32 n = MIN(count * FRAME, a->limit - a->size), end = (a->first + a->size) % a->limit, until_end = MIN(n, a->limit - end);
    memcpy(a->queue + end, frames, until_end);
    memcpy(a->queue, (const u8 *)frames + until_end, n - until_end);
    a->size += n;
    SDL_UnlockAudioDevice(a->device);
}

static void sdl_destroy(struct audio_sink *s)
{
    struct audio_sdl *a = (struct audio_sdl *)s;
    if (a->device) SDL_CloseAudioDevice(a->device);
    SDL_QuitSubSystem(SDL_INIT_AUDIO);
    free(a->queue);
    free(a);
}

struct audio_sink *audio_sdl_open(const struct audio_config *config)
{
    struct audio_sdl *a = calloc(1, sizeof(*a));
    u32 limit = config->rate / 5 * FRAME;
    if (!a || !(a->queue = malloc(limit))) {
        fprintf(stderr, "calque: -audiodev sdl: out of memory\n");
        free(a);
        return NULL;
    }
    SDL_AudioSpec want = {.freq = (int)config->rate, .format = AUDIO_S16SYS, .channels = 2, .samples = 1024, .callback = play, .userdata = a};
    a->sink = (struct audio_sink){sdl_write, sdl_destroy};
    a->limit = limit;
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    if (SDL_InitSubSystem(SDL_INIT_AUDIO) < 0) {
        fprintf(stderr, "calque: -audiodev sdl: %s\n", SDL_GetError());
        free(a->queue);
        free(a);
        return NULL;
    }
    a->device = SDL_OpenAudioDevice(NULL, 0, &want, NULL, 0);
    if (!a->device) {
        fprintf(stderr, "calque: -audiodev sdl: %s\n", SDL_GetError());
        sdl_destroy(&a->sink);
        return NULL;
    }
    SDL_PauseAudioDevice(a->device, 0);
    return &a->sink;
}

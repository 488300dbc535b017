/* Sound through SDL2, whose thread takes frames from a queue. The guest's clock and the sound card's drift apart: a
 * queue that has grown beyond a fifth of a second loses what comes; an empty one plays silence. */
#include "host/audio_open.h"

#include <SDL.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAME 4u

struct audio_sdl {
    struct audio_sink sink;   /* must stay first */
    SDL_AudioDeviceID device; /* what SDL calls it */
    u32 limit;                /* bytes that may wait */
};

const bool audio_sdl_present = true;

static void sdl_write(struct audio_sink *s, const s16 *frames, u32 count)
{
    struct audio_sdl *a = (struct audio_sdl *)s;
    if (SDL_GetQueuedAudioSize(a->device) < a->limit) SDL_QueueAudio(a->device, frames, count * FRAME);
}

static void sdl_destroy(struct audio_sink *s)
{
    struct audio_sdl *a = (struct audio_sdl *)s;
    if (a->device) SDL_CloseAudioDevice(a->device);
    SDL_QuitSubSystem(SDL_INIT_AUDIO);
    free(a);
}

struct audio_sink *audio_sdl_open(const struct audio_config *config)
{
    SDL_AudioSpec want = {.freq = (int)config->rate, .format = AUDIO_S16SYS, .channels = 2, .samples = 1024};
    struct audio_sdl *a = calloc(1, sizeof(*a));
    if (!a) {
        fprintf(stderr, "calque: -audiodev sdl: out of memory\n");
        return NULL;
    }
    a->sink = (struct audio_sink){sdl_write, sdl_destroy};
    a->limit = config->rate / 5 * FRAME;
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    if (SDL_InitSubSystem(SDL_INIT_AUDIO) < 0) {
        fprintf(stderr, "calque: -audiodev sdl: %s\n", SDL_GetError());
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

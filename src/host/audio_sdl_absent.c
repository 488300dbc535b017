/* Built without SDL2: its sound is refused. */
#include "host/audio_open.h"

#include <stdio.h>

const bool audio_sdl_present = false;

struct audio_sink *audio_sdl_open(const struct audio_config *config)
{
    (void)config;
    fprintf(stderr, "calque: -audiodev sdl: not built in\n");
    return NULL;
}

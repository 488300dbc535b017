/* Which back end an -audiodev means. */
#include "host/audio_open.h"

struct audio *audio_open(const struct audio_config *config, struct clock *clock)
{
    struct audio_sink *sink = NULL;
    if (config->kind == AUDIO_WAV) sink = audio_wav_open(config);
    if (config->kind == AUDIO_SDL) sink = audio_sdl_open(config);
    if (!sink && config->kind != AUDIO_NONE) return NULL;
    return audio_create(clock, sink, config->rate);
}

/* The host's side of sound: nothing, a WAV file, or the sound card by SDL2. */
#ifndef HOST_AUDIO_OPEN_H
#define HOST_AUDIO_OPEN_H

#include "core/audio.h"
#include "core/clock.h"

#define AUDIO_DEFAULT_RATE 44100u

enum audio_kind { AUDIO_NONE, AUDIO_WAV, AUDIO_SDL };

/* As given by -audiodev. */
struct audio_config {
    enum audio_kind kind; /* which */
    char *id;             /* for devices, and messages */
    char *path;           /* WAV: where to */
    u32 rate;             /* frames a second */
};

/* NULL with a message on stderr. */
struct audio *audio_open(const struct audio_config *config, struct clock *clock);

/* ---- for audio_*.c ---- */

extern const bool audio_sdl_present; /* built in */

struct audio_sink *audio_wav_open(const struct audio_config *config);
struct audio_sink *audio_sdl_open(const struct audio_config *config);

#endif

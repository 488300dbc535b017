/* Sound between the devices that make it and the host that plays it. A device has a voice, which is asked for frames
 * (16-bit stereo) at its rate, as guest time goes; the voices of one `struct audio` are mixed and go to its sink. The
 * guest's time alone says how many frames are due, so a slow or absent host neither stalls nor speeds up the guest.
 * While no voice plays, nothing runs. Everything is under the machine lock. */
#ifndef CORE_AUDIO_H
#define CORE_AUDIO_H

#include "core/clock.h"
#include "core/types.h"

#define AUDIO_RATE_MIN 1000u
#define AUDIO_RATE_MAX 192000u

/* Where the sound goes. First member of each back end's private struct. */
struct audio_sink {
    /* count stereo frames follow those before; the sink takes or loses them, and never waits. */
    void (*write)(struct audio_sink *s, const s16 *frames, u32 count);
    void (*destroy)(struct audio_sink *s);
};

struct audio;
struct audio_voice;

/* sink becomes owned, also when this fails; NULL: nobody listens. rate: of the sink. NULL when memory is short. */
struct audio *audio_create(struct clock *clock, struct audio_sink *sink, u32 rate);
/* Its voices must be gone. a may be NULL. */
void audio_destroy(struct audio *a);

/* fill writes count stereo frames, which are silence before; it may stop its voice, and must not call audio_voice_sync().
 * A voice that records (silence, as long as there is no host source) ignores what it writes. */
struct audio_voice *audio_voice_create(struct audio *a, void (*fill)(void *opaque, s16 *frames, u32 count), void *opaque);
void audio_voice_destroy(struct audio_voice *v);
/* Frames are due from now on, rate of them a second (within AUDIO_RATE_*). Playing already: change the rate. */
void audio_voice_start(struct audio_voice *v, u32 rate);
void audio_voice_stop(struct audio_voice *v);
bool audio_voice_playing(const struct audio_voice *v);
/* Have fill() called for all that is due by now. */
void audio_voice_sync(struct audio_voice *v);
/* The time of the first frame that the next fill() (or the one that is running) gives, ns. */
u64 audio_voice_time(const struct audio_voice *v);

#endif

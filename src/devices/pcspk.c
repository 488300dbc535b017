/* The PC speaker on OUT of the 8254's channel 2, behind port 0x61's bit 1.
 *
 * The line is sampled several times a frame and averaged, so that pulse width modulation by the timer or by bit 1 sounds,
 * too; then the constant part is taken away, as the speaker's capacitor does. It is quiet, and costs nothing, when the
 * line has not moved for a quarter of a second.
 * Leaves out the response of a real speaker, which is worse.
 *
 * References: see i8254.c. */
#include "devices/pcspk.h"

#include <stdio.h>
#include <stdlib.h>

#define RATE      44100u
#define SAMPLES   8      /* of the line in a frame */
#define AMPLITUDE 16384
#define QUIET     (RATE / 4) /* frames without a change, after which the voice stops */

struct pcspk {
    struct device dev;         /* what the machine sees */
    struct i8254 *pit;         /* where the line comes from */
    struct audio_voice *voice; /* plays while there is a sound */
    s32 before;                /* the line in the frame before, 0 to AMPLITUDE */
    s32 level;                 /* what is heard of it, 16 bits of fraction */
    u32 still;                 /* frames without a change */
};

static void fill(void *opaque, s16 *frames, u32 count)
{
    struct pcspk *s = opaque;
    u64 start = audio_voice_time(s->voice);
    for (u32 i = 0; i < count; i++) {
        s32 line = 0;
        for (u32 k = 0; k < SAMPLES; k++) {
            u64 at = start + muldiv64(i * SAMPLES + k, NS_PER_SECOND, RATE * SAMPLES);
            line += i8254_speaker_level(s->pit, at) ? AMPLITUDE / SAMPLES : 0;
        }
        s->still = line == s->before ? s->still + 1 : 0;
        /* A first-order high-pass filter at about 35 Hz. */
        s->level = (s32)((s64)s->level * 65208 >> 16) + (line - s->before) * 65536;
        s->before = line;
        frames[2 * i] = frames[2 * i + 1] = (s16)(s->level >> 16);
    }
    if (s->still >= QUIET) audio_voice_stop(s->voice);
}

static void changing(void *opaque)
{
    struct pcspk *s = opaque;
    audio_voice_sync(s->voice);
}

static void changed(void *opaque)
{
    struct pcspk *s = opaque;
    if (audio_voice_playing(s->voice) || !i8254_speaker_on(s->pit)) return;
    s->still = 0;
    s->level = 0;
    audio_voice_start(s->voice, RATE);
}

static void pcspk_reset(struct device *d) { (void)d; } /* the 8254's reset is all */

static void pcspk_destroy(struct device *d)
{
    struct pcspk *s = container_of(d, struct pcspk, dev);
    i8254_on_speaker(s->pit, NULL, NULL, NULL);
    audio_voice_destroy(s->voice);
    free(s);
}

static const struct device_class class = {"pcspk", pcspk_reset, pcspk_destroy};

struct device *pcspk_create(struct i8254 *pit, struct audio *audio)
{
    struct pcspk *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: pcspk: out of memory\n");
        return NULL;
    }
    *s = (struct pcspk){.dev.cls = &class, .pit = pit};
    if (!(s->voice = audio_voice_create(audio, fill, s))) {
        free(s);
        return NULL;
    }
    i8254_on_speaker(pit, changing, changed, s);
    return &s->dev;
}

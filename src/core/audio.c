/* The mixer: voices are resampled (linearly) to the sink's rate and added up.
 *
 * Frames of the sink have running numbers. `mixed` is a ring of sums, in which each voice has got to its own number;
 * what all playing voices have passed goes to the sink. A timer asks the voices every 10 ms, while there are any. */
#include "core/audio.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD_NS  10000000ull
#define CATCH_UP   (NS_PER_SECOND / 10) /* what is overdue by more is skipped: a busy host lets no guest fill buffers meanwhile */
#define SLICE      512u          /* frames that a voice is asked for at once */
#define RING       16384u        /* more than any voice makes of two periods, and of one slice at the lowest rate */
#define MIX_STEP   (RING / 2)    /* the most frames that a slice may become */

struct audio_voice {
    struct audio *audio;                       /* where it is heard */
    struct audio_voice *next;                  /* its list */
    void (*fill)(void *, s16 *, u32);          /* makes frames */
    void *opaque;                              /* its first argument */
    u32 rate;                                  /* frames a second; 0: silent */
    u64 start;                                 /* clock time of frame 0 at this rate */
    u64 taken;                                 /* frames asked for since */
    u64 number;                                /* the sink's frame that it has got to */
    u64 phase;                                 /* place of that between `last` and the frame behind it, 32.32 */
    s16 last[2];                               /* the frame before the next one */
};

struct audio {
    struct clock *clock;         /* guest time */
    struct timer *timer;         /* armed while voices play */
    struct audio_sink *sink;     /* NULL: nobody listens */
    u32 rate;                    /* of the sink */
    struct audio_voice *voices;  /* all there are */
    u64 written;                 /* frames that the sink has */
    s32 mixed[RING][2];          /* sums, by number modulo RING */
};

/* ---- mixing ---- */

static void mix(struct audio_voice *v, const s16 *in, u32 count)
{
    struct audio *a = v->audio;
    u64 step = ((u64)v->rate << 32) / a->rate;
    for (u32 i = 0; i < count; i++, in += 2) {
        for (; v->phase < 1ull << 32; v->phase += step, v->number++) {
            s32 *to = a->mixed[v->number % RING];
            for (int k = 0; k < 2; k++) to[k] += v->last[k] + (s32)((in[k] - v->last[k]) * (s64)v->phase >> 32);
        }
        v->phase -= 1ull << 32;
        memcpy(v->last, in, sizeof(v->last));
    }
}

/* Give the sink what no voice will add to. */
static void write_out(struct audio *a)
{
    u64 until = UINT64_MAX, most = a->written;
    for (struct audio_voice *v = a->voices; v; v = v->next) {
        if (v->rate) until = MIN(until, v->number);
        most = MAX(most, v->number);
    }
    if (until == UINT64_MAX) until = most;
    while (a->written < until) {
        s16 out[SLICE][2];
        u32 n = (u32)MIN(until - a->written, (u64)SLICE);
        for (u32 i = 0; i < n; i++) {
            s32 *from = a->mixed[(a->written + i) % RING];
            for (int k = 0; k < 2; k++) out[i][k] = (s16)MIN(MAX(from[k], INT16_MIN), INT16_MAX);
            from[0] = from[1] = 0;
        }
        if (a->sink) a->sink->write(a->sink, out[0], n);
        a->written += n;
    }
}

/* Frames of a voice that are due at a time. */
static u64 due(const struct audio_voice *v, u64 now)
{
    u64 all = now > v->start ? muldiv64(now - v->start, v->rate, NS_PER_SECOND) : 0;
    return all > v->taken ? all - v->taken : 0;
}

/* Ask for some of what is due; false: nothing is left. */
static bool advance(struct audio_voice *v, u64 now)
{
    s16 frames[SLICE][2];
    u32 limit = MAX((u32)muldiv64(MIX_STEP, v->rate, v->audio->rate), 1u);
    u32 n = v->rate ? (u32)MIN(MIN(due(v, now), (u64)SLICE), (u64)limit) : 0;
    if (!n) return false;
    u32 rate = v->rate;
    memset(frames, 0, n * sizeof(frames[0]));
    v->fill(v->opaque, frames[0], n);
    u32 stays = v->rate;
    v->taken += stays ? n : 0;
    v->rate = rate; /* fill() may have stopped it: these frames count */
    mix(v, frames[0], n);
    v->rate = stays;
    return true;
}

static void run(struct audio *a)
{
    u64 now = clock_now(a->clock);
    for (struct audio_voice *v = a->voices; v; v = v->next) {
        if (!v->rate || now < v->start) continue;
        if (now > audio_voice_time(v) + CATCH_UP) v->start += now - audio_voice_time(v);
    }
    for (bool more = true; more;) {
        more = false;
        /* Those that are behind first, so that nobody gets ahead of another by more than half the ring. */
        for (struct audio_voice *v = a->voices; v; v = v->next)
            if (v->number + 2 < a->written + MIX_STEP) more |= advance(v, now);
        write_out(a);
    }
}

static void tick(void *opaque)
{
    struct audio *a = opaque;
    run(a);
    for (struct audio_voice *v = a->voices; v; v = v->next)
        if (v->rate && !timer_armed(a->timer)) timer_arm(a->timer, clock_now(a->clock) + PERIOD_NS);
}

/* ---- voices ---- */

u64 audio_voice_time(const struct audio_voice *v)
{
    return v->rate ? v->start + muldiv64(v->taken, NS_PER_SECOND, v->rate) : clock_now(v->audio->clock);
}

bool audio_voice_playing(const struct audio_voice *v) { return v->rate != 0; }

void audio_voice_sync(struct audio_voice *v)
{
    if (v->rate) run(v->audio);
}

void audio_voice_start(struct audio_voice *v, u32 rate)
{
    struct audio *a = v->audio;
    rate = MIN(MAX(rate, AUDIO_RATE_MIN), AUDIO_RATE_MAX);
    if (v->rate == rate) return;
    bool playing = v->rate != 0;
    run(a);
    v->start = audio_voice_time(v); /* now, but for a part of a frame when it plays already */
    v->taken = 0;
    v->rate = rate;
    if (!playing) {
        v->number = MAX(v->number, a->written);
        v->phase = 0;
        v->last[0] = v->last[1] = 0;
    }
    if (!timer_armed(a->timer)) timer_arm(a->timer, clock_now(a->clock) + PERIOD_NS);
}

void audio_voice_stop(struct audio_voice *v) { v->rate = 0; }

struct audio_voice *audio_voice_create(struct audio *a, void (*fill)(void *opaque, s16 *frames, u32 count), void *opaque)
{
    struct audio_voice *v = calloc(1, sizeof(*v));
    if (!v) {
        fprintf(stderr, "calque: audio: out of memory\n");
        return NULL;
    }
    *v = (struct audio_voice){.audio = a, .fill = fill, .opaque = opaque, .next = a->voices};
    return a->voices = v;
}

void audio_voice_destroy(struct audio_voice *v)
{
    if (!v) return;
    struct audio_voice **link = &v->audio->voices;
    while (*link != v) link = &(*link)->next;
    *link = v->next;
    free(v);
}

/* ---- life ---- */

struct audio *audio_create(struct clock *clock, struct audio_sink *sink, u32 rate)
{
    struct audio *a = calloc(1, sizeof(*a));
    struct timer *timer = timer_create_on(clock, tick, a);
    if (!a || !timer) {
        fprintf(stderr, "calque: audio: out of memory\n");
        if (timer) timer_destroy(timer);
        if (sink) sink->destroy(sink);
        free(a);
        return NULL;
    }
    assert(rate >= AUDIO_RATE_MIN && rate <= AUDIO_RATE_MAX);
    a->clock = clock;
    a->timer = timer;
    a->sink = sink;
    a->rate = rate;
    return a;
}

void audio_destroy(struct audio *a)
{
    if (!a) return;
    assert(!a->voices);
    timer_destroy(a->timer);
    if (a->sink) a->sink->destroy(a->sink);
    free(a);
}

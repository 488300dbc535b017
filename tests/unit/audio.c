/* build/tests/test_audio: the mixer on a busy host. What sound cards make of it is in tests/devices. */
#include "core/audio.h"

#include <criterion/criterion.h>
#include <time.h>

enum { RATE = 48000 };

static u64 asked;

static void fill(void *opaque, s16 *frames, u32 count)
{
    (void)opaque, (void)frames;
    asked += count;
}

/* A guest has some tenths of a second in its buffer. Those must not be played before it could look. */
Test(audio, a_late_tick_does_not_play_all_that_is_overdue)
{
    struct clock *c = clock_create();
    struct audio *a = audio_create(c, NULL, RATE);
    struct audio_voice *v = audio_voice_create(a, fill, NULL);
    audio_voice_start(v, RATE);
    const u64 start = clock_now(c);
    for (unsigned n = 1; n <= 2; n++) {
        asked = 0;
        nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
        clock_run_due(c);
        cr_expect_leq(asked, RATE / 10, "%llu frames", (unsigned long long)asked);
        cr_expect_geq(audio_voice_time(v), start + n * 200000000ull, "it does not wait for them either");
    }
    while (asked < RATE / 10) clock_run_due(c); /* goes on */
    audio_voice_destroy(v);
    audio_destroy(a);
    clock_destroy(c);
}

/* build/tests/test_pause: what the host's thread does while the guest waits in a loop of PAUSEs. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <time.h>

#include "cpu/cpu.h"
#include "unit/cpu_env.h"

TestSuite(pause, .init = env_init, .fini = env_fini);

/* Times that this thread has slept. */
static long sleeps(void)
{
    struct rusage used;
    getrusage(RUSAGE_THREAD, &used);
    return used.ru_nvcsw;
}

Test(pause, a_lone_processor_sleeps)
{
    const time_t end = time(NULL) + 20;
    const long before = sleeps();
    while (sleeps() == before && time(NULL) < end)
        for (unsigned n = 0; n < 100; n++) cpu_pause(cpu);
    cr_assert_neq(sleeps(), before);
}

Test(pause, not_when_it_looks_at_a_device)
{
    const long before = sleeps();
    for (unsigned n = 0; n < 100000; n++) {
        cpu_pause_ends(cpu);
        cpu_pause(cpu);
    }
    cr_assert_eq(sleeps(), before);
}

Test(pause, not_among_others)
{
    const long before = sleeps();
    cpu->smp = true;
    for (unsigned n = 0; n < 10000; n++) cpu_pause(cpu);
    cr_assert_eq(sleeps(), before);
}

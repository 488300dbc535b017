/* For fpu.sh: three processes compute with x87, SSE and AVX at the same time, under signals, system calls and page faults, and
 * compare each round's result with the first. What is printed depends on nothing else, so a guest must print what the host does. */
#include <immintrin.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 3, ROUNDS = 150 };

static volatile double sink;

static void on_alarm(int signal)
{
    double v = 1;
    (void)signal;
    for (int i = 1; i < 20; i++) v = v / 3 + sqrt(i);
    sink = v;
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
    uint32_t word;
    for (size_t at = 0; at < n; at += sizeof word) {
        memcpy(&word, (const char *)bytes + at, sizeof word);
        hash = hash * 31 + word;
    }
    return hash;
}

__attribute__((noinline)) static uint64_t scalar(int seed)
{
    double a[64], sum = seed;
    long double x = seed;
    float f[64];
    for (int i = 0; i < 64; i++) {
        a[i] = sin(i + seed);
        f[i] = (float)i / (float)(seed + 1);
    }
    for (int r = 0; r < 200; r++) {
        for (int i = 0; i < 64; i++) {
            sum += a[i] * a[(i * 7 + r) & 63];
            x = x * 1.0000001L + a[i];
            f[i] = f[i] * 0.999f + (float)sum;
        }
        if (r % 50 == 0) getppid();
    }
    const double y = (double)x;
    return mix(mix(mix(0, &sum, sizeof sum), &y, sizeof y), f, sizeof f);
}

__attribute__((noinline, target("avx2,fma"))) static uint64_t avx(int seed)
{
    __m256d v[8];
    const __m256d m = _mm256_set1_pd(1.0 / (seed + 2));
    for (int i = 0; i < 8; i++) v[i] = _mm256_set_pd(i, seed, i + 1, i * 3);
    for (int r = 0; r < 3000; r++) {
        for (int i = 0; i < 8; i++) v[i] = _mm256_fmadd_pd(v[i], m, v[(i + 1) & 7]);
        if (r % 1000 == 0) getppid();
    }
    return mix(0, v, sizeof v);
}

static uint64_t round_of(int seed)
{
    const uint64_t first = scalar(seed);
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return first;
    return first * 31 + avx(seed);
}

static int process(int seed, int out)
{
    const struct itimerval each = {{0, 2000}, {0, 2000}};
    const uint64_t first = round_of(seed);
    char line[64];
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &each, NULL);
    for (int n = 0; n < ROUNDS; n++) {
        if (round_of(seed) != first) return 1;
        double *page = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return 2;
        for (int i = 0; i < 16; i++) page[i * 512] = seed * 0.5 + i;
        for (int i = 0; i < 16; i++)
            if (page[i * 512] != seed * 0.5 + i) return 3;
        munmap(page, 16 * 4096);
        if (write(out, ".", 1) != 1) return 4;
    }
    snprintf(line, sizeof line, "fpu %d %016llx\n", seed, (unsigned long long)first);
    return write(STDOUT_FILENO, line, strlen(line)) < 0;
}

int main(void)
{
    int ends[2], status, bad = 0;
    char byte;
    double dots = 0;
    if (pipe(ends)) return 1;
    for (int seed = 1; seed <= PROCESSES; seed++)
        if (!fork()) _exit(process(seed, ends[1]));
    close(ends[1]);
    while (read(ends[0], &byte, 1) == 1) dots += sqrt(1);
    while (wait(&status) > 0)
        if (status) bad = status;
    printf("fpu rounds %d status %d\n", (int)dots, bad);
    return bad != 0;
}

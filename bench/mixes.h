/* The mixes of bench/mixes.S, for the programs that run them. */
#ifndef BENCH_MIXES_H
#define BENCH_MIXES_H

#define MIXES(X) X(alu) X(memory) X(branch) X(call) X(string) X(sse) X(x87)

#define DECLARE_MIX(name) \
    void mix_##name(unsigned iterations, void *buffer); \
    extern const unsigned mix_##name##_length;
MIXES(DECLARE_MIX)

struct mix {
    const char *name;                                 /* as printed */
    void (*run)(unsigned iterations, void *buffer);   /* the loop */
    const unsigned *length;                           /* instructions of one iteration */
};

#define MIX_ENTRY(name) {#name, mix_##name, &mix_##name##_length},
static const struct mix mixes[] = {MIXES(MIX_ENTRY)};
#define MIX_COUNT (sizeof mixes / sizeof mixes[0])

#endif

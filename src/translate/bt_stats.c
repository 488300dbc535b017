/* What the translator has done: `info jit` of the monitor, and the end of the log with -d op. */
#include "translate/bt_stats.h"

#include <stdlib.h>

#include "translate/translate.h"

#define WORST 20u /* mnemonics to list */

/* Most calls first. */
struct called {
    u64 calls, refused;
    unsigned mnemonic;
};

static int by_calls(const void *a, const void *b)
{
    const struct called *x = a, *y = b;
    return x->calls < y->calls ? 1 : x->calls > y->calls ? -1 : 0;
}

static void print(FILE *f, const char *what, u64 n) { fprintf(f, "  %-44s %12llu\n", what, (unsigned long long)n); }

void bt_info(struct cpu *cpu, FILE *f)
{
    static const char *const names[] = {"(invalid)",
#define X(name) #name,
#include "cpu/mnemonics.def"
#undef X
    };
    static const char *const refusals[REFUSAL_COUNT] = {"not translated yet", "outside RAM", "64-bit, alignment checked",
                                                        "-d exec or cpu", "vectors or x87 not live",
                                                        "single steps and events"};
    const struct bt *bt = cpu->engine;
    struct called list[MNEMONIC_COUNT];
    u64 calls = 0, refused = 0;
    unsigned n = 0, used = 0;
    for (unsigned m = 0; m < MNEMONIC_COUNT; m++) {
        calls += bt->slow_calls[m];
        refused += bt->refused[m];
        if (bt->slow_calls[m] || bt->refused[m]) list[n++] = (struct called){bt->slow_calls[m], bt->refused[m], m};
    }
    for (unsigned k = 0; k < CODE_REGIONS; k++)
        for (const struct translation *t = bt->translations[k]; t; t = t->next) used += t->block != NULL;
    fprintf(f, "Translator of vCPU %u\n", cpu->index);
    print(f, "blocks in the code memory", used);
    print(f, "blocks translated so far", bt->translated);
    print(f, "  bytes of guest code", bt->bytes);
    print(f, "  bytes of host code", bt->host_bytes);
    print(f, "  bytes of it out of line", bt->cold_bytes);
    print(f, "blocks translated with what follows", bt->traces);
    print(f, "runs of accesses that share a probe", bt->runs);
    print(f, "regions of code memory given up", bt->evictions);
    print(f, "decoded blocks that died", bt->cache.kills);
    print(f, "entries from the run loop", bt->entries);
    print(f, "look-ups of direct jumps", bt->links);
    print(f, "look-ups of indirect jumps and returns", bt->finds);
    print(f, "TLB misses filled or passed on", bt->fills);
    print(f, "recent pages widened after misses", bt->looks);
    print(f, "looks at recent pages given up", bt->given_up);
    for (unsigned k = 0; k < REFUSAL_COUNT; k++) {
        char what[64];
        snprintf(what, sizeof what, "blocks interpreted: %s", refusals[k]);
        print(f, what, bt->interpreted[k]);
    }
    print(f, "instructions left to their handlers", refused);
    print(f, "handler calls, slow paths included", calls);
    qsort(list, n, sizeof list[0], by_calls);
    if (n) fprintf(f, "Most called handlers: calls, places in code where nothing else was tried\n");
    for (unsigned k = 0; k < n && k < WORST; k++)
        fprintf(f, "  %-20s %12llu %10llu\n", names[list[k].mnemonic], (unsigned long long)list[k].calls,
                (unsigned long long)list[k].refused);
}

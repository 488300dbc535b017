/* The binary translator's engine: a run loop around translated blocks. Blocks are interpreted a few times before they are
 * translated; code that is not eligible (16-bit, segmented, single-stepped) stays with the interpreter.
 *
 * The code memory is filled from its start; when it is full everything is dropped and it starts over. */
#define _GNU_SOURCE
#include "translate/bt.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/log.h"
#include "cpu/run.h"
#include "translate/check.h"
#include "translate/translate.h"

#define CODE_BYTES  (128u << 20)
#define HOT         16u /* interpretations before a block is translated */
#define ROOM        (64u << 10) /* more than any block's code */

u64 bt_denied(struct cpu *cpu, struct block *b)
{
    cpu->rip = (cpu->page_rip + b->offset) & cpu->ip_mask;
    run_block(cpu, b);
    return 0;
}

void bt_make_room(struct cpu *cpu, struct bt *bt)
{
    if (__builtin_expect(bt->code.size - bt->code.used >= ROOM, 1)) return;
    bt->pending = NULL;
    block_kill_all(cpu, &bt->cache);
    block_bury(&bt->cache);
    bt->code.used = bt->thunks;
    bt->flushes++;
}

bool bt_eligible(const struct cpu *cpu) { return cpu->mode_key & MODE_FLAT; }

/* The block is about to be interpreted once more: translate it if it is hot. */
static void warm(struct cpu *cpu, struct bt *bt, struct block *b)
{
    if (b->page == ~0ull || ++b->hot < bt->hot || !bt_eligible(cpu)) return;
    if (log_enabled(LOG_EXEC | LOG_CPU)) return; /* only interpreted blocks are logged one by one */
    if (bt->code.size - bt->code.used < ROOM || !translate_block(bt, cpu, b)) return;
    struct jump_entry *j = jump_slot(&bt->cache, block_lin(cpu));
    if (j->block == b) j->host = b->host;
}

struct link *bt_enter(struct cpu *cpu, struct bt *bt, void *host)
{
    u64 (*enter)(void *) = (u64 (*)(void *))(void *)bt->enter;
    cpu->page_rip = cpu->rip & ~(u64)GUEST_PAGE_MASK;
    cpu->jumps = bt->cache.jumps;
    return (struct link *)(uintptr_t)enter(host);
}

static enum cpu_exit bt_run(struct cpu *cpu)
{
    struct bt *bt = cpu->engine;
    struct block_cache *in = &bt->cache;
    block_cache_start(in);
    syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
    cpu->exc.vector = -1;
    bt->pending = NULL;
    if (bt->check) return check_run(cpu, bt);
    for (;;) {
        if (__builtin_expect(in->graveyard != NULL, 0)) block_bury(in);
        if (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) || cpu->halted || cpu->wait_sipi || cpu->shutdown) {
            switch (run_events(cpu, in)) {
            case GO_ON: break;
            case LEAVE_KICK: return EXIT_KICK;
            case LEAVE_HALT: return EXIT_HALT;
            case LEAVE_TRIPLE: return EXIT_TRIPLE;
            }
            if (cpu->halted || cpu->wait_sipi || cpu->shutdown) continue;
        }
        cpu->event_mask = run_event_mask(cpu);
        if (__builtin_expect(cpu->step, 0)) {
            bt->pending = NULL;
            if (run_step(cpu, in) == LEAVE_TRIPLE) return EXIT_TRIPLE;
            continue;
        }
        bt_make_room(cpu, bt);
        struct block *b = find_block(cpu, in);
        if (__builtin_expect(!b, 0)) {
            bt->pending = NULL;
            if (!run_exception(cpu)) return EXIT_TRIPLE;
            continue;
        }
        if (__builtin_expect(cpu->rip + b->bytes - 1 > cpu->code_limit && cpu->code_limit != ~0ull, 0)) {
            bt->pending = NULL;
            if (run_step(cpu, in) == LEAVE_TRIPLE) return EXIT_TRIPLE;
            continue;
        }
        if (!b->host) warm(cpu, bt, b);
        if (!b->host) {
            bt->pending = NULL;
            if (!run_block(cpu, b)) return EXIT_TRIPLE;
            continue;
        }
        if (bt->pending) {
            struct link *l = bt->pending;
            if (bt->pending_kills == in->kills && l->from->page == b->page && l->from->mode == b->mode &&
                b->offset == l->target)
                translate_link(l, b, bt);
            bt->pending = NULL;
        }
        struct link *l = bt_enter(cpu, bt, b->host);
        if (cpu->exc.vector >= 0) {
            if (!run_exception(cpu)) return EXIT_TRIPLE;
        } else if (l) {
            cpu->rip = (cpu->page_rip + (u64)(s64)l->target) & cpu->ip_mask;
            if (!in->graveyard) {
                bt->pending = l;
                bt->pending_kills = in->kills;
            }
        }
    }
}

void bt_set_threshold(struct cpu *cpu, unsigned count)
{
    struct bt *bt = cpu->engine;
    bt->hot = count;
}

static void bt_invalidate(struct cpu *cpu, u64 offset, u64 size)
{
    struct bt *bt = cpu->engine;
    block_invalidate(cpu, &bt->cache, offset, size);
}

static int bt_create(struct cpu *cpu)
{
    struct bt *bt = calloc(1, sizeof *bt);
    int err = -ENOMEM;
    if (!bt) {
        fprintf(stderr, "calque: no memory for the translator\n");
        return err;
    }
    if ((err = code_memory_create(&bt->code, CODE_BYTES)) < 0) goto fail;
    if ((err = block_cache_init(&bt->cache, cpu)) < 0) goto fail_code;
    bt->hot = HOT;
    translate_thunks(bt);
    if (log_enabled(LOG_CHECK) && !(bt->check = check_create(cpu))) goto fail_code;
    cpu->engine = bt;
    return 0;
fail_code:
    code_memory_destroy(&bt->code);
fail:
    free(bt);
    return err;
}

static void log_statistics(const struct bt *bt)
{
    log_write("bt: %llu blocks, %llu guest bytes, %zu host bytes, %llu flushes\n", (unsigned long long)bt->translated,
              (unsigned long long)bt->bytes, bt->code.used, (unsigned long long)bt->flushes);
    static const char *const names[] = {"(invalid)",
#define X(name) #name,
#include "cpu/mnemonics.def"
#undef X
    };
    for (unsigned n = 0; n < MNEMONIC_COUNT; n++)
        if (bt->slow_calls[n])
            log_write("bt: %s: refused %llu, called %llu\n", names[n], (unsigned long long)bt->refused[n],
                      (unsigned long long)bt->slow_calls[n]);
}

static void bt_destroy(struct cpu *cpu)
{
    struct bt *bt = cpu->engine;
    if (log_enabled(LOG_OP)) log_statistics(bt);
    if (bt->check) check_destroy(bt->check, cpu);
    block_cache_destroy(&bt->cache, cpu);
    code_memory_destroy(&bt->code);
    free(bt);
    cpu->engine = NULL;
}

const struct engine_ops bt_engine = {
    .name = "bt",
    .create = bt_create,
    .destroy = bt_destroy,
    .run = bt_run,
    .invalidate = bt_invalidate,
};

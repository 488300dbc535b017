/* The analysis of a block (-d op) and its host code (-d out_asm), instruction by instruction. */
#include "translate/listing.h"

#include "cpu/disasm.h"
#include "translate/tr.h"

void listing_begin(struct tr *t) { t->listing.lines[t->listing.count].at = t->e.p; }

void listing_end(struct tr *t, bool by_handler)
{
    struct listing_line *l = &t->listing.lines[t->listing.count++];
    l->by_handler = by_handler;
    l->host = t->host;
    l->mem = t->mem;
    l->recoverable = t->rec_len;
    l->fpu = t->fpu_after;
}

static void print_host(struct tr *t, const u8 *from, const u8 *to)
{
    if (log_enabled(LOG_OUT_ASM))
        disasm_print(log_stream(), from, (size_t)(to - from), (u64)(uintptr_t)code_memory_rx(&t->bt->code, from), CODE_64);
}

void listing_print(struct tr *t, const u8 *start, const u8 *body, const u8 *cold, const u8 *end)
{
    FILE *f = log_stream();
    const struct block *b = t->b;
    fprintf(f, "----------------\nOUT: rip=%llx %u-bit cpl%s: %u instructions, %u bytes, to %zu bytes\n",
            (unsigned long long)t->cpu->rip, 16u << (b->mode & 3), b->mode & MODE_RING0 ? "=0" : ">0", b->count, b->bytes,
            (size_t)(body - start + (end - cold)));
    print_host(t, start, t->listing.count ? t->listing.lines[0].at : body);
    for (unsigned n = 0; n < t->listing.count; n++) {
        const struct listing_line *l = &t->listing.lines[n];
        const struct insn *i = &b->insns[n];
        const u8 *next = n + 1 < t->listing.count ? l[1].at : body;
        char text[192];
        if (!disasm_one(text, sizeof text, i->bytes, i->len, t->cpu->rip + i->off, b->mode & 3))
            snprintf(text, sizeof text, "(invalid)");
        fprintf(f, "  %-44s ", text);
        if (log_enabled(LOG_OP)) {
            fprintf(f, "; %s, %zu bytes, flags %s%s%s%s", l->by_handler ? "handler" : "inline", (size_t)(next - l->at),
                    l->host ? "host" : "", l->host && l->mem ? "+" : "", l->mem ? "memory" : l->host ? "" : "recoverable",
                    l->fpu ? ", needs" : "");
            if (l->fpu) fprintf(f, " fpu %x", l->fpu);
            if (l->recoverable) fprintf(f, ", remade by %u bytes", l->recoverable);
        }
        fputc('\n', f);
        print_host(t, l->at, next);
    }
    if (!log_enabled(LOG_OUT_ASM)) return;
    fprintf(f, "  out of line:\n");
    print_host(t, cold, end);
}

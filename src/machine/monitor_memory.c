/* The monitor's view of memory, ports and page tables. */
#include "machine/monitor_commands.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/disasm.h"
#include "cpu/mmu.h"

#define COUNT_MAX 65536 /* of units or instructions in one go */
#define LINES_MAX 20000 /* of page table listings */

static struct cpu *cpu_of(struct hmp *h) { return h->m->vcpus[*h->cpu].cpu; }

/* ---- expressions ---- */

struct expression {
    struct hmp *h;    /* for registers, and messages */
    const char *at;   /* what is left */
    int depth;        /* of parentheses and signs */
    bool failed;      /* a message was printed */
};

static s64 sum(struct expression *x);

static s64 fail(struct expression *x, const char *why)
{
    if (!x->failed) fprintf(x->h->out, "%s\n", why);
    x->failed = true;
    return 0;
}

static bool take(struct expression *x, char c)
{
    while (isspace((unsigned char)*x->at)) x->at++;
    if (*x->at != c) return false;
    x->at++;
    return true;
}

static s64 reg(struct expression *x)
{
    static const char names[8][3] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
    static const char segments[SEG_COUNT][3] = {
        [SEG_ES] = "es", [SEG_CS] = "cs", [SEG_SS] = "ss", [SEG_DS] = "ds", [SEG_FS] = "fs", [SEG_GS] = "gs"};
    const struct cpu *cpu = cpu_of(x->h);
    char name[16];
    size_t n = 0;
    while (isalnum((unsigned char)x->at[n]) && n < sizeof(name) - 1) n++;
    memcpy(name, x->at, n);
    name[n] = 0;
    x->at += n;
    if (!strcmp(name, "pc") || !strcmp(name, "rip") || !strcmp(name, "eip")) return (s64)cpu->rip;
    if (!strcmp(name, "eflags")) return cpu_get_eflags(cpu);
    if (!strcmp(name, "cr0")) return (s64)cpu->cr0;
    if (!strcmp(name, "cr2")) return (s64)cpu->cr2;
    if (!strcmp(name, "cr3")) return (s64)cpu->cr3;
    if (!strcmp(name, "cr4")) return (s64)cpu->cr4;
    for (int i = 0; i < 6; i++)
        if (!strcmp(name, segments[i])) return cpu->seg[i].selector;
    bool wide = *name == 'r';
    if ((wide || *name == 'e') && name[1])
        for (int i = 0; i < 8; i++)
            if (!strcmp(name + 1, names[i])) return wide ? (s64)cpu->regs[i] : (s64)(u32)cpu->regs[i];
    int number = wide ? atoi(name + 1) : 0;
    if (number >= 8 && number <= 15) return (s64)cpu->regs[number];
    return fail(x, "unknown register");
}

static s64 value(struct expression *x)
{
    s64 v = 0;
    if (++x->depth > 50) return fail(x, "expression too deep");
    if (take(x, '(')) {
        v = sum(x);
        if (!take(x, ')')) fail(x, "')' expected");
    } else if (take(x, '-')) {
        v = (s64)(0 - (u64)value(x));
    } else if (take(x, '+')) {
        v = value(x);
    } else if (take(x, '~')) {
        v = ~value(x);
    } else if (take(x, '$')) {
        v = reg(x);
    } else if (x->at[0] == '\'' && x->at[1] && x->at[2] == '\'') {
        v = (u8)x->at[1];
        x->at += 3;
    } else {
        char *end;
        v = (s64)strtoull(x->at, &end, 0);
        if (!isdigit((unsigned char)*x->at) || end == x->at)
            return fail(x, *x->at ? "invalid char in expression" : "unexpected end of expression");
        x->at = end;
    }
    x->depth--;
    return v;
}

static s64 product(struct expression *x)
{
    s64 v = value(x);
    for (;;) {
        bool times = take(x, '*'), divide = !times && take(x, '/');
        if (!times && !divide && !take(x, '%')) return v;
        u64 a = (u64)v, b = (u64)value(x);
        if (!times && !b) return fail(x, "division by zero");
        v = (s64)(times ? a * b : divide ? a / b : a % b);
    }
}

static s64 logic(struct expression *x)
{
    s64 v = product(x);
    for (;;) {
        if (take(x, '&')) v &= product(x);
        else if (take(x, '|')) v |= product(x);
        else if (take(x, '^')) v ^= product(x);
        else return v;
    }
}

static s64 sum(struct expression *x)
{
    u64 v = (u64)logic(x);
    for (;;) {
        if (take(x, '+')) v += (u64)logic(x);
        else if (take(x, '-')) v -= (u64)logic(x);
        else return (s64)v;
    }
}

bool hmp_expression(struct hmp *h, const char **text, s64 *result)
{
    struct expression x = {.h = h, .at = *text};
    *result = sum(&x);
    *text = x.at;
    return !x.failed;
}

/* ---- memory ---- */

static s64 number(json_t *args, const char *key, s64 absent)
{
    json_t *v = json_object_get(args, key);
    return v ? json_integer_value(v) : absent;
}

/* False when part of it is not mapped. */
static bool read_memory(struct hmp *h, u64 at, void *buf, size_t size, bool linear)
{
    u8 *to = buf;
    while (size) {
        size_t n = MIN(size, GUEST_PAGE_SIZE - at % GUEST_PAGE_SIZE);
        gpa from = at;
        if (linear && !mmu_probe(cpu_of(h), at, &from)) return false;
        bus_read_block(h->m->mem, from, to, n);
        to += n;
        at += n;
        size -= n;
    }
    return true;
}

static void dump_code(struct hmp *h, u64 at, s64 count, bool linear)
{
    for (s64 i = 0; i < count; i++) {
        u8 code[15];
        char text[128];
        size_t have = sizeof(code);
        while (have && !read_memory(h, at, code, have, linear)) have--;
        if (!have) {
            fprintf(h->out, "0x%08llx: Cannot access memory\n", (unsigned long long)at);
            return;
        }
        size_t n = disasm_one(text, sizeof(text), code, have, at, cpu_of(h)->code_size);
        if (!n) snprintf(text, sizeof(text), ".byte    0x%02x", code[0]), n = 1;
        fprintf(h->out, "0x%08llx:  ", (unsigned long long)at);
        for (size_t k = 0; k < n; k++) fprintf(h->out, "%02x ", code[k]);
        fprintf(h->out, "%*s%s\n", n < 8 ? (int)(8 - n) * 3 : 0, "", text);
        at += n;
    }
}

static void print_number(FILE *f, char format, int size, u64 v)
{
    int bits = 8 * size;
    s64 sv = (s64)(v << (64 - bits)) >> (64 - bits);
    switch (format) {
    case 'o': fprintf(f, "0%0*llo", (bits + 2) / 3, (unsigned long long)v); break;
    case 'u': fprintf(f, "%*llu", bits / 4 + bits / 12, (unsigned long long)v); break;
    case 'd': fprintf(f, "%*lld", bits / 4 + bits / 12 + 1, (long long)sv); break;
    case 'c':
        if (isprint((int)(v & 0xff))) fprintf(f, "'%c'", (int)(v & 0xff));
        else fprintf(f, "'\\x%02x'", (int)(v & 0xff));
        break;
    default: fprintf(f, "0x%0*llx", 2 * size, (unsigned long long)v); break;
    }
}

static void dump(struct hmp *h, json_t *args, bool linear)
{
    u64 at = (u64)number(args, "addr", 0);
    s64 count = MIN(number(args, "count", 1), COUNT_MAX);
    char format = (char)number(args, "format", 'x');
    int size = (int)number(args, "size", 0);
    if (format == 'i') {
        dump_code(h, at, count, linear);
        return;
    }
    if (!size) size = format == 'c' ? 1 : 4;
    for (s64 i = 0; i < count;) {
        fprintf(h->out, "%016llx:", (unsigned long long)at);
        for (int k = 0; k < 16 / size && i < count; k++, i++, at += (u64)size) {
            u64 v = 0;
            if (!read_memory(h, at, &v, (size_t)size, linear)) {
                fprintf(h->out, " Cannot access memory\n");
                return;
            }
            fputc(' ', h->out);
            print_number(h->out, format, size, v);
        }
        fputc('\n', h->out);
    }
}

void hmp_x(struct hmp *h, json_t *args) { dump(h, args, true); }
void hmp_xp(struct hmp *h, json_t *args) { dump(h, args, false); }

void hmp_print(struct hmp *h, json_t *args)
{
    u64 v = (u64)number(args, "val", 0);
    switch ((char)number(args, "format", 'd')) {
    case 'o': fprintf(h->out, "%#llo\n", (unsigned long long)v); break;
    case 'x': fprintf(h->out, "%#llx\n", (unsigned long long)v); break;
    case 'u': fprintf(h->out, "%llu\n", (unsigned long long)v); break;
    case 'c': print_number(h->out, 'c', 1, v); fputc('\n', h->out); break;
    default: fprintf(h->out, "%lld\n", (long long)v); break;
    }
}

static int port_size(json_t *args)
{
    int size = (int)number(args, "size", 1);
    return size == 8 ? 4 : size;
}

void hmp_in(struct hmp *h, json_t *args)
{
    int size = port_size(args);
    u16 port = (u16)number(args, "addr", 0);
    json_t *index = json_object_get(args, "index");
    if (index) bus_write(h->m->io, port++, (u64)json_integer_value(index) & 0xff, 1);
    u64 v = bus_read(h->m->io, port, (unsigned)size);
    fprintf(h->out, "port%c[0x%04x] = 0x%0*llx\n", size == 1 ? 'b' : size == 2 ? 'w' : 'l', port, 2 * size,
            (unsigned long long)v);
}

void hmp_out(struct hmp *h, json_t *args)
{
    bus_write(h->m->io, (u16)number(args, "addr", 0), (u64)number(args, "val", 0), (unsigned)port_size(args));
}

void hmp_sum(struct hmp *h, json_t *args)
{
    u64 at = (u64)number(args, "start", 0), left = MIN((u64)number(args, "size", 0), 1ull << 30);
    u16 checksum = 0;
    while (left) {
        u8 part[4096];
        size_t n = MIN(left, sizeof(part));
        bus_read_block(h->m->mem, at, part, n);
        /* BSD's checksum: rotate right, add. */
        for (size_t i = 0; i < n; i++) checksum = (u16)((checksum >> 1 | checksum << 15) + part[i]);
        at += n;
        left -= n;
    }
    fprintf(h->out, "%05d\n", checksum);
}

void hmp_gva2gpa(struct hmp *h, json_t *args)
{
    gpa at;
    if (mmu_probe(cpu_of(h), (u64)number(args, "addr", 0), &at))
        fprintf(h->out, "gpa: %#llx\n", (unsigned long long)at);
    else
        fprintf(h->out, "Unmapped\n");
}

/* ---- page tables ---- */

#define PTE_P  0x001ull
#define PTE_W  0x002ull
#define PTE_U  0x004ull
#define PTE_PS 0x080ull
#define PTE_NX (1ull << 63)

struct listing {
    struct hmp *h;                      /* for output */
    bool ranges;                        /* `info mem`: runs with equal rights; else every page */
    int lines;                          /* printed */
    u64 start, end, rights;             /* the run so far: rights is PTE_P, _W and _U; 0: none */
};

static void end_range(struct listing *l)
{
    if (l->rights) {
        fprintf(l->h->out, "%016llx-%016llx %016llx %c%c%c\n", (unsigned long long)l->start, (unsigned long long)l->end,
                (unsigned long long)(l->end - l->start), l->rights & PTE_U ? 'u' : '-', 'r', l->rights & PTE_W ? 'w' : '-');
        l->lines++;
    }
    l->rights = 0;
}

static void mapped(struct listing *l, u64 va, u64 entry, u64 size, u64 rights)
{
    if (l->ranges) {
        if (l->rights != rights || l->end != va) {
            end_range(l);
            l->start = va;
            l->rights = rights;
        }
        l->end = va + size;
        return;
    }
    static const struct {
        u64 bit;
        char letter;
    } flags[] = {{PTE_NX, 'X'}, {0x100, 'G'}, {PTE_PS, 'P'}, {0x40, 'D'}, {0x20, 'A'}, {0x10, 'C'}, {0x08, 'T'},
                 {PTE_U, 'U'}, {PTE_W, 'W'}};
    fprintf(l->h->out, "%016llx: %016llx ", (unsigned long long)va, (unsigned long long)(entry & PHYS_MASK & ~(size - 1)));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        bool large_only = flags[i].letter == 'P';
        bool set = large_only ? size > GUEST_PAGE_SIZE : entry & flags[i].bit;
        fputc(set ? flags[i].letter : '-', l->h->out);
    }
    fputc('\n', l->h->out);
    l->lines++;
}

/* A table of 1 << bits entries of wide (8) or narrow (4) bytes, each for 1 << shift bytes from va on. */
static void list_table(struct listing *l, u64 table, unsigned bits, unsigned shift, u64 va, u64 rights, bool wide)
{
    const struct cpu *cpu = cpu_of(l->h);
    unsigned width = wide ? 8 : 4;
    bool can_be_large = shift > 12 && shift < 39 && (wide || cpu->cr4 & CR4_PSE) && !(wide && bits == 2);
    for (u64 i = 0; i < 1ull << bits && l->lines < LINES_MAX; i++) {
        u64 entry = bus_read(l->h->m->mem, table + i * width, width), at = va + (i << shift);
        if (shift == 39 && i & 0x100) at |= ~0ull << 48;
        if (!(entry & PTE_P)) continue;
        bool pdpt = wide && bits == 2; /* PAE's four entries have no rights */
        u64 here = pdpt ? rights : rights & entry;
        if (shift == 12 || (can_be_large && entry & PTE_PS))
            mapped(l, at, entry, 1ull << shift, here);
        else
            list_table(l, entry & PHYS_MASK & ~0xfffull, wide ? 9 : 10, shift - (wide ? 9 : 10), at, here, wide);
    }
}

static void list_pages(struct hmp *h, bool ranges)
{
    struct cpu *cpu = cpu_of(h);
    struct listing l = {.h = h, .ranges = ranges};
    u64 all = PTE_P | PTE_W | PTE_U;
    if (!(cpu->cr0 & CR0_PG))
        fprintf(h->out, "PG disabled\n");
    else if (cpu_long(cpu))
        list_table(&l, cpu->cr3 & PHYS_MASK & ~0xfffull, 9, 39, 0, all, true);
    else if (cpu->cr4 & CR4_PAE)
        list_table(&l, cpu->cr3 & 0xffffffe0, 2, 30, 0, all, true);
    else
        list_table(&l, cpu->cr3 & 0xfffff000, 10, 22, 0, all, false);
    end_range(&l);
    if (l.lines >= LINES_MAX) fprintf(h->out, "...\n");
}

void hmp_info_mem(struct hmp *h, json_t *args)
{
    (void)args;
    list_pages(h, true);
}

void hmp_info_tlb(struct hmp *h, json_t *args)
{
    (void)args;
    list_pages(h, false);
}

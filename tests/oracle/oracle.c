/* build/tests/oracle/oracle --count 10000000 --seed $RANDOM    (a long run; also hundred-million.sh)
 *
 * Runs random instruction sequences on the host's processor and on an engine and compares registers, flags, vector
 * and x87 state, memory, and the exception each ends with: vector, error code, CR2.
 *
 * A difference names its seed and case; `--seed S --first N --count 1` with the same --mode, --engine, --cpu and --insns is that case
 * again (with bt, whose other cases may matter, some before it, too).
 *
 * What is not compared, and why:
 * - Flags an instruction leaves undefined are only counted (the engines use the host's ALU; mostly they agree).
 * - The upper halves of registers outside 64-bit mode: undefined after a mode switch [SDM1] 3.4.1.1.
 * - #PF error code bit 0 for addresses in the kernel's half: Linux sets it, so as not to tell what is mapped there.
 * - The x87 operand pointer: hosts with CPUID.7:EBX[6] update it only on unmasked exceptions. Of the instruction pointer,
 *   48 bits: a host with 57-bit linear addresses keeps more of what is loaded.
 * - MXCSR_MASK and the reserved bytes of the FXSAVE image.
 * - Null selectors 0..3 count as equal: the way through the host's kernel (IRET) makes them 0.
 * - When operands that are accessed in pieces fault (masked stores, save areas, PUSHA, IRET): which piece decides about
 *   CR2, error code and vector, and what is already stored, is the processor's own choice.
 * - When a gather faults: whether the destination's upper half is cleared already.
 * - When VCVTPS2PH faults on its store: whether MXCSR has its flags already.
 * - When an MMX instruction faults: whether the x87 is in MMX state (TOP, tags) already.
 * - Gathers that are single-stepped and fault midway (docs/LIMITS.md).
 * - Instructions in forms.c's list. */
#include "oracle.h"

#include <capstone/capstone.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "coverage.h"
#include "cpu/cpuid.h"
#include "forms.h"

#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)
#define FLAGS_SEEN  0x257fd5u /* all of EFLAGS but VM, VIF, VIP and the constant bits */

#define JOBS_MAX 64u
#define VSYSCALL_PAGE 0xffffffffff600000ull /* [Linux] asm/vsyscall.h */

struct options {
    enum code_size mode;
    u64 seed, count, first;
    unsigned min_insns, max_insns, report, jobs;
    const char *only, *engine, *cpu, *skip;
    bool verbose, undefined_opcodes, strict_flags, coverage;
};

/* One of each job, shared with the process that started it. */
struct totals {
    u64 cases, instructions, translated, timeouts, differences, skipped, flag_notes;
    u64 vectors[32];
    u64 seen[MNEMONIC_COUNT], failed[MNEMONIC_COUNT], flag_note[MNEMONIC_COUNT];
    unsigned mnemonics; /* that can be generated */
};
static struct totals *totals; /* this job's */

static const char *const reg_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* ---- comparing ---- */

/* Accessed in pieces, in an order of the processor's own. */
static bool in_pieces(unsigned mnemonic)
{
    switch (mnemonic) {
    case I_fxsave:
    case I_fxrstor:
    case I_fnsave:
    case I_frstor:
    case I_fnstenv:
    case I_fldenv:
    case I_fbstp:
    case I_fstp:
    case I_fbld:
    case I_fld:
    case I_callf:
    case I_pusha:
    case I_popa:
    case I_retf:
    case I_iret:
    case I_maskmovq:
    case I_maskmovdqu:
    case I_vmaskmovdqu:
    case I_vmaskmovps:
    case I_vmaskmovpd:
    case I_vpmaskmovd:
    case I_vpmaskmovq: return true;
    default: return false;
    }
}

/* Within one operand, also when its offsets wrap at 64K. */
static bool near_by(u64 a, u64 b) { return a - b < 512 || b - a < 512 || (u16)(a - b) < 512 || (u16)(b - a) < 512; }
static bool memory_fault(int vector) { return vector == 12 || vector == 13 || vector == 14 || vector == 17; }

/* MMX state or x87 state the same: registers in physical order, TOP 0, no tags. */
static void turn_x87(struct machine_state *s)
{
    unsigned top = s->legacy[3] >> 3 & 7;
    u8 old[128];
    memcpy(old, s->legacy + 32, sizeof old);
    for (unsigned k = 0; k < 8; k++) memcpy(s->legacy + 32 + 16 * ((k + top) & 7), old + 16 * k, 16);
    s->legacy[3] &= 0xc7;
    s->legacy[4] = 0;
}

/* The differences as text, one a line; empty: none. */
struct report {
    char text[4096];
    size_t used;
    unsigned lines;
    bool only_flags; /* nothing but undefined flags */
};

__attribute__((format(printf, 2, 3))) static void note(struct report *r, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (r->used + 1 < sizeof r->text) {
        int n = vsnprintf(r->text + r->used, sizeof r->text - r->used, format, ap);
        if (n > 0) r->used = MIN(r->used + (size_t)n, sizeof r->text - 1);
    }
    va_end(ap);
    r->lines++;
}

static const char *vector_name(int v)
{
    static const char *const text[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS",
                                       "#NP", "#SS", "#GP", "#PF", "15", "#MF", "#AC", "#MC", "#XM"};
    switch (v) {
    case VECTOR_TIMEOUT: return "timeout";
    case VECTOR_SYSCALL: return "system call";
    case VECTOR_CRASH: return "crash";
    default: return v >= 0 && v < (int)ARRAY_LEN(text) ? text[v] : "?";
    }
}

/* Index of the instruction at this RIP, or -1. */
static int insn_at(const struct oracle_case *c, u64 rip)
{
    u64 off = rip - c->in.rip;
    for (unsigned k = 0; k < c->ninsns; k++)
        if (c->at[k] == off) return (int)k;
    return -1;
}

static bool uses_mmx(const struct insn *i)
{
    for (unsigned n = 0; n < i->noperands; n++)
        if (i->operands[n].kind == OPND_MM) return true;
    return false;
}

static bool is_gather(unsigned mnemonic)
{
    return mnemonic >= I_vgatherdps && mnemonic <= I_vpgatherqq;
}

static enum code_size last_mode(const struct oracle_case *c, const struct oracle_result *n)
{
    return n->out.cs == SEL_CODE64 ? CODE_64 : c->mode;
}

/* The instruction that it ends at, which may be of its own making, or begin inside another; false: it is not known. */
static bool last_insn(const struct oracle_case *c, const struct oracle_result *n, struct insn *i)
{
    u64 linear = n->out.rip + selector_base(n->out.cs);
    int at = image_offset((unsigned)(linear - WINDOW));
    if (linear < WINDOW || linear - WINDOW >= WINDOW_SIZE - 16 || at < 0 || at + 15 > (int)IMAGE_SIZE) return false;
    const u64 in_code = linear - WINDOW - c->code_off;
    if (n->patched) return decode(i, n->image + at, 15, last_mode(c, n)) > 0;
    return in_code < c->code_len && decode(i, c->code + in_code, c->code_len - (unsigned)in_code, last_mode(c, n)) > 0;
}

/* Does it end at an instruction that is not compared? */
static bool ends_outside(const struct oracle_case *c, const struct oracle_result *n, const struct cpu_model *model)
{
    struct insn i;
    return last_insn(c, n, &i) && !form_runnable(&i, last_mode(c, n), model);
}

/* Locked operations: across cache lines each of them takes the host's Linux milliseconds (split lock detection). */
static bool uses_lock(const struct oracle_case *c)
{
    for (unsigned k = 0; k < c->ninsns; k++) {
        struct insn i;
        if (decode(&i, c->code + c->at[k], c->len[k], c->mode) > 0 && ((i.prefixes & PFX_LOCK) || i.mnemonic == I_xchg)) return true;
    }
    return false;
}

/* A case that cannot be compared; one that changed its own code may have come to an instruction like that. */
static bool strayed(const struct oracle_case *c, const struct oracle_result *n, const struct oracle_result *e,
                    const struct cpu_model *model)
{
    /* IRET that sets AC: see generate.c. Accesses to the kernel's half that Linux takes for its own, and tries again. */
    if (n->vector == VECTOR_TIMEOUT && e->vector == 14 && e->cr2 >> 47) return true;
    if (n->vector == VECTOR_TIMEOUT && uses_lock(c)) return true;
    if (n->vector == VECTOR_TIMEOUT && insn_at(c, n->out.rip) >= 0 && c->mnemonic[insn_at(c, n->out.rip)] == I_iret) return true;
    /* The host's Linux makes system calls of jumps into its vsyscall page. */
    if (n->out.rip >> 12 == VSYSCALL_PAGE >> 12) return true;
    /* A gather that is single-stepped and faults when it has loaded some elements: docs/LIMITS.md. */
    if (n->vector == 1 && e->vector >= 12 && e->vector <= 14 && insn_at(c, e->out.rip) >= 0 && is_gather(c->mnemonic[insn_at(c, e->out.rip)]))
        return true;
    /* How far a repeated store that overwrites itself gets with the old code is up to the processor. */
    for (unsigned k = 0; k < c->ninsns; k++) {
        bool store = c->mnemonic[k] == I_movs || c->mnemonic[k] == I_stos;
        if (store && memcmp(n->image + image_offset(c->code_off) + c->at[k], c->code + c->at[k], c->len[k])) return true;
    }
    /* Linux goes on for some that fault (SGDT and its kin under CR4.UMIP). */
    return ends_outside(c, n, model) || (e->vector == 13 && ends_outside(c, e, model));
}

/* Flags that may be anything in this result. */
static u16 undefined_flags(const struct oracle_case *c, const struct oracle_result *n)
{
    if (n->vector == 3) return c->undefined_at[c->ninsns];
    int k = insn_at(c, n->out.rip);
    if (k < 0) { /* somewhere else: anything that was undefined on the way */
        u16 all = 0;
        for (unsigned j = 0; j <= c->ninsns; j++) all |= c->undefined_at[j];
        return all;
    }
    return n->vector == 0 ? FLAGS_ARITH : c->undefined_at[k]; /* [SDM2] DIV: undefined even when it faults */
}

/* what: with the number behind it, if it has one. */
#define NO_NUMBER (-1)
static void compare_bytes(struct report *r, const char *what, int number, const u8 *native, const u8 *engine, unsigned n)
{
    if (memcmp(native, engine, n) == 0) return;
    char a[80], b[80], name[24];
    snprintf(name, sizeof name, number == NO_NUMBER ? "%s" : "%s%d", what, number);
    unsigned k = 0;
    for (unsigned j = n; j-- > 0 && k + 2 < sizeof a;) {
        sprintf(a + k, "%02x", native[j]);
        sprintf(b + k, "%02x", engine[j]);
        k += 2;
    }
    note(r, "    %-8s native %s engine %s\n", name, a, b);
}

static u32 get32(const u8 *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return v;
}
static u16 get16(const u8 *p)
{
    u16 v;
    memcpy(&v, p, 2);
    return v;
}

static void compare_fpu(struct report *r, const struct machine_state *n, const struct machine_state *e,
                        bool m64)
{
    if (get16(n->legacy) != get16(e->legacy))
        note(r, "    fcw      native %04x engine %04x\n", get16(n->legacy), get16(e->legacy));
    if (get16(n->legacy + 2) != get16(e->legacy + 2))
        note(r, "    fsw      native %04x engine %04x\n", get16(n->legacy + 2), get16(e->legacy + 2));
    if (n->legacy[4] != e->legacy[4]) note(r, "    ftw      native %02x engine %02x\n", n->legacy[4], e->legacy[4]);
    if (get32(n->legacy + 24) != get32(e->legacy + 24))
        note(r, "    mxcsr    native %08x engine %08x\n", get32(n->legacy + 24), get32(e->legacy + 24));
    compare_bytes(r, "fop", NO_NUMBER, n->legacy + 6, e->legacy + 6, 2);
    compare_bytes(r, "fip", NO_NUMBER, n->legacy + 8, e->legacy + 8, 6);
    for (unsigned k = 0; k < 8; k++) compare_bytes(r, "st", k, n->legacy + 32 + 16 * k, e->legacy + 32 + 16 * k, 10);
    for (unsigned k = 0; k < (m64 ? 16u : 8u); k++) {
        compare_bytes(r, "xmm", k, n->legacy + 160 + 16 * k, e->legacy + 160 + 16 * k, 16);
        compare_bytes(r, "ymmh", k, n->ymm_high + 16 * k, e->ymm_high + 16 * k, 16);
    }
}

static void compare(struct report *r, const struct options *o, const struct oracle_case *c, const u8 *image, struct oracle_result *n,
                    struct oracle_result *e)
{
    const struct machine_state *a = &n->out, *b = &e->out;
    bool m64 = c->mode == CODE_64 && a->cs == SEL_CODE64;
    u64 mask = m64 ? ~0ull : 0xffffffff;
    r->used = 0;
    r->lines = 0;
    r->text[0] = 0;
    r->only_flags = false;
    struct insn last;
    const bool faulting = n->vector != 3 && last_insn(c, n, &last);
    unsigned mnemonic = faulting ? last.mnemonic : I_invalid;
    bool pieces = in_pieces(mnemonic) && memory_fault(n->vector) && memory_fault(e->vector);
    if (n->vector != e->vector && !pieces) note(r, "    vector   native %s engine %s\n", vector_name(n->vector), vector_name(e->vector));
    if (n->vector == VECTOR_TIMEOUT && e->vector != n->vector)
        note(r, "    native rip %llx cs %x ss %x rsp %llx\n", (unsigned long long)a->rip, a->cs, a->ss,
             (unsigned long long)a->regs[4]);
    if (n->vector < 0) return;
    u64 error = e->error_code;
    if (n->vector == 14 && n->cr2 >= 0x7ffffffff000) error |= 1;
    if (n->vector == e->vector && n->error_code != error && !pieces)
        note(r, "    error    native %llx engine %llx\n", (unsigned long long)n->error_code, (unsigned long long)error);
    if (n->vector == 14 && e->vector == 14 && n->cr2 != e->cr2 &&
        !(pieces && near_by(n->cr2, e->cr2)))
        note(r, "    cr2      native %llx engine %llx\n", (unsigned long long)n->cr2, (unsigned long long)e->cr2);
    if ((a->rip & mask) != (b->rip & mask))
        note(r, "    rip      native %llx engine %llx\n", (unsigned long long)a->rip, (unsigned long long)b->rip);
    for (unsigned k = 0; k < (m64 ? 16u : 8u); k++)
        if ((a->regs[k] & mask) != (b->regs[k] & mask) && !(pieces && mnemonic == I_popa))
            note(r, "    %-8s native %016llx engine %016llx\n", reg_names[k], (unsigned long long)a->regs[k],
                 (unsigned long long)b->regs[k]);
    const u16 sa[6] = {a->es, a->cs, a->ss, a->ds, a->fs, a->gs}, sb[6] = {b->es, b->cs, b->ss, b->ds, b->fs, b->gs};
    for (unsigned k = 0; k < 6; k++)
        if (sa[k] != sb[k] && (sa[k] | sb[k]) > 3) note(r, "    %.2s       native %04x engine %04x\n", "escsssdsfsgs" + 2 * k, sa[k], sb[k]);
    if ((a->fs_base ^ b->fs_base) & mask)
        note(r, "    fs.base  native %llx engine %llx\n", (unsigned long long)a->fs_base, (unsigned long long)b->fs_base);
    if ((a->gs_base ^ b->gs_base) & mask)
        note(r, "    gs.base  native %llx engine %llx\n", (unsigned long long)a->gs_base, (unsigned long long)b->gs_base);
    if (faulting && uses_mmx(&last)) {
        struct machine_state x = *a, y = *b;
        turn_x87(&x);
        turn_x87(&y);
        compare_fpu(r, &x, &y, m64);
    } else if (is_gather(mnemonic)) { /* when the bits above the elements are cleared is not said */
        struct machine_state y = *b;
        memcpy(y.ymm_high, a->ymm_high, sizeof y.ymm_high);
        if (mnemonic == I_vgatherqps || mnemonic == I_vpgatherqd)
            for (unsigned k = 0; k < 16; k++) memcpy(y.legacy + 168 + 16 * k, a->legacy + 168 + 16 * k, 8);
        compare_fpu(r, a, &y, m64);
    } else if (mnemonic == I_vcvtps2ph && memory_fault(n->vector)) {
        struct machine_state y = *b;
        memcpy(y.legacy + 24, a->legacy + 24, 4);
        compare_fpu(r, a, &y, m64);
    } else {
        compare_fpu(r, a, b, m64);
    }
    if (!pieces && !result_same_memory(n, e)) {
        unsigned shown = 0;
        result_complete(n, image, c);
        result_complete(e, image, c);
        for (unsigned k = 0; k < IMAGE_SIZE; k += 8) {
            if (memcmp(n->image + k, e->image + k, 8) == 0) continue;
            if (shown++ < 6) {
                char name[24];
                snprintf(name, sizeof name, "[%x]", WINDOW + image_to_window(k));
                compare_bytes(r, name, NO_NUMBER, n->image + k, e->image + k, 8);
            }
        }
        if (shown > 6) note(r, "    and %u more words of memory\n", shown - 6);
    }
    u64 flags = (a->rflags ^ b->rflags) & FLAGS_SEEN;
    u64 undefined = o->strict_flags ? 0 : undefined_flags(c, n);
    r->only_flags = !r->lines && flags && !(flags & ~undefined);
    if (flags & ~undefined)
        note(r, "    eflags   native %08llx engine %08llx (differ %llx, undefined %llx)\n", (unsigned long long)a->rflags,
             (unsigned long long)b->rflags, (unsigned long long)flags, (unsigned long long)undefined);
}

/* ---- reporting ---- */

static void disassemble(const struct oracle_case *c)
{
    csh handle;
    cs_mode mode = c->mode == CODE_64 ? CS_MODE_64 : c->mode == CODE_32 ? CS_MODE_32 : CS_MODE_16;
    if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK) return;
    for (unsigned k = 0; k < c->ninsns; k++) {
        cs_insn *text;
        size_t n = cs_disasm(handle, c->code + c->at[k], c->len[k], c->in.rip + c->at[k], 1, &text);
        printf("  %8llx  ", (unsigned long long)(c->in.rip + c->at[k]));
        for (unsigned j = 0; j < 15; j++)
            if (j < c->len[k]) printf("%02x", c->code[c->at[k] + j]);
            else if (j < 10) printf("  ");
        if (n) {
            printf("  %s %s", text->mnemonic, text->op_str);
            cs_free(text, n);
        } else {
            printf("  (%s)", mnemonic_name(c->mnemonic[k]));
        }
        putchar('\n');
    }
    cs_close(&handle);
}

static void print_state(const struct machine_state *s, bool m64)
{
    for (unsigned k = 0; k < (m64 ? 16u : 8u); k++)
        printf("%s%s=%llx", k % 8 ? " " : k ? "\n  " : "  ", reg_names[k], (unsigned long long)s->regs[k]);
    printf("\n  eflags=%llx es=%x cs=%x ss=%x ds=%x fs=%x gs=%x fs.base=%llx gs.base=%llx fcw=%04x fsw=%04x ftw=%02x "
           "mxcsr=%04x\n",
           (unsigned long long)s->rflags, s->es, s->cs, s->ss, s->ds, s->fs, s->gs, (unsigned long long)s->fs_base,
           (unsigned long long)s->gs_base, get16(s->legacy), get16(s->legacy + 2), s->legacy[4], get32(s->legacy + 24));
}

/* The same case without its last instructions. */
static void truncate_case(struct oracle_case *c, unsigned ninsns)
{
    unsigned end = c->at[ninsns];
    /* What is left may jump behind its end: keep INT3 everywhere but in the slots. */
    for (unsigned k = ninsns; k < c->ninsns; k++) memset(c->code + c->at[k], 0xcc, c->len[k]);
    c->code[end] = 0xcc;
    c->ninsns = ninsns;
}

static bool differs(const struct options *o, struct native *n, struct guest *g, const u8 *image, const struct oracle_case *c,
                    struct report *r, struct oracle_result *nr, struct oracle_result *er, bool patient)
{
    if (native_run(n, image, c, 1, patient) != 0) return false;
    *nr = *native_result(n, 0);
    guest_run(g, c, er, patient);
    if (nr->vector == VECTOR_SYSCALL) return false;
    compare(r, o, c, image, nr, er);
    return r->lines != 0;
}

static void report_difference(const struct options *o, struct native *n, struct guest *g, const u8 *image,
                              const struct oracle_case *full, struct report *r, bool slow)
{
    static struct oracle_case c;
    static struct oracle_result nr, er;
    static struct report shorter;
    bool again = differs(o, n, g, image, full, &shorter, &nr, &er, slow);
    if (slow && !again) { /* one side took its time, as the host does for locked operations across cache lines */
        totals->skipped++;
        return;
    }
    totals->differences++;
    /* The shortest beginning that differs; jumps make this only a guess. */
    c = *full;
    for (unsigned k = 1; k < full->ninsns; k++) {
        truncate_case(&c, k);
        if (differs(o, n, g, image, &c, &shorter, &nr, &er, false) && nr.vector != VECTOR_TIMEOUT && er.vector != VECTOR_TIMEOUT) {
            *r = shorter;
            again = true;
            break;
        }
        c = *full;
    }
    if (c.ninsns == full->ninsns) differs(o, n, g, image, full, &shorter, &nr, &er, slow);
    unsigned guilty = c.mnemonic[c.ninsns ? c.ninsns - 1 : 0];
    if (!again) note(r, "    (does not happen again)\n");
    totals->failed[guilty]++;
    if (o->skip && strstr(o->skip, mnemonic_name(guilty))) return;
    if (totals->differences > o->report) return;
    printf("difference: --engine %s --cpu %s --mode %d --seed %llu --first %llu --count 1 --insns %u..%u%s: %s (%u of %u instructions)\n",
           o->engine, o->cpu, c.mode == CODE_64 ? 64 : c.mode == CODE_32 ? 32 : 16, (unsigned long long)o->seed, (unsigned long long)c.index,
           o->min_insns, o->max_insns, o->undefined_opcodes ? " --ud" : "", mnemonic_name(guilty), c.ninsns, full->ninsns);
    disassemble(&c);
    print_state(&c.in, c.mode == CODE_64);
    printf("  ends with %s error %llx cr2 %llx\n%s", vector_name(nr.vector), (unsigned long long)nr.error_code,
           (unsigned long long)nr.cr2, r->text);
    fflush(stdout);
}

/* ---- main ---- */

static int usage(void)
{
    fprintf(stderr, "usage: oracle [--mode 64|32|16] [--seed N] [--first N] [--count N] [--insns N[..M]] [--only MNEMONIC]\n"
                    "              [--engine interp|bt] [--cpu MODEL] [--report N] [--strict-flags] [--ud]\n"
                    "              [--jobs N] [--verbose] [--coverage]\n");
    return 2;
}

static int parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"mode", 1, NULL, 'm'},   {"seed", 1, NULL, 's'},    {"first", 1, NULL, 'f'},        {"count", 1, NULL, 'c'},
        {"insns", 1, NULL, 'i'},  {"only", 1, NULL, 'o'},    {"engine", 1, NULL, 'e'},       {"cpu", 1, NULL, 'p'},
        {"report", 1, NULL, 'r'}, {"verbose", 0, NULL, 'v'}, {"ud", 0, NULL, 'u'},
        {"jobs", 1, NULL, 'j'},   {"skip", 1, NULL, 'k'},   {"strict-flags", 0, NULL, 'S'},
        {"coverage", 0, NULL, 'C'}, {NULL, 0, NULL, 0},
    };
    int opt;
    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        char *end = NULL;
        switch (opt) {
        case 'm': {
            int bits = atoi(optarg);
            if (bits != 64 && bits != 32 && bits != 16) return usage();
            o->mode = bits == 64 ? CODE_64 : bits == 32 ? CODE_32 : CODE_16;
            break;
        }
        case 's': o->seed = strtoull(optarg, NULL, 0); break;
        case 'f': o->first = strtoull(optarg, NULL, 0); break;
        case 'c': o->count = strtoull(optarg, NULL, 0); break;
        case 'i':
            o->min_insns = o->max_insns = (unsigned)strtoul(optarg, &end, 0);
            if (end && end[0] == '.' && end[1] == '.') o->max_insns = (unsigned)strtoul(end + 2, NULL, 0);
            if (!o->min_insns || o->max_insns < o->min_insns || o->max_insns > 40) return usage();
            break;
        case 'o': o->only = optarg; break;
        case 'e': o->engine = optarg; break;
        case 'p': o->cpu = optarg; break;
        case 'r': o->report = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'k': o->skip = optarg; break;
        case 'j':
            o->jobs = (unsigned)strtoul(optarg, NULL, 0);
            if (!o->jobs || o->jobs > JOBS_MAX) return usage();
            break;
        case 'v': o->verbose = true; break;
        case 'S': o->strict_flags = true; break;
        case 'C': o->coverage = true; break;
        case 'u': o->undefined_opcodes = true; break;
        default: return usage();
        }
    }
    return optind == argc ? 0 : usage();
}

static void print_totals(const struct options *o, double seconds)
{
    unsigned covered = 0;
    for (unsigned m = 1; m < MNEMONIC_COUNT; m++) covered += totals->seen[m] != 0;
    if (o->verbose) {
        printf("oracle: ended with");
        for (unsigned v = 0; v < ARRAY_LEN(totals->vectors); v++)
            if (totals->vectors[v]) printf(" %s %llu", vector_name((int)v), (unsigned long long)totals->vectors[v]);
        printf(" timeout %llu; %llu without a result\n", (unsigned long long)totals->timeouts, (unsigned long long)totals->skipped);
    }
    if (totals->flag_notes) {
        printf("oracle: undefined flags differ in %llu cases:", (unsigned long long)totals->flag_notes);
        for (unsigned m = 1; m < MNEMONIC_COUNT; m++)
            if (totals->flag_note[m]) printf(" %s %llu", mnemonic_name(m), (unsigned long long)totals->flag_note[m]);
        putchar('\n');
    }
    if (totals->differences) {
        printf("oracle: differences by mnemonic:");
        for (unsigned m = 0; m < MNEMONIC_COUNT; m++)
            if (totals->failed[m]) printf(" %s %llu", mnemonic_name(m), (unsigned long long)totals->failed[m]);
        putchar('\n');
    }
    printf("oracle: %llu cases (%llu instructions, %llu blocks translated, %u mnemonics covered of %u), %llu differences, %.0f cases/s\n",
           (unsigned long long)totals->cases, (unsigned long long)totals->instructions, (unsigned long long)totals->translated, covered,
           totals->mnemonics, (unsigned long long)totals->differences, seconds > 0 ? (double)totals->cases / seconds : 0);
}

static void note_coverage(const struct oracle_case *c, const struct oracle_result *n)
{
    for (unsigned k = 0; k < c->ninsns; k++) {
        struct insn i;
        if (decode(&i, c->code + c->at[k], c->len[k], c->mode) > 0) coverage_note(&i, n->vector == 14 && insn_at(c, n->out.rip) == (int)k);
    }
}

static void run_batch(const struct options *o, struct generator *gen, struct native *n, struct guest *g, const struct cpu_model *model,
                      u64 first, unsigned count)
{
    static struct oracle_case cases[BATCH];
    static u8 image[IMAGE_SIZE];
    static struct report reports[BATCH];
    unsigned failed[BATCH], nfailed = 0;
    bool slow[BATCH];
    generate_image(gen, first / BATCH, image);
    for (unsigned k = 0; k < count; k++) generate_case(gen, first + k, &cases[k]);
    if (native_run(n, image, cases, count, false) != 0) return;
    static struct oracle_result e;
    guest_image(g, image);
    for (unsigned k = 0; k < count; k++) {
        const struct oracle_case *c = &cases[k];
        struct oracle_result *native = native_result(n, k);
        struct report *r = &reports[nfailed];
        totals->cases++;
        totals->instructions += c->ninsns;
        for (unsigned j = 0; j < c->ninsns; j++) totals->seen[c->mnemonic[j]]++;
        if (o->coverage) note_coverage(c, native);
        if (native->vector == VECTOR_SYSCALL) {
            totals->skipped++;
            continue;
        }
        totals->timeouts += native->vector == VECTOR_TIMEOUT;
        if (native->vector >= 0 && native->vector < 32) totals->vectors[native->vector]++;
        if (o->verbose && o->count == 1) {
            disassemble(c);
            print_state(&c->in, c->mode == CODE_64);
            printf("  native: %s error %llx cr2 %llx rip %llx\n", vector_name(native->vector),
                   (unsigned long long)native->error_code, (unsigned long long)native->cr2,
                   (unsigned long long)native->out.rip);
        }
        guest_run(g, c, &e, false);
        compare(r, o, c, image, native, &e);
        if (r->lines) {
            result_complete(native, image, c);
            result_complete(&e, image, c);
            slow[nfailed] = native->vector == VECTOR_TIMEOUT || e.vector == VECTOR_TIMEOUT;
            if (strayed(c, native, &e, model)) totals->skipped++;
            else failed[nfailed++] = k;
        } else if (r->only_flags) {
            totals->flag_notes++;
            if (c->ninsns == 1) totals->flag_note[c->mnemonic[0]]++;
        }
    }
    /* They run once more, in which the other results get lost. */
    for (unsigned k = 0; k < nfailed; k++) report_difference(o, n, g, image, &cases[failed[k]], &reports[k], slow[k]);
}

/* Cases o->first and on, as the job with this number. Exit status: 1 if anything differs, 2, or 77 (for ctest: skipped). */
static int run_job(const struct options *o, unsigned job)
{
    struct cpu_model *model = NULL;
    if (cpu_model_parse(o->cpu, &model)) return 2;
    struct generator_options go = {.mode = o->mode, .seed = o->seed, .min_insns = o->min_insns, .max_insns = o->max_insns,
                                   .only = o->only, .undefined_opcodes = o->undefined_opcodes, .model = model};
    struct generator *gen = generator_create(&go);
    if (!gen || !generator_mnemonics(gen)) {
        fprintf(stderr, "oracle: nothing to generate\n");
        return 2;
    }
    totals->mnemonics = generator_mnemonics(gen);
    struct native *n = native_create(job);
    if (!n) return 77;
    struct guest *g = guest_create(o->engine, model, native_ldt(n), native_processor(n));
    if (!g) return 2;
    for (u64 at = o->first, end = o->first + o->count; at < end;) {
        unsigned count = (unsigned)MIN(end - at, BATCH - at % BATCH);
        run_batch(o, gen, n, g, model, at, count);
        totals->translated = guest_translated(g);
        at += count;
    }
    if (o->coverage) coverage_print(o->mode, model);
    guest_destroy(g);
    native_destroy(n);
    generator_destroy(gen);
    cpu_model_destroy(model);
    return totals->differences ? 1 : 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* all[1..jobs] to all[0]. */
static void add_up(struct totals *all, unsigned jobs)
{
    struct totals *t = memset(&all[0], 0, sizeof *all);
    for (unsigned k = 1; k <= jobs; k++) {
        t->cases += all[k].cases;
        t->instructions += all[k].instructions;
        t->translated += all[k].translated;
        t->timeouts += all[k].timeouts;
        t->differences += all[k].differences;
        t->skipped += all[k].skipped;
        t->flag_notes += all[k].flag_notes;
        t->mnemonics = MAX(t->mnemonics, all[k].mnemonics);
        for (unsigned v = 0; v < ARRAY_LEN(t->vectors); v++) t->vectors[v] += all[k].vectors[v];
        for (unsigned m = 0; m < MNEMONIC_COUNT; m++) {
            t->seen[m] += all[k].seen[m];
            t->failed[m] += all[k].failed[m];
            t->flag_note[m] += all[k].flag_note[m];
        }
    }
}

/* Each job a process, with a share of the cases. A line every PROGRESS seconds. The worst status. */
#define PROGRESS 60
static int run_jobs(const struct options *o, struct totals *all)
{
    pid_t pids[JOBS_MAX];
    int worst = 0;
    double start = now(), next = start + PROGRESS;
    for (unsigned k = 0; k < o->jobs; k++) {
        struct options mine = *o;
        mine.first = o->first + o->count * k / o->jobs;
        mine.count = o->first + o->count * (k + 1) / o->jobs - mine.first;
        fflush(NULL);
        pids[k] = fork();
        if (pids[k] == 0) {
            totals = &all[k + 1];
            int status = run_job(&mine, k);
            fflush(NULL);
            _exit(status);
        }
        if (pids[k] < 0) {
            perror("oracle: fork");
            worst = 2;
        }
    }
    for (unsigned left = o->jobs; left > 0;) {
        usleep(50000);
        for (unsigned k = 0; k < o->jobs; k++) {
            int status;
            if (pids[k] <= 0 ? pids[k] == 0 : waitpid(pids[k], &status, WNOHANG) == 0) continue;
            if (pids[k] > 0 && !WIFEXITED(status))
                printf("oracle: job %u ended by signal %d after %llu of its cases, of which the first was %llu\n", k, WTERMSIG(status),
                       (unsigned long long)all[k + 1].cases, (unsigned long long)(o->first + o->count * k / o->jobs));
            if (pids[k] > 0) worst = MAX(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 1);
            pids[k] = 0;
            left--;
        }
        if (now() < next) continue;
        next += PROGRESS;
        add_up(all, o->jobs);
        printf("oracle: %llu of %llu cases, %llu differences\n", (unsigned long long)all[0].cases, (unsigned long long)o->count,
               (unsigned long long)all[0].differences);
        fflush(stdout);
    }
    add_up(all, o->jobs);
    return worst;
}

int main(int argc, char **argv)
{
    struct options o = {.mode = CODE_64, .seed = 1, .count = 100000, .min_insns = 1, .max_insns = 8, .engine = "interp",
                        .cpu = "max", .report = 20, .jobs = 1};
    if (parse(&o, argc, argv)) return 2;
    struct totals *all = mmap(NULL, (1 + o.jobs) * sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        perror("oracle: mmap");
        return 2;
    }
    totals = &all[0];
    double start = now();
    int status = o.jobs > 1 ? run_jobs(&o, all) : run_job(&o, 0);
    if (status < 2) print_totals(&o, now() - start);
    return status;
}

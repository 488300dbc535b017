/* Enumerating encodings, and the list of what cannot be compared with the host, with reasons. */
#include "forms.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"

static const char *const names[] = {
    "invalid",
#define X(name) #name,
#include "cpu/mnemonics.def"
#undef X
};

const char *mnemonic_name(unsigned mnemonic) { return mnemonic < ARRAY_LEN(names) ? names[mnemonic] : "?"; }

bool form_runnable(const struct insn *i, enum code_size mode, const struct cpu_model *model)
{
    switch (i->mnemonic) {
    /* Enter the host's kernel. (INT 80H: see generate.c.) */
    case I_syscall:
    case I_sysenter:
    case I_vmcall:
    case I_vmmcall:
        return false;
    /* #GP at CPL 3 on the host, but AMD's have no SYSEXIT in long mode, and more of SYSRET. */
    case I_sysexit:
    case I_sysret:
        if (model && model->amd) return false;
        break;

    /* Answers that are not the same by their nature. */
    case I_cpuid:
    case I_rdtsc:
    case I_rdtscp:
    case I_rdpmc:
    case I_rdpid:
    case I_rdrand:
    case I_rdseed:
    case I_xgetbv: /* the host's XCR0 has more */
        return false;
    /* UMIP: Linux emulates them for compatibility. */
    case I_sgdt:
    case I_sidt:
    case I_sldt:
    case I_str:
    case I_smsw:
        return false;
    /* Images with fields that differ: more components on the host, MXCSR_MASK, implementation-specific parts. */
    case I_xsave:
    case I_xsavec:
    case I_xsaveopt:
    case I_xsaves:
    case I_xrstor:
    case I_xrstors:
        return false;
    /* The host has transactional memory, monitor and waiting instructions; the models here do not. */
    case I_xbegin:
    case I_xend:
    case I_xabort:
    case I_xtest:
    case I_monitor:
    case I_mwait:
    case I_umonitor:
    case I_umwait:
    case I_tpause:
    case I_getsec:
        return false;
    default: break;
    }
    switch (i->opcode->feature) {
    /* What a host in a virtual machine says to these depends on the one below it. */
    case FEAT_VMX:
    case FEAT_SVM:
    case FEAT_SMM:
    case FEAT_RTM:
    case FEAT_CET:
    case FEAT_SSE4A: /* AMD's */
        return false;
    default: break;
    }
    (void)mode;
    return !model || i->opcode->feature == FEAT_BASE || cpu_has_feature(model, i->opcode->feature);
}

struct builder {
    struct form_list *list;
    unsigned capacity;
    enum code_size mode;
    const struct cpu_model *model;
    const char *only;
};

static int try_decode(struct insn *out, const struct form *f, u8 modrm, enum code_size mode)
{
    static const u8 pp_bytes[4] = {0, 0x66, 0xf3, 0xf2};
    u8 b[32];
    size_t n = 0;
    memset(b, 0, sizeof b);
    if (mode == CODE_16 && form_gathers(f)) b[n++] = 0x67; /* there is no SIB byte otherwise */
    if (f->vex) {
        b[n++] = 0xc4;
        b[n++] = (u8)(0xe0 | f->map);
        b[n++] = (u8)(f->w << 7 | 0x78 | f->l << 2 | f->pp);
        /* A row that uses VEX.vvvv is found by its value 0 too. */
    } else {
        if (f->pp) b[n++] = pp_bytes[f->pp];
        if (f->w) b[n++] = 0x48;
        if (f->map) b[n++] = 0x0f;
        if (f->map == 2) b[n++] = 0x38;
        if (f->map == 3) b[n++] = 0x3a;
    }
    b[n++] = f->code;
    b[n++] = modrm;
    b[n + 0] = 0x20; /* SIB or displacement, immediate */
    return decode(out, b, 15, mode);
}

static void add_form(struct builder *b, struct form f, const struct insn *i)
{
    if (b->only && strcmp(b->only, mnemonic_name(i->mnemonic)) != 0 && strcmp(b->only, i->opcode->name) != 0) return;
    if (!form_runnable(i, b->mode, b->model)) return;
    struct form_list *l = b->list;
    f.mnemonic = i->mnemonic;
    f.attr = i->opcode->attr;
    /* The forms of this opcode are the last ones in the list. */
    for (unsigned k = l->count; k-- > 0 && l->count - k <= 20;) {
        struct form *o = &l->forms[k];
        if (o->mnemonic != f.mnemonic || o->vex != f.vex || o->map != f.map || o->pp != f.pp || o->code != f.code ||
            o->w != f.w || o->l != f.l || o->memory != f.memory || o->attr != f.attr)
            continue;
        o->reg_mask |= f.reg_mask;
        o->reg_rm |= f.reg_rm;
        return;
    }
    if (l->count == b->capacity) {
        b->capacity = b->capacity ? 2 * b->capacity : 4096;
        l->forms = realloc(l->forms, b->capacity * sizeof *l->forms);
        if (!l->forms) abort();
    }
    l->forms[l->count++] = f;
}

static void enumerate_opcode(struct builder *b, struct form f)
{
    struct insn i;
    for (unsigned reg = 0; reg < 8; reg++) {
        f.memory = true;
        f.reg_mask = (u8)(1u << reg);
        f.reg_rm = 0;
        /* [BX] + disp8 or [RSP + ...] + disp8: rm 4 also finds VSIB forms. */
        if (try_decode(&i, &f, (u8)(0x44 | reg << 3), b->mode) > 0) add_form(b, f, &i);
        f.memory = false;
        f.reg_mask = 0;
        for (unsigned rm = 0; rm < 8; rm++) {
            f.reg_rm = 1ull << (reg << 3 | rm);
            if (try_decode(&i, &f, (u8)(0xc0 | reg << 3 | rm), b->mode) > 0) add_form(b, f, &i);
        }
    }
}

static bool is_prefix(u8 code, enum code_size mode)
{
    switch (code) {
    case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67: case 0xf0: case 0xf2:
    case 0xf3: return true;
    default: return mode == CODE_64 && (code & 0xf0) == 0x40;
    }
}

static int by_mnemonic(const void *a, const void *b)
{
    const struct form *x = a, *y = b;
    return (int)x->mnemonic - (int)y->mnemonic;
}

struct form_list *forms_create(enum code_size mode, const struct cpu_model *model, const char *only)
{
    struct form_list *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    struct builder b = {.list = l, .mode = mode, .model = model, .only = only};
    for (unsigned vex = 0; vex < 2; vex++)
        for (unsigned map = vex; map < 4; map++)
            for (unsigned code = 0; code < 256; code++)
                for (unsigned pp = 0; pp < 4; pp++)
                    for (unsigned w = 0; w < (vex || mode == CODE_64 ? 2u : 1u); w++)
                        for (unsigned len = 0; len < (vex ? 2u : 1u); len++) {
                            struct form f = {.vex = (u8)vex, .map = (u8)map, .pp = (u8)pp, .code = (u8)code,
                                             .w = (u8)w, .l = (u8)len};
                            if (!vex && map == 0 && (is_prefix(f.code, mode) || code == 0x0f)) continue;
                            if (!vex && map == 1 && (code == 0x38 || code == 0x3a)) continue;
                            /* On one-byte opcodes 66, F2 and F3 are plain prefixes, added at random later. */
                            if (!vex && map == 0 && pp && code != 0x90) continue;
                            enumerate_opcode(&b, f);
                        }
    qsort(l->forms, l->count, sizeof *l->forms, by_mnemonic);
    for (unsigned m = 0, k = 0; m <= MNEMONIC_COUNT; m++) {
        while (k < l->count && l->forms[k].mnemonic < m) k++;
        l->first[m] = k;
    }
    for (unsigned m = 0; m < MNEMONIC_COUNT; m++) {
        if (l->first[m] == l->first[m + 1]) continue;
        u16 attr = l->forms[l->first[m]].attr;
        enum form_class class = attr & ATTR_AVX   ? FORMS_AVX
                                : attr & ATTR_X87 ? FORMS_X87
                                : attr & ATTR_MMX ? FORMS_MMX
                                : attr & ATTR_SSE ? FORMS_SSE
                                                  : FORMS_INT;
        l->mnemonics[class][l->nmnemonics[class]++] = (u16)m;
    }
    return l;
}

void forms_destroy(struct form_list *l)
{
    if (!l) return;
    free(l->forms);
    free(l);
}

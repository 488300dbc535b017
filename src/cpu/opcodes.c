/* Compiles the rows of opcodes.def into the decoder's lookup tables. A row that cannot be parsed is our bug:
 * an assertion fails at the first decoded instruction. */
#include "cpu/opcodes.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

/* Names the rows are written with. */
enum {
    CF = FLAG_CF,
    PF = FLAG_PF,
    AF = FLAG_AF,
    ZF = FLAG_ZF,
    SF = FLAG_SF,
    OF = FLAG_OF,
    DF = FLAG_DF,
    OC = OF | CF,
    SZAP = SF | ZF | AF | PF,
    SZAPC = SZAP | CF,
    OSZC = OF | SF | ZF | CF,
    OSZPC = OSZC | PF,
    OSZAP = OF | SZAP,
    OSZAPC = OSZAP | CF,
};
enum {
    LOCK = ATTR_LOCK,
    CPL0 = ATTR_CPL0,
    X87 = ATTR_X87,
    NOWAIT = ATTR_NOWAIT,
    MMX = ATTR_MMX,
    SSE = ATTR_SSE,
    AVX = ATTR_AVX,
    ALIGN = ATTR_ALIGN,
    FPEXC = ATTR_FPEXC,
    NO64 = ATTR_NO64,
    ONLY64 = ATTR_ONLY64,
    END = ATTR_END,
    PROT = ATTR_PROT,
    REP = ATTR_REP,
};

const struct opcode_row opcode_rows[] = {
#define OP(n, enc, ops, rd, wr, un, c, feat, at)                                                             \
    {{.name = #n,                                                                                            \
      .mnemonic = I_##n,                                                                                     \
      .attr = (at),                                                                                          \
      .reads = (rd),                                                                                         \
      .writes = (wr),                                                                                        \
      .undefined = (un),                                                                                     \
      .cls = CLASS_##c,                                                                                      \
      .feature = FEAT_##feat},                                                                               \
     enc,                                                                                                    \
     ops},
#include "cpu/opcodes.def"
#undef OP
};

enum {
    ROWS = ARRAY_LEN(opcode_rows),
    ORDER_MAX = ROWS + 512 /* rows for several opcodes count that often */
};
const unsigned opcode_row_count = ROWS;

struct opcode_form opcode_forms[ROWS];
u16 opcode_order[ORDER_MAX];
struct opcode_slot opcode_slots[SPACE_COUNT][256];

/* Where a row belongs. */
struct place {
    u8 space;
    u8 code;  /* the first opcode byte */
    u8 codes; /* how many follow it: 1 or 8 */
};

static bool token_is(const char *s, size_t n, const char *want)
{
    return strlen(want) == n && !memcmp(s, want, n);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Two hex digits at s, or -1. */
static int hex_byte(const char *s, size_t n)
{
    if (n < 2 || hex_digit(s[0]) < 0 || hex_digit(s[1]) < 0) return -1;
    return hex_digit(s[0]) << 4 | hex_digit(s[1]);
}

static void require(struct opcode_form *f, u32 mask, u32 value)
{
    assert(!(f->mask & mask & (f->value ^ value)));
    f->mask |= mask;
    f->value |= value;
}

/* NP, 66, F3, F2, NFx. */
static bool parse_prefix(struct opcode_form *f, const char *s, size_t n)
{
    static const char *const names[] = {"NP", "66", "F3", "F2"};
    if (token_is(s, n, "NFx")) {
        require(f, KEY_PP_F, 0);
        return true;
    }
    for (u32 pp = 0; pp < 4; pp++) {
        if (!token_is(s, n, names[pp])) continue;
        require(f, KEY_PP, pp << KEY_PP_SHIFT);
        f->flags |= FORM_PP;
        return true;
    }
    return false;
}

/* 0F, 0F38, 0F3A: 1..3, else 0. */
static unsigned parse_map(const char *s, size_t n)
{
    return token_is(s, n, "0F") ? 1 : token_is(s, n, "0F38") ? 2 : token_is(s, n, "0F3A") ? 3 : 0;
}

static bool parse_rex(struct opcode_form *f, const char *s, size_t n)
{
    if (token_is(s, n, "W0"))
        require(f, KEY_W, 0);
    else if (token_is(s, n, "W1"))
        require(f, KEY_W, KEY_W);
    else if (token_is(s, n, "B0"))
        require(f, KEY_B, 0);
    else
        return false;
    return true;
}

static void parse_vex(struct opcode_form *f, struct place *p, const char *s, size_t n)
{
    const char *end = s + n;
    for (s += 4; s < end;) {
        size_t k = 0;
        while (s + k < end && s[k] != '.')
            k++;
        unsigned map = parse_map(s, k);
        if (map)
            p->space = (u8)(SPACE_VEX_0F + map - 1);
        else if (token_is(s, k, "128"))
            require(f, KEY_L, 0);
        else if (token_is(s, k, "256"))
            require(f, KEY_L, KEY_L);
        else if (!token_is(s, k, "LIG") && !token_is(s, k, "WIG") && !parse_prefix(f, s, k)) {
            bool known = parse_rex(f, s, k);
            assert(known);
        }
        s += k + 1;
    }
    assert(p->space >= SPACE_VEX_0F && (f->flags & FORM_PP));
}

/* What may stand behind the opcode byte. */
static bool parse_suffix(struct opcode_form *f, const char *s, size_t n)
{
    static const struct {
        const char *name;
        u8 rule;
    } sizes[] = {{"ob", OPSIZE_B}, {"d64", OPSIZE_D64}, {"f64", OPSIZE_F64},
                 {"oz", OPSIZE_Z}, {"oy", OPSIZE_Y},    {"or", OPSIZE_R}};
    if (parse_rex(f, s, n)) return true;
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        if (!token_is(s, n, sizes[k].name)) continue;
        f->opsize = sizes[k].rule;
        return true;
    }
    int byte = hex_byte(s, n);
    if (s[0] == '/') {
        f->flags |= FORM_MODRM;
        if (s[1] != 'r') require(f, 0x38, (u32)(s[1] - '0') << 3);
    } else if (byte >= 0) {
        f->flags |= FORM_MODRM;
        require(f, KEY_REG | (n == 2 ? 0xffu : 0xf8u), KEY_REG | (u32)byte);
    } else if (token_is(s, n, "mem")) {
        require(f, KEY_REG, 0);
    } else if (token_is(s, n, "reg")) {
        require(f, KEY_REG, KEY_REG);
    } else if (token_is(s, n, "anymod")) {
        f->flags |= FORM_ANYMOD;
    } else {
        return false;
    }
    return true;
}

static void parse_encoding(struct opcode_form *f, struct place *p, const char *s)
{
    enum { AT_PREFIX, AT_MAP, AT_CODE, AT_SUFFIX } state = AT_PREFIX;
    for (; *s; s += *s == ' ') {
        size_t n = strcspn(s, " ");
        if (state == AT_PREFIX && n > 4 && !memcmp(s, "VEX.", 4)) {
            parse_vex(f, p, s, n);
            state = AT_CODE;
        } else if (state == AT_PREFIX && parse_prefix(f, s, n)) {
            state = AT_MAP;
        } else if (state <= AT_MAP && parse_map(s, n)) {
            p->space = (u8)parse_map(s, n);
            state = AT_CODE;
        } else if (state <= AT_CODE) {
            int byte = hex_byte(s, n);
            assert(byte >= 0 && (n == 2 || n == 4));
            p->code = (u8)byte;
            p->codes = n == 2 ? 1 : 8;
            state = AT_SUFFIX;
        } else {
            bool known = parse_suffix(f, s, n);
            assert(known);
        }
        s += n;
    }
    assert(state == AT_SUFFIX);
}

static u8 parse_type(const char *s, size_t n)
{
    static const char *const names[] = {
        [TYPE_N] = "n",   [TYPE_B] = "b",   [TYPE_W] = "w",   [TYPE_D] = "d", [TYPE_Q] = "q",
        [TYPE_T] = "t",   [TYPE_DQ] = "dq", [TYPE_QQ] = "qq", [TYPE_X] = "x", [TYPE_HX] = "hx",
        [TYPE_FX] = "fx", [TYPE_EX] = "ex", [TYPE_V] = "v",   [TYPE_Z] = "z", [TYPE_Y] = "y",
        [TYPE_R] = "r",   [TYPE_A] = "a",   [TYPE_P] = "p",   [TYPE_S] = "s", [TYPE_O] = "o",
        [TYPE_C] = "c",   [TYPE_M] = "m",   [TYPE_G] = "g",
    };
    if (!n) return TYPE_N;
    u8 t = 0;
    while (t < ARRAY_LEN(names) && !token_is(s, n, names[t]))
        t++;
    assert(t < ARRAY_LEN(names));
    return t;
}

static struct operand_spec parse_operand(const char *s, size_t n)
{
    static const struct {
        const char *name;
        u8 method, arg;
    } methods[] = {
        {"AX", METHOD_GPR, 0},      {"CX", METHOD_GPR, 1},      {"DX", METHOD_GPR, 2},
        {"ES", METHOD_SEG, SEG_ES}, {"CS", METHOD_SEG, SEG_CS}, {"SS", METHOD_SEG, SEG_SS},
        {"DS", METHOD_SEG, SEG_DS}, {"FS", METHOD_SEG, SEG_FS}, {"GS", METHOD_SEG, SEG_GS},
        {"ST0", METHOD_ST0, 0},     {"STi", METHOD_STI, 0},     {"I1", METHOD_I1, 0},
        {"I2", METHOD_I2, 0},       {"A", METHOD_A, 0},         {"B", METHOD_B, 0},
        {"C", METHOD_C, 0},         {"D", METHOD_D, 0},         {"E", METHOD_E, 0},
        {"G", METHOD_G, 0},         {"H", METHOD_H, 0},         {"I", METHOD_I, 0},
        {"J", METHOD_J, 0},         {"K", METHOD_K, 0},         {"L", METHOD_L, 0},
        {"M", METHOD_M, 0},         {"N", METHOD_N, 0},         {"O", METHOD_O, 0},
        {"P", METHOD_P, 0},         {"Q", METHOD_Q, 0},         {"R", METHOD_R, 0},
        {"S", METHOD_S, 0},         {"U", METHOD_U, 0},         {"V", METHOD_V, 0},
        {"W", METHOD_W, 0},         {"Z", METHOD_Z, 0},
    };
    struct operand_spec o = {.access = OPND_READ};
    if (*s == '=') o.access = OPND_WRITE;
    if (*s == '+') o.access = OPND_READ | OPND_WRITE;
    if (*s == '=' || *s == '+') s++, n--;
    for (size_t k = 0; k < ARRAY_LEN(methods); k++) {
        size_t len = strlen(methods[k].name);
        if (len > n || memcmp(s, methods[k].name, len)) continue;
        o.method = methods[k].method;
        o.arg = methods[k].arg;
        o.type = parse_type(s + len, n - len);
        return o;
    }
    assert(!"known operand");
    return o;
}

static void parse_operands(struct opcode_form *f, const char *s)
{
    bool bytes = false, others = false;
    for (; *s; s += *s == ',') {
        size_t n = strcspn(s, ",");
        struct operand_spec o = parse_operand(s, n);
        assert(f->noperands < ARRAY_LEN(f->operands));
        f->operands[f->noperands++] = o;
        s += n;
        switch (o.method) {
        case METHOD_M:
        case METHOD_K: require(f, KEY_REG, 0); break;
        case METHOD_R:
            if (f->flags & FORM_ANYMOD) break;
            /* fall through */
        case METHOD_U:
        case METHOD_N: require(f, KEY_REG, KEY_REG); break;
        case METHOD_B:
        case METHOD_H: f->flags |= FORM_VVVV; break;
        }
        if (o.method == METHOD_K) f->flags |= FORM_VSIB;
        bool counts = o.method != METHOD_I && o.method != METHOD_I1 && o.method != METHOD_I2 &&
                      o.method != METHOD_J && !(o.method == METHOD_GPR && o.arg == 2);
        if (counts) *(o.type == TYPE_B ? &bytes : &others) = true;
    }
    if (bytes && !others) {
        assert(f->opsize == OPSIZE_V);
        f->opsize = OPSIZE_B;
    }
}

static void compile(void)
{
    static struct place places[ROWS];
    static u16 fill[SPACE_COUNT][256];
    for (unsigned r = 0; r < ROWS; r++) {
        struct opcode_form *f = &opcode_forms[r];
        struct place *p = &places[r];
        const struct opcode_row *row = &opcode_rows[r];
        f->row = (u16)r;
        parse_encoding(f, p, row->encoding);
        parse_operands(f, row->operands);
        if (row->op.attr & ATTR_NO64) require(f, KEY_64, 0);
        if (row->op.attr & ATTR_ONLY64) require(f, KEY_64, KEY_64);
        for (unsigned k = 0; k < p->codes; k++) {
            struct opcode_slot *slot = &opcode_slots[p->space][p->code + k];
            /* A ModRM byte is there for all forms of an opcode or for none. (LES and LDS share nothing with
             * VEX.) */
            assert(!slot->count || slot->flags == (f->flags & FORM_MODRM));
            slot->flags = f->flags & FORM_MODRM;
            slot->count++;
        }
    }
    unsigned next = 0;
    for (unsigned s = 0; s < SPACE_COUNT; s++) {
        for (unsigned c = 0; c < 256; c++) {
            opcode_slots[s][c].first = (u16)next;
            next += opcode_slots[s][c].count;
        }
    }
    assert(next <= ORDER_MAX);
    for (unsigned r = 0; r < ROWS; r++) {
        const struct place *p = &places[r];
        for (unsigned k = 0; k < p->codes; k++) {
            unsigned code = p->code + k;
            opcode_order[opcode_slots[p->space][code].first + fill[p->space][code]++] = (u16)r;
        }
    }
}

void opcodes_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, compile);
}

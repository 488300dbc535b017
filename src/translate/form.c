/* The shapes of instructions that the translator encodes anew. */
#include "translate/form.h"

#include "translate/emit.h"

static bool same_written(unsigned m) { return m != I_cmp && m != I_test && m != I_bt; }

bool form_of(const struct insn *i, struct form *f)
{
    const unsigned c = i->code, size = i->opsize;
    *f = (struct form){.map = i->map, .code = i->code, .rm_size = (u8)size};
    f->is_mem = (i->modrm >> 6) != 3;
    f->reg = (u8)((i->modrm >> 3 & 7) | (i->rex & 4 ? 8 : 0));
    f->rm = (u8)((i->modrm & 7) | (i->rex & 1 ? 8 : 0));
    if (i->prefixes & PFX_VEX) return false;
    const bool byte = !(c & 1);
    const u8 iz = (u8)(size == 2 ? 2 : 4);
    const bool w = same_written(i->mnemonic);
#define RM_DST() (f->rm_read = true, f->rm_write = w)
#define BYTES() (f->rm_byte = byte)
    if (i->map == 0) {
        if (c < 0x40 && (c & 7) < 4) {
            f->has_reg = true;
            f->rm_byte = f->reg_byte = byte;
            f->rm_read = f->reg_read = true;
            if (c & 2) f->reg_write = w;
            else f->rm_write = w;
            return true;
        }
        if (c < 0x40 && (c & 7) < 6) { /* AL/eAX, imm */
            f->reg = c >> 3;
            f->code = byte ? 0x80 : 0x81;
            f->is_mem = false;
            f->rm = R_AX;
            f->rm_byte = byte;
            f->imm_bytes = byte ? 1 : iz;
            RM_DST();
            return true;
        }
        switch (c) {
        case 0x80: case 0x82: f->code = 0x80; /* fall through */
        case 0x81: case 0x83:
            f->reg &= 7;
            f->rm_byte = c != 0x81 && c != 0x83;
            f->imm_bytes = c == 0x81 ? iz : 1;
            RM_DST();
            return true;
        case 0x84: case 0x85: case 0x86: case 0x87:
            f->has_reg = true;
            f->rm_byte = f->reg_byte = byte;
            f->rm_read = f->reg_read = true;
            f->rm_write = f->reg_write = i->mnemonic == I_xchg;
            return true;
        case 0x88: case 0x89:
            f->has_reg = f->reg_read = f->rm_write = true;
            f->rm_byte = f->reg_byte = byte;
            return true;
        case 0x8a: case 0x8b:
            f->has_reg = f->reg_write = f->rm_read = true;
            f->rm_byte = f->reg_byte = byte;
            return true;
        case 0x63:
            if (i->mnemonic != I_movsxd || size < 4) return false;
            f->has_reg = f->reg_write = f->rm_read = true;
            f->rm_size = 4;
            return true;
        case 0x69: case 0x6b:
            f->has_reg = f->reg_write = f->rm_read = true;
            f->imm_bytes = c == 0x6b ? 1 : iz;
            return true;
        case 0xa8: case 0xa9:
            f->code = byte ? 0xf6 : 0xf7;
            f->reg = 0;
            f->is_mem = false;
            f->rm = R_AX;
            f->rm_byte = byte;
            f->rm_read = true;
            f->imm_bytes = byte ? 1 : iz;
            return true;
        case 0x91: case 0x92: case 0x93: case 0x94: case 0x95: case 0x96: case 0x97: case 0x90:
            if (i->mnemonic != I_xchg) return false;
            f->code = 0x87;
            f->has_reg = true;
            f->reg = R_AX;
            f->is_mem = false;
            f->rm = i->operands[0].reg;
            f->reg_read = f->reg_write = f->rm_read = f->rm_write = true;
            return true;
        case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3:
            f->reg &= 7;
            BYTES();
            f->imm_bytes = c < 0xd0;
            RM_DST();
            return true;
        case 0xc6: case 0xc7:
            if (i->mnemonic != I_mov) return false;
            f->reg = 0;
            BYTES();
            f->rm_write = true;
            f->imm_bytes = byte ? 1 : iz;
            return true;
        case 0xf6: case 0xf7:
            f->reg &= 7;
            BYTES();
            f->rm_read = true;
            switch (i->mnemonic) {
            case I_test: f->reg = 0; f->imm_bytes = byte ? 1 : iz; return true;
            case I_not: case I_neg: f->rm_write = true; return true;
            case I_mul: case I_imul: f->implicit = byte ? bit(H_AX) : bit(H_AX) | bit(H_DX); return true;
            default: return false;
            }
        case 0xfe: case 0xff:
            if (i->mnemonic != I_inc && i->mnemonic != I_dec) return false;
            f->reg &= 7;
            BYTES();
            RM_DST();
            return true;
        default: break;
        }
        if (c >= 0x40 && c < 0x50 && (i->mnemonic == I_inc || i->mnemonic == I_dec)) {
            f->code = 0xff;
            f->reg = i->mnemonic == I_dec;
            f->is_mem = false;
            f->rm = i->operands[0].reg;
            RM_DST();
            return true;
        }
        if (c >= 0xb0 && c < 0xc0) {
            const bool b8 = c < 0xb8;
            f->code = b8 ? 0xc6 : 0xc7;
            f->reg = 0;
            f->is_mem = false;
            f->rm = (u8)((c & 7) | (i->rex & 1 ? 8 : 0));
            f->rm_byte = b8;
            f->rm_write = true;
            f->imm_bytes = b8 ? 1 : iz;
            return true;
        }
        if (c >= 0xa0 && c <= 0xa3) { /* moffs */
            f->code = (u8)(c < 0xa2 ? c - 0xa0 + 0x8a : c - 0xa2 + 0x88);
            f->has_reg = true;
            f->reg = R_AX;
            f->is_mem = true;
            f->rm_byte = f->reg_byte = byte;
            if (c < 0xa2) f->reg_write = f->rm_read = true;
            else f->reg_read = f->rm_write = true;
            return true;
        }
        return false;
    }
    if (i->map == 2 && (c & 0xfe) == 0xf0) {
        f->has_reg = true;
        if (i->mnemonic == I_crc32) {
            f->prefix = E_F2;
            f->reg_read = f->reg_write = f->rm_read = true;
            BYTES();
        } else if (i->mnemonic == I_movbe) {
            if (c == 0xf0) f->reg_write = f->rm_read = true;
            else f->reg_read = f->rm_write = true;
        } else {
            return false;
        }
        return true;
    }
    if (i->map == 2 && c == 0xf6 && (i->mnemonic == I_adcx || i->mnemonic == I_adox)) {
        f->has_reg = f->reg_read = f->reg_write = f->rm_read = true;
        f->prefix = i->mnemonic == I_adcx ? E_66 : E_F3;
        return true;
    }
    if (i->map != 1) return false;
    if (c >= 0x40 && c < 0x50) {
        f->has_reg = f->reg_read = f->reg_write = f->rm_read = true;
        return true;
    }
    if (c >= 0x90 && c < 0xa0) {
        f->reg = 0;
        f->rm_byte = f->rm_write = true;
        f->rm_size = 1;
        return true;
    }
    switch (c) {
    case 0xa3: case 0xab: case 0xb3: case 0xbb:
        f->has_reg = f->reg_read = true;
        RM_DST();
        return true;
    case 0xba:
        f->reg &= 7;
        f->imm_bytes = 1;
        RM_DST();
        return true;
    case 0xa4: case 0xac: f->imm_bytes = 1; /* fall through */
    case 0xa5: case 0xad:
        f->has_reg = f->reg_read = true;
        RM_DST();
        return true;
    case 0xaf:
        f->has_reg = f->reg_read = f->reg_write = f->rm_read = true;
        return true;
    case 0xb6: case 0xb7: case 0xbe: case 0xbf:
        f->has_reg = f->reg_write = f->rm_read = true;
        f->rm_byte = byte;
        f->rm_size = byte ? 1 : 2;
        return true;
    case 0xbc: case 0xbd:
        f->has_reg = f->reg_read = f->reg_write = f->rm_read = true;
        if (i->mnemonic == I_tzcnt || i->mnemonic == I_lzcnt) f->prefix = E_F3;
        return true;
    case 0xb8:
        if (i->mnemonic != I_popcnt) return false;
        f->has_reg = f->reg_write = f->rm_read = true;
        f->prefix = E_F3;
        return true;
    case 0xb0: case 0xb1: /* cmpxchg */
        f->has_reg = f->reg_read = true;
        f->rm_byte = f->reg_byte = byte;
        f->rm_read = f->rm_write = true;
        f->implicit = bit(H_AX);
        return true;
    case 0xc7: /* cmpxchg8b, cmpxchg16b */
        if (i->mnemonic != I_cmpxchg8b) return false;
        f->reg &= 7;
        f->rm_read = f->rm_write = true;
        f->rm_size = (u8)(2 * size);
        f->implicit = bit(H_AX) | bit(H_DX);
        return true;
    case 0xc0: case 0xc1: /* xadd */
        f->has_reg = f->reg_read = f->reg_write = true;
        f->rm_byte = f->reg_byte = byte;
        f->rm_read = f->rm_write = true;
        return true;
    default: return false;
    }
#undef RM_DST
#undef BYTES
}

struct flag_use flags_of(const struct insn *i)
{
    unsigned reads = i->opcode->reads, writes = i->opcode->writes | i->opcode->undefined;
    if (i->mnemonic == I_bsf || i->mnemonic == I_bsr) writes = ALL_FLAGS;
    switch (i->mnemonic) {
    case I_shl: case I_shr: case I_sar: case I_shld: case I_shrd:
    case I_rol: case I_ror: case I_rcl: case I_rcr: {
        unsigned count = i->mnemonic == I_shld || i->mnemonic == I_shrd ? 2 : 1;
        if (i->operands[count].kind != OPND_IMM) return (struct flag_use){.needs = true, .merges = !reads, .writes = true};
        unsigned n = (unsigned)i->imm & (i->opsize == 8 ? 63 : 31);
        if (!n) return (struct flag_use){0};
        if (i->mnemonic == I_rol || i->mnemonic == I_ror || i->mnemonic == I_rcl || i->mnemonic == I_rcr)
            return (struct flag_use){.needs = true, .merges = !reads, .writes = true};
        /* [SDM2] SHLD: counts above the operand size are undefined altogether. */
        if (count == 2 && n > i->opsize * 8u) return (struct flag_use){.needs = true, .writes = true};
        reads = 0;
        writes = ALL_FLAGS;
        break;
    }
    default: break;
    }
    struct flag_use u = {.writes = writes != 0, .full = writes == ALL_FLAGS};
    u.merges = u.writes && !u.full && !reads;
    u.needs = reads || u.merges;
    return u;
}

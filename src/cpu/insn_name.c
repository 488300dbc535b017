/* The printed name of a decoded instruction: the base mnemonic with its size, condition or comparison spelled
 * out the way Capstone does it. */
#include "cpu/decode.h"

#include <stdio.h>

static const char conditions[16][4] = {"o", "no", "b", "ae", "e", "ne", "be", "a",
                                       "s", "ns", "p", "np", "l", "ge", "le", "g"};

/* Comparison predicates by immediate, [SDM2] CMPPD table 3-1. */
static const char *const predicates[32] = {
    "eq",    "lt",     "le",     "unord",    "neq",    "nlt",    "nle",    "ord",
    "eq_uq", "nge",    "ngt",    "false",    "neq_oq", "ge",     "gt",     "true",
    "eq_os", "lt_oq",  "le_oq",  "unord_s",  "neq_us", "nlt_uq", "nle_uq", "ord_s",
    "eq_us", "nge_uq", "ngt_uq", "false_os", "neq_os", "ge_oq",  "gt_oq",  "true_us",
};

/* For names that depend on a size of 2, 4 or 8. */
static const char *by_size(unsigned size, const char *word, const char *dword, const char *qword)
{
    return size == 2 ? word : size == 4 ? dword : qword;
}

static const char *prefetch_name(const struct insn *i)
{
    static const char *const hints[4] = {"prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2"};
    unsigned reg = i->modrm >> 3 & 7;
    if (i->code == 0x0d) return reg == 1 || reg == 2 ? "prefetchw" : "prefetch";
    return hints[reg & 3];
}

static const char *fixed_name(const struct insn *i)
{
    bool w = i->rex & 8;
    switch (i->mnemonic) {
    case I_mov_sreg:
    case I_mov_cr:
    case I_mov_dr: return "mov";
    case I_mov:
        return i->map == 0 && i->code >= 0xa0 && i->code <= 0xa3 && i->addrsize == 8 ? "movabs"
               : i->map == 0 && i->code >= 0xb8 && i->code <= 0xbf && i->opsize == 8 ? "movabs"
                                                                                     : NULL;
    case I_push_sreg: return "push";
    case I_pop_sreg: return "pop";
    case I_cbw: return by_size(i->opsize, "cbw", "cwde", "cdqe");
    case I_cwd: return by_size(i->opsize, "cwd", "cdq", "cqo");
    case I_callf: return "lcall";
    case I_jmpf: return "ljmp";
    case I_retf: return i->opsize == 8 ? "retfq" : "retf";
    case I_iret: return by_size(i->opsize, "iret", "iretd", "iretq");
    case I_pusha: return by_size(i->opsize, "pushaw", "pushal", NULL);
    case I_popa: return by_size(i->opsize, "popaw", "popal", NULL);
    case I_pushf: return by_size(i->opsize, "pushf", "pushfd", "pushfq");
    case I_popf: return by_size(i->opsize, "popf", "popfd", "popfq");
    case I_jcxz: return by_size(i->addrsize, "jcxz", "jecxz", "jrcxz");
    case I_xlat: return "xlatb";
    case I_cmpxchg8b: return w ? "cmpxchg16b" : "cmpxchg8b";
    case I_fwait: return "wait";
    case I_fxsave: return w ? "fxsave64" : NULL;
    case I_fxrstor: return w ? "fxrstor64" : NULL;
    case I_xsave: return w ? "xsave64" : NULL;
    case I_xrstor: return w ? "xrstor64" : NULL;
    case I_xsaveopt: return w ? "xsaveopt64" : NULL;
    case I_xsavec: return w ? "xsavec64" : NULL;
    case I_xsaves: return w ? "xsaves64" : NULL;
    case I_xrstors: return w ? "xrstors64" : NULL;
    case I_pextrd: return i->opsize == 8 ? "pextrq" : NULL;
    case I_pinsrd: return i->opsize == 8 ? "pinsrq" : NULL;
    case I_vpextrd: return i->opsize == 8 ? "vpextrq" : NULL;
    case I_vpinsrd: return i->opsize == 8 ? "vpinsrq" : NULL;
    case I_prefetch: return prefetch_name(i);
    case I_nop:
        if (i->map == 1 && i->code == 0x1e && (i->prefixes & PFX_REP)) {
            if (i->modrm == 0xfa) return "endbr64";
            if (i->modrm == 0xfb) return "endbr32";
        }
        return NULL;
    default: return NULL;
    }
}

const char *insn_name(const struct insn *i, char *buf, size_t len)
{
    const char *name = fixed_name(i), *base = i->opcode ? i->opcode->name : "invalid";
    if (name) {
        snprintf(buf, len, "%s", name);
        return buf;
    }
    switch (i->mnemonic) {
    case I_jcc: snprintf(buf, len, "j%s", conditions[i->code & 15]); break;
    case I_setcc: snprintf(buf, len, "set%s", conditions[i->code & 15]); break;
    case I_cmovcc: snprintf(buf, len, "cmov%s", conditions[i->code & 15]); break;
    case I_movs:
    case I_cmps:
    case I_stos:
    case I_lods:
    case I_scas:
    case I_ins:
    case I_outs: snprintf(buf, len, "%s%c", base, " bw d   q"[i->opsize]); break;
    case I_cmpps:
    case I_cmppd:
    case I_cmpss:
    case I_cmpsd:
    case I_vcmpps:
    case I_vcmppd:
    case I_vcmpss:
    case I_vcmpsd:
        /* (v)cmp<predicate><format> */
        if (i->imm < (i->prefixes & PFX_VEX ? 32 : 8)) {
            const char *cmp = *base == 'v' ? "vcmp" : "cmp";
            snprintf(buf, len, "%s%s%s", cmp, predicates[i->imm], base + (*base == 'v' ? 4 : 3));
        } else {
            snprintf(buf, len, "%s", base);
        }
        break;
    default: snprintf(buf, len, "%s", base); break;
    }
    return buf;
}

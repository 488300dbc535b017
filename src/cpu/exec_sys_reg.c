/* Control and debug registers, XCR0, PKRU, and TLB invalidation by the guest.
 *
 * References: [SDM3] 2.5 (control registers), 4.10.4 (what invalidates the TLB), 4.4.1 (PDPTE loads), 9.8.5
 * (entering and leaving IA-32e mode), 17.2 (debug registers); [SDM2] MOV to and from them. */
#include "cpu/exec_sys.h"

#include "cpu/cpuid.h"
#include "cpu/exception.h"
#include "cpu/fpu_live.h"
#include "cpu/segment.h"

#define CR0_VALID                                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

static bool set_cr0(struct cpu *cpu, u64 v)
{
    const u64 old = cpu->cr0;
    u64 efer = cpu->efer;
    fpu_save(cpu); /* TS and EM decide about it */
    if (v >> 32) return raise_gp0(cpu);
    v = (v & CR0_VALID) | CR0_ET;
    if (((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD))) return raise_gp0(cpu);

    if ((v & CR0_PG) && !(old & CR0_PG)) {
        if (efer & EFER_LME) {
            const struct segment *tr = &cpu->tr;
            bool tss16 = !selector_null(tr->selector) && !(tr->attr & 8);
            if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[SEG_CS].attr & SEG_L) || tss16) return raise_gp0(cpu);
            efer |= EFER_LMA;
        } else if (cpu->cr4 & CR4_PAE) {
            TRY(mmu_load_pdptes(cpu, cpu->cr3));
        }
    } else if (!(v & CR0_PG) && (old & CR0_PG)) {
        if (cpu_code64(cpu) || (cpu->cr4 & CR4_PCIDE)) return raise_gp0(cpu);
        efer &= ~EFER_LMA;
    } else if ((v & CR0_PG) && (cpu->cr4 & CR4_PAE) && !cpu_long(cpu) && ((old ^ v) & (CR0_CD | CR0_NW))) {
        TRY(mmu_load_pdptes(cpu, cpu->cr3));
    }
    cpu->cr0 = v;
    cpu->efer = efer;
    if ((old ^ v) & (CR0_PG | CR0_WP | CR0_PE)) tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

static bool set_cr3(struct cpu *cpu, u64 v)
{
    const bool pcide = cpu->cr4 & CR4_PCIDE, keep = pcide && v >> 63;
    if (cpu_long(cpu)) {
        if (pcide) v &= ~(1ull << 63);
        if (v & ~PHYS_MASK) return raise_gp0(cpu);
    } else if ((cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE)) {
        TRY(mmu_load_pdptes(cpu, v));
    }
    cpu->cr3 = v;
    tlb_switch_space(cpu, pcide ? v & 0xfff : 0, keep);
    return true;
}

static bool set_cr4(struct cpu *cpu, u64 v)
{
    const u64 old = cpu->cr4, changed = old ^ v;
    fpu_save(cpu);
    if (v & ~cpu->model->cr4_mask) return raise_gp0(cpu);
    if (cpu_long(cpu) && !(v & CR4_PAE)) return raise_gp0(cpu);
    if ((changed & v & CR4_PCIDE) && (!cpu_long(cpu) || (cpu->cr3 & 0xfff))) return raise_gp0(cpu);
    if ((cpu->cr0 & CR0_PG) && (v & CR4_PAE) && !cpu_long(cpu) &&
        (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
        TRY(mmu_load_pdptes(cpu, cpu->cr3));
    cpu->cr4 = v;
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE))
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

bool sys_mov_cr(struct cpu *cpu, const struct insn *i)
{
    const bool write = i->operands[0].kind == OPND_CR;
    const unsigned cr = i->operands[write ? 0 : 1].reg, reg = i->operands[write ? 1 : 0].reg;
    const unsigned size = cpu_code64(cpu) ? 8 : 4;
    if (cr != 0 && cr != 2 && cr != 3 && cr != 4 && !(cr == 8 && size == 8)) return raise_ud(cpu);
    if (cpu->cpl) return raise_gp0(cpu);

    if (!write) {
        u64 v;
        switch (cr) {
        case 0: v = cpu->cr0; break;
        case 2: v = cpu->cr2; break;
        case 3: v = cpu->cr3; break;
        case 4: v = cpu->cr4; break;
        default:
            fpu_save(cpu);
            cpu->hooks->lock(cpu->hooks->opaque);
            v = cpu->hooks->cr8_read(cpu->hooks->opaque);
            cpu->hooks->unlock(cpu->hooks->opaque);
            break;
        }
        reg_set(cpu, reg, size, v);
        return true;
    }
    u64 v = reg_get(cpu, reg, size);
    switch (cr) {
    case 0: TRY(set_cr0(cpu, v)); break;
    case 2: cpu->cr2 = v; break;
    case 3: TRY(set_cr3(cpu, v)); break;
    case 4: TRY(set_cr4(cpu, v)); break;
    default:
        if (v > 15) return raise_gp0(cpu);
        fpu_save(cpu);
        cpu->hooks->lock(cpu->hooks->opaque);
        cpu->hooks->cr8_write(cpu->hooks->opaque, v);
        cpu->hooks->unlock(cpu->hooks->opaque);
        break;
    }
    return leave_block(cpu, i);
}

bool sys_smsw(struct cpu *cpu, const struct insn *i)
{
    if ((cpu->cr4 & CR4_UMIP) && cpu->cpl > 0) return raise_gp0(cpu);
    return sys_store16(cpu, i, &i->operands[0], cpu->cr0);
}

/* PE can be set but not cleared this way. */
bool sys_lmsw(struct cpu *cpu, const struct insn *i)
{
    u16 v;
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(sys_read16(cpu, i, &i->operands[0], &v));
    TRY(set_cr0(cpu, (cpu->cr0 & ~0xeull) | (v & 0xf)));
    return leave_block(cpu, i);
}

bool sys_clts(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_gp0(cpu);
    cpu->cr0 &= ~(u64)CR0_TS;
    cpu_update_mode(cpu);
    return sys_done(cpu, i);
}

/* ---- debug registers ---- */

bool sys_mov_dr(struct cpu *cpu, const struct insn *i)
{
    const bool write = i->operands[0].kind == OPND_DR;
    unsigned dr = i->operands[write ? 0 : 1].reg;
    const unsigned reg = i->operands[write ? 1 : 0].reg, size = cpu_code64(cpu) ? 8 : 4;
    if (dr > 7) return raise_ud(cpu);
    if (cpu->cpl) return raise_gp0(cpu);
    if (dr == 4 || dr == 5) {
        if (cpu->cr4 & CR4_DE) return raise_ud(cpu);
        dr += 2;
    }
    if (cpu->dr[7] & 0x2000) return raise_debug(cpu, DR6_BD);
    if (!write) {
        reg_set(cpu, reg, size, cpu->dr[dr]);
        return true;
    }
    u64 v = reg_get(cpu, reg, size);
    u8 watch = cpu->watch;
    if (dr >= 6 && v >> 32) return raise_gp0(cpu);
    switch (dr) {
    case 6: cpu->dr[6] = (v & 0xe00f) | 0xffff0ff0; break;
    case 7: cpu->dr[7] = (v & 0xffff23ff) | 0x400; break;
    default: cpu->dr[dr] = v; break;
    }
    cpu_update_mode(cpu);
    /* Watched pages have no TLB entry. */
    if ((watch | cpu->watch) & 1 && dr != 6) tlb_flush_all(cpu);
    return leave_block(cpu, i);
}

/* ---- TLB ---- */

bool sys_invlpg(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_gp0(cpu);
    gla lin = cpu->win[i->seg].base + insn_ea(cpu, i);
    if (!cpu_code64(cpu)) lin = (u32)lin;
    if (!cpu_long(cpu) || canonical(lin)) tlb_flush_page(cpu, lin);
    return leave_block(cpu, i);
}

bool sys_invpcid(struct cpu *cpu, const struct insn *i)
{
    u64 descriptor[2], type;
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(mem_read_block(cpu, i->seg, insn_ea(cpu, i), descriptor, 16));
    type = reg_get(cpu, i->operands[0].reg, cpu_code64(cpu) ? 8 : 4);
    if (type > 3) return raise_gp0(cpu);
    if (type < 2) {
        if (descriptor[0] >> 12) return raise_gp0(cpu);
        if (descriptor[0] && !(cpu->cr4 & CR4_PCIDE)) return raise_gp0(cpu);
        if (type == 0 && !canonical(descriptor[1])) return raise_gp0(cpu);
    }
    const unsigned pcid = (unsigned)descriptor[0];
    switch (type) {
    case 0: /* of another address space nothing is worth keeping */
        if (pcid == (cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0)) {
            tlb_flush_page(cpu, descriptor[1]);
            break;
        } /* fall through */
    case 1: tlb_flush_space(cpu, pcid); break;
    case 2: tlb_flush_all(cpu); break;
    default: tlb_flush_spaces(cpu); break;
    }
    return leave_block(cpu, i);
}

/* ---- XCR0 and PKRU ---- */

bool sys_xgetbv(struct cpu *cpu, const struct insn *i)
{
    u32 index = (u32)cpu->regs[R_CX];
    (void)i;
    if (!(cpu->cr4 & CR4_OSXSAVE)) return raise_ud(cpu);
    /* XCR1 is XINUSE & XCR0; to call everything in use is always right (SDM vol 1 13.6). */
    if (index != 0 && !(index == 1 && cpu_has_bit(cpu->model, CPUID_D_1_EAX, 4))) return raise_gp0(cpu);
    reg_set(cpu, R_AX, 4, cpu->xcr0);
    reg_set(cpu, R_DX, 4, cpu->xcr0 >> 32);
    return true;
}

bool sys_xsetbv(struct cpu *cpu, const struct insn *i)
{
    u64 v = (u32)cpu->regs[R_AX] | cpu->regs[R_DX] << 32;
    if (!(cpu->cr4 & CR4_OSXSAVE)) return raise_ud(cpu);
    if (cpu->cpl || (u32)cpu->regs[R_CX] != 0) return raise_gp0(cpu);
    if (!(v & 1) || (v & ~cpu->model->xcr0_mask) || (v & 6) == 4) return raise_gp0(cpu);
    cpu->xcr0 = v;
    return sys_done(cpu, i);
}

bool sys_rdpkru(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    if (!(cpu->cr4 & CR4_PKE)) return raise_ud(cpu);
    if ((u32)cpu->regs[R_CX]) return raise_gp0(cpu);
    reg_set(cpu, R_AX, 4, cpu->pkru);
    reg_set(cpu, R_DX, 4, 0);
    return true;
}

bool sys_wrpkru(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->cr4 & CR4_PKE)) return raise_ud(cpu);
    if ((u32)cpu->regs[R_CX] || (u32)cpu->regs[R_DX]) return raise_gp0(cpu);
    if (cpu->pkru != (u32)cpu->regs[R_AX]) {
        cpu->pkru = (u32)cpu->regs[R_AX];
        tlb_flush_all(cpu); /* rights are part of what the TLB holds */
    }
    return sys_done(cpu, i);
}

/* Fast system calls, SWAPGS and the FS/GS base instructions.
 *
 * SYSCALL and SYSRET work in 64-bit mode only, as on Intel's processors, but for models that say they are
 * AMD's: those have them in legacy and compatibility mode, and no SYSENTER in IA-32e mode. References: [SDM2]
 * the instructions by name, [APM3] SYSCALL, SYSRET. */
#include "cpu/exec_sys.h"

#include "cpu/cpuid.h"
#include "cpu/segment.h"

/* Flat code and stack segments, as these instructions load them without looking at descriptors. */
static void flat_code(struct cpu *cpu, u16 selector, unsigned cpl, bool bits64)
{
    cpu->seg[SEG_CS] =
        (struct segment){.selector = (u16)((selector & 0xfffc) | cpl),
                         .limit = 0xffffffff,
                         .attr = (u16)(SEG_G | (bits64 ? SEG_L : SEG_DB) | SEG_P | cpl << 5 | SEG_S | 0xb)};
    cpu->cpl = (u8)cpl;
}
static void flat_stack(struct cpu *cpu, u16 selector, unsigned cpl)
{
    cpu->seg[SEG_SS] = (struct segment){.selector = (u16)((selector & 0xfffc) | cpl),
                                        .limit = 0xffffffff,
                                        .attr = (u16)(SEG_G | SEG_DB | SEG_P | cpl << 5 | SEG_S | 3)};
}

static void set_flags(struct cpu *cpu, u32 v)
{
    cpu->aflags = (u16)((v & 0xd5u) << 8 | (v >> 11 & 1));
    cpu->eflags = (v & ~EFLAGS_ARITH & 0x3f7fd7u) | 2;
}

/* SYSCALL and SYSRET that end with TF set trap at once, not after the next instruction. */
static void trap_if_stepping(struct cpu *cpu)
{
    if (!(cpu->eflags & EFLAGS_TF)) return;
    cpu->pending_debug |= DEBUG_STEP;
    cpu_event_set(cpu, EVENT_STEP);
}

bool sys_syscall(struct cpu *cpu, const struct insn *i)
{
    const u16 cs = (u16)(cpu->star >> 32);
    if (!(cpu->efer & EFER_SCE) || !(cpu_code64(cpu) || (cpu->model->amd && cpu_protected(cpu))))
        return raise_ud(cpu);
    u64 target;
    u32 flags = cpu_get_eflags(cpu) & ~EFLAGS_RF;
    cpu->regs[R_CX] = next_rip(cpu, i);
    if (cpu_long(cpu)) {
        target = cpu_code64(cpu) ? cpu->lstar : cpu->cstar;
        cpu->regs[R_11] = flags;
        set_flags(cpu, flags & ~(u32)cpu->fmask);
    } else {
        target = (u32)cpu->star;
        cpu->eflags &= ~(EFLAGS_IF | EFLAGS_VM | EFLAGS_RF);
    }
    flat_code(cpu, cs, 0, cpu_long(cpu));
    flat_stack(cpu, (u16)(cs + 8), 0);
    trap_if_stepping(cpu);
    cpu_update_mode(cpu);
    cpu->rip = target;
    return false;
}

bool sys_sysret(struct cpu *cpu, const struct insn *i)
{
    const u16 base = (u16)(cpu->star >> 48);
    if (!(cpu->efer & EFER_SCE) || !(cpu_code64(cpu) || (cpu->model->amd && sys_protected(cpu))))
        return raise_ud(cpu);
    if (cpu->cpl) return raise_gp0(cpu);
    const bool to64 = i->opsize == 8;
    u64 target = to64 ? cpu->regs[R_CX] : (u32)cpu->regs[R_CX];
    if (to64 && !canonical(target)) return raise_gp0(cpu);
    if (cpu_long(cpu))
        set_flags(cpu, (u32)cpu->regs[R_11] & 0x3c7fd7u);
    else
        cpu->eflags = (cpu->eflags | EFLAGS_IF) & ~EFLAGS_RF;
    flat_code(cpu, to64 ? (u16)(base + 16) : base, 3, to64);
    flat_stack(cpu, (u16)(base + 8), 3);
    trap_if_stepping(cpu);
    cpu_update_mode(cpu);
    cpu->rip = target;
    return false;
}

bool sys_sysenter(struct cpu *cpu, const struct insn *i)
{
    const u16 cs = (u16)cpu->sysenter_cs;
    (void)i;
    if (cpu->model->amd && cpu_long(cpu)) return raise_ud(cpu);
    if (!cpu_protected(cpu) || selector_null(cs)) return raise_gp0(cpu);
    cpu->eflags &= ~(EFLAGS_VM | EFLAGS_IF | EFLAGS_RF);
    flat_code(cpu, cs, 0, cpu_long(cpu));
    flat_stack(cpu, (u16)((cs & 0xfffc) + 8), 0);
    cpu_update_mode(cpu);
    cpu->regs[R_SP] = cpu_long(cpu) ? cpu->sysenter_esp : (u32)cpu->sysenter_esp;
    cpu->rip = cpu_long(cpu) ? cpu->sysenter_eip : (u32)cpu->sysenter_eip;
    return false;
}

bool sys_sysexit(struct cpu *cpu, const struct insn *i)
{
    const u16 cs = (u16)cpu->sysenter_cs;
    const bool to64 = i->opsize == 8;
    if (cpu->model->amd && cpu_long(cpu)) return raise_ud(cpu);
    if (!cpu_protected(cpu) || selector_null(cs) || cpu->cpl) return raise_gp0(cpu);
    u64 rsp = cpu->regs[R_CX], rip = cpu->regs[R_DX];
    if (to64) {
        if (!canonical(rsp) || !canonical(rip)) return raise_gp0(cpu);
    } else {
        rsp = (u32)rsp;
        rip = (u32)rip;
    }
    flat_code(cpu, (u16)((cs & 0xfffc) + (to64 ? 32 : 16)), 3, to64);
    flat_stack(cpu, (u16)((cs & 0xfffc) + (to64 ? 40 : 24)), 3);
    cpu_update_mode(cpu);
    cpu->regs[R_SP] = rsp;
    cpu->rip = rip;
    return false;
}

/* In 64-bit mode the base is all there is to FS and GS. */
static void set_base(struct cpu *cpu, unsigned seg, u64 base)
{
    cpu->seg[seg].base = base;
    cpu->win[seg].base = base;
}

bool sys_swapgs(struct cpu *cpu, const struct insn *i)
{
    if (!cpu_code64(cpu)) return raise_ud(cpu);
    if (cpu->cpl) return raise_gp0(cpu);
    u64 base = cpu->seg[SEG_GS].base;
    set_base(cpu, SEG_GS, cpu->kernel_gs_base);
    cpu->kernel_gs_base = base;
    return sys_done(cpu, i);
}

bool sys_rdfsbase(struct cpu *cpu, const struct insn *i)
{
    unsigned seg = i->mnemonic == I_rdfsbase ? SEG_FS : SEG_GS;
    if (!cpu_code64(cpu) || !(cpu->cr4 & CR4_FSGSBASE)) return raise_ud(cpu);
    reg_set(cpu, i->operands[0].reg, i->opsize, cpu->seg[seg].base);
    return true;
}

bool sys_wrfsbase(struct cpu *cpu, const struct insn *i)
{
    unsigned seg = i->mnemonic == I_wrfsbase ? SEG_FS : SEG_GS;
    if (!cpu_code64(cpu) || !(cpu->cr4 & CR4_FSGSBASE)) return raise_ud(cpu);
    u64 base = reg_get(cpu, i->operands[0].reg, i->opsize);
    if (!canonical(base)) return raise_gp0(cpu);
    set_base(cpu, seg, base);
    return sys_done(cpu, i);
}

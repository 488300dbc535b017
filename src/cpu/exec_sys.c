/* System instructions that fit nowhere else, and the table that finds the handler of every one of them.
 *
 * Flags with their virtual-8086 and protected-mode virtual interrupt extensions follow [SDM3] 20.3 and 20.4;
 * the rest [SDM2] by the instruction's name. */
#include "cpu/exec_sys.h"

#include "cpu/cpuid.h"
#include "cpu/exception.h"
#include "cpu/msr.h"

/* ---- interrupt flag and flags images ---- */

/* Who a CLI or STI acts on. */
enum if_target { IF_REAL, IF_VIRTUAL, IF_FORBIDDEN };

static enum if_target interrupt_flag(const struct cpu *cpu)
{
    if (!cpu_protected(cpu) || (cpu_v86(cpu) ? cpu_iopl(cpu) == 3 : cpu->cpl <= cpu_iopl(cpu)))
        return IF_REAL;
    if (cpu_v86(cpu) ? cpu->cr4 & CR4_VME : cpu->cpl == 3 && (cpu->cr4 & CR4_PVI)) return IF_VIRTUAL;
    return IF_FORBIDDEN;
}

static bool sys_cli(struct cpu *cpu, const struct insn *i)
{
    switch (interrupt_flag(cpu)) {
    case IF_REAL: cpu->eflags &= ~EFLAGS_IF; break;
    case IF_VIRTUAL: cpu->eflags &= ~EFLAGS_VIF; break;
    case IF_FORBIDDEN: return raise_gp0(cpu);
    }
    return sys_done(cpu, i);
}

static bool sys_sti(struct cpu *cpu, const struct insn *i)
{
    switch (interrupt_flag(cpu)) {
    case IF_REAL:
        if (!(cpu->eflags & EFLAGS_IF)) {
            cpu->eflags |= EFLAGS_IF;
            cpu->shadow = 1;
            cpu_update_mode(cpu);
        }
        break;
    case IF_VIRTUAL:
        if (cpu->eflags & EFLAGS_VIP) return raise_gp0(cpu);
        cpu->eflags |= EFLAGS_VIF;
        break;
    case IF_FORBIDDEN: return raise_gp0(cpu);
    }
    return sys_done(cpu, i);
}

static bool sys_pushf(struct cpu *cpu, const struct insn *i)
{
    u32 flags = cpu_get_eflags(cpu) & ~(EFLAGS_VM | EFLAGS_RF);
    if (cpu_v86(cpu) && cpu_iopl(cpu) < 3) {
        if (i->opsize != 2 || !(cpu->cr4 & CR4_VME)) return raise_gp0(cpu);
        flags = (flags & ~EFLAGS_IF) | EFLAGS_IOPL | (flags & EFLAGS_VIF ? EFLAGS_IF : 0);
    }
    return push(cpu, i->opsize, flags);
}

static bool sys_popf(struct cpu *cpu, const struct insn *i)
{
    u32 change = EFLAGS_ARITH | EFLAGS_TF | EFLAGS_DF | EFLAGS_NT, old = cpu_get_eflags(cpu);
    u64 flags, sp = cpu->regs[R_SP];
    if (i->opsize != 2) change |= EFLAGS_AC | EFLAGS_ID;
    if (cpu_v86(cpu)) {
        if (cpu_iopl(cpu) == 3) {
            change |= EFLAGS_IF;
        } else {
            if (i->opsize != 2 || !(cpu->cr4 & CR4_VME)) return raise_gp0(cpu);
            change |= EFLAGS_VIF;
        }
    } else {
        if (cpu->cpl <= cpu_iopl(cpu)) change |= EFLAGS_IF;
        if (cpu->cpl == 0) change |= EFLAGS_IOPL;
    }
    TRY(pop(cpu, i->opsize, &flags));
    if (change & EFLAGS_VIF) {
        if ((flags & EFLAGS_TF) || ((flags & EFLAGS_IF) && (old & EFLAGS_VIP))) {
            cpu->regs[R_SP] = sp;
            return raise_gp0(cpu);
        }
        flags = (flags & ~(u64)EFLAGS_VIF) | (flags & EFLAGS_IF ? EFLAGS_VIF : 0);
    }
    cpu_set_eflags(cpu, ((old & ~change) | ((u32)flags & change)) & ~EFLAGS_RF);
    return sys_done(cpu, i);
}

/* EFLAGS.AC as the override of SMAP; #UD, not #GP, outside the kernel. */
static bool sys_clac(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_ud(cpu);
    if (i->mnemonic == I_stac)
        cpu->eflags |= EFLAGS_AC;
    else
        cpu->eflags &= ~EFLAGS_AC;
    cpu_update_mode(cpu);
    return sys_done(cpu, i);
}

static bool sys_hlt(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_gp0(cpu);
    cpu->halted = true;
    return leave_block(cpu, i);
}

/* ---- software interrupts: rip is set by the delivery, or an exception is recorded; the block ends either
 * way ---- */

/* VME: is this vector redirected to the virtual-8086 program's own handler? The bitmap lies below the I/O
 * bitmap. */
static bool redirected(struct cpu *cpu, unsigned vector, bool *yes)
{
    u16 io_map;
    u8 bits;
    const struct segment *tr = &cpu->tr;
    *yes = false;
    if (!(tr->attr & 8) || tr->limit < 0x67) return raise_gp0(cpu);
    TRY(lin_read(cpu, tr->base + 0x66, &io_map, 2, ACC_IMPLICIT));
    u32 offset = io_map - 32u + vector / 8;
    if (io_map < 32 || offset > tr->limit) return raise_gp0(cpu);
    TRY(lin_read(cpu, tr->base + offset, &bits, 1, ACC_IMPLICIT));
    *yes = !(bits >> (vector & 7) & 1);
    return true;
}

static bool sys_int(struct cpu *cpu, const struct insn *i)
{
    unsigned vector = (u8)i->imm;
    if (cpu_v86(cpu)) {
        if (cpu->cr4 & CR4_VME) {
            bool yes;
            TRY(redirected(cpu, vector, &yes));
            if (yes) {
                interrupt_v86(cpu, vector, next_rip(cpu, i));
                return false;
            }
        }
        if (cpu_iopl(cpu) < 3) return raise_gp0(cpu);
    }
    interrupt(cpu, vector, INT_SOFT, false, 0, next_rip(cpu, i));
    return false;
}

static bool sys_int3(struct cpu *cpu, const struct insn *i)
{
    interrupt(cpu, EXC_BP, INT_SOFT3, false, 0, next_rip(cpu, i));
    return false;
}

/* A #DB of its own: traps that a load of SS held back are part of it, and a single step is not reported in
 * DR6. */
static bool sys_int1(struct cpu *cpu, const struct insn *i)
{
    u8 held = cpu->pending_debug & 15;
    cpu->pending_debug = 0;
    if (held) cpu->dr[6] = (cpu->dr[6] & ~0xfull) | held;
    interrupt(cpu, EXC_DB, INT_SOFT1, false, 0, next_rip(cpu, i));
    return false;
}

static bool sys_into(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->aflags & AFLAG_OF)) return sys_done(cpu, i);
    interrupt(cpu, EXC_OF, INT_SOFT3, false, 0, next_rip(cpu, i));
    return false;
}

/* ---- MSRs, counters, CPUID ---- */

static bool sys_rdmsr(struct cpu *cpu, const struct insn *i)
{
    u64 v;
    (void)i;
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(msr_read(cpu, (u32)cpu->regs[R_CX], &v));
    reg_set(cpu, R_AX, 4, v);
    reg_set(cpu, R_DX, 4, v >> 32);
    return true;
}

static bool sys_wrmsr(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(msr_write(cpu, (u32)cpu->regs[R_CX], (u32)cpu->regs[R_AX] | cpu->regs[R_DX] << 32));
    return sys_done(cpu, i);
}

static bool sys_rdtsc(struct cpu *cpu, const struct insn *i)
{
    if ((cpu->cr4 & CR4_TSD) && cpu->cpl) return raise_gp0(cpu);
    u64 v = msr_tsc(cpu);
    reg_set(cpu, R_AX, 4, v);
    reg_set(cpu, R_DX, 4, v >> 32);
    if (i->mnemonic == I_rdtscp) reg_set(cpu, R_CX, 4, cpu->tsc_aux);
    return true;
}

/* No counters are reported, so every index is invalid. */
static bool sys_rdpmc(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return raise_gp0(cpu);
}

static bool sys_rdpid(struct cpu *cpu, const struct insn *i)
{
    reg_set(cpu, i->operands[0].reg, cpu_code64(cpu) ? 8 : 4, cpu->tsc_aux);
    return true;
}

static bool sys_cpuid(struct cpu *cpu, const struct insn *i)
{
    u32 out[4];
    (void)i;
    cpuid_query(cpu, (u32)cpu->regs[R_AX], (u32)cpu->regs[R_CX], out);
    reg_set(cpu, R_AX, 4, out[0]);
    reg_set(cpu, R_BX, 4, out[1]);
    reg_set(cpu, R_CX, 4, out[2]);
    reg_set(cpu, R_DX, 4, out[3]);
    return true;
}

/* ---- the rest ---- */

/* Caches are always coherent here. */
static bool sys_wbinvd(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_gp0(cpu);
    return sys_done(cpu, i);
}

/* The address is checked like a byte load; nothing is monitored, as MWAIT may wake at any time. */
static bool sys_monitor(struct cpu *cpu, const struct insn *i)
{
    u8 byte;
    if (cpu->cpl) return raise_ud(cpu);
    if (cpu->regs[R_CX] & (cpu_code64(cpu) ? ~0ull : 0xffffffffull)) return raise_gp0(cpu);
    return mem_read8(cpu, i->prefixes & PFX_SEG ? i->seg : SEG_DS, sys_ea_add(i, cpu->regs[R_AX], 0), &byte);
}

static bool sys_mwait(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl) return raise_ud(cpu);
    if (cpu->regs[R_CX] & (cpu_code64(cpu) ? ~1ull : 0xfffffffeull)) return raise_gp0(cpu);
    return sys_done(cpu, i);
}

/* RSM outside SMM, GETSEC without CR4.SMXE, and all of VMX and SVM. */
static bool sys_undefined(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return raise_ud(cpu);
}

exec_fn *exec_select_sys(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_mov_sreg: return sys_mov_sreg;
    case I_push_sreg: return sys_push_sreg;
    case I_pop_sreg: return sys_pop_sreg;
    case I_les:
    case I_lds:
    case I_lss:
    case I_lfs:
    case I_lgs: return sys_load_far;
    case I_jmpf: return sys_jmpf;
    case I_callf: return sys_callf;
    case I_retf: return sys_retf;
    case I_iret: return sys_iret;
    case I_int: return sys_int;
    case I_int3: return sys_int3;
    case I_int1: return sys_int1;
    case I_into: return sys_into;
    case I_syscall: return sys_syscall;
    case I_sysret: return sys_sysret;
    case I_sysenter: return sys_sysenter;
    case I_sysexit: return sys_sysexit;
    case I_swapgs: return sys_swapgs;
    case I_lldt: return sys_lldt;
    case I_ltr: return sys_ltr;
    case I_sldt: return sys_sldt;
    case I_str: return sys_str;
    case I_lgdt: return sys_lgdt;
    case I_lidt: return sys_lidt;
    case I_sgdt: return sys_sgdt;
    case I_sidt: return sys_sidt;
    case I_smsw: return sys_smsw;
    case I_lmsw: return sys_lmsw;
    case I_clts: return sys_clts;
    case I_mov_cr: return sys_mov_cr;
    case I_mov_dr: return sys_mov_dr;
    case I_invlpg: return sys_invlpg;
    case I_invpcid: return sys_invpcid;
    case I_invd:
    case I_wbinvd:
    case I_wbnoinvd: return sys_wbinvd;
    case I_rdmsr: return sys_rdmsr;
    case I_wrmsr: return sys_wrmsr;
    case I_rdtsc:
    case I_rdtscp: return sys_rdtsc;
    case I_rdpmc: return sys_rdpmc;
    case I_rdpid: return sys_rdpid;
    case I_cpuid: return sys_cpuid;
    case I_lar: return sys_lar;
    case I_lsl: return sys_lsl;
    case I_verr: return sys_verr;
    case I_verw: return sys_verw;
    case I_arpl: return sys_arpl;
    case I_xgetbv: return sys_xgetbv;
    case I_xsetbv: return sys_xsetbv;
    case I_rdfsbase:
    case I_rdgsbase: return sys_rdfsbase;
    case I_wrfsbase:
    case I_wrgsbase: return sys_wrfsbase;
    case I_clac:
    case I_stac: return sys_clac;
    case I_rdpkru: return sys_rdpkru;
    case I_wrpkru: return sys_wrpkru;
    case I_cli: return sys_cli;
    case I_sti: return sys_sti;
    case I_pushf: return sys_pushf;
    case I_popf: return sys_popf;
    case I_hlt: return sys_hlt;
    case I_monitor: return sys_monitor;
    case I_mwait: return sys_mwait;
    case I_rsm:
    case I_getsec:
    case I_vmcall:
    case I_vmlaunch:
    case I_vmresume:
    case I_vmxoff:
    case I_vmxon:
    case I_vmptrld:
    case I_vmptrst:
    case I_vmclear:
    case I_vmread:
    case I_vmwrite:
    case I_vmfunc:
    case I_invept:
    case I_invvpid:
    case I_vmrun:
    case I_vmmcall:
    case I_vmload:
    case I_vmsave:
    case I_stgi:
    case I_clgi:
    case I_skinit:
    case I_invlpga: return sys_undefined;
    default: return NULL;
    }
}

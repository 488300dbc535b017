/* build/tests/test_bt_fpu: x87 and vector code on the translator: each program below is interpreted, then translated, and must end in
 * the same place with the same state, to the last bit. */
#include "translate/bt.h"

#include "cpu/cpu.h"

#define interp_engine bt_engine
#include "interp.c"

#define DATA    0x20000u
#define MISSING 0x300000u /* not mapped */

/* A program: it runs at CODE with rsi = DATA, rdi = MISSING; RCX, RDX are its own. */
struct program {
    const char *name;
    const u8 *start, *end;
    int vector; /* that it ends with; -1: HLT */
};
#define PROGRAM(name, text)                                                                                   \
    __asm__(".pushsection .rodata\n.globl " #name "_start, " #name "_end\n" #name "_start:\n.intel_syntax noprefix\n" text \
            "\nhlt\n.att_syntax prefix\n" #name "_end:\n.popsection");                                       \
    extern const u8 name##_start[], name##_end[];
#define USE(name, vector) {#name, name##_start, name##_end, vector}

/* Every way out of translated code and back: handlers, TLB misses, jumps out of the page. */
PROGRAM(state_survives, "mov ecx, 50\n movsd xmm0, [rsi]\n movapd xmm1, [rsi + 16]\n movdqu xmm9, [rsi + 32]\n fld1\n"
        "1: addsd xmm0, [rsi + 8]\n mulpd xmm1, xmm1\n push rcx\n sgdt [rsi + 0xf00]\n pop rcx\n sqrtpd xmm2, xmm1\n fadd qword ptr [rsi]\n"
        "mov rax, cr3\n mov cr3, rax\n paddd xmm9, [rsi + 48]\n movups [rsi + 0x1000], xmm9\n movd r13d, xmm9\n movq xmm10, r13\n"
        "call 2f\n dec ecx\n jnz 1b\n jmp 3f\n .skip 0x1100, 0x90\n 2: fmul st, st(0)\n fsqrt\n ret\n 3:")
PROGRAM(upper_halves, "mov ecx, 20\n vmovupd ymm0, [rsi]\n vbroadcastsd ymm1, [rsi + 8]\n"
        "1: vfmadd231pd ymm2, ymm0, ymm1\n push rcx\n sgdt [rsi + 0xf00]\n pop rcx\n vaddpd ymm3, ymm2, [rsi + 32]\n addpd xmm3, xmm0\n"
        "vpblendvb ymm4, ymm2, ymm3, ymm1\n vextractf128 xmm5, ymm4, 1\n vpinsrq xmm6, xmm5, r14, 1\n vmovq r15, xmm5\n"
        "vgatherqpd ymm7, [rsi + ymm8 * 8], ymm9\n vpmovmskb r12d, ymm4\n dec ecx\n jnz 1b\n"
        "vptest ymm1, ymm4\n setc [rsi + 0x1000]\n vmovdqa [rsi + 0x1020], ymm2")
PROGRAM(zero_upper_halves, "mov ecx, 6\n 1: vaddpd ymm0, ymm0, [rsi]\n vaddpd ymm9, ymm9, [rsi + 32]\n cmp ecx, 3\n jne 2f\n vzeroupper\n"
        "2: sgdt [rsi + 0xf00]\n addpd xmm0, [rsi]\n dec ecx\n jnz 1b\n sgdt [rsi + 0xf00]\n vzeroall\n vaddps ymm3, ymm3, [rsi]")
PROGRAM(flags, "mov ecx, 10\n xor r12d, r12d\n movsd xmm0, [rsi]\n"
        "1: comisd xmm0, [rsi + 8]\n adc r12d, 0\n ucomiss xmm0, xmm1\n setp al\n add r12d, eax\n fld qword ptr [rsi]\n"
        "fld qword ptr [rsi + 8]\n fcomip st, st(1)\n setb al\n fcmovnbe st, st(0)\n fstp st(0)\n ptest xmm0, xmm1\n sbb r12, rcx\n"
        "mov al, [rsi + rcx]\n pcmpistri xmm0, [rsi + 0x31], 12\n jc 2f\n inc r12d\n 2: addsd xmm0, xmm0\n dec r13d\n"
        "cmp r13d, -10\n jne 1b")
PROGRAM(mmx, "mov ecx, 5\n 1: movq mm0, [rsi]\n paddb mm0, [rsi + 8]\n movd mm1, ecx\n punpcklwd mm1, mm0\n cvtpi2ps xmm0, mm1\n"
        "pmovmskb r13d, mm0\n movq2dq xmm3, mm0\n sgdt [rsi + 0xf00]\n movq [rsi + 0x1000], mm1\n emms\n fldpi\n fistp dword ptr [rsi + 0x1010]\n"
        "inc r14d\n cmp r14d, 5\n jne 1b\n movq mm7, mm1")
PROGRAM(x87_pointers, "fninit\n fld1\n fxsave64 [rsi + 0x1000]\n fldpi\n fldcw [rsi + 0x80]\n fnstcw [rsi + 0xff0]\n"
        "fxsave64 [rsi + 0x1200]\n fstp qword ptr [rsi + 0x1ff8]\n fwait\n fnstsw ax\n fnstenv [rsi + 0x1400]\n fldenv [rsi + 0x1400]\n"
        "fsqrt\n fxrstor64 [rsi + 0x1000]\n fsave [rsi + 0x1500]\n frstor [rsi + 0x1500]")
PROGRAM(rounding, "mov ecx, 4\n 1: ldmxcsr [rsi + 0x84 + rcx * 4]\n cvtsd2si eax, [rsi]\n add r12d, eax\n divsd xmm0, xmm1\n"
        "stmxcsr [rsi + 0x1000 + rcx * 4]\n sgdt [rsi + 0xf00]\n cvtsd2ss xmm2, [rsi + 8]\n inc r13d\n mov ecx, r13d\n cmp ecx, 4\n jne 1b")
PROGRAM(two_contexts, "mov ecx, 10\n fxsave64 [rsi + 0x1000]\n 1: addpd xmm3, [rsi]\n fld1\n fxsave64 [rsi + 0x1200]\n fxrstor64 [rsi + 0x1000]\n"
        "subpd xmm4, [rsi]\n fldpi\n fxsave64 [rsi + 0x1000]\n fxrstor64 [rsi + 0x1200]\n dec ecx\n jnz 1b\n xor edx, edx\n mov eax, 7\n"
        "xsave64 [rsi + 0x1400]\n vaddpd ymm3, ymm3, ymm4\n xrstor64 [rsi + 0x1400]")
PROGRAM(task_switched, "addsd xmm0, [rsi]\n mov rax, cr0\n or eax, 8\n mov cr0, rax\n mulsd xmm0, xmm0\n addsd xmm0, xmm0")
PROGRAM(task_switched_x87, "fld1\n mov rax, cr0\n or eax, 8\n mov cr0, rax\n jmp 1f\n 1: fadd st, st(0)")
PROGRAM(fault_in_load, "movsd xmm0, [rsi]\n fld1\n divsd xmm0, xmm1\n addsd xmm0, [rdi]\n addsd xmm0, xmm0")
PROGRAM(fault_in_store, "fld1\n fldpi\n movsd xmm0, [rsi]\n fstp tbyte ptr [rdi]\n fld1")
PROGRAM(fault_across_pages, "movups xmm0, [rsi]\n movups [rdi - 8 - 0x100000], xmm0\n movups [rdi - 8], xmm0\n")
PROGRAM(misaligned, "movaps xmm0, [rsi]\n movups xmm1, [rsi + 1]\n vaddps ymm2, ymm1, [rsi + 1]\n addps xmm0, [rsi + 8]\n movaps xmm0, xmm1")
PROGRAM(misaligned_avx, "vmovaps ymm0, [rsi]\n vmovaps ymm0, [rsi + 16]")
PROGRAM(aligned_together, "lea rbx, [rsi + 0xe00]\n mov ecx, 20\n 1: movups xmm1, [rbx + 24]\n movaps xmm0, [rbx]\n addps xmm1, [rbx + 48]\n add rbx, 32\n"
        "movups xmm2, [rbx - 19]\n movaps [rbx - 16], xmm1\n paddd xmm1, xmm0\n dec ecx\n jnz 1b")
PROGRAM(aligned_apart, "lea rbx, [rsi + 8]\n movups xmm0, [rbx]\n movaps xmm1, [rbx + 8]\n mulps xmm1, [rbx + 24]\n addps xmm0, [rbx + 16]\n movaps xmm2, xmm0")
PROGRAM(misaligned_together, "lea rbx, [rsi + 4]\n movss xmm0, [rbx]\n addss xmm0, [rbx + 4]\n addps xmm0, [rbx + 16]\n movaps xmm2, xmm0")
PROGRAM(flags_at_fault, "lea rbx, [rdi - 64]\n 1: addsd xmm0, [rbx]\n mulsd xmm0, xmm0\n add rbx, 8\n cmp rbx, rsi\n jne 1b")
PROGRAM(one_page_by_rip, "mov ecx, 20\n 1: movsd xmm0, [rip + 0x300]\n addsd xmm0, [rip + 0x180]\n movups [rip + 0x2100], xmm0\n movq rax, xmm0\n"
        "add rax, [rip + 0x2110]\n mov [rip + 0x2200], rax\n movups xmm1, [rip + 0x2108]\n dec ecx\n jnz 1b")
PROGRAM(unmasked_simd, "movsd xmm0, [rsi]\n ldmxcsr [rsi + 0x98]\n addsd xmm0, xmm0\n xorps xmm1, xmm1\n divsd xmm0, xmm1\n addsd xmm0, xmm0")
PROGRAM(unmasked_x87, "fninit\n fld1\n fldz\n fldcw [rsi + 0x82]\n nop\n fdivp st(1), st\n nop\n nop\n fld1\n fld1")
PROGRAM(reserved_mxcsr, "addsd xmm0, xmm0\n ldmxcsr [rsi + 0x9c]")
PROGRAM(no_osfxsr, "addsd xmm0, [rsi]\n mov rax, cr4\n and eax, ~0x200\n mov cr4, rax\n jmp 1f\n 1: addsd xmm0, xmm0")
PROGRAM(no_avx, "vaddpd ymm0, ymm0, ymm0\n xor ecx, ecx\n xor edx, edx\n mov eax, 3\n xsetbv\n addpd xmm0, xmm0\n vaddpd ymm0, ymm0, ymm0")
PROGRAM(crypto, "mov ecx, 9\n movups xmm1, [rsi]\n 1: aesenc xmm1, [rsi + 16]\n pclmulqdq xmm1, xmm2, 17\n pshufb xmm2, xmm1\n sha256msg1 xmm1, xmm2\n"
        "sha256rnds2 xmm1, xmm2\n palignr xmm2, xmm1, 5\n pextrw r13d, xmm1, 3\n pinsrd xmm2, r13d, 2\n phminposuw xmm3, xmm2\n dec ecx\n jnz 1b")
PROGRAM(streaming, "movntps [rsi + 0x1000], xmm0\n movnti [rsi + 0x1010], r13\n movntdqa xmm1, [rsi]\n prefetcht0 [rdi]\n sfence\n maskmovdqu xmm0, xmm1")

static const struct program programs[] = {
    USE(state_survives, -1),   USE(upper_halves, -1),      USE(zero_upper_halves, -1), USE(flags, -1),          USE(mmx, -1),
    USE(x87_pointers, -1),     USE(rounding, -1),          USE(two_contexts, -1),   USE(task_switched, EXC_NM),
    USE(task_switched_x87, EXC_NM), USE(fault_in_load, EXC_PF), USE(fault_in_store, EXC_PF), USE(fault_across_pages, EXC_PF),
    USE(misaligned, EXC_GP),   USE(misaligned_avx, EXC_GP), USE(unmasked_simd, EXC_XM), USE(unmasked_x87, EXC_MF),
    USE(aligned_together, -1), USE(aligned_apart, EXC_GP), USE(misaligned_together, EXC_GP), USE(one_page_by_rip, -1), USE(flags_at_fault, EXC_PF),
    USE(reserved_mxcsr, EXC_GP), USE(no_osfxsr, EXC_UD),   USE(no_avx, EXC_UD),     USE(crypto, -1),
    USE(streaming, EXC_PF),
};

static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static void prepare(const struct program *p)
{
    static const double numbers[16] = {1.5, 0.625, 1.0000001, 0.9999, -3.25, 1e-3, 7, 2.5, 1, 2, 3, 4, 5, 6, 7, 8};
    static const u16 words[] = {0x27f, 0x37b, 0, 0, 0x1f80, 0, 0x3f80, 0, 0x5f80, 0, 0xff80, 0, 0x1d80, 0, 0, 1};
    long_mode();
    cpu->cr0 &= ~(u64)(CR0_TS | CR0_EM);
    cpu->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->xcr0 = 7;
    cpu_update_mode(cpu);
    memset(cpu->regs, 0, sizeof cpu->regs);
    cpu->regs[R_SP] = 0x80000;
    cpu->regs[R_SI] = DATA;
    cpu->regs[R_DI] = MISSING;
    cpu->aflags = 0x200;
    cpu->eflags = 2;
    cpu->cr2 = 0;
    cpu->halted = false;
    memset(&cpu->fpu, 0, sizeof cpu->fpu);
    memcpy(cpu->fpu.legacy, &(u16){0x37f}, 2);
    memcpy(cpu->fpu.legacy + 24, &(u32){0x1f80}, 4);
    memset(ram->host + DATA - 0x1000, 0, 0x4000);
    memset(ram->host + 0x7ff00, 0, 0x100);
    memcpy(ram->host + DATA, numbers, sizeof numbers);
    memcpy(ram->host + DATA + 0x80, words, sizeof words);
    bus_write_block(mem, CODE, p->start, (size_t)(p->end - p->start));
    cpu->engine_ops->invalidate(cpu, CODE, 0x3000);
}

/* What must be the same. */
struct outcome_seen {
    int vector;
    u64 regs[16], cr2, rip;
    u16 aflags;
    u8 legacy[416], upper[256], stack[0x100], data[0x4000];
};

static void see(struct outcome_seen *o)
{
    memset(o, 0, sizeof *o);
    o->vector = run();
    memcpy(o->regs, cpu->regs, sizeof o->regs);
    o->cr2 = cpu->cr2;
    o->rip = cpu->rip;
    o->aflags = cpu->aflags;
    memcpy(o->legacy, cpu->fpu.legacy, sizeof o->legacy);
    memset(o->legacy + 28, 0, 4); /* MXCSR_MASK */
    memcpy(o->upper, cpu->fpu.ymm_high, sizeof o->upper);
    memcpy(o->stack, ram->host + 0x7ff00, sizeof o->stack);
    memcpy(o->data, ram->host + DATA - 0x1000, sizeof o->data);
}

#define EXPECT_SAME(field)                                                                                    \
    cr_expect_arr_eq(&a.field, &b.field, sizeof a.field, "%s: " #field " differs", p->name)

Test(interp, programs_end_the_same_interpreted_and_translated)
{
    for (unsigned n = 0; n < sizeof programs / sizeof programs[0]; n++) {
        const struct program *p = &programs[n];
        static struct outcome_seen a, b;
        if (!has_avx2() && (strstr(p->name, "avx") || strstr(p->name, "upper") || strstr(p->name, "two_"))) continue;
        bt_set_threshold(cpu, ~0u);
        prepare(p);
        see(&a);
        bt_set_threshold(cpu, 1);
        prepare(p);
        see(&b);
        cr_expect_eq(a.vector, p->vector, "%s: ends with vector %d", p->name, a.vector);
        cr_expect_eq(b.vector, p->vector, "%s: translated, it ends with vector %d", p->name, b.vector);
        EXPECT_SAME(regs);
        EXPECT_SAME(cr2);
        EXPECT_SAME(rip);
        EXPECT_SAME(aflags);
        EXPECT_SAME(legacy);
        EXPECT_SAME(upper);
        EXPECT_SAME(stack);
        EXPECT_SAME(data);
        for (unsigned k = 0; k < sizeof a.legacy; k++)
            if (a.legacy[k] != b.legacy[k]) cr_log_warn("%s: FXSAVE image at %u: %02x, %02x", p->name, k, a.legacy[k], b.legacy[k]);
        for (unsigned k = 0; k < sizeof a.data; k++)
            if (a.data[k] != b.data[k]) cr_log_warn("%s: data at %x: %02x, %02x", p->name, k - 0x1000, a.data[k], b.data[k]);
    }
}

Test(interp, the_host_is_left_as_c_code_expects_it)
{
    unsigned mxcsr;
    u16 cw, sw;
    bt_set_threshold(cpu, 1);
    for (unsigned n = 0; n < sizeof programs / sizeof programs[0]; n++) {
        prepare(&programs[n]);
        run();
        __asm__("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(cw));
        cr_expect_eq(mxcsr & ~0x3fu, 0x1f80, "%s: MXCSR %x", programs[n].name, mxcsr);
        cr_expect_eq(cw, 0x37f, "%s: control word %x", programs[n].name, cw);
        /* Eight pushes fit: the register stack is empty. */
        __asm__ volatile("fnclex\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfnstsw %0\n\tfninit" : "=a"(sw));
        cr_expect_not(sw & 0x41, "%s: the register stack was not empty", programs[n].name);
    }
}

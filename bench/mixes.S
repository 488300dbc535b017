/*
 * Loops with known instruction counts, for 32- and 64-bit code alike: bench/mips_main.c runs them on the bare
 * machine (bench/mips_start.S) or as a program of an operating system.
 *
 * A mix is a function void mix_NAME(unsigned iterations, void *buffer), buffer being 64 KiB, and a number
 * mix_NAME_length: the instructions of one iteration. What surrounds the loop is not counted.
 */
#ifdef __x86_64__
#define AX %rax
#define BX %rbx
#define CX %rcx
#define DX %rdx
#define SI %rsi
#define DI %rdi
#define BP %rbp
#define SP %rsp
#else
#define AX %eax
#define BX %ebx
#define CX %ecx
#define DX %edx
#define SI %esi
#define DI %edi
#define BP %ebp
#define SP %esp
#endif

/* On entry to the loop: ecx iterations, DI buffer; eax, ebx, edx, esi, ebp free. */
.macro mix name, length
    .globl mix_\name, mix_\name\()_length
    .section .rodata
    .balign 4
mix_\name\()_length:
    .long \length
    .text
    .balign 64
mix_\name:
    push BX
    push BP
    push SI
    push DI
#ifdef __x86_64__
    mov %edi, %ecx
    mov SI, DI
#else
    mov 20(%esp), %ecx
    mov 24(%esp), %edi
#endif
    xor %eax, %eax
    mov $1, %ebx
    mov $0x12345678, %edx
    xor %esi, %esi
    xor %ebp, %ebp
    .balign 32
1:
.endm

.macro end_mix
    dec %ecx
    jnz 1b
    pop DI
    pop SI
    pop BP
    pop BX
    ret
.endm

/* Integer arithmetic on registers: what address and counter computation looks like. */
mix alu, 20
    add %ebx, %eax
    xor %edx, %eax
    lea 3(AX,BX), %esi
    rol $5, %edx
    sub %esi, %ebx
    and $0x7fffffff, %eax
    shr $3, %esi
    imul $13, %esi, %ebp
    or %ebp, %edx
    add $7, %ebx
    mov %eax, %esi
    shl $2, %esi
    neg %ebp
    movzbl %al, %eax
    adc %ebp, %eax
    cmp %ebx, %eax
    setb %al
    xor %esi, %edx
end_mix

/* Loads, stores and read-modify-write in 64 KiB. */
mix memory, 20
    mov %edx, %esi
    and $0xfffc, %esi
    mov (DI,SI), %eax
    add %eax, %ebx
    mov %ebx, (DI,SI)
    movzbl 1(DI), %eax
    movswl 2(DI), %ebp
    add %ebp, 16(DI)
    mov %eax, 32(DI)
    mov 36(DI), %eax
    mov %al, 40(DI)
    incl 44(DI)
    mov 48(DI), %ebp
    xor 52(DI), %ebp
    mov %bp, 56(DI)
    cmp %ebp, 60(DI)
    imul $1103515245, %edx, %edx
    add $12345, %edx
end_mix

/* Branches: half of them follow pseudo-random bits, the others are taken or not, always. Both ways of a random
   branch are as long. */
mix branch, 19
    imul $1103515245, %edx, %edx
    add $12345, %edx
    test $0x10000, %edx
    jz 2f
    inc %eax
    jmp 3f
2:  dec %eax
    nop
3:  test %ecx, %ecx
    js 4f
    test $0x20000, %edx
    jnz 4f
    add $3, %ebx
    jmp 5f
4:  add $5, %ebx
    nop
5:  cmp $0, %ecx
    je 6f
    test %edi, %edi
    jz 6f
    add %ebx, %eax
6:
end_mix

/* Calls, direct and through a pointer, with pushes and pops. */
mix call, 24
    call 7f
    call 7f
#ifdef __x86_64__
    lea 7f(%rip), SI
#else
    mov $7f, SI
#endif
    call *SI
    push AX
    mov %eax, %ebx
    pop DX
    jmp 8f
7:  push BX
    add $1, %eax
    pop BX
    ret
8:  nop
    nop
end_mix

/* Double precision, two chains. */
mix sse, 12
    cvtsi2sd %ecx, %xmm0
    movsd (DI), %xmm1
    addsd %xmm0, %xmm1
    mulsd %xmm0, %xmm0
    subsd %xmm0, %xmm1
    movsd %xmm1, 8(DI)
    paddd %xmm0, %xmm2
    pxor %xmm1, %xmm2
    movdqu %xmm2, 16(DI)
    pshufd $0x1b, %xmm2, %xmm3
end_mix

mix x87, 12
    fldl (DI)
    fld1
    fadd %st(1), %st
    fmul %st(1), %st
    fxch %st(1)
    fsubrp %st, %st(1)
    fabs
    fsqrt
    fstpl 8(DI)
    nop
end_mix

/* Words moved and compared by string instructions: an element counts as one instruction. */
mix string, 2056
    mov %ecx, %ebp
    mov DI, SI
    push DI
    mov $2048, %ecx
    rep movsl
    pop DI
    mov %ebp, %ecx
end_mix

#ifdef __ELF__
    .section .note.GNU-stack, "", @progbits
#endif

/* Start-up of the bare-metal test images: Multiboot entry, 64-bit mode with the first 4 GiB mapped one to one, exception stubs,
 * and the start of the other processors. runtime.h tells what a test may use. */
#define CPUS 8

    .section .header, "ax"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .code32
    .globl _start
_start:
    cli
    mov $stack_top, %esp
    lgdt gdt_pointer
    ljmp $0x20, $1f
1:  call load_segments
    call enter_long_mode
    ljmp $0x08, $start64

load_segments:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    ret

/* PAE, FXSAVE and SSE exceptions, then LME and NXE, then paging with WP. */
enter_long_mode:
    mov %cr4, %eax
    or $0x620, %eax
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
    mov %cr0, %eax
    and $~6, %eax
    or $0x80010003, %eax
    mov %eax, %cr0
    ret

processor32:
    mov $0x10, %ax
    mov %ax, %ss
    mov %ax, %ds
    mov $1, %eax
    lock xadd %eax, next_processor
    mov %eax, %ebx
    shl $12, %eax
    lea processor_stacks + 4096(%eax), %esp
    call load_segments
    call enter_long_mode
    ljmp $0x08, $processor64

    .code64
start64:
    lidt idt_pointer
    call runtime_main
1:  hlt
    jmp 1b

processor64:
    lidt idt_pointer
    lea 1(%rbx), %edi
    call processor_main
1:  hlt
    jmp 1b

    /* Copied below 1 MiB, to where the start-up message points. */
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    lgdtl %cs:(trampoline_gdt_pointer - trampoline)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x20, $processor32
trampoline_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

    .code64
    .text
    /* int try(void (*code)(u64), u64 argument): -1, or the vector of the exception that ended it */
    .globl try, try_end
try:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, try_stack
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    movl $-1, try_vector
try_end:
    mov try_stack, %rsp
    movq $0, try_stack
    mov try_vector, %eax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret

    /* int try_user(void *rip, void *rsp, u64 rflags, u64 rdi, u64 rsi): the same at CPL 3 */
    .globl try_user
try_user:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, try_stack
    mov %rsp, tss + 4
    pushq $0x43
    push %rsi
    push %rdx
    pushq $0x4b
    push %rdi
    mov %rcx, %rdi
    mov %r8, %rsi
    iretq

    .altmacro
    .macro stub vector
    .balign 16
    .if !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21)
    push $0
    .endif
    push $\vector
    jmp common
    .endm
    .balign 16
    .globl stubs
stubs:
    n = 0
    .rept 256
    stub %n
    n = n + 1
    .endr
common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $~15, %rsp
    cld
    call runtime_exception
    mov %rbp, %rsp
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    .data
    .balign 8
    .globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 08 code, 64 bits */
    .quad 0x00cf93000000ffff /* 10 data */
    .quad 0x00af1b000000ffff /* 18 code, not present */
    .quad 0x00cf9b000000ffff /* 20 code, 32 bits */
    .quad 0, 0
    .quad 0x00cffb000000ffff /* 38 code, 32 bits, CPL 3 */
    .quad 0x00cff3000000ffff /* 40 data, CPL 3 */
    .quad 0x00affb000000ffff /* 48 code, 64 bits, CPL 3 */
    .quad 0, 0               /* 50 TSS */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .word 4095
    .quad idt
    .globl try_stack, try_vector
try_stack:      .quad 0
try_vector:     .long 0
next_processor: .long 0

    .balign 4096
    .globl pml4, page_directories
pml4:
    .quad pdpt + 7
    .fill 511, 8, 0
pdpt:
    .quad page_directories + 7, page_directories + 0x1007, page_directories + 0x2007, page_directories + 0x3007
    .fill 508, 8, 0
page_directories: /* 2 MiB pages for supervisor and user, accessed and dirty */
    i = 0
    .rept 2048
    .quad 0xe7 | (i << 21)
    i = i + 1
    .endr

    .bss
    .balign 4096
    .globl idt, tss
idt: .skip 4096
tss: .skip 104
    .balign 4096
    .skip 16384
stack_top:
processor_stacks:
    .skip 4096 * CPUS
    .section .note.GNU-stack, "", @progbits

/* Multiboot header and entry of bench/mips_bare.c: a stack, SSE on, then C. Linked at 1 MiB. */
    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .globl _start
_start:
    cld
    mov $stack_end, %esp
    mov %cr0, %eax
    and $~0xc, %eax /* EM, TS */
    or $2, %eax     /* MP */
    mov %eax, %cr0
    mov %cr4, %eax
    or $0x600, %eax /* OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    fninit
    push $0
    push $0
    push $0
    push %ebx
    call bare_main
1:  hlt
    jmp 1b

    .bss
    .balign 16
    .skip 16384
stack_end:
    .section .note.GNU-stack, "", @progbits

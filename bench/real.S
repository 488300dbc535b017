/* A boot sector, and what it loads: loops of real-mode code, timed from outside (bench/real.sh). The serial port gets a line with the
 * name and the number of rounds before each loop, "end" after it, and "done" at last. */
    .code16
    .globl _start
_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x6ff0, %sp
    movw $0x0200 + SECTORS, %ax
    movw $0x7e00, %bx
    movw $2, %cx
    movb $0, %dh
    int $0x13
    jc .
    cli
    movw $handler, 4 * 0x60
    movw $0, 4 * 0x60 + 2
    jmp main
    .org 510
    .word 0xaa55

putc: /* AL */
    movw $0x3fd, %dx
    movb %al, %ah
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    movb %ah, %al
    movw $0x3f8, %dx
    outb %al, %dx
    ret
puts: /* SI */
    lodsb
    testb %al, %al
    jz 1f
    call putc
    jmp puts
1:  ret

    .macro item name, rounds
    movw $1f, %si
    call puts
    movl $\rounds * SCALE, %ecx
    jmp 2f
1:  .asciz "\name \rounds\n"
    .balign 16
2:
    .endm
    .macro again label
    decl %ecx
    jnz \label
    movw $end, %si
    call puts
    .endm
end: .asciz "end\n"

f_near: /* a word of arguments, as compilers pass it */
    pushw %bp
    movw %sp, %bp
    movw 4(%bp), %ax
    incw %ax
    popw %bp
    ret $2
f_far:
    lret
handler:
    iret

main:
    item alu 2000
1:  addw %bx, %ax
    xorw $0x1234, %dx
    shlw $1, %bx
    adcw %dx, %si
    movb %al, %bh
    subw %si, %di
    andw $0xff7f, %di
    again 1b

    item memory 500
    movw $0x2000, %ax
    movw %ax, %es
    movw $0x9000, %bx
    movw $0x9100, %si
    movw $0x9200, %di
    movw $0x6000, %bp
1:  movw (%bx), %ax
    addw %ax, 2(%bx)
    movw %es:(%di), %dx
    incw (%bx, %si)
    xorw %dx, 4(%bp)
    movb %al, 0x9800
    again 1b

    item call 300
1:  pushw %cx
    call f_near
    pushw %ax
    call f_near
    again 1b

    item far 200
1:  lcall $0, $f_far
    again 1b

    item segment 200
    movw $0x2000, %ax
1:  movw %ax, %es
    movw %es:(%di), %dx
    pushw %ds
    popw %es
    movw %es:(%di), %dx
    again 1b

    item string 400
1:  movw $0x9000, %si
    movw $0x9800, %di
    movsw
    lodsb
    stosb
    scasw
    again 1b

    item copy 40
1:  movw $0x9000, %si
    movw $0x9800, %di
    pushw %cx
    movw $128, %cx
    rep movsw
    popw %cx
    again 1b

    item interrupt 100
1:  int $0x60
    again 1b

    item pusha 200
1:  pushaw
    popaw
    again 1b

    item wide 400 /* as compilers for 32 bits make it in 16-bit segments */
    movl $0x9000, %ebx
1:  movl (%ebx), %eax
    addl %eax, 4(%ebx)
    leal (%eax, %ecx, 2), %edx
    movzwl 8(%ebx), %esi
    pushl %edx
    popl %edi
    again 1b

    movw $done, %si
    call puts
    sti /* half a second, for who asks how much processor time was used */
    movw $10, %cx
1:  hlt
    loop 1b
    movw $0xf4, %dx
    movl $0, %eax
    outl %eax, %dx
    hlt
done: .asciz "done\n"
    .balign 512

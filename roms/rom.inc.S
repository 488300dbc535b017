/* What both boot ROMs share: the expansion ROM and Plug and Play headers, and reading fw_cfg items from real mode.
 *
 * A ROM of this kind is found by firmware among the fw_cfg files, copied to a free place below 1 MiB and entered
 * at its boot entry vector (BEV) when its turn in the boot order comes. rom_pack.c fills in lengths and checksums.
 *
 * References: [PnPBIOS] Plug and Play BIOS specification 1.0A, 3.2 (expansion header); fw_cfg: src/devices/fw_cfg.c. */

FW_CFG_SELECT = 0x510
FW_CFG_DATA   = 0x511
FW_CFG_DMA    = 0x514

FW_CFG_ID           = 0x01
FW_CFG_KERNEL_ADDR  = 0x07
FW_CFG_KERNEL_SIZE  = 0x08
FW_CFG_KERNEL_DATA  = 0x11
FW_CFG_INITRD_ADDR  = 0x0a
FW_CFG_INITRD_SIZE  = 0x0b
FW_CFG_INITRD_DATA  = 0x12
FW_CFG_CMDLINE_ADDR = 0x13
FW_CFG_CMDLINE_SIZE = 0x14
FW_CFG_CMDLINE_DATA = 0x15
FW_CFG_SETUP_ADDR   = 0x16
FW_CFG_SETUP_SIZE   = 0x17
FW_CFG_SETUP_DATA   = 0x18

DMA_ERROR  = 0x01
DMA_READ   = 0x02
DMA_SELECT = 0x08

STACK_TOP = 0x2000 /* linear; images may be linked to run from 16 KiB on */

.macro rom_header product
    .code16
    .text
rom_start:
    .byte 0x55, 0xaa
    .byte 0 /* length in 512-byte units: rom_pack */
    xor %ax, %ax /* initialization entry: nothing to do */
    lret
    .org 0x18
    .word 0 /* no PCI data structure */
    .word pnp_header
    .org 0x20
pnp_header:
    .ascii "$PnP"
    .byte 1 /* revision */
    .byte 2 /* length in 16-byte units */
    .word 0 /* no further header */
    .byte 0
    .byte 0 /* checksum: rom_pack */
    .long 0 /* device identifier */
    .word manufacturer
    .word product_name
    .byte 0, 0, 0 /* device type: other */
    .byte 0x14 /* an initial program load device; expects to be in RAM */
    .word 0 /* no boot connection vector */
    .word 0 /* no disconnect vector */
    .word bev
    .word 0
    .word 0
manufacturer:
    .asciz "Calque"
product_name:
    .asciz "\product"
.endm

/* Copy item \name to where its _ADDR item says. */
.macro load_item name
    mov $FW_CFG_\name\()_ADDR, %ax
    call read_u32
    mov %eax, %edi
    mov $FW_CFG_\name\()_SIZE, %ax
    call read_u32
    mov %eax, %ecx
    mov $FW_CFG_\name\()_DATA, %ax
    call read_data
.endm

/* Our own stack and data in segment 0, and A20 open (firmware has opened it; an earlier boot attempt may have
 * closed it). */
.macro rom_prologue
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK_TOP, %esp
    in $0x92, %al
    or $0x02, %al
    and $0xfe, %al
    out %al, $0x92
.endm

/* The subroutines expect DS, ES and SS to be 0. */
.macro rom_subroutines
/* Item AX, a little-endian 32-bit number: EAX. */
read_u32:
    push %cx
    push %dx
    mov $FW_CFG_SELECT, %dx
    out %ax, %dx
    inc %dx
    mov $4, %cx
1:  in %dx, %al
    ror $8, %eax
    loop 1b
    pop %dx
    pop %cx
    ret

/* ECX bytes of item AX to linear address EDI. Uses EAX, BX, ECX, DX, EDI, SI. */
read_data:
    test %ecx, %ecx
    jz 9f
    mov %ax, %si
    mov $FW_CFG_ID, %ax
    call read_u32
    test $2, %al /* has it a DMA interface? */
    jz by_port

    /* struct { be32 control, length; be64 address; } on the stack */
    push %bp
    mov %sp, %bp
    sub $20, %sp
    and $0xfffc, %sp
    mov %sp, %bx
    movzwl %si, %eax
    shl $16, %eax
    or $(DMA_SELECT | DMA_READ), %eax
    bswap %eax
    mov %eax, (%bx)
    bswap %ecx
    mov %ecx, 4(%bx)
    movl $0, 8(%bx)
    bswap %edi
    mov %edi, 12(%bx)
    mov $FW_CFG_DMA, %dx
    xor %eax, %eax
    out %eax, %dx
    movzwl %bx, %eax
    bswap %eax
    add $4, %dx
    out %eax, %dx /* this starts it */
2:  mov (%bx), %eax
    bswap %eax
    test $DMA_ERROR, %al
    jnz failed
    test %eax, %eax
    jnz 2b
    mov %bp, %sp
    pop %bp
9:  ret

/* Without DMA: byte by byte, through an ES with a limit of 4 GiB ("unreal mode"). */
by_port:
    movw $(flat_gdt_end - flat_gdt - 1), -8(%esp)
    xor %eax, %eax
    mov %cs, %ax
    shl $4, %eax
    add $flat_gdt, %eax
    mov %eax, -6(%esp)
    addr32 lgdtl -8(%esp)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    jmp 3f
3:  mov $0x10, %bx
    mov %bx, %es
    and $0xfe, %al
    mov %eax, %cr0
    jmp 4f
4:  xor %bx, %bx
    mov %bx, %es /* base 0; the limit stays */
    mov $FW_CFG_SELECT, %dx
    mov %si, %ax
    out %ax, %dx
    inc %dx
    addr32 rep insb
    ret

/* The emulator's device refused: say so and try the next boot device. */
failed:
    mov $failed_text, %si
5:  mov %cs:(%si), %al
    inc %si
    test %al, %al
    jz 6f
    mov $0x0e, %ah
    mov $7, %bx
    int $0x10
    jmp 5b
6:  int $0x18
failed_text:
    .asciz "Loading from fw_cfg failed\r\n"

    .balign 8
flat_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 0x08: code, 32 bits, 4 GiB */
    .quad 0x00cf93000000ffff /* 0x10: data, 4 GiB */
flat_gdt_end:
.endm

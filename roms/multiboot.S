/* Boot ROM for -kernel with a Multiboot, PVH or plain ELF image: puts the image and the boot block where the
 * emulator (src/machine/load_elf.c, boot_block.h) says, adds what only firmware knows (the memory map, the ACPI root
 * pointer), and enters the image in 32-bit protected mode without paging.
 *
 * References: [Multiboot] Multiboot specification 0.6.96, 3.2 (machine state) and 3.3 (information);
 * [PVH] Xen public/arch-x86/hvm/start_info.h, docs/misc/pvh. */
#include "rom.inc.S"

/* struct boot_block, at its fixed address */
BLOCK          = 0x2000
BLOCK_ENTRY    = BLOCK + 0
BLOCK_EAX      = BLOCK + 4
BLOCK_EBX      = BLOCK + 8
BLOCK_FORMAT   = BLOCK + 12 /* of the memory map */
BLOCK_MAP      = BLOCK + 16 /* where its entries go */
BLOCK_COUNT_AT = BLOCK + 20 /* where to store their number or size; 0: nowhere */
BLOCK_MEM_AT   = BLOCK + 24 /* where to store mem_lower, mem_upper; 0: nowhere */
BLOCK_RSDP_AT  = BLOCK + 28 /* where to store the RSDP's address, 64 bits; 0: nowhere */

FORMAT_MULTIBOOT = 1 /* { u32 size; u64 base, length; u32 type; }, count in bytes */
FORMAT_PVH       = 2 /* { u64 base, length; u32 type, 0; }, count of entries */
MAP_ENTRIES      = 64

    rom_header "ELF kernel"

bev:
    rom_prologue
    load_item INITRD /* the boot block */
    load_item KERNEL
    load_item SETUP /* modules, strings */

    call memory_sizes
    call memory_map
    call find_rsdp

    /* To protected mode: the GDT stays in the ROM. The flat code segment's jump target is this code's linear
     * address. */
    cli
    xor %eax, %eax
    mov %cs, %ax
    shl $4, %eax
    mov %eax, %ebx
    add $flat_gdt, %eax
    push %eax
    pushw $(flat_gdt_end - flat_gdt - 1)
    mov %sp, %bp
    lgdtl (%bp)
    add $protected, %ebx
    pushl $0x08
    pushl %ebx
    mov %cr0, %eax
    or $1, %al
    and $0x1fffffff, %eax /* caches on (SDM vol 3A table 9-1 has them off), paging off */
    mov %eax, %cr0
    lretl

    .code32
protected:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov BLOCK_ENTRY, %ecx
    mov BLOCK_EAX, %eax
    mov BLOCK_EBX, %ebx
    xor %edx, %edx
    xor %esi, %esi
    xor %edi, %edi
    xor %ebp, %ebp
    pushl $2
    popfl
    jmp *%ecx
    .code16

/* mem_lower and mem_upper, in KiB [Multiboot] 3.3: what is at 0, and what is at 1 MiB up to the first hole. */
memory_sizes:
    mov BLOCK_MEM_AT, %di
    test %di, %di
    jz 9f
    int $0x12
    movzwl %ax, %eax
    mov %eax, (%di)
    /* upper: filled in by memory_map() */
9:  ret

/* Walk INT 15h AX=E820h. The entry of 24 bytes is read 4 bytes into its slot, where Multiboot wants it. */
memory_map:
    mov BLOCK_MAP, %di
    xor %ebx, %ebx
    mov $MAP_ENTRIES, %bp
1:  lea 4(%di), %si /* SI: the slot's 20 bytes from firmware */
    push %bp
    push %si
    push %di
    mov %si, %di
    mov $0xe820, %eax
    mov $0x534d4150, %edx /* "SMAP" */
    mov $20, %ecx
    int $0x15
    pop %di
    pop %si
    pop %bp
    jc 5f
    cmp $0x534d4150, %eax
    jne 5f

    /* Usable memory that contains 1 MiB gives mem_upper. */
    mov BLOCK_MEM_AT, %cx
    jcxz 3f
    cmpl $1, 16(%si)
    jne 3f
    mov (%si), %eax
    mov 4(%si), %edx
    test %edx, %edx
    jnz 3f
    cmp $0x100000, %eax
    ja 3f
    add 8(%si), %eax
    adc 12(%si), %edx
    sub $0x100000, %eax
    sbb $0, %edx
    jc 3f
    shrd $10, %edx, %eax
    xchg %cx, %di
    mov %eax, 4(%di)
    xchg %cx, %di

3:  cmpl $FORMAT_PVH, BLOCK_FORMAT
    je 4f
    movl $20, (%di)
    add $24, %di
    jmp 8f
4:  /* Four bytes down. */
    push %si
    push %di
    mov $5, %cx
    rep movsl
    xor %eax, %eax
    stosl
    pop %di
    pop %si
    add $24, %di
8:  test %ebx, %ebx
    jz 5f
    dec %bp
    jnz 1b

5:  movzwl %di, %eax
    sub BLOCK_MAP, %eax
    cmpl $FORMAT_PVH, BLOCK_FORMAT
    jne 6f
    xor %edx, %edx
    mov $24, %ecx
    div %ecx
6:  mov BLOCK_COUNT_AT, %di
    test %di, %di
    jz 7f
    mov %eax, (%di)
7:  ret

/* The RSDP is on a 16-byte boundary in the first KiB of the EBDA or in the BIOS area [ACPI] 5.2.5.1. */
find_rsdp:
    mov BLOCK_RSDP_AT, %di
    test %di, %di
    jz 9f
    mov 0x40e, %ax
    mov $64, %cx
    call scan
    jnc 9f
    mov $0xe000, %ax
    mov $0x2000, %cx
    call scan
9:  ret

/* CX paragraphs from segment AX on; found: carry clear, and its address is stored at DI. */
scan:
    mov %ax, %es
    cmpl $0x20445352, %es:0 /* "RSD " */
    jne 2f
    cmpl $0x20525450, %es:4 /* "PTR " */
    jne 2f
    push %cx
    push %ax
    xor %si, %si
    xor %al, %al
    mov $20, %cx
1:  add %es:(%si), %al
    inc %si
    loop 1b
    test %al, %al
    pop %ax
    pop %cx
    jnz 2f
    movzwl %ax, %eax
    shl $4, %eax
    mov %eax, (%di)
    movl $0, 4(%di)
    clc
    jmp 3f
2:  inc %ax
    loop scan
    stc
3:  push $0
    pop %es
    ret

    rom_subroutines

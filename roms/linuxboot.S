/* Boot ROM for -kernel with a Linux kernel: puts the set-up code, the command line, the initial RAM disk and the
 * kernel where the emulator (src/machine/load_linux.c) says, and enters the set-up code in real mode.
 *
 * Reference: [boot.rst] Linux Documentation/x86/boot.rst, "Running the Kernel". */
#include "rom.inc.S"

    rom_header "Linux kernel"

bev:
    rom_prologue
    load_item SETUP
    load_item CMDLINE
    load_item INITRD
    load_item KERNEL

    /* The heap ends and the stack starts 16 bytes below the command line, as the header's heap_end_ptr says. */
    mov $FW_CFG_CMDLINE_ADDR, %ax
    call read_u32
    mov %eax, %ebx
    mov $FW_CFG_SETUP_ADDR, %ax
    call read_u32
    sub %eax, %ebx
    sub $16, %ebx
    shr $4, %eax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %fs
    mov %ax, %gs
    mov %ax, %ss
    mov %ebx, %esp
    add $0x20, %ax /* the set-up code's entry is 512 bytes into it */
    push %ax
    push $0
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %edi, %edi
    xor %ebp, %ebp
    lret

    rom_subroutines

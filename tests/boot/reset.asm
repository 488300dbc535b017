; tests/boot/reset.sh: a boot sector that resets the board in every way there is, one way after the other. CMOS byte 0x60 tells
; the next boot which one it was. Each boot says what is left of before, in RAM (which a reset leaves alone), in CMOS (likewise)
; and in the PIIX3 (which it does not); and ends the emulator after the last.
        bits 16
        org 0x7c00

marker  equ 0x0600              ; free RAM below the boot sector

        jmp 0:start
start:  xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        cld
        mov al, 0x60
        call cmos
        mov [step], al
        mov si, text_step
        call print
        mov al, [step]
        add al, '0'
        call putc
        mov si, text_lost
        cmp dword [marker], 'RAM!'
        jne .ram
        mov si, text_kept
.ram:   call print
        mov eax, 0x8000084c     ; 00:01.0, ISA recovery times: 0x4d after a reset; the BIOS leaves it alone
        mov dx, 0xcf8
        out dx, eax
        mov dl, 0xfc
        in al, dx
        call hex
        mov al, 0x22
        out dx, al
        mov al, 10
        call putc
        mov dword [marker], 'RAM!'
        mov al, 0x60
        out 0x70, al
        mov al, [step]
        inc al
        out 0x71, al
        movzx bx, byte [step]
        add bx, bx
        mov dx, 0xcf9
        mov al, 0x02
        jmp [bx + steps]

hard:   out dx, al
        mov al, 0x06
        out dx, al
        jmp $
full:   out dx, al
        mov al, 0x0e
        out dx, al
        jmp $
soft:   mov al, 0
        out dx, al
        mov al, 0x04
        out dx, al
        jmp $
keyboard:
        in al, 0x64
        test al, 2
        jnz keyboard
        mov al, 0xfe
        out 0x64, al
        jmp $
fast:   in al, 0x92
        and al, 0xfe
        out 0x92, al
        or al, 1
        out 0x92, al
        jmp $
fault:  lidt [none]
        int3
bios:   mov word [0x472], 0x1234 ; a warm boot
        jmp 0xffff:0
last:   mov dx, 0xf4
        mov al, 0
        out dx, al
        jmp $

cmos:   out 0x70, al            ; AL: byte AL of it
        in al, 0x71
        ret
print:  lodsb
        test al, al
        jz putc.out
        call putc
        jmp print
hex:    push ax
        shr al, 4
        call .digit
        pop ax
        and al, 15
.digit: cmp al, 10
        sbb al, 0x69
        das
putc:   push dx
        mov dx, 0x3f8
        out dx, al
        pop dx
.out:   ret

steps:  dw hard, full, soft, keyboard, fast, fault, bios, last
none:   dw 0
        dd 0
text_step: db 'step ', 0
text_kept: db ' RAM kept, PIIX3 ', 0
text_lost: db ' RAM lost, PIIX3 ', 0
step:   db 0

        times 510 - ($ - $$) db 0
        dw 0xaa55

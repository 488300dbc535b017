; Real mode: limits and wraps, the interrupt vector table, single steps, interrupt shadows.
; [SDM3] 20.1 (real-address mode), 6.15 (exceptions), 17.3.1.4 (single step); [SDM2] each instruction's page.
%include "real.inc"

main:
    ; ---- segment limit: FFFFH, faults are #GP, for the stack #SS; no error code ----
    mov bx, 0xffff
    mov al, [bx]
    REAL_FAULT 13, mov ax, [bx]
    REAL_FAULT 13, mov [bx], ax
    REAL_FAULT 13, mov eax, [bx - 2]
    mov eax, 0x10000
    REAL_FAULT 13, mov bl, [eax]
    mov eax, 0xfffe
    mov bx, [eax]
    mov bp, 0xffff
    REAL_FAULT 12, mov ax, [bp]
    ; 16-bit addresses wrap
    mov byte [R(byte0)], 0x5a
    mov bx, 0xffff
    mov si, R(byte0) + 1
    cmp byte [bx + si], 0x5a
    CHECK e

    ; ---- the stack wraps at SP 0; SP 1 is #SS ----
    mov [R(save_sp)], sp
    mov sp, 0
    push word 0x1234
    cmp sp, 0xfffe
    CHECK e
    pop ax
    cmp ax, 0x1234
    CHECK e
    cmp sp, 0
    CHECK e
    mov sp, [R(save_sp)]
    mov word [R(exc_resume)], R(.ss_done)
    mov [R(exc_ss)], ss
    mov [R(exc_sp)], sp
    mov word [R(exc_vector)], 0
    ; #SS needs a stack itself: with SP 1 that is a triple fault, so meet it with a read
    mov sp, 0xffff
    mov bp, sp
    mov ax, [bp]
    FAIL
.ss_done:
    ; Delivery with SP = FFFFH pushes at FFFDH..FFF9H: fine.
    cmp word [R(exc_vector)], 12
    CHECK e

    ; ---- divide ----
    mov ax, 0x100
    xor bl, bl
    REAL_FAULT 0, div bl
    mov bl, 1
    REAL_FAULT 0, div bl
    mov ax, 0x8000
    mov bl, 0xff
    REAL_FAULT 0, idiv bl
    xor dx, dx
    REAL_FAULT 0, aam 0

    ; ---- INT n, INT3, INTO, BOUND, UD2 ----
    mov ax, 0x0246 | 0x800
    push ax
    popf
    REAL_TRAP 4, into
    test word [R(exc_flags)], 0x800
    CHECK nz
    test word [R(exc_flags)], 0x200
    CHECK nz
    pushf ; IF and TF are clear in the handler; here after it, still
    pop ax
    test ax, 0x200
    CHECK z
    REAL_TRAP 3, int3
    REAL_TRAP 3, int 3
    REAL_TRAP 20, int 20
    REAL_TRAP 1, db 0xf1
    cmp word [R(exc_cs)], 0x1000
    CHECK e
    mov dword [R(bounds)], 0x00050001
    mov ax, 3
    bound ax, [R(bounds)]
    mov ax, 6
    REAL_FAULT 5, bound ax, [R(bounds)]
    mov ax, 0
    REAL_FAULT 5, bound ax, [R(bounds)]
    REAL_FAULT 6, ud2
    REAL_FAULT 6, db 0x0f, 0xff, 0xc0
    REAL_FAULT 6, db 0xf0, 0x90
    REAL_FAULT 6, lldt ax
    REAL_FAULT 6, ltr ax
    REAL_FAULT 6, verr ax
    REAL_FAULT 6, lar ax, ax
    REAL_FAULT 6, arpl ax, ax
    REAL_FAULT 6, str ax
    REAL_FAULT 6, db 0xc5, 0xf8, 0x77 ; VZEROUPPER: no VEX in real mode... an LDS with a register
    REAL_FAULT 6, db 0x8e, 0xc8       ; MOV CS
    REAL_FAULT 13, times 15 db 0x66
    hlt_is_allowed:

    ; ---- a limit for instruction fetch: IP cannot pass FFFFH ----
    mov byte [0xffff], 0x90
    mov word [R(exc_resume)], R(.fetched)
    mov word [R(exc_vector)], 0
    mov [R(exc_sp)], sp
    jmp 0x1000:0xffff
.fetched:
    cmp word [R(exc_vector)], 13
    CHECK e
    mov eax, 0x12340000 + R(.target)
    REAL_FAULT 13, jmp eax
.target:

    ; ---- single step ----
    mov word [R(exc_resume)], R(.stepped)
    pushf
    pop ax
    or ax, 0x100
    push ax
    popf      ; no trap after this one...
    nop       ; ...but after this
.after_nop:
    FAIL
.stepped:
    cmp word [R(exc_vector)], 1
    CHECK e
    cmp word [R(exc_ip)], R(.after_nop)
    CHECK e
    test word [R(exc_flags)], 0x100
    CHECK nz
    pushf
    pop ax
    test ax, 0x100
    CHECK z
    mov eax, dr6
    test eax, 0x4000
    CHECK nz
    ; none after MOV SS
    mov word [R(exc_resume)], R(.stepped2)
    mov cx, ss
    or ax, 0x100
    push ax
    popf
    mov ss, cx
    nop
.after_nop2:
    FAIL
.stepped2:
    cmp word [R(exc_ip)], R(.after_nop2)
    CHECK e
    ; a repeated string instruction traps after each element, with RF set in the image (its high word is not pushed here)
    mov word [R(exc_resume)], R(.stepped3)
    mov cx, 3
    mov si, R(byte0)
    pushf
    pop ax
    or ax, 0x100
    push ax
    popf
.rep:
    rep lodsb
    FAIL
.stepped3:
    cmp word [R(exc_ip)], R(.rep)
    CHECK e
    cmp cx, 2
    CHECK e
    ; INT n clears TF before a trap can come; the one of POPF is lost with it
    mov word [R(exc_resume)], R(.stepped4)
    pushf
    pop ax
    or ax, 0x100
    push ax
    popf
    int 21
.after_int:
    FAIL
.stepped4:
    cmp word [R(exc_vector)], 21
    CHECK e
    cmp word [R(exc_ip)], R(.after_int)
    CHECK e

    ; ---- flags: bits 12..15 can be set in real mode; VM and RF not by POPFD ----
    pushfd
    pop eax
    or eax, 0x00037000
    push eax
    popfd
    pushfd
    pop ebx
    mov ecx, ebx
    and ebx, 0x7000
    cmp ebx, 0x7000
    CHECK e
    test ecx, 0x30000
    CHECK z
    push word 2
    popf

    ; ---- LMSW cannot clear PE, SMSW reads; MOV CR0 with PG but not PE is #GP ----
    mov eax, 0x80000010
    REAL_FAULT 13, mov cr0, eax
    mov eax, cr0
    smsw bx
    cmp ax, bx
    CHECK e

    ; ---- real-mode segment bases: selector * 16, limit kept from protected mode is not tested here ----
    mov ax, 0x1001
    mov es, ax
    mov si, R(byte0)
    mov al, [es:si - 16]
    cmp al, [R(byte0)]
    CHECK e
    ; FFFF:FFFF is above 1 MiB
    mov ax, 0xffff
    mov es, ax
    mov byte [es:0x10], 0xa5 ; 100000H
    mov byte [es:0x20], 0x5a
    xor ax, ax
    mov es, ax
    mov eax, 0xa5
    PASS

byte0:   db 0, 0, 0, 0, 0
bounds:  dd 0
save_sp: dw 0

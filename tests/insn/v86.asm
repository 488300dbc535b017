; Virtual-8086 mode: entering and leaving, what IOPL decides, the I/O bitmap, exceptions, and VME's virtual interrupt flag.
; [SDM3] 20.2 (V86), 20.3 (VME).
%include "prot.inc"

gate_entry:
    FAIL

; Run the 16-bit code at 1000:R(%1) in V86 mode with EFLAGS %2 until it causes an exception.
%macro V86 2.nolist
    mov dword [p_resume], %%after
    mov dword [p_vector], -1
    mov [p_esp], esp
    mov [p_ss], ss
    push dword 0x4444 ; GS, FS, DS, ES
    push dword 0x3333
    push dword 0x1000
    push dword 0x2222
    push dword 0x2000 ; SS:SP
    push dword 0x1000
    push dword %2 | 0x20000
    push dword 0x1000
    push dword R(%1)
    iretd
%%after:
%endmacro
; The saved state: vector, IP, V86 in the flags.
%macro EXPECT_V86 2.nolist
    cmp dword [p_vector], %1
    CHECK e
    cmp dword [p_eip], R(%2)
    CHECK e
    test dword [p_flags], 0x20000
    CHECK nz
    cmp word [p_cs], 0x1000
    CHECK e
%endmacro

prot_main:
    mov dword [tss + 4], inner_stack
    mov byte [idt + 8 * 33 + 5], 0xee
    ; ---- segments are as in real mode; the handler finds null ones, and the old ones on its stack ----
    V86 v_regs, 0x3202
    EXPECT_V86 3, v_regs.end
    cmp dword [p_user_esp], 0x1000
    CHECK e
    cmp word [p_user_ss], 0x2000
    CHECK e
    mov eax, [p_depth] ; vector, error, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS
    cmp eax, inner_stack - 11 * 4
    CHECK e
    mov ebx, inner_stack
    cmp word [ebx - 4], 0x4444
    CHECK e
    cmp word [ebx - 8], 0x3333
    CHECK e
    cmp word [ebx - 12], 0x1000
    CHECK e
    cmp word [ebx - 16], 0x2222
    CHECK e
    cmp word [p_ds], 0
    CHECK e
    cmp dword [v_sum], 0x1000 + 0x2000 + 0x2222 + 0x3333
    CHECK e

    ; ---- limits ----
    V86 v_limit, 0x3202
    EXPECT_V86 13, v_limit.at
    cmp dword [p_error], 0
    CHECK e

    ; ---- IOPL 3: these run; IOPL 0: #GP(0) ----
    V86 v_flags, 0x3202
    EXPECT_V86 3, v_flags.end
    V86 v_cli, 0x202
    EXPECT_V86 13, v_cli
    V86 v_sti, 0x202
    EXPECT_V86 13, v_sti
    V86 v_pushf, 0x202
    EXPECT_V86 13, v_pushf
    V86 v_popf, 0x202
    EXPECT_V86 13, v_popf
    V86 v_iret, 0x202
    EXPECT_V86 13, v_iret
    V86 v_int, 0x202
    EXPECT_V86 13, v_int
    cmp dword [p_error], 0
    CHECK e
    V86 v_int, 0x3202
    EXPECT_V86 33, v_int.end ; through the IDT
    ; INT3 does not ask for IOPL
    V86 v_int3, 0x202
    EXPECT_V86 3, v_int3.end
    ; not even with IOPL 3
    V86 v_hlt, 0x3202
    EXPECT_V86 13, v_hlt
    V86 v_mov_cr, 0x3202
    EXPECT_V86 13, v_mov_cr
    V86 v_lldt, 0x3202
    EXPECT_V86 6, v_lldt
    V86 v_arpl, 0x3202
    EXPECT_V86 6, v_arpl

    ; ---- IN and OUT ask the bitmap, whatever IOPL ----
    mov word [gdt + SEL_TSS], 0xff
    and byte [gdt + SEL_TSS + 5], 0xfd
    mov word [tss + 102], 0x68
    mov byte [tss + 0x68 + 0x80 / 8], 0
    mov ax, SEL_TSS
    ltr ax
    V86 v_in, 0x202
    EXPECT_V86 3, v_in.end
    mov byte [tss + 0x68 + 0x80 / 8], 1
    V86 v_in, 0x3202
    EXPECT_V86 13, v_in

    ; ---- an IRET to V86 needs CPL 0; POPFD cannot set VM ----
    pushfd
    or dword [esp], 0x20000
    popfd
    pushfd
    pop eax
    test eax, 0x20000
    CHECK z

    ; ---- a gate to a level that is not 0: #GP(selector) ----
    mov word [idt + 8 * 33 + 2], SEL_CODE1 | 1
    V86 v_int, 0x3202
    EXPECT_V86 13, v_int
    cmp dword [p_error], SEL_CODE1
    CHECK e
    mov word [idt + 8 * 33 + 2], SEL_CODE

    ; ---- VME: IOPL 0, CLI and STI work on VIF, PUSHF shows it as IF with IOPL 3 ----
    mov eax, cr4
    or eax, 1
    mov cr4, eax
    V86 v_vif, 0x202
    EXPECT_V86 3, v_vif.end
    test dword [p_flags], 0x80000 ; STI was last
    CHECK nz
    test dword [p_flags], 0x200   ; the real one is untouched
    CHECK nz
    cmp word [v_pushed0], 0x3000  ; after CLI: IF clear, IOPL looks like 3
    CHECK e
    cmp word [v_pushed1], 0x3200
    CHECK e
    V86 v_sti, 0x100202 ; VIP: #GP
    EXPECT_V86 13, v_sti
    ; the redirection bitmap sends INT 33 to the program's own table when its bit is clear
    mov word [tss + 102], 0x88 ; the 32 bytes below
    mov word [gdt + SEL_TSS], 0xff
    mov dword [tss + 0x68 + 4], 0
    mov word [33 * 4], R(v_own)
    mov word [33 * 4 + 2], 0x1000
    V86 v_int, 0x202
    EXPECT_V86 3, v_own.end
    mov byte [tss + 0x68 + 33 / 8], 1 << (33 % 8)
    V86 v_int, 0x202 ; bit set and IOPL < 3: #GP
    EXPECT_V86 13, v_int
    V86 v_int, 0x3202
    EXPECT_V86 33, v_int.end
    PASS

bits 16
v_regs:
    mov ax, ds
    mov bx, ss
    add ax, bx
    mov bx, es
    add ax, bx
    mov bx, fs
    add ax, bx
    mov [R(v_sum)], ax
    int3
.end:
v_limit:
    mov bx, 0xffff
.at: mov ax, [bx]
v_flags:
    cli
    sti
    pushf
    popf
    pushf
    push cs
    call .iret
    int3
.end:
.iret: ; pops what the call pushed as IP, CS, flags
    iret
v_cli:
    cli
v_sti:
    sti
v_pushf:
    pushf
v_popf:
    popf
v_iret:
    iret
v_int:
    int 33
.end:
    int3
v_int3:
    int3
.end:
v_hlt:
    hlt
v_mov_cr:
    mov eax, cr0
v_lldt:
    lldt ax
v_arpl:
    arpl ax, ax
v_in:
    in al, 0x80
    int3
.end:
v_vif:
    cli
    pushf
    pop ax
    and ax, 0x3200
    mov [R(v_pushed0)], ax
    sti
    pushf
    pop ax
    and ax, 0x3200
    mov [R(v_pushed1)], ax
    int3
.end:
v_own:
    int3
.end:

align 4
v_sum: dd 0
v_pushed0: dw 0
v_pushed1: dw 0
    times 256 db 0

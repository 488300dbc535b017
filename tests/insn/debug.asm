; Debug exceptions: breakpoint registers, RF, DR6, general detect, ICEBP, single steps over what hides them.
; [SDM3] 17.2 (registers), 17.3 (exceptions).
%include "prot.inc"

%macro DR7 1.nolist
    mov eax, %1
    mov dr7, eax
%endmacro
%macro CLEAR_DR6 0.nolist
    mov eax, 0xffff0ff0
    mov dr6, eax
%endmacro
; DR6 & mask == value
%macro DR6_IS 2.nolist
    mov eax, dr6
    and eax, %1
    cmp eax, %2
    CHECK e
%endmacro

gate_entry:
    FAIL

prot_main:
    ; ---- what DR6 and DR7 keep ----
    xor eax, eax
    mov dr6, eax
    mov eax, dr6
    and eax, 0xfffe1ff0
    cmp eax, 0xfffe0ff0
    CHECK e
    DR7 0
    mov eax, dr7
    cmp eax, 0x400
    CHECK e

    ; ---- instruction breakpoint: a fault, but RF is not set in the image; RF lets it through ----
    CLEAR_DR6
    mov eax, .here
    mov dr0, eax
    DR7 0x402 ; G0
    mov dword [p_resume], .hit
    mov [p_esp], esp
    mov [p_ss], ss
    mov ebx, 1
.here:
    inc ebx
    FAIL
.hit:
    EXPECT 1, .here
    cmp ebx, 1
    CHECK e
    test dword [p_flags], 0x10000
    CHECK z
    DR6_IS 0xe00f, 1
    ; IRET with RF: executed
    pushfd
    or dword [esp], 0x10000
    push dword SEL_CODE
    push dword .here2
    mov eax, .here2
    mov dr0, eax
    iretd
.here2:
    inc ebx ; and RF is gone with it
    mov dword [p_resume], .hit2
    cmp ebx, 2
    CHECK e
    pushfd
    pop eax
    test eax, 0x10000
    CHECK z
    mov dword [p_resume], .hit2
    jmp .here2
.hit2:
    EXPECT 1, .here2
    cmp ebx, 2
    CHECK e
    DR7 0

    ; ---- data breakpoints: a trap behind the access ----
    CLEAR_DR6
    mov eax, watched
    mov dr1, eax
    DR7 0x400 | 0x8 | 0xd << 20 ; G1, write, 4 bytes
    mov eax, [watched] ; reads do not count
    TRAP 1, mov byte [watched + 3], 5
    DR6_IS 0xe00f, 2
    test dword [p_flags], 0x10000
    CHECK z
    mov byte [watched + 4], 1
    CLEAR_DR6
    TRAP 1, mov [watched - 1], ax ; overlaps
    DR6_IS 0xe00f, 2
    CLEAR_DR6
    TRAP 1, add dword [watched], 1
    CLEAR_DR6
    mov esp, watched + 4
    TRAP 1, push dword 5
    mov esp, main_stack
    DR7 0x400 | 0x8 | 0xf << 20 ; read or write
    CLEAR_DR6
    TRAP 1, mov eax, [watched]
    DR6_IS 0xe00f, 2
    ; several
    mov eax, watched + 2
    mov dr2, eax
    DR7 0x400 | 0x8 | 0xf << 20 | 0x20 | 0x7 << 24 ; DR2: read or write, 2 bytes
    CLEAR_DR6
    TRAP 1, mov eax, [watched]
    DR6_IS 0xe00f, 6
    ; a fault hides them
    CLEAR_DR6
    mov ecx, SEL_SMALL
    mov fs, cx
    FAULT 13, mov eax, [fs:0x10]
    ; a string instruction traps between two elements
    mov esi, watched - 4
    mov edi, buffer
    mov ecx, 4
    DR7 0x400 | 0x8 | 0xf << 20
    CLEAR_DR6
    mov dword [p_resume], .string
.rep:
    rep movsd
    FAIL
.string:
    EXPECT 1, .rep
    cmp ecx, 2
    CHECK e
    test dword [p_flags], 0x10000 ; pushed with RF
    CHECK nz
    DR7 0
    rep movsd

    ; ---- I/O breakpoints need CR4.DE ----
    mov eax, cr4
    or eax, 8
    mov cr4, eax
    mov eax, 0x80
    mov dr3, eax
    DR7 0x400 | 0x80 | 0x2 << 28
    CLEAR_DR6
    TRAP 1, in al, 0x80
    DR6_IS 0xe00f, 8
    mov dx, 0x7f
    CLEAR_DR6
    TRAP 1, in ax, dx
    in al, 0x81
    ; and make DR4 and DR5 undefined
    FAULT 6, mov eax, dr4
    mov eax, cr4
    and eax, ~8
    mov cr4, eax
    DR7 0
    mov eax, dr4 ; DR6

    ; ---- general detect ----
    DR7 0x400 | 0x2000
    FAULT 1, mov eax, dr0
    DR6_IS 0x2000, 0x2000
    mov eax, dr7 ; GD is off in the handler
    test eax, 0x2000
    CHECK z
    CLEAR_DR6

    ; ---- INT1, INT3 ----
    TRAP 1, db 0xf1
    DR6_IS 0xe00f, 0
    TRAP 3, int3

    ; ---- single step ----
    CLEAR_DR6
    mov dword [p_resume], .step1
    pushfd
    or dword [esp], 0x100
    popfd
    mov ebx, 7
.step1_at:
    FAIL
.step1:
    EXPECT 1, .step1_at
    DR6_IS 0xe00f, 0x4000
    test dword [p_flags], 0x10000
    CHECK z
    ; POPF that clears TF still traps
    mov dword [p_resume], .step2
    pushfd
    pushfd
    or dword [esp], 0x100
    popfd
    popfd
.step2_at:
    FAIL
.step2:
    EXPECT 1, .step2_at
    ; a step and a breakpoint at once
    CLEAR_DR6
    DR7 0x400 | 0x8 | 0xf << 20
    mov dword [p_resume], .step3
    pushfd
    or dword [esp], 0x100
    popfd
    mov eax, [watched]
.step3_at:
    FAIL
.step3:
    EXPECT 1, .step3_at
    DR6_IS 0xe00f, 0x4002
    DR7 0
    ; MOV SS hides the step and a data breakpoint until after the next instruction
    CLEAR_DR6
    mov word [watched], SEL_DATA
    DR7 0x400 | 0x8 | 0xf << 20
    mov dword [p_resume], .hidden
    mov ss, [watched]
    nop
.hidden_at:
    FAIL
.hidden:
    EXPECT 1, .hidden_at
    DR6_IS 0xe00f, 2
    DR7 0
    ; a fault in a stepped instruction: its image has TF and RF
    mov dword [p_resume], .step4
    pushfd
    or dword [esp], 0x100
    popfd
.step4_at:
    ud2
.step4:
    EXPECT 6, .step4_at
    mov eax, [p_flags]
    and eax, 0x10100
    cmp eax, 0x10100
    CHECK e
    PASS

align 16
    times 128 db 0 ; the stack is here once
watched: dd 0, 0, 0, 0
buffer: times 8 dd 0

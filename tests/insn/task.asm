; Hardware tasks: switches by JMP, CALL, IRET and gates, busy bits, NT, back links, what is saved and loaded, faults.
; [SDM3] 7 (task management).
%include "prot.inc"

prot_main:
    call fill
    ; ---- JMP to a TSS ----
    mov dword [tss2 + 0x20], .jumped
    mov dword [tss2 + 0x28], 0x11111111 ; EAX
    mov dword [tss2 + 0x44], 0x22222222 ; EDI
    mov ebx, 0x33333333
    std
    jmp SEL_TSS2:0
.returned:
    pushfd ; DF as it was saved
    pop ecx
    cld
    test ecx, 0x400
    CHECK nz
    cmp ebx, 0x33333333
    CHECK e
    jmp .next
.jumped:
    pushfd
    pop ecx
    cmp eax, 0x11111111
    CHECK e
    cmp edi, 0x22222222
    CHECK e
    cmp ecx, 2 ; NT is clear, DF is the new task's
    CHECK e
    mov eax, cr0
    test eax, 8
    CHECK nz
    clts
    test byte [gdt + SEL_TSS + 5], 2  ; the old one is available, the new one busy
    CHECK z
    test byte [gdt + SEL_TSS2 + 5], 2
    CHECK nz
    cmp dword [tss + 0x20], prot_main.returned
    CHECK e
    cmp dword [tss + 0x34], 0x33333333
    CHECK e
    test dword [tss + 0x24], 0x400
    CHECK nz
    FAULT_CODE 13, SEL_TSS2, jmp SEL_TSS2:0 ; busy
    FAULT_CODE 13, SEL_TSS2, call SEL_TSS2:0
    jmp SEL_TSS:0
.next:
    str ax
    cmp ax, SEL_TSS
    CHECK e

    ; ---- CALL and IRET ----
    call fill
    mov dword [tss2 + 0x20], .called
    call SEL_TSS2:0x1234
    str ax
    cmp ax, SEL_TSS
    CHECK e
    test byte [gdt + SEL_TSS2 + 5], 2
    CHECK z
    cmp dword [tss2 + 0x20], .after_iret ; saved by IRET
    CHECK e
    test dword [tss2 + 0x24], 0x4000 ; and NT with it is clear
    CHECK z
    jmp .gate
.called:
    pushfd
    pop eax
    test eax, 0x4000
    CHECK nz
    cmp word [tss2], SEL_TSS
    CHECK e
    test byte [gdt + SEL_TSS + 5], 2 ; both are busy
    CHECK nz
    test byte [gdt + SEL_TSS2 + 5], 2
    CHECK nz
    iretd
.after_iret:
    FAIL

    ; ---- through a task gate, and by an interrupt ----
.gate:
    call fill
    mov dword [tss2 + 0x20], .gated
    mov word [idt + 8 * 40 + 2], SEL_TSS2
    mov word [idt + 8 * 40 + 4], 0x8500
    mov dword [times_here], 0
    call SEL_TASK:0
    cmp dword [times_here], 1
    CHECK e
    mov dword [tss2 + 0x20], .gated
    int 40
    cmp dword [times_here], 2
    CHECK e
    jmp .faults
.gated:
    inc dword [times_here]
    iretd
    FAIL

    ; ---- faults in the old task's context ----
.faults:
    FAULT_CODE 13, SEL_DATA, jmp SEL_DATA:0
    and byte [gdt + SEL_TSS2 + 5], 0x7f
    FAULT_CODE 11, SEL_TSS2, jmp SEL_TSS2:0
    or byte [gdt + SEL_TSS2 + 5], 0x80
    mov word [gdt + SEL_TSS2], 0x66
    FAULT_CODE 10, SEL_TSS2, jmp SEL_TSS2:0
    mov word [gdt + SEL_TSS2], 0x67
    ; IRET with NT and a back link to a TSS that is not busy: #TS
    mov word [tss], SEL_TSS2
    pushfd
    or dword [esp], 0x4000
    popfd
    FAULT_CODE 10, SEL_TSS2, iretd
    pushfd
    and dword [esp], ~0x4000
    popfd

    ; ---- faults in the new task's context ----
    ; a data segment that cannot be one: #TS with its selector, in the new task
    call fill
    mov dword [tss2 + 0x20], .never
    mov word [tss2 + 0x54], SEL_XO
    mov dword [p_resume], .bad_ds
    mov dword [p_esp], task_stack
    mov dword [p_ss], SEL_DATA
    jmp SEL_TSS2:0
.never:
    FAIL
.bad_ds:
    EXPECT 10, .never
    cmp dword [p_error], SEL_XO
    CHECK e
    str ax
    cmp ax, SEL_TSS2
    CHECK e
    ; the debug trap of a TSS whose T bit is set comes before its first instruction
    mov dword [tss + 0x20], .t_bit
    mov word [tss + 0x64], 1
    mov dword [p_resume], .trapped
    mov dword [p_esp], main_stack - 256
    jmp SEL_TSS:0
.t_bit:
    FAIL
.trapped:
    EXPECT 1, .t_bit
    mov eax, dr6
    test eax, 0x8000 ; BT
    CHECK nz
    PASS

fill:
    mov dword [tss2 + 0x24], 2
    mov dword [tss2 + 0x38], task_stack
    mov word [tss2 + 0x48], SEL_DATA
    mov word [tss2 + 0x4c], SEL_CODE
    mov word [tss2 + 0x50], SEL_DATA
    mov word [tss2 + 0x54], SEL_DATA
    mov word [tss2 + 0x58], 0
    mov word [tss2 + 0x5c], 0
    mov word [tss2 + 0x60], 0
    ret

gate_entry:
    FAIL

times_here: dd 0
    times 512 db 0
task_stack:

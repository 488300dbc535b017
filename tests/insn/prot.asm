; Protected mode: segment checks, gates, privilege levels.
; [SDM3] 5 (protection), 6.12 (interrupt delivery), 3.4.5 (descriptors); [SDM2] each instruction's page.
%include "prot.inc"

prot_main:
    ; ---- null selectors: loading is allowed, using is not ----
    xor eax, eax
    mov es, ax
    FAULT_CODE 13, 0, mov al, [es:byte0]
    mov ax, 3
    mov es, ax
    FAULT_CODE 13, 0, mov [es:byte0], al
    xor eax, eax
    FAULT_CODE 13, 0, mov ss, ax
    mov ax, SEL_DATA
    mov es, ax

    ; ---- limits ----
    mov ax, SEL_SMALL
    mov fs, ax
    mov al, [fs:0xf]
    mov ax, [fs:0xe]
    mov eax, [fs:0xc]
    FAULT_CODE 13, 0, mov ax, [fs:0xf]
    FAULT_CODE 13, 0, mov eax, [fs:0xd]
    FAULT_CODE 13, 0, mov al, [fs:0x10]
    FAULT_CODE 13, 0, mov al, [fs:0xffffffff]
    FAULT_CODE 13, 0, mov [fs:0xd], eax
    FAULT_CODE 13, 0, add word [fs:0xf], 1
    mov ax, SEL_DOWN
    mov gs, ax
    mov al, [gs:0x1000]
    FAULT_CODE 13, 0, mov al, [gs:0xfff]
    FAULT_CODE 13, 0, mov ax, [gs:0xfff]
    FAULT_CODE 13, 0, mov al, [gs:0]
    FAULT_CODE 13, 0, mov ax, [gs:0xffffffff]
    ; the stack segment has its own exception
    mov ecx, esp
    mov ax, SEL_SMALL
    mov ss, ax
    mov esp, 0x10
    push dword 5
    pop eax
    mov ebp, 0xd
    mov dword [p_resume], .ss_done
    mov dword [p_esp], ecx
    mov dword [p_ss], SEL_DATA
    mov dword [p_vector], -1
    mov esp, 0xf000 ; the handler's pushes would not fit: a double fault, through a task gate only. Switch back first.
    mov ss, [p_ss]
    mov esp, ecx
.ss_done:
    push dword SEL_SMALL ; the same through an override: #GP, and by EBP with SS: #SS
    pop fs
    FAULT_CODE 13, 0, mov eax, [fs:ebp]

    ; ---- types ----
    mov ax, SEL_RO
    mov fs, ax
    mov eax, [fs:byte0]
    FAULT_CODE 13, 0, mov [fs:byte0], al
    FAULT_CODE 13, 0, mov [cs:byte0], al
    FAULT_CODE 13, 0, xchg [fs:byte0], al
    mov eax, [cs:byte0]
    mov cx, SEL_XO
    FAULT_CODE 13, SEL_XO, mov fs, cx
    mov cx, SEL_CONF
    mov fs, cx
    mov cx, SEL_TSS
    FAULT_CODE 13, SEL_TSS, mov fs, cx
    mov cx, SEL_GATE
    FAULT_CODE 13, SEL_GATE, mov fs, cx
    mov cx, SEL_ABSENT
    FAULT_CODE 11, SEL_ABSENT, mov fs, cx
    FAULT_CODE 12, SEL_ABSENT, mov ss, cx
    mov cx, SEL_RO
    FAULT_CODE 13, SEL_RO, mov ss, cx
    mov cx, SEL_CODE
    FAULT_CODE 13, SEL_CODE, mov ss, cx
    mov cx, SEL_DATA | 3
    FAULT_CODE 13, SEL_DATA, mov ss, cx
    mov cx, SEL_UDATA
    FAULT_CODE 13, SEL_UDATA & ~3, mov ss, cx
    mov fs, cx ; but as data
    mov cx, 0x1000
    FAULT_CODE 13, 0x1000, mov fs, cx
    mov cx, 4 | 0x1000
    FAULT_CODE 13, 0x1004, mov fs, cx ; no LDT
    mov word [dword_pointer + 4], SEL_ABSENT
    FAULT_CODE 11, SEL_ABSENT, les eax, [dword_pointer]
    mov word [dword_pointer + 4], SEL_RO
    les eax, [dword_pointer]
    mov ax, SEL_DATA
    mov es, ax

    ; ---- LDT ----
    mov cx, SEL_DATA
    FAULT_CODE 13, SEL_DATA, lldt cx
    mov cx, SEL_LDT | 4
    FAULT_CODE 13, SEL_LDT | 4, lldt cx
    mov cx, SEL_LDT
    lldt cx
    sldt ax
    cmp ax, SEL_LDT
    CHECK e
    mov cx, 7
    mov fs, cx
    mov cx, 0xf
    FAULT_CODE 13, 0xc, mov fs, cx ; a zero descriptor is no segment
    mov cx, 0x27
    FAULT_CODE 13, 0x24, mov fs, cx ; limit
    xor ecx, ecx
    lldt cx
    mov cx, 7
    FAULT_CODE 13, 4, mov fs, cx

    ; ---- TR ----
    mov cx, SEL_TSS
    FAULT_CODE 13, SEL_TSS, ltr cx ; busy
    xor ecx, ecx
    FAULT_CODE 13, 0, ltr cx
    mov cx, SEL_LDT
    FAULT_CODE 13, SEL_LDT, ltr cx
    test byte [gdt + SEL_TSS + 5], 2
    CHECK nz

    ; ---- accessed bit ----
    and byte [gdt + SEL_RO + 5], 0xfe
    mov cx, SEL_RO
    mov fs, cx
    test byte [gdt + SEL_RO + 5], 1
    CHECK nz

    ; ---- VERR, VERW, LAR, LSL ----
    mov cx, SEL_RO
    verr cx
    CHECK z
    verw cx
    CHECK nz
    mov cx, SEL_XO
    verr cx
    CHECK nz
    mov cx, SEL_SMALL
    lsl eax, ecx
    CHECK z
    cmp eax, 0xf
    CHECK e
    lar eax, ecx
    CHECK z
    cmp eax, 0x00409300
    CHECK e
    mov cx, SEL_DATA
    lsl eax, ecx
    cmp eax, 0xffffffff
    CHECK e
    mov cx, SEL_GATE
    lar eax, ecx
    CHECK z
    lsl eax, ecx
    CHECK nz
    xor ecx, ecx
    lar eax, ecx
    CHECK nz
    mov ax, 0x10
    mov cx, 0x13
    arpl ax, cx
    CHECK z
    cmp ax, 0x13
    CHECK e
    arpl ax, cx
    CHECK nz

    ; ---- far jumps and calls ----
    FAULT_CODE 13, 0, jmp dword 0:0
    FAULT_CODE 13, SEL_DATA, jmp dword SEL_DATA:0
    FAULT_CODE 13, SEL_UCODE & ~3, jmp dword SEL_UCODE:0
    FAULT_CODE 13, SEL_CODE, jmp dword SEL_CODE | 3:0
    jmp dword SEL_CONF | 3:.conforming
.conforming:
    mov ax, cs
    cmp ax, SEL_CONF ; RPL becomes CPL
    CHECK e
    jmp dword SEL_CODE:.back
.back:
    FAULT_CODE 13, 0, jmp dword SEL_CODE16:0x10000 ; beyond the limit, when the offset is looked at
    mov esi, esp
    call dword SEL_CODE16:R(.far16)
    cmp esp, esi
    CHECK e
    jmp .after16
bits 16
.far16:
    o32 retf
bits 32
.after16:
    FAULT_CODE 13, SEL_CODE1, call dword SEL_CODE1 | 0:0
    FAULT_CODE 11, SEL_GATE_NP, call dword SEL_GATE_NP:0
    mov dword [gate_seen], 0
    push dword 0x11
    push dword 0x22
    call dword SEL_GATE:0x12345678 ; same level: no stack switch, no copying; the offset is ignored
    add esp, 8
    cmp dword [gate_seen], SEL_CODE
    CHECK e
    cmp esp, esi
    CHECK e

    ; ---- CPL 3 ----
    USER user_int3, 0x202
    cmp dword [p_vector], 3
    CHECK e
    cmp dword [p_cs], SEL_UCODE
    CHECK e
    cmp dword [p_user_ss], SEL_UDATA
    CHECK e
    cmp dword [p_user_esp], user_stack
    CHECK e
    test dword [p_flags], 0x200
    CHECK nz
    ; the handler's stack is the TSS's
    mov eax, [p_depth]
    cmp eax, inner_stack - 7 * 4
    CHECK e
    ; DS was null: IRET to an outer level clears segments the level may not use
    cmp word [p_ds], 0
    CHECK e
    USER user_int_gate, 0x202
    EXPECT 13, user_int_gate
    cmp dword [p_error], 32 * 8 + 2
    CHECK e
    USER user_int_limit, 0x202
    EXPECT 13, user_int_limit
    cmp dword [p_error], 64 * 8 + 2
    CHECK e
    USER user_cli, 0x202
    EXPECT 13, user_cli
    USER user_hlt, 0x3202
    EXPECT 13, user_hlt
    USER user_in, 0x202
    EXPECT 13, user_in
    USER user_in_iopl3, 0x3202
    EXPECT 3, user_in_iopl3.end
    USER user_cli_iopl3, 0x3202
    EXPECT 3, user_cli_iopl3.end
    test dword [p_flags], 0x200
    CHECK z
    ; I/O permission bitmap
    mov word [tss + 102], 0x60
    mov byte [tss + 0x60 + 0x80 / 8], 0xfe
    mov byte [tss + 0x60 + 0x80 / 8 + 1], 0xff
    USER user_in, 0x202
    EXPECT 13, user_in ; the bitmap's byte is beyond the limit of the TSS
    mov word [gdt + SEL_TSS], 0x77
    mov ax, SEL_TSS
    and byte [gdt + SEL_TSS + 5], 0xfd
    ltr ax
    USER user_in, 0x202
    EXPECT 3, user_in.end
    USER user_in_word, 0x202
    EXPECT 13, user_in_word
    ; POPF at CPL 3: IF only with CPL <= IOPL, IOPL never
    USER user_popf, 0x202
    EXPECT 3, user_popf.end
    mov eax, [p_flags]
    and eax, 0x3200
    cmp eax, 0x200
    CHECK e
    USER user_popf, 0x3202
    mov eax, [p_flags]
    and eax, 0x3200
    cmp eax, 0x3000
    CHECK e
    ; privileged instructions, segment loads
    USER user_mov_cr, 0x202
    EXPECT 13, user_mov_cr
    USER user_lgdt, 0x202
    EXPECT 13, user_lgdt
    USER user_load_data, 0x202
    EXPECT 13, user_load_data.at
    cmp dword [p_error], SEL_DATA
    CHECK e
    USER user_load_ss, 0x202
    EXPECT 13, user_load_ss.at
    cmp dword [p_error], SEL_DATA
    CHECK e
    USER user_jump, 0x202
    EXPECT 13, user_jump
    cmp dword [p_error], SEL_CODE
    CHECK e
    USER user_conforming, 0x202
    EXPECT 3, user_conforming.end
    cmp dword [p_cs], SEL_CONF | 3
    CHECK e
    USER user_gate0, 0x202
    EXPECT 13, user_gate0
    cmp dword [p_error], SEL_GATE0
    CHECK e

    ; ---- call gate from CPL 3: stack switch, two parameters, RETF 8 back ----
    USER user_gate, 0x202
    EXPECT 3, user_gate.end
    cmp dword [gate_seen], SEL_CODE
    CHECK e
    cmp dword [gate_params], 0xaaaa
    CHECK e
    cmp dword [gate_params + 4], 0xbbbb
    CHECK e
    cmp dword [gate_cs], SEL_UCODE
    CHECK e
    cmp dword [gate_ss], SEL_UDATA
    CHECK e
    cmp dword [gate_old_esp], user_stack - 8
    CHECK e
    cmp dword [gate_esp], inner_stack - 6 * 4
    CHECK e
    cmp dword [p_user_esp], user_stack ; the parameters are released on both stacks
    CHECK e
    ; a bad inner stack: #TS with SS0's selector
    mov dword [tss + 8], SEL_RO
    mov word [idt + 8 * 10 + 4], 0x8500 ; #TS itself needs a good stack: through a task gate
    mov word [idt + 8 * 10 + 2], SEL_TSS2
    call prepare_task
    mov dword [tss2 + 0x20], .ts_task
    jmp .go
.ts_task:
    ; in the new task; error code on its stack
    pop eax
    cmp eax, SEL_RO
    CHECK e
    str ax
    cmp ax, SEL_TSS2
    CHECK e
    pushfd
    pop eax
    test eax, 0x4000 ; NT
    CHECK nz
    cmp word [tss2], SEL_TSS ; back link
    CHECK e
    cmp dword [tss + 0x20], user_gate.call
    CHECK e
    cmp word [tss + 0x4c], SEL_UCODE
    CHECK e
    mov eax, cr0
    test eax, 8 ; TS
    CHECK nz
    clts
    PASS
.go:
    USER user_gate, 0x202
    FAIL

prepare_task:
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
    mov ax, SEL_DATA
    mov ds, ax
    mov ax, cs
    movzx eax, ax
    mov [gate_seen], eax
    mov [gate_esp], esp
    mov eax, [esp + 4]
    mov [gate_cs], eax
    mov eax, [esp + 8]
    mov [gate_params], eax
    mov eax, [esp + 12]
    mov [gate_params + 4], eax
    mov eax, [esp + 16]
    mov [gate_old_esp], eax
    mov eax, [esp + 20]
    mov [gate_ss], eax
    test byte [gate_cs], 3
    jz .same
    retf 8
.same:
    retf

; ---- at CPL 3 ----
user_int3:
    int3
user_int_gate:
    int 32
user_int_limit:
    int 64
user_cli:
    cli
user_hlt:
    hlt
user_in:
    in al, 0x80
.int: int3
.end:
user_in_word:
    in ax, 0x80
    int3
user_in_iopl3:
    in al, 0x80
    int3
.end:
user_cli_iopl3:
    cli
    int3
.end:
user_popf:
    pushfd
    xor dword [esp], 0x3200
    popfd
    int3
.end:
user_mov_cr:
    mov eax, cr0
user_lgdt:
    lgdt [gdt_pointer]
user_load_data:
    mov ax, SEL_DATA
.at: mov ds, ax
user_load_ss:
    mov ax, SEL_DATA | 3
.at: mov ss, ax
user_jump:
    jmp dword SEL_CODE:0
user_conforming:
    jmp dword SEL_CONF:.next
.next:
    int3
.end:
user_gate0:
    call dword SEL_GATE0:0
user_gate:
    push dword 0xbbbb
    push dword 0xaaaa
.call:
    call dword SEL_GATE | 3:0
    int3
.end:

byte0: dd 0
dword_pointer: dd 0, 0
gate_seen: dd 0
gate_esp:  dd 0
gate_cs:   dd 0
gate_ss:   dd 0
gate_old_esp: dd 0
gate_params: dd 0, 0
    times 256 db 0
task_stack:

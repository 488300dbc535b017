; 32-bit protected-mode code with segments that are not flat: limits in both directions, stack segments of both sizes, code segments with
; a base and a limit. [SDM3] 3.4.5 (descriptors), 5.3 (limits).
%include "prot.inc"

gate_entry:
    FAIL

SEL_CODE32  equ SEL_FREE      ; code, base 10000H, ends with `small_end`
SEL_STACK16 equ SEL_FREE + 8  ; data, base 30000H, limit FFFFH, B clear
SEL_ODD     equ SEL_FREE + 16 ; data, base 20007H, limit FFFFH

; Descriptor %1 with base %2, limit %3 in bytes, access %4, flags %5.
%macro DESCRIPTOR 5.nolist
    mov dword [gdt + %1], ((%2) & 0xffff) << 16 | ((%3) & 0xffff)
    mov dword [gdt + %1 + 4], ((%2) >> 16 & 0xff) | (%4) << 8 | (%5) << 20
%endmacro

prot_main:
    DESCRIPTOR SEL_CODE32, 0x10000, small_size - 1, 0x9b, 4
    DESCRIPTOR SEL_STACK16, 0x30000, 0xffff, 0x93, 0
    DESCRIPTOR SEL_ODD, 0x20007, 0xffff, 0x93, 0

    ; ---- a small segment ----
    mov ebp, 20
.small:
    mov ax, SEL_SMALL
    mov es, ax
    xor ebx, ebx
.bytes:
    mov [es:ebx], bl
    inc ebx
    cmp ebx, 16
    jne .bytes
    mov eax, [es:12]
    cmp eax, 0x0f0e0d0c
    CHECK e
    FAULT_CODE 13, 0, mov al, [es:ebx]
    mov ax, SEL_SMALL
    mov es, ax
    FAULT_CODE 13, 0, mov [es:ebx - 3], eax
    mov ax, SEL_SMALL
    mov es, ax
    mov edi, -1
    FAULT_CODE 13, 0, stosb
    mov ax, SEL_SMALL
    mov es, ax
    a16 lodsb
    FAULT_CODE 13, 0, mov [es:bx], al ; the same with a 16-bit address
    dec ebp
    jnz .small

    ; ---- expand-down, read-only, null ----
    mov ebp, 20
.down:
    mov ax, SEL_DOWN
    mov es, ax
    mov [es:0x1000], ebp
    cmp [0x21000], ebp
    CHECK e
    FAULT_CODE 13, 0, mov al, [es:0xfff]
    mov ax, SEL_RO
    mov es, ax
    cmp [es:0x21000], ebp
    CHECK e
    FAULT_CODE 13, 0, mov [es:0x21000], ebp
    xor eax, eax
    mov es, ax
    FAULT_CODE 13, 0, mov al, [es:0x21000]
    dec ebp
    jnz .down

    ; ---- a base that is no multiple of 16: aligned addresses at the limit ----
    mov ebp, 20
.odd:
    mov ax, SEL_ODD
    mov es, ax
    mov ebx, 0xfff9
.at_limit:
    inc ebx
    mov [es:bx], bl
    cmp bl, 0xfe
    jbe .at_limit
    a16 mov ax, [es:bx - 1]
    FAULT_CODE 13, 0, mov [es:bx], ax
    mov ax, SEL_ODD
    mov es, ax
    a16 mov eax, [es:bx - 3]
    FAULT_CODE 13, 0, mov eax, [es:bx - 2]
    dec ebp
    jnz .odd

    ; ---- a stack of 16 bits under 32-bit code: ESP's upper half stays, SP wraps ----
    mov ebp, 20
.stack16:
    mov edi, esp
    mov ax, SEL_STACK16
    mov ss, ax
    mov esp, 0x56780004
    push dword 0x11111111
    push dword 0x22222222
    cmp esp, 0x5678fffc
    CHECK e
    cmp dword [0x30000], 0x11111111
    CHECK e
    cmp dword [0x3fffc], 0x22222222
    CHECK e
    call .leaf
    pop eax
    pop ebx
    cmp eax, 0x22222222
    CHECK e
    cmp esp, 0x56780004
    CHECK e
    mov ax, SEL_DATA
    mov ss, ax
    mov esp, edi
    dec ebp
    jnz .stack16
    jmp .stack_done
.leaf:
    push ebp
    mov bp, sp
    leave
    ret 0
.stack_done:

    ; ---- code with a base and a limit: it ends in the middle of an instruction ----
    mov ebp, 20
.code:
    mov dword [p_resume], .fell
    mov dword [p_vector], -1
    mov [p_esp], esp
    mov [p_ss], ss
    mov ecx, 10
    xor edx, edx
    jmp dword SEL_CODE32:R(small_code)
.fell:
    EXPECT 13, R(small_code.last)
    cmp word [p_cs], SEL_CODE32
    CHECK e
    cmp edx, 10
    CHECK e
    dec ebp
    jnz .code

    ; ---- a jump out of it ----
    mov dword [p_resume], .jumped
    mov ecx, 1
    jmp dword SEL_CODE32:R(small_out)
.jumped:
    EXPECT 13, R(small_out)
    PASS

small_f:
    inc edx
    ret
small_out: ; jumps to the byte behind the limit
    db 0xe9
    dd small_size - ($ - $$ + 4)
small_code:
    call small_f
    dec ecx
    jnz small_code
    test edx, edx
.last:
    mov eax, 0x12345678
small_size equ $ - $$ - 2

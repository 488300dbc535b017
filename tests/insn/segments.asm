; Real-mode code that runs often enough for blocks to follow each other: the same code in many code segments, what wraps at 64 KiB, and
; bases that change under it. [SDM3] 20.1.1 (address translation), [SDM2] 3.2 JMP, CALL, RET (IP is cut to the operand size).
%include "real.inc"

; Copy %2 to %3 (labels) to offset %1 of ES.
%macro COPY 3.nolist
    mov di, %1
    mov si, R(%2)
    mov cx, %3 - %2
    rep movsb
%endmacro

main:
    mov word [R(exc_resume)], R(unexpected)
    mov [R(exc_ss)], ss
    mov [R(exc_sp)], sp
    ; ---- code in 1500 segments that overlap, each twice ----
    mov bp, 2
.pass:
    xor di, di
.segment:
    mov bx, di
    shl bx, 4
    mov ax, 0x1000
    sub ax, di
    push cs
    push R(.back)
    push ax
    lea ax, [bx + R(alias)]
    push ax
    retf
.back:
    lea ax, [bx + R(alias.after_call)]
    cmp ax, dx
    CHECK e
    inc di
    cmp di, 1500
    jne .segment
    dec bp
    jnz .pass

    ; ---- a near return in another code segment than its call's ----
    mov ax, 0x2000
    mov es, ax
    COPY R(.ret), other_ret, other_ret.end
    COPY R(.callee2), one_ret, one_ret.end
    mov bp, 40
.calls:
    mov bx, bp
    call .callee
.ret:
    mov dx, 1
    jmp .returned
.callee:
    test bl, 1
    jz .near
    jmp 0x2000:R(.callee2)
.near:
    ret
.callee2:
    nop
.returned:
    and bx, 1
    inc bx
    cmp bx, dx
    CHECK e
    dec bp
    jnz .calls

    ; ---- a call by an operand that its push overwrites, to places where no call has gone ----
    xor cx, cx
    mov bp, sp
.over:
    mov ax, cx
    and ax, 15
    add ax, R(nops)
    mov [bp - 2], ax
    call [bp - 2]
    cmp sp, bp
    CHECK e
    inc cx
    cmp cx, 48
    jne .over

    ; ---- IP wraps, wherever the segment begins in its page ----
    mov bp, 0x3000
.wrap:
    mov es, bp
    COPY 0xfff0, wrap_top, wrap_top.end
    COPY 0, wrap_bottom, wrap_bottom.end
    mov cx, 50
    xor dx, dx
    xor si, si
    push cs
    push R(.wrapped)
    push bp
    push 0xfff0
    retf
.wrapped:
    cmp dx, 50
    CHECK e
    cmp si, 49
    CHECK e
    add bp, 0x11
    cmp bp, 0x3000 + 0x110
    jne .wrap

    ; ---- a target beyond the limit faults at the jump, and only if it is taken ----
    mov cx, 30
.beyond:
    cmp cx, 1
    je .taken
    db 0x66, 0x0f, 0x84, 0, 0, 1, 0 ; je $ + 7 + 10000H
    mov word [R(exc_vector)], 0xffff
    loop .beyond
    FAIL
.taken:
    REAL_FAULT 13, db 0x66, 0x0f, 0x84, 0, 0, 1, 0 ; je $ + 7 + 10000H
    REAL_FAULT 13, db 0x66, 0xe9, 0, 0, 1, 0
    REAL_FAULT 13, db 0x66, 0xe8, 0, 0, 1, 0
    push dword 0x10000
    REAL_FAULT 13, o32 ret
    pop eax

    ; ---- DS changes under code that stays ----
    mov ax, 0x4000
    mov ds, ax
    mov word [0x123], 1
    mov word [0xfffe], 3
    mov ax, 0x5001
    mov ds, ax
    mov word [0x123], 0x100
    mov word [0xfffe], 0x300
    mov cx, 100
    xor ax, ax
    mov bx, 0x120
    mov si, 3
    mov dx, 0x4000
.bases:
    call add_both
    mov bp, ds
    mov ds, dx
    mov dx, bp
    loop .bases
    cmp ax, (50 * 0x404) & 0xffff
    CHECK e
    push cs
    pop ds

    ; ---- loads of segment registers ----
    mov word [R(far_pointer) + 4], 0x4000
    mov cx, 20
.loads:
    mov word [R(far_pointer)], 0x123
    mov word [R(far_pointer) + 2], 0x5001
    mov bx, R(far_pointer)
    les bx, [bx]
    cmp word [es:bx], 0x100
    CHECK e
    mov dword [R(far_pointer)], 0xfffe
    mov ebp, R(far_pointer)
    lgs ebp, [ds:bp]
    cmp ebp, 0xfffe
    CHECK e
    cmp word [gs:bp], 3
    CHECK e
    o32 push es
    push gs
    pop fs
    cmp word [fs:0xfffe], 3
    CHECK e
    o32 pop gs
    cmp word [gs:0xfffe], 0x300
    CHECK e
    mov ax, fs
    cmp ax, 0x4000
    CHECK e
    mov ax, 0xffff
    lea di, [bx - 0x123 - 3] ; fffdh
    REAL_FAULT 13, lds ax, [es:di]
    REAL_FAULT 13, mov fs, [es:di + 2]
    cmp ax, 0xffff
    CHECK e
    dec cx
    jnz .loads

    ; ---- the limit, by offset and not by address ----
    mov ax, 0x4001
    mov es, ax
    mov bp, 3
.limits:
    mov bx, 0xff00
.upwards:
    mov al, [es:bx]
    mov [es:bx], al
    cmp bx, 0xfffe
    ja .last
    mov ax, [es:bx]
    mov [es:bx], ax
    inc bx
    jmp .upwards
.last:
    REAL_FAULT 13, mov ax, [es:bx]
    REAL_FAULT 13, mov [es:bx], ax
    REAL_FAULT 13, add [es:bx - 2], eax
    mov di, bx
    REAL_FAULT 13, stosw
    cmp di, 0xffff
    CHECK e
    stosb
    cmp di, 0
    CHECK e
    dec bp
    jnz .limits

    ; ---- SP wraps; the upper half of ESP stays ----
    or esp, 0x12340000
    mov [R(old_sp)], esp
    mov ax, 0x6001
    mov es, ax
    mov bp, 3
.stack:
    mov dx, ss
    mov ss, [R(stack_segment)]
    mov sp, 8
    mov cx, 8
.push:
    push cx
    loop .push
    cmp sp, 0xfff8
    CHECK e
    cmp word [es:0xfff8], 1
    CHECK e
    cmp word [es:6], 8
    CHECK e
    mov cx, 8
    xor ax, ax
.pop:
    pop bx
    add ax, bx
    loop .pop
    cmp ax, 36
    CHECK e
    cmp esp, 0x12340008
    CHECK e
    mov ss, dx
    mov esp, [R(old_sp)]
    dec bp
    jnz .stack

    ; ---- LEAVE, ENTER, PUSHF and POPF on SP; LEA of 16 bits; LOOPE and LOOPNE; JCXZ ----
    mov cx, 20
    mov esi, 0x5678fffe
.frames:
    mov bx, sp
    enter 10, 0
    mov byte [bp - 1], 7
    leave
    cmp bx, sp
    CHECK e
    pushf
    pop ax
    xor ax, 0x8d5
    push ax
    popf
    pushf
    pop dx
    and ax, 0x8d5
    and dx, 0x8d5
    cmp ax, dx
    CHECK e
    lea eax, [si + 4]
    cmp eax, 2
    CHECK e
    lea si, [si + 4]
    lea si, [si - 4]
    cmp esi, 0x5678fffe
    CHECK e
    loop .frames
    mov ecx, 0x77770005
    xor ax, ax
.loope:
    inc ax
    cmp ax, 3
    loopne .loope
    CHECK e
    cmp ecx, 0x77770002
    CHECK e
.loope2:
    cmp ax, ax
    loope .loope2
    CHECK e
    cmp ecx, 0x77770000
    CHECK e
    jcxz .zero
    FAIL
.zero:

    ; ---- code that changes itself ----
    mov cx, 200
    xor ax, ax
    xor bx, bx
.changes:
    mov [R(.immediate) - 2], cl
    add bx, cx
    jmp .next
.next:
    add ax, strict word 0
.immediate:
    loop .changes
    cmp ax, bx
    CHECK e
    PASS

unexpected:
    movzx eax, word [cs:R(exc_ip)]
    mov dx, 0xf4
    out dx, eax
    hlt

alias:
    mov cx, 3
.again:
    call .f
.after_call:
    loop .again
    jmp .out
.f: pop dx
    push dx
    ret
.out:
    retf

add_both:
    add ax, [bx + si]
    add ax, [0xfffe]
    ret

nops:
    times 16 nop
    ret

other_ret:
    mov dx, 2
    jmp 0x1000:R(main.returned)
.end:
one_ret:
    ret
.end:

wrap_top: ; at FFF0H
    inc dx
    db 0xe2, 0x0f ; loop 2
    retf
    times 8 - ($ - wrap_top) int3
    inc si
    ret
.end:
wrap_bottom: ; at 0
    int3
    int3
    db 0xe8, 0xf3, 0xff ; call fff8h
    db 0xeb, 0xe9       ; jmp fff0h
.end:

align 4
old_sp: dd 0
stack_segment: dw 0x6001
far_pointer: dd 0, 0

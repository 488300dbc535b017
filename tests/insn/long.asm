; Long mode: entering it, canonical addresses, interrupts and IST, SYSCALL and SYSRET, SWAPGS, NX, compatibility mode.
; [SDM3] 9.8.5 (entering), 6.14 (64-bit interrupts), 5.8.8 (SYSCALL), 4.5 (4-level paging); [SDM2] each instruction's page.
%include "prot.inc"

gate_entry:
    FAIL

PML4  equ 0x100000
PDPT  equ 0x101000
PD    equ 0x102000
PT    equ 0x103000
SEL_CODE64  equ SEL_FREE      ; CPL 0
SEL_DATA64  equ SEL_FREE + 8
SEL_UCOMPAT equ SEL_FREE + 16 ; compatibility mode; SYSRET wants user data and 64-bit user code behind it
; SEL_FREE + 24: user data, + 32: user code, in a second table below

prot_main:
    ; tables: 2 MiB pages for 0..2 MiB, 4 KiB pages for 2..4 MiB
    mov edi, PML4
    xor eax, eax
    mov ecx, 4 * 1024
    rep stosd
    mov dword [PML4], PDPT | 7
    mov dword [PDPT], PD | 7
    mov dword [PD], 0 | 0x87
    mov dword [PD + 8], PT | 7
    mov edi, PT
    mov eax, 0x200000 | 7
.fill:
    mov [edi], eax
    add edi, 8
    add eax, 0x1000
    cmp edi, PT + 0x1000
    jb .fill

    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, PML4
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901 ; SCE, LME, NXE
    wrmsr
    ; LME with PG but without PAE is #GP
    mov eax, cr4
    and eax, ~0x20
    mov cr4, eax
    mov eax, cr0
    or eax, 0x80000000
    FAULT_CODE 13, 0, mov cr0, eax
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, cr0
    or eax, 0x80010000
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    test eax, 0x400 ; LMA
    CHECK nz
    lgdt [gdt64_pointer]
    jmp 0x08:long_start

bits 64
; The handlers' part of prot.inc for 64-bit mode.
%macro FAULT64 3+.nolist ; vector, error code, instruction
    mov qword [abs l_resume], %%after
    mov qword [abs l_vector], -1
    mov [abs l_rsp], rsp
%%at:
    %3
    FAIL
%%after:
    cmp qword [abs l_vector], %1
    CHECK e
    cmp qword [abs l_error], %2
    CHECK e
    cmp qword [abs l_rip], %%at
    CHECK e
%endmacro
%macro USER64 2.nolist ; label, RFLAGS
    mov qword [abs l_resume], %%after
    mov qword [abs l_vector], -1
    mov [abs l_rsp], rsp
    push qword 0x2b
    push qword user_stack
    push qword %2
    push qword 0x33
    push qword %1
    iretq
%%after:
%endmacro
%macro EXPECT64 2.nolist
    cmp qword [abs l_vector], %1
    CHECK e
    cmp qword [abs l_rip], %2
    CHECK e
%endmacro

default abs
align 16
l_vector: dq 0
l_error:  dq 0
l_rip:    dq 0
l_cs:     dq 0
l_flags:  dq 0
l_old_rsp: dq 0
l_old_ss: dq 0
l_rsp:    dq 0
l_resume: dq 0
l_frame:  dq 0
l_rax:    dq 0

%assign n 0
%rep 64
l_stub_%+n:
%if n == 8 || (n >= 10 && n <= 14) || n == 17
%else
    push qword 0
%endif
    push qword n
    jmp l_handler
%assign n n+1
%endrep
l_handler:
    mov [l_frame], rsp
    pop qword [l_vector]
    pop qword [l_error]
    pop qword [l_rip]
    pop qword [l_cs]
    pop qword [l_flags]
    pop qword [l_old_rsp]
    pop qword [l_old_ss]
    mov rsp, [l_rsp]
    mov [l_rax], rax
    xor eax, eax
    mov ss, ax ; null is fine at CPL 0
    mov rax, [l_rax]
    jmp [l_resume]

l_stubs:
%assign n 0
%rep 64
    dd l_stub_%+n
%assign n n+1
%endrep

align 8
gdt64:
    dq 0
    dq 0x00af9b000000ffff ; 08 code
    dq 0x00cf93000000ffff ; 10 data
    dq 0                  ; 18
    dq 0x00cffb000000ffff ; 20 user, compatibility mode
    dq 0x00cff3000000ffff ; 28 user data
    dq 0x00affb000000ffff ; 30 user code
    dw 0x67, (tss - $$) & 0xffff
    db 1, 0x89, 0, 0      ; 38 TSS
    dq 0
    dw (gate64 - $$) & 0xffff, 0x08, 0xec00, 1 ; 48 call gate, DPL 3
    dq 0
    dq 0x00ef9b000000ffff ; 58 L and D: reserved
    dq 0x00cf9b000000ffff ; 60 compatibility mode, CPL 0
gdt64_end:
gdt64_pointer: dw gdt64_end - gdt64 - 1
    dd gdt64
    dd 0
idt64_pointer: dw 64 * 16 - 1
    dq 0x3f0000
IDT64 equ 0x3f0000

long_start:
    xor eax, eax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov rsp, main_stack
    mov esi, l_stubs
    mov edi, IDT64
    mov ecx, 64
.gates:
    lodsd
    mov [rdi], ax
    mov dword [rdi + 2], 0x8e000000 | 8
    mov byte [rdi + 4], 0
    shr eax, 16
    mov [rdi + 6], ax
    mov qword [rdi + 8], 0
    add edi, 16
    loop .gates
    lidt [idt64_pointer]
    mov byte [IDT64 + 3 * 16 + 5], 0xee
    ; the TSS in its 64-bit form
    mov edi, tss
    mov ecx, 0x68
    xor eax, eax
    rep stosb
    mov dword [tss + 4], inner_stack       ; RSP0
    mov dword [tss + 0x24], inner_stack1   ; IST1
    mov word [tss + 102], 0x68
    mov ax, 0x38
    ltr ax
    mov ax, 0x48
    FAULT64 13, 0x48, ltr ax

    ; ---- EFER.LME is fixed while paging is on ----
    mov ecx, 0xc0000080
    rdmsr
    and eax, ~0x100
    FAULT64 13, 0, wrmsr

    ; ---- canonical addresses ----
    mov rbx, 0x0000800000000000
    FAULT64 13, 0, mov rax, [rbx]
    FAULT64 13, 0, mov rax, [rbx - 4]
    FAULT64 13, 0, mov [rbx], al
    mov rbp, rbx
    FAULT64 12, 0, mov rax, [rbp]
    FAULT64 12, 0, mov rax, [rbp - 1]
    FAULT64 13, 0, jmp rbx
    ; a push there, with the handler on an IST stack
    mov byte [IDT64 + 12 * 16 + 4], 1
    mov rcx, rsp
    lea rax, [rbx + 8]
    mov qword [l_resume], .pushed
    mov [l_rsp], rsp
    mov rsp, rax
.push:
    push rax
    FAIL
.pushed:
    EXPECT64 12, .push
    lea rax, [rbx + 8]
    cmp [l_old_rsp], rax
    CHECK e
    cmp qword [l_frame], inner_stack1 - 7 * 8
    CHECK e
    mov byte [IDT64 + 12 * 16 + 4], 0

    ; ---- interrupts align the stack to 16 bytes, and push SS:RSP always ----
    mov rsp, main_stack - 5
    FAULT64 6, 0, ud2
    mov rax, main_stack - 16 - 7 * 8
    cmp [l_frame], rax
    CHECK e
    cmp qword [l_old_rsp], main_stack - 5
    CHECK e
    mov rsp, main_stack

    ; ---- IDT: not present, wrong type, limit ----
    mov byte [IDT64 + 40 * 16 + 5], 0x0e
    FAULT64 11, 40 * 8 + 2, int 40
    mov byte [IDT64 + 40 * 16 + 5], 0x85
    FAULT64 13, 40 * 8 + 2, int 40
    FAULT64 13, 64 * 8 + 2, int 64
    mov byte [IDT64 + 40 * 16 + 5], 0x8e
    mov word [IDT64 + 40 * 16 + 2], 0x60 ; not a 64-bit segment
    FAULT64 13, 0x60, int 40
    mov word [IDT64 + 40 * 16 + 2], 8

    ; ---- selectors ----
    mov eax, 0x58
    push qword 0x58
    push qword 0
    FAULT64 13, 0x58, retfq
    add rsp, 16
    xor eax, eax
    mov ss, ax
    mov ax, 3
    FAULT64 13, 0, mov ss, ax ; null, but RPL is not CPL
    mov ax, 0x20
    FAULT64 13, 0x20, mov ss, ax
    FAULT64 6, 0, db 0x06 ; PUSH ES
    FAULT64 6, 0, db 0x9a, 0, 0, 0, 0, 0, 0
    FAULT64 6, 0, db 0x27 ; DAA

    ; ---- bases of FS and GS; SWAPGS ----
    mov ecx, 0xc0000101
    mov eax, byte64
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000102
    mov eax, byte64 + 8
    wrmsr
    cmp qword [gs:0], 0x11
    CHECK e
    swapgs
    cmp qword [gs:0], 0x22
    CHECK e
    swapgs
    cmp qword [gs:0], 0x11
    CHECK e
    mov edx, 0x8000
    FAULT64 13, 0, wrmsr ; not canonical
    mov eax, 0x10
    mov gs, ax
    mov ecx, 0xc0000101
    rdmsr
    or eax, edx ; the descriptor's
    CHECK z

    ; ---- NX ----
    mov byte [0x200000], 0xc3
    mov eax, 0x200000
    call rax
    mov rax, PT
    bts qword [rax], 63
    invlpg [0x200000]
    mov rax, [0x200000]
    mov qword [l_resume], .nx
    mov [l_rsp], rsp
    mov eax, 0x200000
    call rax
    FAIL
.nx:
    EXPECT64 14, 0x200000
    cmp qword [l_error], 0x11
    CHECK e
    mov rax, cr2
    cmp rax, 0x200000
    CHECK e
    ; reserved bits
    mov rax, PT + 8
    bts qword [rax], 51
    FAULT64 14, 9, mov al, [0x201000]

    ; ---- CPL 3 ----
    USER64 u_int3, 0x202
    EXPECT64 3, u_int3.end
    cmp qword [l_cs], 0x33
    CHECK e
    cmp qword [l_old_ss], 0x2b
    CHECK e
    cmp qword [l_frame], inner_stack - 7 * 8
    CHECK e
    mov ax, ss ; null, with RPL 0
    test ax, ax
    CHECK z
    USER64 u_swapgs, 0x202
    EXPECT64 13, u_swapgs
    USER64 u_sysret, 0x202
    EXPECT64 13, u_sysret
    USER64 u_cr8, 0x202
    EXPECT64 13, u_cr8
    USER64 u_sysexit, 0x202
    EXPECT64 13, u_sysexit

    ; ---- call gate: SS becomes null, nothing is copied ----
    USER64 u_gate, 0x202
    EXPECT64 3, u_gate.end
    cmp qword [gate_rsp], inner_stack - 4 * 8
    CHECK e
    cmp qword [gate_rip], u_gate.back
    CHECK e
    cmp qword [l_old_rsp], user_stack
    CHECK e

    ; ---- SYSCALL and SYSRET ----
    mov ecx, 0xc0000081 ; STAR
    xor eax, eax
    mov edx, 0x00200008
    wrmsr
    mov ecx, 0xc0000082 ; LSTAR
    mov eax, syscall_entry
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000084 ; FMASK
    mov eax, 0x600
    wrmsr
    USER64 u_syscall, 0x603
    EXPECT64 3, u_syscall.end
    mov rax, [l_flags]
    and eax, 0x600
    cmp eax, 0x600 ; back from R11
    CHECK e
    cmp qword [sys_rcx], u_syscall.back
    CHECK e
    mov rax, [sys_flags]
    test eax, 0x601
    mov ebx, 1
    and eax, 0x601
    cmp eax, ebx
    CHECK e
    cmp word [sys_cs], 8
    CHECK e
    cmp word [sys_ss], 0x10
    CHECK e
    ; as kernels have it: TF and AC are masked, too
    mov ecx, 0xc0000084
    mov eax, 0x40701
    wrmsr
    mov qword [sys_rcx], 0
    mov word [sys_cs], 0
    mov word [sys_ss], 0
    USER64 u_syscall, 0xa43
    EXPECT64 3, u_syscall.end
    mov rax, [l_flags]
    and eax, 0xed5
    cmp eax, 0xa41 ; back from R11
    CHECK e
    cmp qword [sys_rcx], u_syscall.back
    CHECK e
    mov rax, [sys_flags]
    and eax, 0xed5
    cmp eax, 0x840 ; OF and ZF stay
    CHECK e
    cmp word [sys_cs], 8
    CHECK e
    cmp word [sys_ss], 0x10
    CHECK e
    ; SYSRET to a bad address: #GP at CPL 0
    mov rcx, 0x0000800000000000
    FAULT64 13, 0, o64 sysret
    ; 32-bit SYSRET: compatibility mode
    mov qword [l_resume], .compat
    mov [l_rsp], rsp
    mov ecx, u_compat
    mov r11d, 0x202
    o32 sysret
.compat:
    EXPECT64 3, u_compat.end
    cmp qword [l_cs], 0x23
    CHECK e
    ; the upper half of RAX was not visible there, but EAX was set
    ; SYSCALL needs EFER.SCE
    mov ecx, 0xc0000080
    rdmsr
    and eax, ~1
    wrmsr
    FAULT64 6, 0, syscall
    ; ---- INT n in compatibility mode at CPL 0 ----
    mov ecx, 0x10
    mov ss, cx
    mov qword [l_resume], .compat0
    mov [l_rsp], rsp
    push qword 0x60
    push qword compat0
    retfq
.compat0:
    EXPECT64 3, compat0.end
    cmp qword [l_cs], 0x60
    CHECK e
    cmp qword [l_old_ss], 0x10
    CHECK e

    ; ---- leaving 64-bit mode by clearing PG is #GP ----
    mov rax, cr0
    btr rax, 31
    FAULT64 13, 0, mov cr0, rax
    ; CR8, and reserved upper halves
    mov eax, 16
    FAULT64 13, 0, mov cr8, rax
    mov rax, 0x100000000
    FAULT64 13, 0, mov cr0, rax
    FAULT64 13, 0, mov cr4, rax
    FAULT64 13, 0, mov dr7, rax
    FAULT64 13, 0, mov dr6, rax
    PASS

gate64:
    mov [gate_rsp], rsp
    mov rax, [rsp]
    mov [gate_rip], rax
    mov ax, ss
    test ax, ax
    CHECK z
    retfq

syscall_entry:
    mov [sys_rcx], rcx
    pushfq ; on the user's stack: RSP is not changed
    pop qword [sys_flags]
    mov ax, cs
    mov [sys_cs], ax
    mov ax, ss
    mov [sys_ss], ax
    o64 sysret

u_int3:
    int3
.end:
u_swapgs:
    swapgs
u_sysret:
    o64 sysret
u_cr8:
    mov rax, cr8
u_sysexit:
    sysexit
u_gate:
    call far [gate_pointer]
.back:
    int3
.end:
u_syscall:
    syscall
.back:
    int3
.end:
bits 32
u_compat:
    mov eax, 5
    db 0x06 ; PUSH ES is valid here
    pop es
    int3
.end:
compat0:
    inc eax ; not a REX prefix
    int3
.end:

align 16
byte64: dq 0x11, 0x22
gate_pointer: dq 0
    dw 0x4b
gate_rsp: dq 0
gate_rip: dq 0
sys_rcx: dq 0
sys_flags: dq 0
sys_cs: dw 0
sys_ss: dw 0

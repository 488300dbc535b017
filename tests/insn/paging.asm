; Paging with 32-bit entries: permissions, error codes, accessed and dirty bits, 4 MiB pages, WP, SMEP, SMAP, INVLPG.
; [SDM3] 4.3 (32-bit paging), 4.6 (access rights), 4.7 (page-fault exceptions), 4.8 (A and D), 4.10 (TLBs).
%include "prot.inc"

gate_entry:
    FAIL

DIR   equ 0x100000 ; page directory
TABLE equ 0x101000 ; for 0..4 MiB: identity
TAB2  equ 0x102000 ; for 4..8 MiB
PAGE1 equ 0x200000 ; physical pages to play with
PAGE2 equ 0x201000
WINDOW equ 0x400000 ; linear: TAB2

P equ 1
W equ 2
U equ 4
A equ 0x20
D equ 0x40
PS equ 0x80
G equ 0x100

; A page fault with error code %1 and CR2 %2.
%macro PF 3+.nolist
    FAULT_CODE 14, %1, %3
    mov eax, cr2
    cmp eax, %2
    CHECK e
%endmacro

prot_main:
    mov edi, DIR
    xor eax, eax
    mov ecx, 3 * 1024
    rep stosd
    mov dword [DIR], TABLE | P | W | U
    mov dword [DIR + 4], TAB2 | P | W | U
    mov edi, TABLE
    mov eax, P | W | U
    mov ecx, 1024
.fill:
    stosd
    add eax, 0x1000
    loop .fill
    mov dword [PAGE1], 0x11111111
    mov dword [PAGE1 + 0xffc], 0x1f1f1f1f
    mov dword [PAGE2], 0x22222222
    mov eax, DIR
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax

    ; ---- not present ----
    PF 0, WINDOW, mov eax, [WINDOW]
    PF 2, WINDOW + 5, mov [WINDOW + 5], al
    PF 2, WINDOW, add dword [WINDOW], 1 ; read-modify-write is a write
    PF 0, 0x800000, mov eax, [0x800000]
    PF 0, WINDOW, cmp dword [WINDOW], 0
    mov ebx, WINDOW
    mov dword [TAB2], PAGE1 | P | W ; not present is not cached
    cmp dword [WINDOW], 0x11111111
    CHECK e
    test dword [TAB2], A
    CHECK nz
    test dword [TAB2], D
    CHECK z
    test dword [DIR + 4], A
    CHECK nz
    mov byte [WINDOW + 1], 0x11
    test dword [TAB2], D
    CHECK nz

    ; ---- crossing a page ----
    PF 0, WINDOW + 0x1000, mov eax, [WINDOW + 0xffd]
    mov eax, 0x99999999
    PF 2, WINDOW + 0x1000, mov [WINDOW + 0xffd], eax
    cmp dword [PAGE1 + 0xffc], 0x1f1f1f1f ; nothing was written
    CHECK e
    mov dword [TAB2 + 4], PAGE2 | P | W | U
    mov eax, 0x99999999
    mov [WINDOW + 0xffe], eax
    cmp dword [PAGE1 + 0xffc], 0x99991f1f
    CHECK e
    cmp dword [PAGE2], 0x22229999
    CHECK e

    ; ---- stale translations until INVLPG ----
    mov eax, [WINDOW + 0x1000]
    mov dword [TAB2 + 4], PAGE1 | P | W | U
    invlpg [WINDOW + 0x1000]
    cmp dword [WINDOW + 0x1000], 0x11111111
    CHECK e

    ; ---- WP ----
    mov dword [TAB2], PAGE1 | P
    invlpg [WINDOW]
    mov byte [WINDOW], 0x12 ; supervisor, WP off
    test dword [TAB2], D
    CHECK nz
    mov eax, cr0
    or eax, 0x10000
    mov cr0, eax
    PF 3, WINDOW, mov byte [WINDOW], 1
    mov eax, [WINDOW]
    ; the directory counts, too
    mov dword [TAB2], PAGE1 | P | W
    mov dword [DIR + 4], TAB2 | P | U
    mov eax, cr3
    mov cr3, eax
    PF 3, WINDOW, mov byte [WINDOW], 1
    mov dword [DIR + 4], TAB2 | P | W | U
    mov eax, cr3
    mov cr3, eax

    ; ---- user ----
    mov dword [p_user_ds], SEL_UDATA
    mov dword [TAB2 + 8], PAGE1 | P | W     ; supervisor
    mov dword [TAB2 + 12], PAGE2 | P | U    ; user, read only
    mov dword [TAB2 + 16], 0
    USER u_super, 0x202
    EXPECT 14, u_super
    cmp dword [p_error], 5
    CHECK e
    USER u_super_write, 0x202
    cmp dword [p_error], 7
    CHECK e
    USER u_ro, 0x202
    EXPECT 14, u_ro.at
    cmp dword [p_error], 7
    CHECK e
    USER u_absent, 0x202
    cmp dword [p_error], 4
    CHECK e
    USER u_jump, 0x202
    EXPECT 14, WINDOW + 0x2000
    cmp dword [p_error], 5 ; no I bit without NX or SMEP
    CHECK e
    ; a supervisor page of the kernel's stack is written on the way into the handler, by an implicit access
    ; (the TSS and the GDT are on user pages here, so make the page with the stack a supervisor one)

    ; ---- SMEP and SMAP ----
    mov byte [PAGE2], 0xc3 ; RET
    mov dword [p_resume], .smep
    mov dword [p_vector], -1
    call .clear_user ; our own code must be on supervisor pages first
    mov eax, cr3
    mov cr3, eax
    mov eax, cr4
    or eax, 0x100000
    mov cr4, eax
    mov [p_esp], esp
    mov eax, WINDOW + 0x3000
    call eax
    FAIL
.smep:
    EXPECT 14, WINDOW + 0x3000
    cmp dword [p_error], 0x11 ; P, I
    CHECK e
    mov eax, cr4
    or eax, 0x200000
    mov cr4, eax
    PF 1, WINDOW + 0x3000, mov al, [WINDOW + 0x3000]
    stac
    mov al, [WINDOW + 0x3000]
    clac
    PF 1, WINDOW + 0x3001, mov al, [WINDOW + 0x3001]
    pushfd
    or dword [esp], 0x40000
    popfd
    mov al, [WINDOW + 0x3000]
    pushfd
    and dword [esp], ~0x40000
    popfd
    mov eax, cr4
    and eax, ~0x300000
    mov cr4, eax

    ; ---- 4 MiB pages ----
    mov dword [DIR + 12], 0 | P | W | PS
    mov eax, cr4
    or eax, 0x10
    mov cr4, eax
    cmp dword [0xc00000 + PAGE2], 0x222299c3
    CHECK e
    mov byte [0xc00000 + PAGE2 + 8], 1
    mov eax, [DIR + 12]
    and eax, A | D
    cmp eax, A | D
    CHECK e
    mov dword [DIR + 12], 1 << 21 | P | W | PS ; bit 21 is reserved
    mov eax, cr3
    mov cr3, eax
    PF 9, 0xc00000, mov eax, [0xc00000]

    ; ---- global pages survive MOV CR3, not CR4.PGE changes ----
    mov eax, cr4
    or eax, 0x80
    mov cr4, eax
    mov dword [TAB2 + 20], PAGE1 | P | W | G
    cmp dword [WINDOW + 0x5000], 0x11111112
    CHECK e
    mov dword [TAB2 + 20], 0
    mov eax, cr4
    and eax, ~0x80
    mov cr4, eax
    PF 0, WINDOW + 0x5000, mov eax, [WINDOW + 0x5000]

    ; ---- CR2 keeps the last one; other exceptions leave it alone ----
    FAULT 6, ud2
    mov eax, cr2
    cmp eax, WINDOW + 0x5000
    CHECK e

    ; ---- reserved combinations ----
    mov ebx, cr0
    mov eax, ebx
    and eax, ~1 ; PG without PE
    FAULT_CODE 13, 0, mov cr0, eax
    mov eax, ebx
    or eax, 0x20000000 ; NW without CD
    and eax, ~0x40000000
    FAULT_CODE 13, 0, mov cr0, eax
    mov eax, cr4
    or eax, 0x20000 ; PCIDE outside long mode
    FAULT_CODE 13, 0, mov cr4, eax
    PASS

.clear_user:
    mov esi, TABLE
    mov ecx, 1024
.clear:
    and dword [esi], ~U
    add esi, 4
    loop .clear
    ret

u_super:
    mov eax, [WINDOW + 0x2000]
u_super_write:
    mov [WINDOW + 0x2000], eax
u_ro:
    mov eax, [WINDOW + 0x3000]
.at: mov [WINDOW + 0x3000], eax
u_absent:
    mov eax, [WINDOW + 0x4000]
u_jump:
    mov eax, WINDOW + 0x2000
    jmp eax

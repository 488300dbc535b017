/* build/tests/test_bt: the interpreter's tests on the translator, every block translated when it is first run, and what only the
 * translator can get wrong. */
#include "translate/bt.h"

#include <stdio.h>
#include <unistd.h>

#include "core/log.h"
#include "translate/perfmap.h"

#include "bt_env.h"

static void again(void)
{
    cpu->rip = CODE;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
    cpu->regs[R_AX] = 0x7fffffff80000001;
    cpu->regs[R_BX] = 0x8000000080000010;
    cpu->regs[R_CX] = 5;
    cpu->regs[R_12] = 0x1234567890abcdef;
    cpu->regs[R_SI] = 0x20000;
    cpu->aflags = 0x0200 | AFLAG_CF | AFLAG_AF;
    bus_write_block(mem, 0x20000, &(u64){0xfedcba9876543210}, 8);
    bus_write_block(mem, 0x20ffc, &(u64){0x89abcdef01234567}, 8);
}

Test(interp, the_flags_that_a_fault_finds_are_exact)
{
    static const u8 makers[][8] = {
        {3, 0x48, 0x39, 0xd8},                   /* cmp rax, rbx */
        {2, 0x01, 0xd8},                         /* add eax, ebx */
        {2, 0x29, 0xd8},                         /* sub eax, ebx */
        {2, 0x00, 0xdc},                         /* add ah, bl */
        {3, 0x48, 0x21, 0xd8},                   /* and rax, rbx */
        {3, 0x49, 0x31, 0xc4},                   /* xor r12, rax */
        {3, 0x83, 0xc0, 0x7f},                   /* add eax, 7fh */
        {4, 0x66, 0x83, 0xe8, 0x12},             /* sub ax, 12h */
        {3, 0x48, 0xf7, 0xdb},                   /* neg rbx */
        {2, 0xff, 0xc0},                         /* inc eax */
        {4, 0xff, 0xc0, 0x8b, 0x0e},             /* inc eax; mov ecx, [rsi] */
        {6, 0xff, 0xc0, 0x8b, 0x0e, 0xff, 0xcb}, /* inc eax; mov ecx, [rsi]; dec ebx */
        {6, 0x39, 0xd8, 0xff, 0xc0, 0x8b, 0x0e}, /* cmp eax, ebx; inc eax; mov ecx, [rsi] */
        {7, 0xff, 0xc0, 0x8b, 0x0e, 0x83, 0xd3, 0}, /* inc eax; mov ecx, [rsi]; adc ebx, 0 */
        {3, 0xff, 0x0c, 0x26},                   /* dec dword [rsi] */
        {3, 0xc1, 0xe0, 3},                      /* shl eax, 3 */
        {2, 0xd3, 0xc8},                         /* ror eax, cl */
        {3, 0x0f, 0xaf, 0xc3},                   /* imul eax, ebx */
        {2, 0x03, 0x06},                         /* add eax, [rsi] */
        {2, 0x39, 0x06},                         /* cmp [rsi], eax */
        {3, 0x0f, 0xa3, 0xd8},                   /* bt eax, ebx */
        {2, 0x11, 0xd8},                         /* adc eax, ebx */
        {2, 0x01, 0xc0},                         /* add eax, eax */
        {4, 0x39, 0xd8, 0x89, 0xc3},             /* cmp eax, ebx; mov ebx, eax */
        {6, 0x39, 0xd8, 0x8b, 0x1e, 0x89, 0xd8}, /* cmp eax, ebx; mov ebx, [rsi]; mov eax, ebx */
        {7, 0x39, 0xd8, 0x8b, 0x0e, 0x0f, 0x9c, 0xc3}, /* cmp eax, ebx; mov ecx, [rsi]; setl bl */
    };
    long_mode();
    for (unsigned n = 0; n < sizeof makers / sizeof makers[0]; n++) {
        u64 seen[2][3];
        for (unsigned translated = 0; translated < 2; translated++) {
            u8 bytes[16] = {0};
            memcpy(bytes, makers[n] + 1, makers[n][0]);
            memcpy(bytes + makers[n][0], (const u8[]){0x8b, 0x14, 0x25, 0xf0, 0xff, 0x7f, 0x00, 0xf4}, 8); /* mov edx, [7ffff0h] */
            bus_write_block(mem, CODE, bytes, sizeof bytes);
            cpu->engine_ops->invalidate(cpu, CODE, sizeof bytes);
            bt_set_threshold(cpu, translated ? 1 : ~0u);
            again();
            cr_assert_eq(run(), EXC_PF);
            seen[translated][0] = stack64(3);
            seen[translated][1] = cpu->regs[R_AX];
            seen[translated][2] = cpu->regs[R_BX];
        }
        for (unsigned k = 0; k < 3; k++)
            cr_expect_eq(seen[0][k], seen[1][k], "case %u, value %u: interpreted %llx, translated %llx", n, k,
                         (unsigned long long)seen[0][k], (unsigned long long)seen[1][k]);
    }
}

Test(interp, a_loop_that_changes_its_own_code)
{
    long_mode();
    CODE_AT(CODE, 0xb9, 100, 0, 0, 0, 0x31, 0xdb, /* mov ecx, 100; xor ebx, ebx */
            0xfe, 0x05, 2, 0, 0, 0,               /* l: inc byte [the next instruction's immediate] */
            0x80, 0xc3, 0,                        /* add bl, 0 */
            0xff, 0xc9, 0x75, 0xf3, 0xf4);        /* dec ecx; jnz l; hlt */
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_BX], 5050 % 256);
}

/* A function is called between changes of a constant in it, which a translated function survives after it died once. */
Test(interp, patched_immediates)
{
    static const struct {
        u8 bytes[14];
        u8 len, at, size; /* of the instruction; where its immediate is */
        bool survives;
    } cases[] = {
        {{0xb8}, 5, 1, 4, true},                                   /* mov eax, n */
        {{0x41, 0xbd}, 6, 2, 4, true},                             /* mov r13d, n */
        {{0x48, 0xb8}, 10, 2, 8, true},                            /* mov rax, n */
        {{0x49, 0xbc}, 10, 2, 8, true},                            /* mov r12, n */
        {{0x05}, 5, 1, 4, true},                                   /* add eax, n */
        {{0x48, 0x81, 0xc0}, 7, 3, 4, true},                       /* add rax, n */
        {{0x48, 0x81, 0xc0}, 7, 4, 2, true},                       /* ... two bytes of it */
        {{0x49, 0x83, 0xd5}, 4, 3, 1, true},                       /* adc r13, n */
        {{0x66, 0x81, 0xf0}, 5, 3, 2, true},                       /* xor ax, n */
        {{0x80, 0xfc}, 3, 2, 1, true},                             /* cmp ah, n */
        {{0xa9}, 5, 1, 4, true},                                   /* test eax, n */
        {{0x81, 0x2e}, 6, 2, 4, true},                             /* sub dword [rsi], n */
        {{0x48, 0xc7, 0x46, 0x08}, 8, 4, 4, true},                 /* mov qword [rsi + 8], n */
        {{0x69, 0x06}, 6, 2, 4, true},                             /* imul eax, [rsi], n */
        {{0xc1, 0xe0}, 3, 2, 1, false},                            /* shl eax, n */
        {{0x68, 0, 0, 0, 0, 0x58}, 6, 1, 4, false},                /* push n; pop rax */
        {{0x8b, 0x86}, 6, 2, 1, false},                            /* mov eax, [rsi + n] */
        {{0x0f, 0xba, 0xe0}, 4, 3, 1, false},                      /* bt eax, n */
    };
    static const u8 before[] = {
        0xbf, 0, 0, 0, 0,                                          /* mov edi, where it is */
        0xb9, 100, 0, 0, 0,                                        /* mov ecx, 100 */
        0x49, 0xb9, 0x15, 0x7c, 0x4a, 0x7f, 0xb9, 0x79, 0x37, 0x9e, /* l: mov r9, 9e3779b97f4a7c15h */
        0x4c, 0x0f, 0xaf, 0xc9,                                    /* imul r9, rcx */
        0x48, 0x89, 0xc8, 0x83, 0xe0, 3, 0x75, 4,                  /* each fourth time: */
        0x44, 0x89, 0x0f, 0x90,                                    /* mov [rdi], r9 in the size of the case */
        0xe8, 23, 0, 0, 0,                                         /* call f */
        0x9c, 0x5a, 0x49, 0xc1, 0xc0, 7,                           /* pushfq; pop rdx; rol r8, 7 */
        0x49, 0x31, 0xc0, 0x49, 0x01, 0xd0,                        /* xor r8, rax; add r8, rdx */
        0x4c, 0x03, 0x06, 0x4d, 0x01, 0xe8,                        /* add r8, [rsi]; add r8, r13 */
        0xff, 0xc9, 0x75, 0xcb,                                    /* dec ecx; jnz l */
        0xf4,                                                      /* hlt */
        0x31, 0xd2, 0xf9,                                          /* f: xor edx, edx; stc */
    };
    static const u8 stores[][4] = {[1] = {0x44, 0x88, 0x0f, 0x90}, [2] = {0x66, 0x44, 0x89, 0x0f}, [4] = {0x44, 0x89, 0x0f, 0x90},
                                   [8] = {0x4c, 0x89, 0x0f, 0x90}};
    long_mode();
    for (unsigned n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        u64 seen[2] = {0}, kills = 0;
        for (unsigned translated = 0; translated < 2; translated++) {
            u8 bytes[96] = {0};
            const u32 where = (u32)(CODE + sizeof before + cases[n].at);
            memcpy(bytes, before, sizeof before);
            memcpy(bytes + 1, &where, 4);
            memcpy(bytes + 32, stores[cases[n].size], 4);
            memcpy(bytes + sizeof before, cases[n].bytes, cases[n].len);
            bytes[sizeof before + cases[n].len] = 0xc3;
            bus_write_block(mem, CODE, bytes, sizeof bytes);
            cpu->engine_ops->invalidate(cpu, 0, 0); /* what changed before, too */
            bt_set_threshold(cpu, translated ? 1 : ~0u);
            again();
            cpu->regs[R_8] = cpu->regs[R_13] = 0;
            const struct block_cache *in = cpu->engine;
            const u64 killed = in->kills;
            cr_assert_eq(run(), -1);
            kills = in->kills - killed;
            seen[translated] = cpu->regs[R_8];
        }
        cr_expect_eq(seen[0], seen[1], "case %u: interpreted %llx, translated %llx", n, (unsigned long long)seen[0],
                     (unsigned long long)seen[1]);
        cr_expect(cases[n].survives ? kills < 4 : kills > 4, "case %u: %llu blocks died", n, (unsigned long long)kills);
    }
}

/* Stores beside code find a recent range of the page, until there is code in that, too. */
Test(interp, code_appears_where_stores_went_beside_code)
{
    static const u8 stores[][12] = {
        {0x48, 0x8d, 0x3d, 0xf2, 0x06, 0, 0, 0x89, 0x4f, 1, 0x90, 0x90},           /* lea rdi, [f]; mov [rdi + 1], ecx */
        {0x89, 0x0d, 0x03, 0xff, 0xff, 0xff, 0x89, 0x0d, 0xee, 0x06, 0, 0},        /* mov [CODE + 10h], ecx; mov [f + 1], ecx */
    };
    long_mode();
    for (unsigned n = 0; n < 2; n++) {
        u8 bytes[] = {0xb9, 100, 0, 0, 0, 0x31, 0xdb,                              /* mov ecx, 100; xor ebx, ebx */
                      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                          /* l: */
                      0x83, 0xf9, 50, 0x77, 8, 0xe8, 0xe3, 0x06, 0, 0,             /* the last 50 times: call f; */
                      0x48, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xe3, 0xf4};             /* add rbx, rax; dec ecx; jnz l; hlt */
        memcpy(bytes + 7, stores[n], sizeof stores[n]);
        bus_write_block(mem, CODE + 0x100, bytes, sizeof bytes);
        bus_write_block(mem, CODE + 0x800, (u8[]){0xb8, 0, 0, 0, 0, 0xc3}, 6);     /* f: mov eax, n; ret */
        cpu->engine_ops->invalidate(cpu, 0, 0);
        again();
        cpu->rip = CODE + 0x100;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_BX], 1275, "case %u: %llu", n, (unsigned long long)cpu->regs[R_BX]);
    }
}

Test(interp, a_page_mapped_twice_runs_at_both_addresses)
{
    long_mode();
    write64(PAGES + 0x3000 + 8 * 0x30, CODE | 7); /* 30000h is the code page, too */
    CODE_AT(CODE, 0xe8, 1, 0, 0, 0, 0xf4, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3); /* call f; hlt; f: lea rax, [rip]; ret */
    for (unsigned n = 0; n < 4; n++) {
        u64 base = n & 1 ? 0x30000 : CODE;
        again();
        cpu->rip = base;
        cr_assert_eq(run(), -1);
        cr_assert_eq(cpu->regs[R_AX], base + 13);
        cr_assert_eq(cpu->regs[R_SP], 0x80000);
        cr_assert_eq(cpu->rip, base + 6);
    }
}

Test(interp, a_return_to_a_non_canonical_address_faults_at_the_return)
{
    long_mode();
    CODE_AT(CODE, 0xc3);
    again();
    write64(0x80000, 0x0000800000000000);
    cr_assert_eq(run(), EXC_GP);
    cr_assert_eq(stack64(1), CODE, "the address pushed is that of RET");
    cr_assert_eq(stack64(4), 0x80000, "RSP as before it");
}

/* Flags that the next block overwrites are not saved between two blocks, yet a fault there finds them. */
Test(interp, the_flags_of_the_block_before_that_a_fault_finds_are_exact)
{
    static const u8 hops[][6] = {{0}, {2, 0xeb, 0}, {5, 0xe8}}; /* nothing, jmp and call to the next instruction */
    static const u8 makers[][8] = {
        {3, 0x48, 0x39, 0xd8},       /* cmp rax, rbx */
        {7, 0x39, 0x04, 0x25, 0, 0, 2, 0}, /* cmp [20000h], eax */
        {7, 0x39, 0x04, 0x25, 0xfe, 0x0f, 2, 0}, /* cmp [20ffeh], eax: on two pages */
        {2, 0x84, 0xdb},             /* test bl, bl */
        {3, 0x83, 0xc3, 0x7f},       /* add ebx, 7fh */
        {4, 0x66, 0x83, 0xeb, 0x12}, /* sub bx, 12h */
        {3, 0x48, 0x21, 0xc3},       /* and rbx, rax */
        {2, 0xf7, 0xdb},             /* neg ebx */
    };
    long_mode();
    for (unsigned m = 0; m < 3 * sizeof makers / sizeof makers[0]; m++) {
        const unsigned n = m / 3;
        u64 seen[2][2];
        for (unsigned translated = 0; translated < 2; translated++) {
            static const u8 body[] = {0x8b, 0x16, 0x31, 0xd2,  /* mov edx, [rsi]; xor edx, edx */
                                      0x41, 0xff, 0xc8,        /* dec r8d */
                                      0x49, 0x0f, 0x44, 0xf1}; /* cmovz rsi, r9 */
            const unsigned len = makers[n][0], hop = hops[m % 3][0];
            u8 bytes[32] = {0}, *at = bytes + hop; /* l: the hop */
            memcpy(bytes, hops[m % 3] + 1, hop);
            memcpy(at, body, sizeof body);
            memcpy(at + 11, makers[n] + 1, len);
            memcpy(at + 11 + len, (const u8[]){0x75, (u8)(-13 - (int)(len + hop)), 0xf4}, 3); /* jnz l; hlt */
            bus_write_block(mem, CODE, bytes, sizeof bytes);
            cpu->engine_ops->invalidate(cpu, 0, 0); /* what changed before, too */
            bt_set_threshold(cpu, translated ? 1 : ~0u);
            again();
            cpu->regs[R_8] = 5;
            cpu->regs[R_9] = 0x7ffff0;
            cpu->regs[R_BX] = 0x12345;
            cr_assert_eq(run(), EXC_PF);
            cr_assert_eq(cpu->cr2, 0x7ffff0);
            seen[translated][0] = stack64(3);
            seen[translated][1] = cpu->regs[R_BX];
        }
        for (unsigned k = 0; k < 2; k++)
            cr_expect_eq(seen[0][k], seen[1][k], "case %u, value %u: interpreted %llx, translated %llx", m, k,
                         (unsigned long long)seen[0][k], (unsigned long long)seen[1][k]);
    }
}

Test(interp, an_address_of_32_bits_that_is_a_register_in_memory)
{
    long_mode();
    CODE_AT(CODE, 0x65, 0x67, 0x41, 0x8b, 0x06, 0xf4); /* mov eax, gs:[r14d]; hlt */
    cpu->seg[SEG_GS].base = 0x100010000;
    cpu_update_mode(cpu);
    cpu->regs[R_14] = 0xffffffff0000f000; /* all of it would wrap around, to RAM */
    cr_assert_eq(run(), EXC_PF);
    cr_expect_eq(cpu->cr2, 0x10001f000);
}

/* All of a file, which then goes away. */
static char *contents(const char *path)
{
    static char text[65536];
    FILE *f = fopen(path, "r");
    cr_assert(f, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    unlink(path);
    return text;
}

Test(interp, what_was_translated_can_be_looked_at)
{
    char log[64], map[64];
    snprintf(log, sizeof log, "/tmp/calque-test-%ld.log", (long)getpid());
    snprintf(map, sizeof map, "/tmp/perf-%ld.map", (long)getpid());
    cr_assert_eq(log_open(log), 0);
    cr_assert_eq(perfmap_open(), 0);
    log_mask = LOG_OP | LOG_OUT_ASM;
    long_mode();
    CODE_AT(CODE, 0x48, 0xff, 0xc0, 0x0f, 0x00, 0xca, 0xf4); /* inc rax; str edx; hlt */
    cr_assert_eq(run(), -1);
    log_mask = 0;
    const char *text = contents(log);
    cr_expect(strstr(text, "OUT: rip=10000 64-bit cpl=0"), "%s", text);
    cr_expect(strstr(text, "; inline, "), "%s", text);
    cr_expect(strstr(text, "; handler, "), "%s", text);
    cr_expect(strstr(text, "48 ff c0                incq     %rax"), "the host's code: %s", text);
    text = contents(map);
    cr_expect(strstr(text, " guest-kernel:10000\n"), "%s", text);
    char *info = NULL;
    size_t size;
    FILE *f = open_memstream(&info, &size);
    cpu->engine_ops->info(cpu, f);
    fclose(f);
    cr_expect(strstr(info, "  str "), "%s", info);
    free(info);
}

Test(interp, a_push_over_code_on_the_page_of_the_stack)
{
    long_mode();
    bus_write_block(mem, 0x7f800, (const u8[]){0xbb, 1, 0, 0, 0, 0xc3}, 6); /* f: mov ebx, 1; ret */
    CODE_AT(CODE, 0x50, 0xbe, 0, 0xf8, 7, 0, 0xff, 0xd6, 0xff, 0xd6,        /* push rax; mov esi, f; call rsi, twice */
            0x48, 0x8d, 0x66, 8, 0x52,                                      /* lea rsp, [rsi + 8]; push rdx */
            0xbc, 0, 0xf7, 7, 0, 0xff, 0xd6, 0xf4);                         /* mov esp, 7f700h; call rsi; hlt */
    again();
    cpu->regs[R_DX] = 0xc300000002bb; /* mov ebx, 2; ret */
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_BX], 2);
}

/* A recent range is a whole large page: until its mapping goes, and not where there is code. */
Test(interp, recent_ranges_of_large_pages)
{
    enum { FROM = 0x240001, COUNT = 32, FUNCTION = 0x250000 };
    const u64 entry = PAGES + 0x2000 + 8;
    long_mode();
    /* l: add eax, [rsi]; inc dword [rsi]; add rsi, 1000h; dec ecx; jnz l; hlt */
    CODE_AT(CODE, 0x03, 0x06, 0xff, 0x06, 0x48, 0x81, 0xc6, 0, 0x10, 0, 0, 0xff, 0xc9, 0x75, 0xf1, 0xf4);
    CODE_AT(FUNCTION, 0xb8, 0, 0, 0, 0, 0xf4); /* mov eax, 0; hlt */
    for (u32 n = 0; n < 12; n++) {
        const bool elsewhere = n / 4 == 1;            /* mapped to other memory for a while */
        const u32 value = n < 4 ? n : n - 4;          /* that each word has */
        if (n % 4 == 0) {
            write64(entry, elsewhere ? 0xe7 : 0x2000e7); /* present, writable, accessed, dirty, large */
            tlb_flush_page(cpu, FROM);
        }
        cpu->rip = CODE;
        cpu->halted = false;
        cpu->regs[R_AX] = 0;
        cpu->regs[R_SI] = FROM;
        cpu->regs[R_CX] = COUNT;
        cr_assert_eq(run(), -1);
        cr_expect_eq((u32)cpu->regs[R_AX], COUNT * value, "run %u", n);
        if (elsewhere) continue;
        cpu->rip = FUNCTION; /* its operand is one of the words */
        cpu->halted = false;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_AX], value + 1, "run %u", n);
    }
}

/* What a place in tlb.recent[] knows for reading is not used for writing, however many blocks there are; and it is forgotten. */
Test(interp, recent_pages_are_for_what_they_were_found_for)
{
    long_mode();
    cpu->cr0 |= CR0_WP;
    cpu_update_mode(cpu);
    const u64 entry = PAGES + 0x3000 + 8 * 0x20;
    u8 code[4 * TLB_RECENT + 3];
    for (unsigned n = 0; n < TLB_RECENT; n++) memcpy(code + 4 * n, (const u8[]){0x8b, 0x06, 0xeb, 0x00}, 4); /* mov eax, [rsi]; jmp $+2 */
    memcpy(code + 4 * TLB_RECENT, (const u8[]){0x89, 0x06, 0xf4}, 3);                                 /* mov [rsi], eax; hlt */
    bus_write_block(mem, CODE, code, sizeof code);
    for (unsigned n = 0; n < 4; n++) { /* writable at first */
        write64(entry, 0x20000 | (n < 2 ? 7 : 5));
        if (n == 2) tlb_flush_page(cpu, 0x20000);
        again();
        cr_expect_eq(run(), n < 2 ? -1 : EXC_PF, "run %u", n);
    }
    /* Other places for a page that was never writable. */
    write64(entry + 8, 0x21005);
    cpu->engine_ops->invalidate(cpu, CODE, sizeof code);
    for (unsigned n = 0; n < 2; n++) {
        again();
        cpu->regs[R_SI] = 0x21000;
        cr_expect_eq(run(), EXC_PF, "run %u", n);
    }
}

/* A tag of another generation, to which the low bits of an address make up the difference, is not the current one's. */
Test(interp, a_misaligned_operand_does_not_match_another_generation)
{
    long_mode();
    cpu->cr4 |= CR4_OSFXSR;
    cpu_update_mode(cpu);
    CODE_AT(CODE, 0x0f, 0x28, 0x06, 0xf4); /* movaps xmm0, [rsi]; hlt */
    for (unsigned n = 0; n < 16; n++) tlb_flush_all(cpu);
    for (unsigned n = 0; n < 3; n++) {
        again();
        cr_assert_eq(run(), -1);
    }
    for (unsigned n = 0; n < TLB_CONTEXTS; n++) cpu->tlbs[n].gen -= 8;
    again();
    cpu->regs[R_SI] += 8;
    cr_assert_eq(run(), EXC_GP);
}

/* What is pending must be taken in the one instruction between STI's shadow and CLI, and not in the shadow. */
Test(interp, a_copy_that_faults_where_it_reads_marks_no_page_written)
{
    enum { FROM = 0x40, TO = 0x41, A = 0x20, D = 0x40 };
    CODE_AT(CODE, 0xf3, 0xa4, 0xf4); /* rep movsb; hlt */
    for (unsigned n = 0; n < 4; n++) {
        const bool there = n & 1;
        bt_set_threshold(cpu, n < 2 ? ~0u : 1);
        long_mode();
        write64(PAGES + 0x3000 + 8 * FROM, there ? FROM << 12 | 7 : 0);
        tlb_flush_all(cpu);
        cpu->halted = false;
        cpu->regs[R_SI] = FROM << 12;
        cpu->regs[R_DI] = TO << 12;
        cpu->regs[R_CX] = 8;
        cr_assert_eq(run(), there ? -1 : EXC_PF);
        cr_assert_eq(ram->host[PAGES + 0x3000 + 8 * TO] & (A | D), there ? A | D : 0, "%u", n);
    }
}

Test(interp, interrupts_come_in_after_the_shadow_of_sti)
{
    long_mode();
    intr_vector = 20;
    CODE_AT(CODE, 0xfb, 0xff, 0xc0, 0xfa, 0xff, 0xc1, 0xf4); /* sti; inc eax; cli; inc ecx; hlt */
    for (unsigned n = 0; n < 3; n++) {
        again();
        cpu->eflags &= ~EFLAGS_IF;
        cpu->regs[R_AX] = 0;
        cpu_event_set(cpu, EVENT_INTR);
        cr_assert_eq(run(), 20);
        cr_assert_eq(cpu->regs[R_AX], 1);
        cr_assert_eq((u32)cpu->regs[R_CX], 5);
        cr_assert_eq(stack64(0), CODE + 3u);
    }
}

/* ... and what SYSRET lets in, although the kernel has looked at it before and gone on. */
Test(interp, interrupts_come_in_after_sysret)
{
    enum { USER = 0x30000, TSS = 0x6000 };
    long_mode();
    intr_vector = 20;
    cpu->efer |= EFER_SCE;
    cpu->star = 0x13ull << 48 | 8ull << 32;
    cpu->tr = (struct segment){.base = TSS, .limit = 103, .attr = SEG_P | 0xb};
    write64(TSS + 4, 0x80000);
    CODE_AT(CODE, 0xb9, 0, 0, 3, 0, 0x41, 0xbb, 2, 2, 0, 0, 0x48, 0x0f, 0x07); /* mov ecx, USER; mov r11d, 202h; sysretq */
    CODE_AT(USER, 0x31, 0xc0, 0xff, 0xc0, 0x3d, 0, 0, 1, 0, 0x75, 0xf7, 0xf4); /* xor eax, eax; l: inc eax; cmp eax, 10000h; jne l; hlt */
    for (unsigned n = 0; n < 4; n++) {
        again();
        if (n) cpu_event_set(cpu, EVENT_INTR);
        cr_assert_eq(run(), n ? 20 : EXC_GP);
        cr_assert_eq(cpu->regs[R_AX], n ? 0x7fffffff80000001 : 0x10000);
    }
}

Test(interp, flags_by_the_stack)
{
    long_mode();
    /* pushfq; pop rdx; push 0ad7h; popfq; pushfq; pop rbx; push rdx; popfq; pushfq; pop rcx; hlt: DF goes by the handler */
    CODE_AT(CODE, 0x9c, 0x5a, 0x68, 0xd7, 0x0a, 0, 0, 0x9d, 0x9c, 0x5b, 0x52, 0x9d, 0x9c, 0x59, 0xf4);
    for (unsigned n = 0; n < 3; n++) {
        again();
        cpu->eflags = 2 | EFLAGS_DF;
        cpu->aflags = AFLAG_CF | AFLAG_SF | AFLAG_OF;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_DX], 2 | EFLAGS_DF | FLAG_CF | FLAG_SF | FLAG_OF);
        cr_expect_eq(cpu->regs[R_BX], 0xad7);
        cr_expect_eq(cpu->regs[R_CX], cpu->regs[R_DX]);
    }
    cpu->eflags = 2;
}

Test(interp, segment_bases_and_selectors)
{
    long_mode();
    cpu->cr4 |= CR4_FSGSBASE;
    /* wrfsbase rax; rdfsbase r13; mov bx, ss; mov r14d, cs; swapgs; rdgsbase rcx; wrgsbase rsi; hlt */
    CODE_AT(CODE, 0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x49, 0x0f, 0xae, 0xc5, 0x66, 0x8c, 0xd3, 0x41, 0x8c, 0xce, 0x0f, 0x01,
            0xf8, 0xf3, 0x48, 0x0f, 0xae, 0xc9, 0xf3, 0x48, 0x0f, 0xae, 0xde, 0xf4);
    for (unsigned n = 0; n < 3; n++) {
        again();
        cpu->regs[R_AX] = 0xffff800012345678;
        cpu->kernel_gs_base = 0x1111;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_13], 0xffff800012345678);
        cr_expect_eq(cpu->win[SEG_FS].base, 0xffff800012345678);
        cr_expect_eq(cpu->regs[R_BX], 0x8000000080000000 | cpu->seg[SEG_SS].selector);
        cr_expect_eq(cpu->regs[R_14], cpu->seg[SEG_CS].selector);
        cr_expect_eq(cpu->regs[R_CX], 0x1111);
        cr_expect_eq(cpu->win[SEG_GS].base, 0x20000);
    }
    again(); /* not canonical: its handler's fault */
    cpu->regs[R_AX] = 0x0000800000000000;
    cr_assert_eq(run(), EXC_GP);
    cr_expect_eq(stack64(1), CODE);
}

/* Compatibility mode cuts addresses to 32 bits, whatever 64-bit code has left in the registers and in the TLB. */
Test(interp, addresses_of_compatibility_mode_after_those_of_64_bit_mode)
{
    long_mode();
    /* Linear 4 GiB is at 0x50000. */
    write64(PAGES + 0x1000 + 8 * 4, 0x60000 | 7);
    write64(0x60000, 0x61000 | 7);
    write64(0x61000, 0x50000 | 7);
    write64(0x50000, 0x1111);
    write64(0, 0x2222);
    /* mov eax, [rcx]; hlt */
    CODE_AT(CODE, 0x8b, 0x01, 0xf4);
    cpu->regs[R_CX] = 1ull << 32;
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_AX], 0x1111);
    const u16 flat = SEG_P | SEG_S | SEG_DB | SEG_G | 3;
    for (unsigned n = 0; n < SEG_COUNT; n++) cpu->seg[n] = (struct segment){.selector = 16, .limit = ~0u, .attr = flat};
    cpu->seg[SEG_CS].attr = flat | 8;
    cpu_update_mode(cpu);
    CODE_AT(CODE + 0x100, 0x8b, 0x01, 0x8b, 0x5a, 0x01, 0xf4); /* mov eax, [ecx]; mov ebx, [edx + 1]; hlt */
    for (unsigned n = 0; n < 3; n++) {
        cpu->rip = CODE + 0x100;
        cpu->halted = false;
        cpu->regs[R_DX] = 0xffffffff;
        cr_assert_eq(run(), -1);
        cr_assert_eq(cpu->regs[R_AX], 0x2222);
        cr_assert_eq(cpu->regs[R_BX], 0x2222);
    }
}

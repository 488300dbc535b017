/* build/tests/test_bt_jumps: how translated blocks find each other, and what happens to them when code or mappings change. */
#include "translate/bt.h"

#include <pthread.h>
#include <unistd.h>

#include "bt_env.h"

#define OTHER 0x12000u /* another page of code */

static struct bt *bt(void) { return cpu->engine; }

static void from(u64 rip)
{
    cpu->rip = rip;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
    cpu->regs[R_AX] = 0;
}

/* mov eax, value; ret */
static void function(gpa at, u32 value)
{
    CODE_AT(at, 0xb8, 0, 0, 0, 0, 0xc3);
    bus_write_block(mem, at + 1, &value, 4);
}

/* call `target`; hlt */
static void caller(gpa at, u64 target)
{
    CODE_AT(at, 0xe8, 0, 0, 0, 0, 0xf4);
    u32 displacement = (u32)(target - at - 5);
    bus_write_block(mem, at + 1, &displacement, 4);
}

static u64 result(u64 rip)
{
    from(rip);
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_SP], 0x80000);
    return cpu->regs[R_AX];
}

Test(interp, a_call_that_is_linked_across_pages_follows_a_write_to_its_target)
{
    long_mode();
    caller(CODE, OTHER);
    function(OTHER, 1);
    for (unsigned n = 0; n < 4; n++) cr_assert_eq(result(CODE), 1);
    const u64 links = bt()->links;
    cr_assert_eq(result(CODE), 1);
    cr_assert_eq(bt()->links, links, "the call goes straight to its target");
    /* The guest itself writes the new value, and calls. */
    CODE_AT(CODE + 0x800, 0xc7, 0x04, 0x25, 0x01, 0x20, 0x01, 0, 2, 0, 0, 0, 0xe9, 0xf0, 0xf7, 0xff, 0xff);
    for (u32 value = 2; value < 40; value++) {
        bus_write_block(mem, CODE + 0x807, &value, 4);
        cpu->engine_ops->invalidate(cpu, CODE + 0x807, 4);
        cr_assert_eq(result(CODE + 0x800), value);
    }
}

Test(interp, a_write_kills_only_the_blocks_that_it_hits)
{
    long_mode();
    for (unsigned n = 0; n < 8; n++) {
        caller(CODE + 16 * n, OTHER + 16 * n);
        function(OTHER + 16 * n, n);
    }
    for (unsigned k = 0; k < 3; k++)
        for (unsigned n = 0; n < 8; n++) cr_assert_eq(result(CODE + 16 * n), n);
    const u64 translated = bt()->translated, kills = bt()->cache.kills;
    function(OTHER + 16 * 5, 55);
    cpu->engine_ops->invalidate(cpu, OTHER + 16 * 5 + 1, 4);
    cr_assert_eq(bt()->cache.kills, kills + 1);
    for (unsigned k = 0; k < 3; k++)
        for (unsigned n = 0; n < 8; n++) cr_assert_eq(result(CODE + 16 * n), n == 5 ? 55 : n);
    cr_assert_eq(bt()->translated, translated + 1);
}

Test(interp, code_that_keeps_changing_is_interpreted)
{
    long_mode();
    caller(CODE, OTHER);
    u64 translated = 0;
    for (u32 n = 0; n < 2000; n++) {
        function(OTHER, n);
        cpu->engine_ops->invalidate(cpu, OTHER + 1, 4);
        cr_assert_eq(result(CODE), n);
        if (n == 1000) translated = bt()->translated;
    }
    cr_assert_eq(bt()->translated, translated);
    /* And no longer, once it stays. */
    for (u32 n = 0; n < 2000; n++) cr_assert_eq(result(CODE), 1999);
    cr_assert_eq(bt()->translated, translated + 1);
}

Test(interp, a_changed_mapping_changes_what_a_linked_call_reaches)
{
    long_mode();
    /* invlpg [LINEAR]; call LINEAR; hlt */
    CODE_AT(CODE, 0x0f, 0x01, 0x3c, 0x25, 0, 0, 4, 0, 0xe8, 0xf3, 0xff, 0x02, 0, 0xf4);
    caller(CODE + 0x100, LINEAR);
    function(0x50000, 5);
    function(0x51000, 6);
    for (unsigned n = 0; n < 20; n++) {
        map(LINEAR, n & 1 ? 0x51007 : 0x50007);
        cr_assert_eq(result(CODE), n & 1 ? 6 : 5);
        cr_assert_eq(result(CODE + 0x100), n & 1 ? 6 : 5);
    }
    /* A page that no code was fetched from leaves what is known of code alone. */
    const u64 gen = cpu->code_gen;
    tlb_flush_page(cpu, 0x77000);
    cr_assert_eq(cpu->code_gen, gen);
}

Test(interp, an_address_space_that_comes_back_finds_its_own_code)
{
    long_mode();
    /* A second address space, whose LINEAR is elsewhere. */
    memcpy(ram->host + 0x60000, ram->host + PAGES, 0x4000);
    write64(0x60000, 0x61000 + 7);
    write64(0x61000, 0x62000 + 7);
    write64(0x62000, 0x63000 + 7);
    write64(0x63000 + 8 * (LINEAR >> 12), 0x51000 | 7);
    map(LINEAR, 0x50007);
    function(0x50000, 5);
    function(0x51000, 6);
    /* mov cr3, rbx; call LINEAR; mov cr3, rcx; push rax; call LINEAR; pop rbx; hlt */
    CODE_AT(CODE, 0x0f, 0x22, 0xdb, 0xe8, 0xf8, 0xff, 0x02, 0, 0x0f, 0x22, 0xd9, 0x50, 0xe8, 0xef, 0xff, 0x02, 0, 0x5b, 0xf4);
    for (unsigned n = 0; n < 10; n++) {
        cpu->regs[R_BX] = PAGES;
        cpu->regs[R_CX] = 0x60000;
        cr_assert_eq(result(CODE), 6);
        cr_assert_eq(cpu->regs[R_BX], 5);
    }
}

Test(interp, a_return_goes_where_the_stack_says)
{
    long_mode();
    map(0, 0x50007);
    CODE_AT(0x50000, 0xf4);
    caller(CODE, OTHER);
    function(OTHER, 1);
    for (unsigned n = 0; n < 3; n++) cr_assert_eq(result(CODE), 1);
    /* mov [rsp], rbx; ret: to another place of the page, to an address that was called from before, to 0 */
    CODE_AT(OTHER, 0x48, 0x89, 0x1c, 0x24, 0xc3);
    cpu->engine_ops->invalidate(cpu, OTHER, 5);
    CODE_AT(CODE + 0x100, 0xb0, 9, 0xf4);
    caller(CODE + 0x200, OTHER);
    const u64 targets[] = {CODE + 5, CODE + 0x100, CODE + 0x205, 0};
    for (unsigned n = 0; n < 16; n++) {
        cpu->regs[R_BX] = targets[n % 4];
        result(n & 4 ? CODE : CODE + 0x200);
        cr_assert_eq(cpu->rip, targets[n % 4] + (n % 4 == 1 ? 3 : 1));
    }
    /* Without a call before it. */
    CODE_AT(CODE + 0x300, 0x6a, 0, 0xc3);
    for (unsigned n = 0; n < 3; n++) {
        result(CODE + 0x300);
        cr_assert_eq(cpu->rip, 1);
    }
}

static void *interrupt_later(void *unused)
{
    usleep(20000);
    cpu_event_set(cpu, EVENT_INTR);
    return unused;
}

Test(interp, returns_alone_do_not_keep_events_out)
{
    long_mode();
    /* call f; l: sub rsp, 8; f: ret: to l, for ever */
    CODE_AT(CODE, 0xe8, 4, 0, 0, 0, 0x48, 0x83, 0xec, 8, 0xc3);
    from(CODE);
    cpu->eflags |= EFLAGS_IF;
    intr_vector = 20;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, interrupt_later, NULL), 0);
    cr_assert_eq(run(), 20);
    pthread_join(thread, NULL);
}

/* Functions that call the next one twice: 2^64 calls, forward only, each with its return. */
Test(interp, calls_with_their_returns_do_not_keep_events_out)
{
    long_mode();
    for (unsigned n = 0; n < 64; n++) /* call +6; call +1; ret */
        CODE_AT(CODE + 11 * n, 0xe8, 6, 0, 0, 0, 0xe8, 1, 0, 0, 0, 0xc3);
    CODE_AT(CODE + 11 * 64, 0xc3);
    from(CODE);
    cpu->eflags |= EFLAGS_IF;
    intr_vector = 20;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, interrupt_later, NULL), 0);
    cr_assert_eq(run(), 20);
    pthread_join(thread, NULL);
}

Test(interp, calls_deeper_than_expected_returns_are_kept)
{
    const u64 depth = 3 * RETURN_ENTRIES;
    long_mode();
    /* call f; hlt; f: inc rax; dec rcx; jz l; call f; inc rdx; l: ret */
    CODE_AT(CODE, 0xe8, 1, 0, 0, 0, 0xf4, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x74, 8, 0xe8, 0xf3, 0xff, 0xff, 0xff, 0x48, 0xff,
            0xc2, 0xc3);
    for (unsigned n = 0; n < 4; n++) {
        from(CODE);
        cpu->regs[R_AX] = cpu->regs[R_DX] = 0;
        cpu->regs[R_CX] = depth;
        cr_assert_eq(run(), -1);
        cr_assert_eq(cpu->regs[R_AX], depth);
        cr_assert_eq(cpu->regs[R_DX], depth - 1);
        cr_assert_eq(cpu->regs[R_SP], 0x80000);
    }
}

/* A function that leaves its caller, too, and the caller's callers. */
Test(interp, returns_past_frames_go_where_the_stack_says)
{
    long_mode();
    /* Level n: call n + 1; inc rax; ret. The last one: add rsp, rbx; ret. */
    for (unsigned n = 0; n < 8; n++) CODE_AT(CODE + 16 * n, 0xe8, 11, 0, 0, 0, 0x48, 0xff, 0xc0, 0xc3);
    CODE_AT(CODE + 16 * 8, 0x48, 0x01, 0xdc, 0xc3);
    caller(CODE + 0x200, CODE);
    for (unsigned n = 0; n < 64; n++) {
        cpu->regs[R_BX] = n % 9 * 8;
        cpu->regs[R_AX] = 0;
        cr_assert_eq(result(CODE + 0x200), 8 - n % 9);
    }
}

/* Thousands of functions, called in turn: more than the code memory holds, while decoded code is limited, too. */
Test(interp, code_memory_that_is_full_gives_up_what_is_oldest)
{
    enum { FUNCTIONS = 8000, AT = 0x100000 };
    long_mode();
    cr_assert_eq(bt_set_code_bytes(cpu, 0), 0);
    bt()->cache.limit = 6u << 20;
    for (u32 n = 0; n < FUNCTIONS; n++) {
        CODE_AT(AT + 16 * n, 0x48, 0x05, 0, 0, 0, 0, 0x75, 1, 0x90, 0xc3); /* add rax, n; jnz +1; nop; ret */
        bus_write_block(mem, AT + 16 * n + 2, &n, 4);
    }
    /* mov ebx, AT; l: call rbx; add ebx, 16; cmp ebx, AT + 16 * FUNCTIONS; jnz l; dec ecx; jnz CODE; hlt */
    CODE_AT(CODE, 0xbb, 0, 0, 0x10, 0, 0xff, 0xd3, 0x83, 0xc3, 16, 0x81, 0xfb, 0, 0xf4, 0x11, 0, 0x75, 0xf3, 0xff, 0xc9, 0x75,
            0xea, 0xf4);
    from(CODE);
    cpu->regs[R_CX] = 3;
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_AX], 3ull * FUNCTIONS * (FUNCTIONS - 1) / 2);
    cr_assert_gt(bt()->evictions, 16);
    cr_assert_gt(bt()->translated, 2 * FUNCTIONS);
    cr_assert_leq(bt()->cache.bytes, bt()->cache.limit + (1u << 20));
}

/* An instruction over a page's end: `mov eax, value; ret` with two bytes in the first page. A jump of the same page leads to it. */
static void crossing(gpa first, gpa second, u32 value)
{
    u8 bytes[6] = {0xb8, 0, 0, 0, 0, 0xc3};
    memcpy(bytes + 1, &value, 4);
    CODE_AT(first + 0xff0, 0xeb, 0x0c); /* jmp 0xffe */
    bus_write_block(mem, first + 0xffe, bytes, 2);
    bus_write_block(mem, second, bytes + 2, 4);
}

Test(interp, an_instruction_that_crosses_a_page_is_translated_once_and_follows_writes_to_both_pages)
{
    long_mode();
    caller(CODE, OTHER + 0xff0);
    crossing(OTHER, OTHER + 0x1000, 0x01020304);
    for (unsigned n = 0; n < 4; n++) cr_assert_eq(result(CODE), 0x01020304);
    const u64 translated = bt()->translated;
    for (unsigned n = 0; n < 4; n++) cr_assert_eq(result(CODE), 0x01020304);
    cr_assert_eq(bt()->translated, translated);
    bus_write_block(mem, OTHER + 0x1001, &(u8){0x55}, 1);
    cpu->engine_ops->invalidate(cpu, OTHER + 0x1001, 1);
    for (unsigned n = 0; n < 4; n++) cr_assert_eq(result(CODE), 0x01550304);
    bus_write_block(mem, OTHER + 0xfff, &(u8){0x66}, 1);
    cpu->engine_ops->invalidate(cpu, OTHER + 0xfff, 1);
    for (unsigned n = 0; n < 4; n++) cr_assert_eq(result(CODE), 0x01550366);
    bus_write_block(mem, OTHER + 0x1004, &(u8){0x90}, 1);
    cpu->engine_ops->invalidate(cpu, OTHER + 0x1004, 1);
    cr_assert_eq(result(CODE), 0x01550366, "data beside it");
}

Test(interp, an_instruction_that_crosses_a_page_follows_the_mapping_of_both_pages)
{
    long_mode();
    const u64 one = LINEAR, two = LINEAR + 0x1000;
    crossing(OTHER, OTHER + 0x1000, 0x11223344);
    bus_write_block(mem, OTHER + 0x2000, (u8[]){0x77, 0x66, 0x55, 0xc3}, 4);
    map(one, OTHER | 7);
    for (unsigned n = 0; n < 6; n++) {
        const bool other = n & 1;
        map(two, (OTHER + (other ? 0x2000 : 0x1000)) | 7);
        tlb_flush_page(cpu, two);
        for (unsigned k = 0; k < 4; k++) {
            caller(CODE, one + 0xff0);
            cr_assert_eq(result(CODE), other ? 0x55667744 : 0x11223344);
        }
    }
    map(two, 7);
    write64(PAGES + 0x3000 + 8 * (two >> 12), 0);
    tlb_flush_page(cpu, two);
    from(one + 0xff0);
    cr_assert_eq(run(), EXC_PF);
    cr_assert_eq(cpu->cr2, two);
    cr_assert_eq(stack64(1), one + 0xffe);
}

/* ---- code in a page of page tables: an accessed bit, which the walk sets, is a write to it ---- */

static void written(void *opaque, u64 offset, u64 size)
{
    (void)opaque;
    cpu->engine_ops->invalidate(cpu, offset, size);
}

static void expect_no_dead_code(void)
{
    for (unsigned n = 0; n < CODE_REGIONS; n++) {
        for (const struct translation *t = bt()->translations[n]; t; t = t->next) {
            if (!t->block) continue;
            cr_assert_not(t->block->dead, "a dead block has been translated");
            for (const struct link *l = t->in; l; l = l->next) cr_assert_not(l->from->dead, "a dead block leads to it");
        }
    }
}

Test(interp, a_block_that_a_page_walk_kills_while_it_runs_is_not_linked)
{
    const gpa table = PAGES + 0x3000;
    long_mode();
    ram_on_code_write(ram, written, NULL);
    /* movabs rbx, the table's entry 257; mov eax, [257 * 4096]; jmp +0x29 */
    CODE_AT(table + 0x806, 0x48, 0xbb, 7, 0, 5, 0, 0, 0, 0, 0, 0x8b, 4, 0x25, 0, 0x10, 0x10, 0, 0xeb, 0x27);
    CODE_AT(table + 0x840, 0xf4);
    write64(0x50000, 1234);
    from(table + 0x840);
    cr_assert_eq(run(), -1);
    cr_assert_eq(result(table + 0x806), 1234);
    cr_assert(ram->host[table + 0x808] & 0x20);
    expect_no_dead_code();
}

Test(interp, a_crossing_block_that_the_walk_to_its_second_page_kills_is_not_translated)
{
    const gpa table = PAGES + 0x3000;
    long_mode();
    ram_on_code_write(ram, written, NULL);
    bt_set_threshold(cpu, 2);
    CODE_AT(table + 0xffe, 0xb8, 1); /* mov eax, 1; hlt */
    CODE_AT(0x50000, 0, 0, 0, 0xf4);
    map(0x1fd000, table | 7);
    for (unsigned n = 0; n < 4; n++) {
        map(0x1fe000, 0x50007);
        tlb_flush_page(cpu, 0x1fe000);
        cr_assert_eq(result(0x1fdffe), 1);
        cr_assert(ram->host[table + 0xff0] & 0x20);
        expect_no_dead_code();
    }
}

/* build/tests/test_bt_smp: two vCPUs that run and write the same code, in turns on one thread: what each has to tell the other. */
#include "translate/bt.h"

#include "cpu/mmu.h"

#include "bt_env.h"

#define OTHER 0x12000u /* another page of code */
#define CODE_PAGE(at) (ram->page_flags[(at) >> 12] & RAM_PAGE_CODE)

static struct cpu *all[2];

static struct block_cache *cache(unsigned n) { return all[n]->engine; }

static void two(void)
{
    all[0] = cpu;
    all[1] = cpu_create(1, mem, io, ram, &hooks, model, &bt_engine);
    for (unsigned n = 0; n < 2; n++) {
        cpu = all[n];
        cpu->all = all;
        cpu->count = 2;
        cpu->smp = true;
        cpu->wait_sipi = false;
        long_mode();
    }
}
static void end(void) { cpu_destroy(all[1]), cpu = all[0]; }

/* The vCPU runs; it halts at the end, in the guest still as far as others can tell. */
static u64 result(unsigned n, u64 rip)
{
    cpu = all[n];
    cpu->rip = rip;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
    cpu->regs[R_AX] = 0;
    cr_assert_eq(run(), -1);
    cpu->in_guest = true;
    return cpu->regs[R_AX];
}

/* mov eax, value; hlt: in RAM, as if by a store that nobody noticed. */
static void function(gpa at, u32 value)
{
    CODE_AT(at, 0xb8, 0, 0, 0, 0, 0xf4);
    memcpy(ram->host + at + 1, &value, 4);
}

/* It looks at its events. */
static void pass(unsigned n)
{
    cpu_event_clear(all[n], EVENT_INVALIDATE);
    block_take_queue(all[n], cache(n));
}

static bool asked(unsigned n) { return all[n]->events & EVENT_INVALIDATE; }

Test(interp, new_code_follows_unseen_stores_until_all_have_passed)
{
    two();
    all[1]->in_guest = true;
    for (u32 n = 1; n < 50; n++) {
        function(OTHER, n);
        cr_assert_eq(result(0, OTHER), n);
    }
    const struct bt *bt = all[0]->engine;
    cr_assert(asked(1));
    cr_assert_eq(bt->translated, 0, "it is compared each time, so only interpreted");
    pass(1);
    for (u32 n = 0; n < 4; n++) cr_assert_eq(result(0, OTHER), 49);
    cr_assert_eq(bt->translated, 1);
    /* From now on stores are told. */
    function(OTHER, 50);
    cr_assert_eq(result(0, OTHER), 49);
    cpu_stored(all[1], OTHER + 1, 4, false);
    cr_assert(asked(0));
    cr_assert_eq(result(0, OTHER), 50);
    end();
}

Test(interp, a_crossing_instruction_follows_unseen_stores_to_both_pages)
{
    two();
    all[1]->in_guest = true;
    for (u32 n = 1; n < 20; n++) {
        function(OTHER + 0xffd, n << 24 | n);
        cr_assert_eq(result(0, OTHER + 0xffd), n << 24 | n);
    }
    pass(1);
    for (u32 n = 0; n < 4; n++) cr_assert_eq(result(0, OTHER + 0xffd), 19 << 24 | 19);
    function(OTHER + 0xffd, 7);
    cpu_stored(all[1], OTHER + 0x1000, 1, false);
    cr_assert_eq(result(0, OTHER + 0xffd), 7);
    end();
}

Test(interp, who_is_not_in_the_guest_is_not_waited_for)
{
    two();
    function(OTHER, 1);
    for (u32 n = 0; n < 4; n++) cr_assert_eq(result(0, OTHER), 1);
    cr_assert_eq(((struct bt *)all[0]->engine)->translated, 1);
    end();
}

Test(interp, stores_where_another_vcpu_has_no_code_do_not_disturb_it)
{
    two();
    function(OTHER, 1);
    result(0, OTHER);
    pass(0);
    cpu_stored(all[1], OTHER + 16, 8, false);
    cr_assert_not(asked(0));
    cpu_stored(all[1], OTHER + 15, 1, false);
    cr_assert(asked(0));
    end();
}

Test(interp, a_page_that_no_vcpu_has_code_of_any_more_is_data)
{
    two();
    function(OTHER, 1);
    for (unsigned n = 0; n < 2; n++) cr_assert_eq(result(n, OTHER), 1);
    cr_assert_eq(CODE_PAGE(OTHER), 2 * RAM_PAGE_CODE_ONE);
    memset(ram->host + OTHER, 0, 8);
    for (unsigned k = 0; k < 2 * EMPTY_WRITES + 2; k++) cpu_stored(all[0], OTHER, 8, false);
    cr_assert_eq(CODE_PAGE(OTHER), RAM_PAGE_CODE_ONE, "the vCPU that stores gives it up");
    cr_assert(asked(1));
    pass(1);
    for (unsigned k = 0; k < EMPTY_WRITES; k++) cpu_stored(all[0], OTHER, 8, false);
    pass(1);
    cr_assert_eq(CODE_PAGE(OTHER), 0, "and the other one when it is told");
    end();
}

/* mov ebp, place + 8; mov dword [rbp - 8], 0x11223344; hlt: by the frame pointer, so that it looks at recent ranges */
static void storing(gpa at, u32 place)
{
    CODE_AT(at, 0xbd, 0, 0, 0, 0, 0xc7, 0x45, 0xf8, 0x44, 0x33, 0x22, 0x11, 0xf4);
    place += 8;
    memcpy(ram->host + at + 1, &place, 4);
}

Test(interp, new_code_in_a_page_that_is_stored_to_beside_code_waits_for_who_stores)
{
    two();
    function(OTHER, 1);
    result(0, OTHER);
    storing(CODE, OTHER + 0x800);
    pass(0);
    for (unsigned n = 0; n < 10; n++) result(1, CODE);
    pass(1);
    pass(0);
    result(1, CODE);
    cr_assert_not(asked(0));
    cr_assert(ram->page_flags[OTHER >> 12] & RAM_PAGE_BESIDE, "it stores there without telling");
    for (u32 n = 2; n < 10; n++) {
        function(OTHER + 0x800, n);
        cr_assert_eq(result(0, OTHER + 0x800), n);
        cr_assert(asked(1));
    }
    pass(1);
    result(0, OTHER + 0x800);
    pass(0);
    function(OTHER + 0x800, 10);
    result(1, CODE);
    cr_assert(asked(0), "it finds the new code");
    end();
}

Test(interp, stores_beside_code_that_only_its_own_vcpu_makes_disturb_no_other)
{
    two();
    all[1]->in_guest = true;
    function(OTHER, 1);
    result(0, OTHER);
    storing(CODE, OTHER + 0x800);
    result(0, CODE);
    pass(1);
    for (unsigned n = 0; n < 10; n++) result(0, CODE);
    cr_assert(ram->page_flags[OTHER >> 12] & RAM_PAGE_BESIDE);
    pass(1);
    function(OTHER + 0x900, 2);
    cr_assert_eq(result(0, OTHER + 0x900), 2);
    cr_assert_not(asked(1));
    end();
}

/* The n-th of many pages, each with one function, all seen at the same linear address. */
#define MANY (QUEUED + 100)
static gpa one_of_many(unsigned n)
{
    const gpa page = 0x100000 + 4096 * n;
    write64(PAGES + 0x3000 + 8 * 0x1ff, page | 7);
    tlb_flush_page(all[0], 0x1ff000);
    return page;
}

/* More requests than there is room for. */
Test(interp, stores_to_many_pages_while_a_vcpu_sleeps_cost_it_all_code)
{
    two();
    for (unsigned n = 0; n < MANY; n++) {
        function(one_of_many(n), n);
        cr_assert_eq(result(0, 0x1ff000), n);
    }
    function(OTHER, 1);
    result(0, OTHER);
    pass(0);
    for (unsigned n = 0; n < MANY; n++) {
        function(one_of_many(n), n + 1);
        cpu_stored(all[1], 0x100000 + 4096 * n + 1, 4, false);
    }
    pass(0);
    cr_assert_eq(CODE_PAGE(OTHER), 0);
    for (unsigned n = 0; n < MANY; n++) {
        one_of_many(n);
        cr_assert_eq(result(0, 0x1ff000), n + 1);
    }
    end();
}

Test(interp, many_stores_while_a_vcpu_sleeps_cost_it_the_code_that_they_hit)
{
    two();
    function(OTHER, 1);
    for (unsigned n = 0; n < 256; n++) CODE_AT(0x20000 + 16 * n, 0xf4);
    result(0, OTHER);
    for (unsigned n = 0; n < 256; n++) result(0, 0x20000 + 16 * n);
    pass(0);
    const u64 kills = cache(0)->kills;
    memset(ram->host + 0x20000, 0x90, 4096);
    for (unsigned k = 0; k < 4000; k++) cpu_stored(all[1], 0x20000 + 16 * (k * 37 % 256), 1, false);
    pass(0);
    cr_assert_eq(cache(0)->kills, kills + 256);
    cr_assert_eq(result(0, OTHER), 1);
    cr_assert_eq(cache(0)->kills, kills + 256, "the other page is left alone");
    end();
}

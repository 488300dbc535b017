/* build/tests/test_check: -d check: the interpreter's tests in lock-step, and differences planted for it to find. */
#include "translate/bt.h"

#include "core/log.h"
#include "cpu/cpu.h"
#include "translate/translate.h"

static struct cpu *checked(struct cpu *c)
{
    bt_set_threshold(c, 1);
    return c;
}
#define interp_engine   bt_engine
#define cpu_create(...) (log_mask |= LOG_CHECK, checked(cpu_create(__VA_ARGS__)))
#include "interp.c"

/* The block at CODE, which was run before. */
static struct block *block(void)
{
    struct bt *bt = cpu->engine;
    return bt->cache.pages[CODE >> GUEST_PAGE_SHIFT]->buckets[CODE % PAGE_BUCKETS];
}

static bool nothing(struct cpu *c, const struct insn *i)
{
    (void)c, (void)i;
    return true;
}

/* Run from CODE; `different`: with the interpreter's handler of the n-th instruction doing nothing, which must be found. */
static void plant(unsigned n, bool different)
{
    cpu->rip = CODE;
    cpu->halted = false;
    cpu->aflags = 0;
    if (different) block()->insns[n].fn = nothing;
    cr_assert_eq(cpu->engine_ops->run(cpu), different ? EXIT_BROKEN : EXIT_HALT);
}

Test(interp, a_wrong_register_is_found)
{
    long_mode();
    CODE_AT(CODE, 0x48, 0xff, 0xc0, 0x90, 0xeb, 0, 0xf4); /* inc rax; nop; jmp +0; hlt */
    for (unsigned n = 0; n < 3; n++) plant(0, false);
    cr_assert_eq(cpu->regs[R_AX], 3);
    plant(0, true);
}

static bool stores_elsewhere(struct cpu *c, const struct insn *i)
{
    (void)i;
    return mem_write8(c, SEG_DS, 0x20008, 0x55);
}

Test(interp, a_store_that_is_missing_is_found)
{
    long_mode();
    CODE_AT(CODE, 0xc6, 0x06, 0x55, 0xeb, 0, 0xf4); /* mov byte [rsi], 55h; jmp +0; hlt */
    cpu->regs[R_SI] = 0x20000;
    plant(0, false);
    plant(0, false);
    cr_assert_eq(ram->host[0x20000], 0x55);
    block()->insns[0].fn = stores_elsewhere;
    cpu->rip = CODE;
    cpu->halted = false;
    cr_assert_eq(cpu->engine_ops->run(cpu), EXIT_BROKEN);
}

Test(interp, a_flag_that_is_still_needed_is_found)
{
    long_mode();
    CODE_AT(CODE, 0x39, 0xd8, 0xeb, 0, 0x0f, 0x94, 0xc1, 0xf4); /* cmp eax, ebx; jmp +0; sete cl; hlt */
    plant(0, false);
    cr_assert_eq(cpu->regs[R_CX] & 0xff, 1);
    plant(0, true);
}

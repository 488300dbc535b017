/* build/tests/test_bt_traces: blocks translated with those that follow them (translate/trace.c). */
#include "translate/bt.h"

#include <pthread.h>
#include <unistd.h>

#include "bt_env.h"

/* Run once with the interpreter, which counts how often each block runs; then translated at once, with what mostly followed. */
#define INTERPRETED (~0u)
#define AT_ONCE     1u

static int start(unsigned threshold, u64 count)
{
    bt_set_threshold(cpu, threshold);
    cpu->rip = CODE;
    cpu->halted = false;
    memset(cpu->regs, 0, sizeof cpu->regs);
    cpu->regs[R_SP] = 0x80000;
    cpu->regs[R_CX] = count;
    cpu->regs[R_BX] = LINEAR + 0xe00;
    fill_pages();
    return run();
}

static const struct block *trace_at(u64 at)
{
    const struct code_page *p = ((struct bt *)cpu->engine)->cache.pages[at >> 12];
    const struct block *b = p ? block_at(p, at & 0xfff, cpu->mode_key, block_place(cpu, at, at & 0xfff)) : NULL;
    return b && b->host ? b->trace : NULL;
}

static unsigned instructions(u64 at) { return trace_at(at) ? trace_at(at)->count : 0; }

/*  head: cmp eax, [rel head+801h]
 *        ja over
 *        add rdx, [rel head+808h]
 *        test ecx, 7
 *        jnz mid
 *        lahf
 *        add rdi, rax
 *  mid:  adc rsi, [rbx]
 *        add rbx, 4
 *        add eax, 3
 *        dec ecx
 *        jnz head
 *        hlt
 *  over: lahf
 *        add rdi, rax
 *        mov eax, 1
 *        jmp mid */
static void loop_of_blocks(u64 second)
{
    long_mode();
    map(LINEAR, FIRST | 7);
    map(LINEAR + 0x1000, second);
    CODE_AT(CODE, 0x3b, 0x05, 0xfb, 0x07, 0x00, 0x00, 0x77, 0x22, 0x48, 0x03, 0x15, 0xf9, 0x07, 0x00, 0x00, 0xf7, 0xc1, 0x07, 0x00, 0x00, 0x00,
            0x75, 0x04, 0x9f, 0x48, 0x01, 0xc7, 0x48, 0x13, 0x33, 0x48, 0x83, 0xc3, 0x04, 0x83, 0xc0, 0x03, 0xff, 0xc9, 0x75, 0xd7, 0xf4, 0x9f,
            0x48, 0x01, 0xc7, 0xb8, 0x01, 0x00, 0x00, 0x00, 0xeb, 0xe6);
    write64(CODE + 0x800, 100 << 8);
    write64(CODE + 0x808, 0x123456789);
}

Test(interp, a_loop_of_several_blocks_leaves_what_the_interpreter_leaves)
{
    enum { RUNS = 60 };
    static u64 regs[2][RUNS][16], sum[2][RUNS];
    loop_of_blocks(SECOND | 7);
    for (unsigned n = 0; n < 2; n++) {
        for (unsigned k = 0; k < RUNS; k++) {
            cr_assert_eq(start(n ? AT_ONCE : INTERPRETED, 1000 + k), -1);
            memcpy(regs[n][k], cpu->regs, sizeof regs[n][k]);
            sum[n][k] = sum_pages();
        }
    }
    cr_assert_gt(instructions(CODE), 10u, "the way that is mostly taken, more than once");
    cr_assert_arr_eq(regs[0], regs[1], sizeof regs[0]);
    cr_assert_arr_eq(sum[0], sum[1], sizeof sum[0]);
}

Test(interp, a_fault_in_the_middle_of_a_trace_is_exact)
{
    u64 regs[2][16], frame[2][5];
    loop_of_blocks(0);
    for (unsigned n = 0; n < 2; n++) {
        cr_assert_eq(start(n ? AT_ONCE : INTERPRETED, 1000), EXC_PF);
        cr_assert_eq(cpu->cr2, LINEAR + 0x1000);
        memcpy(regs[n], cpu->regs, sizeof regs[n]);
        for (unsigned k = 0; k < 5; k++) frame[n][k] = stack64(k);
    }
    cr_assert(trace_at(CODE));
    cr_assert_eq(frame[1][1], CODE + 0x1b);
    cr_assert_arr_eq(regs[0], regs[1], sizeof regs[0]);
    cr_assert_arr_eq(frame[0], frame[1], sizeof frame[0]);
}

/*  head: add rax, 3
 *        dec ecx
 *        jz out
 *        mov byte [rel imm+3], cl, or, first, to data
 *        test edx, edx
 *        jnz out
 *  imm:  add rax, 1
 *        jmp head
 *  out:  hlt */
Test(interp, a_store_to_a_later_block_of_the_trace_takes_effect_at_once)
{
    long_mode();
    CODE_AT(CODE, 0x48, 0x83, 0xc0, 0x03, 0xff, 0xc9, 0x74, 0x10, 0x88, 0x0d, 0x00, 0x08, 0x00, 0x00, 0x85, 0xd2, 0x75, 0x06, 0x48, 0x83, 0xc0,
            0x01, 0xeb, 0xe8, 0xf4);
    cr_assert_eq(start(INTERPRETED, 100), -1);
    cr_assert_eq(start(AT_ONCE, 100), -1);
    cr_assert_eq(cpu->regs[R_AX], 100 * 3 + 99);
    cr_assert_gt(instructions(CODE), 8u);
    /* Another mapping of the page, where the store goes now. */
    map(CODE + 0x1000, CODE | 7);
    u32 displacement = CODE + 0x1000 + 0x15 - (CODE + 14);
    bus_write_block(mem, CODE + 10, &displacement, 4);
    cpu->engine_ops->invalidate(cpu, CODE + 10, 4);
    cr_assert_eq(start(INTERPRETED, 3), -1);
    cr_assert_eq(start(AT_ONCE, 20), -1);
    u64 sum = 20 * 3;
    for (unsigned n = 1; n < 20; n++) sum += n;
    cr_assert_eq(cpu->regs[R_AX], sum);
}

/* What a store kills takes along the traces that it is part of. */
Test(interp, a_write_to_any_block_of_a_trace_changes_what_it_does)
{
    loop_of_blocks(SECOND | 7);
    cr_assert_eq(start(INTERPRETED, 100), -1);
    cr_assert_eq(start(AT_ONCE, 100), -1);
    const u64 before = cpu->regs[R_BX];
    cr_assert(trace_at(CODE));
    const u8 eight = 8; /* add rbx, 8 */
    bus_write_block(mem, CODE + 0x21, &eight, 1);
    cpu->engine_ops->invalidate(cpu, CODE + 0x21, 1);
    cr_assert_not(trace_at(CODE));
    cr_assert_eq(start(AT_ONCE, 100), -1);
    cr_assert_eq(cpu->regs[R_BX] - before, 100 * 4);
}

static void *interrupt_later(void *unused)
{
    usleep(20000);
    cpu_event_set(cpu, EVENT_INTR);
    return unused;
}

/*  a:    test eax, eax
 *        jnz back
 *        dec ecx
 *        jz out
 *        call f
 *        jmp a
 *  f:    ret
 *  out:  hlt
 *  back: jmp a */
Test(interp, ways_out_of_a_trace_that_ends_with_a_call_do_not_keep_events_out)
{
    long_mode();
    CODE_AT(CODE, 0x85, 0xc0, 0x75, 0x0d, 0xff, 0xc9, 0x74, 0x08, 0xe8, 0x02, 0x00, 0x00, 0x00, 0xeb, 0xf1, 0xc3, 0xf4, 0xeb, 0xed);
    cr_assert_eq(start(INTERPRETED, 100), -1);
    cr_assert_eq(start(AT_ONCE, 100), -1);
    cr_assert_eq(instructions(CODE), 5u);
    cr_assert_eq(trace_at(CODE)->insns[4].mnemonic, I_call);
    cpu->eflags |= EFLAGS_IF;
    intr_vector = 20;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, interrupt_later, NULL), 0);
    cpu->rip = CODE;
    cpu->halted = false;
    cpu->regs[R_AX] = 1; /* round and round by `back` */
    cr_assert_eq(run(), 20);
    pthread_join(thread, NULL);
}

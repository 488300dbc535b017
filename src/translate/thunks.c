/* What surrounds translated code: entry, exits, and the call of a handler. */
#include "translate/tr.h"

#include "cpu/exec.h"
#include "cpu/fpu_live.h"
#include "translate/perfmap.h"

static void emit_save_registers(struct emit *e)
{
    for (unsigned g = 0; g < RESIDENT; g++) emit_store(e, host_reg(g), guest_mem(g));
}

static void emit_load_registers(struct emit *e)
{
    for (unsigned g = 0; g < RESIDENT; g++) emit_load(e, host_reg(g), guest_mem(g));
}

/* Before C code runs; may change all registers that a call may. */
static void emit_fpu_save(struct emit *e)
{
    emit_op(e, 0, 0, 0x80, 7, STATE(fpu_live));
    emit8(e, 0);
    u8 *none = emit_jump(e, CC_E);
    emit_load(e, H_DI, STATE(self));
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)fpu_save_live);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_patch(none, e->p);
}

static void emit_return(struct emit *e)
{
    static const u8 pops[] = {0x48, 0x83, 0xc4, 0x08, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3};
    emit_bytes(e, pops, sizeof pops); /* add rsp, 8; pop r15 r14 r13 r12 rbp rbx; ret */
}

/* Registers that a C function may change, as the ABI has it. */
#define CALLER_SAVED (bit(H_AX) | bit(H_CX) | bit(H_DX) | bit(H_SI) | bit(H_DI) | bit(H_8) | bit(H_9) | bit(H_10) | bit(H_11))

/* A light function: all guest registers, T_B too, stay, flags are lost. */
static u8 *emit_light(struct emit *e, struct bt *bt, light_fn *fn)
{
    u8 *start = code_memory_rx(&bt->code, e->p);
    for (unsigned g = 0; g < 16; g++)
        if (resident(g) && (CALLER_SAVED & bit(host_reg(g)))) emit_store(e, host_reg(g), guest_mem(g));
    emit_load(e, H_DI, STATE(self));
    emit_store(e, T_B, rm_reg(H_SI));
    emit_store(e, T_A, rm_reg(H_DX));
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)fn);
    emit_alu_imm(e, true, 5, H_SP, 8);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_store(e, H_AX, rm_reg(T_A));
    for (unsigned g = 0; g < 16; g++)
        if (resident(g) && (CALLER_SAVED & bit(host_reg(g)))) emit_load(e, host_reg(g), guest_mem(g));
    emit8(e, 0xc3);
    return start;
}

void translate_thunks(struct bt *bt)
{
    bt->bmi2 = __builtin_cpu_supports("bmi2");
    static const u8 pushes[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x48, 0x83, 0xec, 0x08};
    struct code_region *region = code_memory_current(&bt->code);
    struct emit em = {.p = region->code}, *e = &em;
    bt->enter = code_memory_rx(&bt->code, e->p);
    emit_bytes(e, pushes, sizeof pushes); /* push rbx rbp r12 r13 r14 r15; sub rsp, 8 */
    emit_store(e, H_DI, rm_reg(H_14));
    emit_load_registers(e);
    emit_op(e, 0, 0, 0xff, 4, rm_reg(H_14));

    bt->cache.no_host = code_memory_rx(&bt->code, e->p); /* r15: the jump_entry */
    emit_load(e, H_14, rm_mem(H_15, offsetof(struct jump_entry, lin)));
    emit_op(e, E_W, 0, 0x2b, H_14, STATE(win[SEG_CS].base));
    emit_op(e, E_W, 0, 0x23, H_14, STATE(ip_mask));
    bt->exit_rip = code_memory_rx(&bt->code, e->p);
    emit_store(e, H_14, STATE(rip));
    u8 *leave_at_rip = e->p;
    emit_save_registers(e);
    emit_fpu_save(e);
    emit_return(e);

    bt->denied = code_memory_rx(&bt->code, e->p);
    emit_save_registers(e);
    emit_fpu_save(e);
    emit_load(e, H_DI, STATE(self));
    emit_store(e, H_14, rm_reg(H_SI));
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)bt_denied);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_return(e);

    bt->slow = code_memory_rx(&bt->code, e->p);
    emit_save_registers(e);
    emit_op(e, E_W, 0, 0x03, H_15, STATE(page_rip));
    emit_store(e, H_15, STATE(block_rip));
    emit_store(e, H_15, STATE(regs[REG_RIP]));
    emit_load(e, H_DI, STATE(self));
    emit_store(e, H_14, rm_reg(H_SI));
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)bt_slow);
    emit_alu_imm(e, true, 5, H_SP, 8);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_alu_imm(e, true, 7, H_AX, BT_LEAVE);
    u8 *leave = emit_jump(e, CC_E), *elsewhere = emit_jump(e, CC_A);
    emit_load_registers(e);
    emit8(e, 0xc3);
    emit_patch(elsewhere, e->p);
    emit_store(e, H_AX, rm_reg(T_A));
    emit_load_registers(e);
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_op(e, 0, 0, 0xff, 4, rm_reg(T_A));
    emit_patch(leave, e->p);
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_return(e);

    bt->settle = code_memory_rx(&bt->code, e->p);
    emit_op(e, 0, 0, 0xf6, 0, STATE(aflags));
    emit8(e, AFLAG_PENDING);
    u8 *pending = emit_jump(e, CC_NE);
    emit8(e, 0xc3);
    emit_patch(pending, e->p);
    emit_load32(e, T_A, STATE(aflags));
    emit_shift(e, 5, T_A, 2);
    emit_mov_imm64(e, T_B, (u64)(uintptr_t)bt->code.rx);
    emit_op(e, E_W, 0, 0x03, T_A, rm_reg(T_B));
    emit_op(e, 0, 0, 0xff, 4, rm_reg(T_A));

    bt->fill = emit_light(e, bt, light_fill);
    bt->missed = emit_light(e, bt, light_missed);
    bt->rdtsc = emit_light(e, bt, light_rdtsc);
    bt->pause = emit_light(e, bt, light_pause);
    bt->fpu_load = emit_light(e, bt, light_fpu_load);
    bt->find = emit_light(e, bt, light_find);
    const u8 *light = emit_light(e, bt, light_link);
    bt->link = code_memory_rx(&bt->code, e->p);
    emit8(e, 0xe8);
    emit32(e, 0);
    emit_patch(e->p - 4, thunk_rw(bt, light));
    emit_op(e, E_W, 0, 0x85, T_A, rm_reg(T_A));
    emit_jump_to(e, CC_E, leave_at_rip);
    emit_op(e, 0, 0, 0xff, 4, rm_reg(T_A));

    perfmap_add(bt->code.rx, (size_t)(e->p - bt->code.rw), "translator-thunks");
    region->start = region->code = e->p;
}

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
    emit_mov_imm64(e, H_DI, (u64)e->cpu);
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)fpu_save_live);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_patch(none, e->p);
}

/* Translated code's stack is cpu->returns[]; C code has its own. On the former may lie, in bytes, a return address of translated
 * code, which cpu->return_sp leaves out and cpu_empty_returns() takes along. Uses RAX. */
static void emit_to_c(struct emit *e, s32 bytes)
{
    emit_lea(e, true, H_AX, rm_mem(H_SP, bytes));
    emit_store(e, H_AX, STATE(return_sp));
    emit_load(e, H_SP, STATE(host_sp));
}

static void emit_from_c(struct emit *e, s32 bytes)
{
    emit_load(e, H_SP, STATE(return_sp));
    if (bytes) emit_lea(e, true, H_SP, rm_mem(H_SP, -bytes));
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
    emit_mov_imm64(e, H_DI, (u64)e->cpu);
    emit_store(e, T_B, rm_reg(H_SI));
    emit_store(e, T_A, rm_reg(H_DX));
    emit_to_c(e, 8);
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)fn);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_from_c(e, 8);
    emit_store(e, H_AX, rm_reg(T_A));
    for (unsigned g = 0; g < 16; g++)
        if (resident(g) && (CALLER_SAVED & bit(host_reg(g)))) emit_load(e, host_reg(g), guest_mem(g));
    emit8(e, 0xc3);
    return start;
}

/* T_B is where a return leads that the top of the expected ones does not: T_A becomes its jump_entry (at least the field host), page
 * entered; or 0. */
static void emit_unexpected(struct emit *e, bool segmented)
{
    enum { ENTRY = sizeof(struct return_entry), RIP = offsetof(struct return_entry, rip) };
    for (s32 n = 1; n < (s32)RETURN_NONE; n++) { /* frames that were left otherwise: the caller's is near. 8: our own return address */
        emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(H_SP, 8 + n * ENTRY + RIP));
        u8 *no = emit_jump(e, CC_NE);
        emit_lea(e, true, T_A, rm_mem(H_SP, 8 + n * ENTRY - (s32)offsetof(struct jump_entry, host)));
        emit_load(e, T_B, rm_mem(H_SP, 0));
        emit_lea(e, true, H_SP, rm_mem(H_SP, 8 + n * ENTRY + RIP));
        emit_op(e, 0, 0, 0xff, 4, rm_reg(T_B));
        emit_patch(no, e->p);
    }
    if (!segmented) {
        u8 *misses[2];
        emit_find(e, misses);
        emit_enter_page(e, false);
        emit8(e, 0xc3);
        emit_patch(misses[1], e->p);
        emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
        emit_patch(misses[0], e->p);
    }
    emit_mov_imm64(e, T_A, 0);
    emit8(e, 0xc3);
}

void translate_thunks(struct bt *bt, const struct cpu *cpu)
{
    bt->bmi2 = __builtin_cpu_supports("bmi2");
    static const u8 pushes[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x48, 0x83, 0xec, 0x08};
    struct code_region *region = code_memory_current(&bt->code);
    struct emit em = {.p = region->code, .cpu = (s32)(uintptr_t)cpu}, *e = &em;
    bt->enter = code_memory_rx(&bt->code, e->p);
    emit_bytes(e, pushes, sizeof pushes); /* push rbx rbp r12 r13 r14 r15; sub rsp, 8 */
    emit_store(e, H_DI, rm_reg(H_14));
    emit_store(e, H_SP, STATE(host_sp));
    emit_load_registers(e);
    emit_from_c(e, 0);
    emit_op(e, 0, 0, 0xff, 4, rm_reg(H_14));

    bt->return_other = code_memory_rx(&bt->code, e->p);
    emit_mov_imm64(e, H_14, 0);
    u8 *other = emit_jump(e, CC_ALWAYS);
    bt->cache.no_host = code_memory_rx(&bt->code, e->p); /* r15: the jump_entry */
    emit_load(e, H_14, rm_mem(H_15, offsetof(struct jump_entry, lin)));
    emit_op(e, E_W, 0, 0x2b, H_14, STATE(win[SEG_CS].base));
    emit_op(e, E_W, 0, 0x23, H_14, STATE(ip_mask));
    emit_patch(other, e->p);
    bt->exit_rip = code_memory_rx(&bt->code, e->p);
    emit_store(e, H_14, STATE(rip));
    u8 *leave_at_rip = e->p;
    emit_save_registers(e);
    emit_to_c(e, 0);
    emit_fpu_save(e);
    emit_return(e);

    bt->denied = code_memory_rx(&bt->code, e->p);
    emit_save_registers(e);
    emit_to_c(e, 0);
    emit_fpu_save(e);
    emit_mov_imm64(e, H_DI, (u64)e->cpu);
    emit_store(e, H_14, rm_reg(H_SI));
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)bt_denied);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_return(e);

    bt->slow = code_memory_rx(&bt->code, e->p);
    emit_save_registers(e);
    emit_op(e, E_W, 0, 0x03, H_15, STATE(page_rip));
    emit_store(e, H_15, STATE(block_rip));
    emit_store(e, H_15, STATE(regs[REG_RIP]));
    emit_mov_imm64(e, H_DI, (u64)e->cpu);
    emit_store(e, H_14, rm_reg(H_SI));
    emit_to_c(e, 8);
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)bt_slow);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_alu_imm(e, true, 7, H_AX, BT_LEAVE);
    u8 *leave = emit_jump(e, CC_E), *elsewhere = emit_jump(e, CC_A);
    emit_load_registers(e);
    emit_from_c(e, 8);
    emit8(e, 0xc3);
    emit_patch(elsewhere, e->p);
    emit_store(e, H_AX, rm_reg(T_A));
    emit_load_registers(e);
    emit_from_c(e, 0);
    emit_op(e, 0, 0, 0xff, 4, rm_reg(T_A));
    emit_patch(leave, e->p);
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
    bt->probe = emit_light(e, bt, light_probe);
    bt->missed = emit_light(e, bt, light_missed);
    emit_probes(bt, e);
    bt->unmapped = emit_light(e, bt, light_unmapped);
    bt->gs_page = emit_light(e, bt, light_gs_page);
    bt->pause = emit_light(e, bt, light_pause);
    bt->fpu_load = emit_light(e, bt, light_fpu_load);
    bt->find = emit_light(e, bt, light_find);
    bt->limit = emit_light(e, bt, light_limit);
    bt->unexpected = code_memory_rx(&bt->code, e->p);
    emit_unexpected(e, false);
    bt->unexpected_segmented = code_memory_rx(&bt->code, e->p);
    emit_unexpected(e, true);
    syscall_thunks(e, bt);
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

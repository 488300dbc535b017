/* build/tests/test_cpuid: -cpu models and what the CPUID instruction makes of them. */
#include "unit/cpu_env.h"

#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>

#include "core/bus.h"
#include "cpu/cpu.h"

static u32 r[4];
static void query(u32 leaf, u32 sub) { cpuid_query(cpu, leaf, sub, r); }

Test(cpuid, vendor_and_brand_of_max, .init = env_init, .fini = env_fini)
{
    char text[49] = {0};
    query(0, 0);
    cr_expect_eq(r[0], 0x16);
    memcpy(text, &r[1], 4);
    memcpy(text + 4, &r[3], 4);
    memcpy(text + 8, &r[2], 4);
    cr_expect_str_eq(text, "GenuineIntel");
    for (u32 n = 0; n < 3; n++) {
        query(0x80000002 + n, 0);
        memcpy(text + 16 * n, r, 16);
    }
    cr_expect_str_eq(text, "Calque Virtual CPU");
}

Test(cpuid, everything_the_interpreter_promises_is_in_max, .init = env_init, .fini = env_fini)
{
    static const enum cpu_feature f[] = {
        FEAT_FPU,  FEAT_CX16,   FEAT_SSE2,    FEAT_SSE42, FEAT_POPCNT,   FEAT_MOVBE,   FEAT_XSAVE,
        FEAT_BMI1, FEAT_BMI2,   FEAT_LZCNT,   FEAT_ADX,   FEAT_FSGSBASE, FEAT_INVPCID, FEAT_SMAP,
        FEAT_PKU,  FEAT_RDTSCP, FEAT_SYSCALL, FEAT_LM,    FEAT_LAHF64,   FEAT_RDPID,   FEAT_NOP};
    for (size_t n = 0; n < ARRAY_LEN(f); n++)
        cr_expect(cpu_has_feature(model, f[n]), "feature %d", f[n]);
    cr_expect_not(cpu_has_feature(model, FEAT_VMX));
    cr_expect_not(cpu_has_feature(model, FEAT_RTM));
    query(7, 0);
    cr_expect_eq(r[1] & (1u << 16), 0, "no AVX-512");
}

Test(cpuid, dynamic_bits, .init = env_init, .fini = env_fini)
{
    query(1, 0);
    cr_expect_eq(r[1] >> 24, 5, "initial APIC ID");
    cr_expect_eq(r[2] & 1u << 27, 0);
    cr_expect(r[3] & 1u << 9);
    cpu->cr4 = CR4_OSXSAVE | CR4_PKE;
    env_apic_base = 0xfee00100; /* APIC off */
    query(1, 0);
    cr_expect(r[2] & 1u << 27);
    cr_expect_eq(r[3] & 1u << 9, 0);
    env_apic_base = 0xfee00900;
    query(7, 0);
    cr_expect(r[2] & 1u << 4);
}

Test(cpuid, xsave_sizes_follow_xcr0, .init = env_init, .fini = env_fini)
{
    cpu->xcr0 = 1;
    query(0xd, 0);
    cr_expect_eq(r[0], model->xcr0_mask);
    cr_expect_eq(r[1], 576);
    cr_expect_eq(r[2], model->xcr0_mask & 1u << 9 ? 2696 : 832);
    cpu->xcr0 = 0x203;
    query(0xd, 0);
    cr_expect_eq(r[1], 2696);
    query(0xd, 1);
    cr_expect_eq(r[1], 584, "compacted");
    query(0xd, 9);
    cr_expect_eq(r[0], 8);
    cr_expect_eq(r[1], offsetof(struct xsave_area, pkru));
    query(0xd, 5);
    cr_expect_eq(r[0] | r[1] | r[2] | r[3], 0);
}

Test(cpuid, clocks, .init = env_init, .fini = env_fini)
{
    query(0x15, 0);
    cr_expect_eq((u64)r[2] * r[1] / r[0], CPUID_TSC_HZ);
    query(0x16, 0);
    cr_expect_eq(r[0], 1000);
    query(0x40000000, 0);
    cr_expect_arr_eq(&r[1], "CalqueCalque", 12);
    query(0x40000010, 0);
    cr_expect_eq(r[0], 1000000);
}

Test(cpuid, beyond_the_last_leaf, .init = env_init, .fini = env_fini)
{
    u32 last[4];
    query(0x16, 0);
    memcpy(last, r, sizeof last);
    query(0x1234, 0);
    cr_expect_arr_eq(r, last, sizeof last, "Intel repeats the highest basic leaf");
}

Test(cpuid, topology, .init = env_init, .fini = env_fini)
{
    cpu_model_set_topology(model, 3, 2);
    query(1, 0);
    cr_expect_eq(r[1] >> 16 & 0xff, 8);
    cr_expect(r[3] & 1u << 28);
    query(0xb, 0);
    cr_expect_eq(r[0], 1);
    cr_expect_eq(r[1], 2);
    cr_expect_eq(r[2], 0x100);
    cr_expect_eq(r[3], 5);
    query(0xb, 1);
    cr_expect_eq(r[0], 3);
    cr_expect_eq(r[1], 6);
    query(0xb, 2);
    cr_expect_eq(r[1], 0);
    query(4, 0);
    cr_expect_eq(r[0] >> 26, 3);
    query(4, 4);
    cr_expect_eq(r[0] & 0x1f, 0);
}

static void model_486(void) { env_create("486"); }
Test(cpuid, old_models, .init = model_486, .fini = env_fini)
{
    query(0, 0);
    cr_expect_eq(r[0], 1);
    query(1, 0);
    cr_expect_eq(r[0], 0x480);
    cr_expect_eq(r[3], 0xb);
    cr_expect_not(cpu_has_feature(model, FEAT_LM));
    cr_expect_not(cpu_has_feature(model, FEAT_CMOV));
    cr_expect_not(msr_write(cpu, 0xc0000080, EFER_LME));
    cpu->exc.vector = -1;
    env_protected(0);
    cpu->regs[R_AX] = CR4_PAE;
    FAULTS(EXC_GP, 0, 0x0f, 0x22, 0xe0);
}

static void model_32(void) { env_create("max,-lm"); }
Test(cpuid, without_long_mode_lme_faults, .init = model_32, .fini = env_fini)
{
    cr_expect_not(msr_write(cpu, 0xc0000080, EFER_LME));
    cr_expect(msr_write(cpu, 0xc0000080, EFER_NXE));
    cr_expect_not(cpu_has_feature(model, FEAT_PKU), "64-bit paging only");
    cpu->exc.vector = -1;
}

Test(cpuid, parsing)
{
    struct cpu_model *m;
    cr_assert_eq(
        cpu_model_parse(
            "Nehalem,-popcnt,+rdtscp,x2apic=on,sse4.2=off,family=6,model=0x1a,stepping=5,vendor=AuthenticAMD",
            &m),
        0);
    cr_expect_not(cpu_has_feature(m, FEAT_POPCNT));
    cr_expect(cpu_has_feature(m, FEAT_RDTSCP));
    cr_expect_not(cpu_has_feature(m, FEAT_SSE42));
    cr_expect(cpu_has_bit(m, CPUID_1_ECX, CPUID_1_ECX_X2APIC));
    cr_expect_eq(cpu_model_signature(m), 0x106a5);
    cr_expect(m->amd);
    cpu_model_destroy(m);
    cr_assert_eq(cpu_model_parse("max,-sse2", &m), 0);
    cr_expect_not(cpu_has_feature(m, FEAT_XSAVE) && cpu_has_feature(m, FEAT_AES), "what needs SSE2 goes too");
    cpu_model_destroy(m);
    cr_assert_eq(cpu_model_parse("max,family=0x17,model=1", &m), 0);
    cr_expect_eq(cpu_model_signature(m) & 0x0ff00ff0, 0x00800f10);
    cpu_model_destroy(m);
}

Test(cpuid, bad_input)
{
    static const char *const bad[] = {"",
                                      "i9",
                                      "max,foo",
                                      "max,+foo",
                                      "max,foo=on",
                                      "max,sse=maybe",
                                      "max,family=x",
                                      "max,vendor=me",
                                      "max,phys-bits=36",
                                      "max,+avx512f,enforce",
                                      "max,,",
                                      "max,kvm=on"};
    for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
        struct cpu_model *m = NULL;
        cr_expect_eq(cpu_model_parse(bad[n], &m), -EINVAL, "'%s'", bad[n]);
        cr_expect_null(m);
    }
}

static void redirect(void) { cr_redirect_stderr(); }
Test(cpuid, messages_name_the_culprit, .init = redirect)
{
    struct cpu_model *m;
    cr_expect_eq(cpu_model_parse("max,+frobnicate", &m), -EINVAL);
    cr_expect_eq(cpu_model_parse("max,+avx512f", &m), 0);
    cpu_model_destroy(m);
    fflush(stderr);
    cr_expect_stderr_eq_str("calque: -cpu max,+frobnicate: unknown feature or property 'frobnicate'\n"
                            "calque: warning: -cpu max,+avx512f: left out, not available: avx512f\n");
}

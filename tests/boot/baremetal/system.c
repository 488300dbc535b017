/* Model-specific and control registers, privileges, error codes of the IDT, events that meet each other,
 * devices as operands of all kinds of instructions. */
#include "runtime.h"

#define NOT_CANONICAL 0xaaaaaaaaaaaaaaaaul
#define EFER          0xc0000080u

static u8 user_stack[4096] __attribute__((aligned(16)));
static void *const user_top = user_stack + 4088;

/* ---- model-specific registers ---- */

static u64 value;
static void read_msr(u64 msr) { rdmsr((u32)msr); }
static void write_msr(u64 msr) { wrmsr((u32)msr, value); }
static bool reads_fault(u32 msr) { return try(read_msr, msr) == 13 && last.error == 0; }
static bool write_faults(u32 msr, u64 v)
{
    value = v;
    return try(write_msr, msr) == 13 && last.error == 0;
}
static bool keeps(u32 msr, u64 v)
{
    u64 before = rdmsr(msr);
    wrmsr(msr, v);
    u64 after = rdmsr(msr);
    wrmsr(msr, before);
    return after == v;
}

static void model_specific(void)
{
    static const u32 addresses[] = {0xc0000100, 0xc0000101, 0xc0000102, 0xc0000082, 0xc0000083};
    for (unsigned k = 0; k < sizeof addresses / sizeof addresses[0]; k++) {
        check(keeps(addresses[k], 0x123456789abc), "MSR %x", addresses[k]);
        check(write_faults(addresses[k], NOT_CANONICAL), "MSR %x takes a non-canonical address",
              addresses[k]);
    }
    CHECK(keeps(0x174, 0x1234) && keeps(0x175, 0x123456789abc) && keeps(0x176, 0x123456789abc));
    CHECK(keeps(0x277, 0x07070707) && write_faults(0x277, 2) && write_faults(0x277, 8));
    CHECK(keeps(0xc0000084, 0xffffffff));
    CHECK(keeps(EFER, rdmsr(EFER) | 1));
    CHECK(write_faults(EFER, rdmsr(EFER) | 2) && write_faults(EFER, rdmsr(EFER) & ~0x100ul));
    CHECK(write_faults(0x1b, rdmsr(0x1b) | 1));
    CHECK(reads_fault(0x12345) && write_faults(0x12345, 0) && reads_fault(0xc0000099));

    unsigned banks = rdmsr(0x179) & 0xff;
    for (u32 n = 0; n < 32; n++) {
        u32 msr = 0x400 + 4 * n;
        if (n >= banks) {
            check(reads_fault(msr) && write_faults(msr, 0) && reads_fault(msr + 3), "machine check bank %u",
                  n);
            continue;
        }
        check(keeps(msr, 0) && keeps(msr, ~0ul) && write_faults(msr, NOT_CANONICAL), "MC%u_CTL", n);
        check(keeps(msr + 1, 0) && write_faults(msr + 1, 1), "MC%u_STATUS", n);
        check(keeps(msr + 2, ~0ul) && keeps(msr + 3, ~0ul), "MC%u_ADDR, MISC", n);
    }

    if (cpuid(7, 0).b >> 1 & 1) {
        const u64 jump = 100 * SECOND;
        u64 before = rdtsc();
        wrmsr(0x3b, jump); /* IA32_TSC_ADJUST */
        CHECK(rdtsc() - before >= jump && rdmsr(0x3b) == jump);
        wrmsr(0x3b, 0);
        before = rdtsc();
        wrmsr(0x10, before + jump);
        CHECK(rdmsr(0x3b) <= jump && rdmsr(0x3b) > jump - SECOND);
        wrmsr(0x3b, 0);
    }
}

/* ---- control registers ---- */

static void set_cr0(u64 v) { write_cr0(v); }
static void set_cr3(u64 v) { write_cr3(v); }
static void set_cr4(u64 v) { write_cr4(v); }
static void set_cr8(u64 v) { write_cr8(v); }
static void set_dr6(u64 v) { __asm__ volatile("mov %0, %%dr6" : : "r"(v)); }
static void set_dr7(u64 v) { __asm__ volatile("mov %0, %%dr7" : : "r"(v)); }
static struct {
    u64 pcid, address, type;
} invalidation;
static void invpcid(u64 unused)
{
    (void)unused;
    __asm__ volatile("invpcid (%0), %1" : : "r"(&invalidation), "r"(invalidation.type) : "memory");
}
static int invpcid_is(u64 type, u64 pcid, u64 address)
{
    invalidation.type = type, invalidation.pcid = pcid, invalidation.address = address;
    return try(invpcid, 0);
}
static u32 xcr_index;
static void xgetbv(u64 unused)
{
    u32 low, high;
    (void)unused;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(xcr_index));
}
static void xsetbv(u64 v) { __asm__ volatile("xsetbv" : : "a"((u32)v), "d"((u32)(v >> 32)), "c"(xcr_index)); }

static void control(void)
{
    const u64 cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
    CHECK(try(set_cr0, cr0 & ~0x80000000ul) == 13);
    CHECK(try(set_cr0, cr0 & ~1ul) == 13);
    CHECK(try(set_cr0, cr0 | 1ul << 32) == 13);
    CHECK(try(set_cr0, (cr0 | 0x20000000) & ~0x40000000ul) == 13); /* NW without CD */
    CHECK(try(set_cr3, cr3 | 1ul << 63) == 13);
    CHECK(try(set_cr3, cr3 | 1ul << (cpuid(0x80000008, 0).a & 0xff)) == 13);
    CHECK(try(set_cr4, cr4 & ~0x20ul) == 13); /* PAE */
    CHECK(try(set_cr4, cr4 | 1ul << 15) == 13);
    CHECK(try(set_cr4, cr4 | 1ul << 32) == 13);
    CHECK(try(set_cr8, 16) == 13);
    CHECK(try(set_dr6, 1ul << 32) == 13 && try(set_dr7, 1ul << 32) == 13);

    if (cpuid(1, 0).c >> 17 & 1) {
        CHECK(invpcid_is(1, 1, 0) == 13);
        write_cr3(cr3 | 1);
        CHECK(try(set_cr4, cr4 | 1 << 17) == 13); /* PCIDE with a PCID in CR3 */
        write_cr3(cr3);
        CHECK(try(set_cr4, cr4 | 1 << 17) == -1);
        CHECK(try(set_cr0, cr0 & ~0x80000000ul) == 13);
        CHECK(try(set_cr3, cr3 | 1ul << 63) == -1 && read_cr3() == cr3);
        CHECK(invpcid_is(0, 1, 0x1000) == -1 && invpcid_is(1, 1, 0) == -1 && invpcid_is(2, 10, 0) == -1);
        CHECK(invpcid_is(4, 0, 0) == 13 && invpcid_is(1, 1 << 12, 0) == 13 &&
              invpcid_is(0, 1, 1ul << 47) == 13);
        write_cr4(cr4);
    } else {
        CHECK(try(set_cr4, cr4 | 1 << 17) == 13);
    }
    xcr_index = 0;
    CHECK(try(xgetbv, 0) == 6 && try(xsetbv, 1) == 6);
    if (cpuid(1, 0).c >> 26 & 1) {
        write_cr4(cr4 | 1 << 18);
        CHECK(cpuid(1, 0).c >> 27 & 1);
        CHECK(try(xsetbv, 1) == -1 && try(xsetbv, 3) == -1 && try(xgetbv, 0) == -1);
        CHECK(try(xsetbv, 0) == 13 && try(xsetbv, 2) == 13 && try(xsetbv, 5) == 13 &&
              try(xsetbv, 1ul << 62 | 1) == 13);
        xcr_index = 16;
        CHECK(try(xsetbv, 3) == 13 && try(xgetbv, 0) == 13);
        write_cr4(cr4);
        CHECK(!(cpuid(1, 0).c >> 27 & 1));
    } else {
        CHECK(try(set_cr4, cr4 | 1 << 18) == 13);
    }
}

/* ---- privileges ---- */

/* name, vector (0x80: allowed), error code, code; run at CPL 3 with IOPL 3 */
#define USER_PROGRAMS(M)                                                                                     \
    M(mov_cr0, 13, 0, "mov %cr0, %rax")                                                                      \
    M(mov_dr7, 13, 0, "mov %dr7, %rax")                                                                      \
    M(hlt, 13, 0, "hlt")                                                                                     \
    M(rdmsr, 13, 0, "rdmsr")                                                                                 \
    M(wbinvd, 13, 0, "wbinvd")                                                                               \
    M(invlpg, 13, 0, "invlpg (%rax)")                                                                        \
    M(lgdt, 13, 0, "lgdt (%rsp)")                                                                            \
    M(clts, 13, 0, "clts")                                                                                   \
    M(lmsw, 13, 0, "lmsw %ax")                                                                               \
    M(swapgs, 13, 0, "swapgs")                                                                               \
    M(int_21h, 13, 0x21 * 8 + 2, "int $0x21")                                                                \
    M(kernel_data, 13, 0x10, "mov $0x10, %eax; mov %eax, %fs")                                               \
    M(kernel_code, 13, 0x08, "pushq $8; push %rax; lretq")                                                   \
    M(ud2, 6, 0, "ud2")                                                                                      \
    M(vmcall, 6, 0, "vmcall")                                                                                \
    M(int1, 1, 0, ".byte 0xf1")                                                                              \
    M(int3, 3, 0, "int3")                                                                                    \
    M(cli, 0x80, 0, "cli; sti")                                                                              \
    M(in, 0x80, 0, "in $0x80, %al")                                                                          \
    M(rdtsc, 0x80, 0, "rdtsc")
#define UMIP_PROGRAMS(M)                                                                                     \
    M(smsw, 0x80, 0, "smsw %ax")                                                                             \
    M(sgdt, 0x80, 0, "sgdt -32(%rsp)")                                                                       \
    M(sidt, 0x80, 0, "sidt -32(%rsp)")                                                                       \
    M(sldt, 0x80, 0, "sldt %ax")                                                                             \
    M(str, 0x80, 0, "str %ax")
#define DEFINE_PROGRAM(name, vector, error, text)                                                            \
    extern const u8 user_##name[];                                                                           \
    __asm__(".text; user_" #name ": " text "; int $0x80");
USER_PROGRAMS(DEFINE_PROGRAM)
UMIP_PROGRAMS(DEFINE_PROGRAM)
static const struct program {
    const char *name;
    const u8 *code;
    int vector;
    u64 error;
} programs[] =
    {
#define PROGRAM_ROW(name, vector, error, text) {#name, user_##name, vector, error},
        USER_PROGRAMS(PROGRAM_ROW)},
  umip_programs[] = {UMIP_PROGRAMS(PROGRAM_ROW)};

static void run_program(const struct program *p, int expected)
{
    int vector = try_user(p->code, user_top, 0x3002, 0, 0);
    check(vector == expected && last.cs == 0x4b &&
              (expected != p->vector || expected == 0x80 || last.error == p->error),
          "%s at CPL 3: vector %d, error %lx", p->name, vector, last.error);
}

static void privileges(void)
{
    const u64 cr4 = read_cr4();
    for (unsigned k = 0; k < sizeof programs / sizeof programs[0]; k++)
        run_program(&programs[k], programs[k].vector);
    CHECK(try_user(user_cli, user_top, 2, 0, 0) == 13);
    CHECK(try_user(user_in, user_top, 2, 0, 0) == 13);
    write_cr4(cr4 | 4);
    CHECK(try_user(user_rdtsc, user_top, 2, 0, 0) == 13);
    write_cr4(cr4);
    for (unsigned k = 0; k < 5; k++)
        run_program(&umip_programs[k], 0x80);
    if (cpuid(7, 0).c >> 2 & 1) {
        write_cr4(cr4 | 0x800);
        for (unsigned k = 0; k < 5; k++)
            run_program(&umip_programs[k], 13);
        write_cr4(cr4);
    } else {
        CHECK(try(set_cr4, cr4 | 0x800) == 13);
    }
}

/* ---- segments and gates ---- */

static void load_ss(u64 v) { __asm__ volatile("mov %w0, %%ss" : : "r"(v)); }
static void load_fs(u64 v) { __asm__ volatile("mov %w0, %%fs" : : "r"(v)); }
static void load_tr(u64 v) { __asm__ volatile("ltr %w0" : : "r"(v)); }
static void jump_to(u64 v) { __asm__ volatile("jmp *%0" : : "r"(v)); }
static void read_byte(u64 v) { *(volatile u8 *)v; }
static void int_22h(u64 unused)
{
    (void)unused;
    __asm__ volatile("int $0x22" : : : "memory");
}
static bool faults(void (*code)(u64), u64 argument, int vector, u64 error)
{
    int got = try(code, argument);
    return check(got == vector && last.error == error, "argument %lx: vector %d error %lx, not %d %lx",
                 argument, got, last.error, vector, error);
}

static void segments(void)
{
    CHECK(try(load_ss, 0) == -1); /* null is fine in 64-bit mode at CPL 0 */
    faults(load_ss, 3, 13, 0);
    faults(load_ss, 0x08, 13, 0x08);
    faults(load_ss, 0x43, 13, 0x40);
    faults(load_fs, 0x1234, 13, 0x1234);
    faults(load_fs, 0xfff8, 13, 0xfff8);
    faults(load_fs, 0x18, 11, 0x18);
    faults(load_fs, 0x50, 13, 0x50);
    faults(load_tr, 0, 13, 0);
    faults(load_tr, 0x50, 13, 0x50); /* busy */
    faults(jump_to, 0x1111111111111111, 13, 0);
    faults(read_byte, 0x1111111111111111, 13, 0);
    load_ss(0x10);

    idt[2 * 0x22] = 0;
    faults(int_22h, 0, 13, 0x22 * 8 + 2);
    set_gate(0x22, stubs[0x22], 0, 0, 0x08);
    idt[2 * 0x22] &= ~(1ul << 47);
    faults(int_22h, 0, 11, 0x22 * 8 + 2);
    set_gate(0x22, stubs[0x22], 0, 0, 0x18);
    faults(int_22h, 0, 11, 0x18);
    set_gate(0x22, stubs[0x22], 0, 0, 0x20);
    faults(int_22h, 0, 13, 0x20);
    set_gate(0x22, (void *)0x800000000000, 0, 0, 0x08);
    faults(int_22h, 0, 13, 0);
    set_gate(0x22, stubs[0x22], 0, 0, 0x08);
}

/* ---- events that meet ---- */

static volatile u32 divisor, happened, nmis;
static volatile u64 nested_at;
static u64 *stack_entry;
static u8 fault_stack[4096] __attribute__((aligned(16)));
static void repair_divisor(struct frame *f)
{
    (void)f;
    divisor = 10;
}
static void make_stack_writable(struct frame *f)
{
    (void)f;
    happened++;
    *stack_entry |= 2;
    invlpg(1ul << 39);
}
static void happen(struct frame *f)
{
    (void)f;
    happened++;
}
static void send_nmi(void)
{
    *(volatile u32 *)0xfee00310ul = 0;
    *(volatile u32 *)0xfee00300ul = 0x4400;
}
static void inner_nmi(struct frame *f)
{
    nmis++;
    nested_at = f->rip;
}
extern const u8 after_inner_iret[];
/* An NMI that comes while one is handled waits for the first IRET, even if that does not leave the handler.
 */
static void outer_nmi(struct frame *f)
{
    (void)f;
    handlers[2] = inner_nmi;
    send_nmi();
    nop();
    if (nmis) nmis = 100;
    __asm__ volatile("mov %%rsp, %%rdx; mov %%ss, %%eax; push %%rax; push %%rdx; pushf\n"
                     "mov %%cs, %%eax; push %%rax; lea after_inner_iret(%%rip), %%rax; push %%rax; iretq\n"
                     ".globl after_inner_iret; after_inner_iret: nop"
                     :
                     :
                     : "rax", "rdx", "memory");
}
static void ud2_without_stack(u64 stack) { __asm__ volatile("mov %0, %%rsp; ud2" : : "r"(stack) : "memory"); }
static u32 divide_on(u64 stack)
{
    u32 result;
    __asm__ volatile("mov %%rsp, %%rbx; mov %3, %%rsp; divl %2; mov %%rbx, %%rsp"
                     : "=a"(result)
                     : "d"(0), "m"(divisor), "r"(stack), "0"(1500)
                     : "rbx", "memory");
    return result;
}

static void events(void)
{
    static u64 t3[512] __attribute__((aligned(4096))), t2[512] __attribute__((aligned(4096)));
    static u64 t1[512] __attribute__((aligned(4096))), stack[512] __attribute__((aligned(4096)));
    pml4[1] = (u64)t3 | 7;
    t3[0] = (u64)t2 | 7;
    t2[0] = (u64)t1 | 7;
    stack_entry = &t1[0];
    *stack_entry = (u64)stack | 1;
    write_cr3((u64)pml4);
    u64 ist = (u64)fault_stack + sizeof fault_stack;
    __builtin_memcpy(tss + 36, &ist, 8);

    /* #DE whose frame cannot be written, #PF on its own stack, then #DE again. */
    handlers[0] = repair_divisor;
    handlers[14] = make_stack_writable;
    set_gate(14, stubs[14], 0, 1, 0x08);
    CHECK(divide_on((1ul << 39) + 4095) == 150 && happened == 1);
    /* #UD and #PF without a stack: #DF. */
    handlers[14] = 0;
    set_gate(14, stubs[14], 0, 0, 0x08);
    set_gate(8, stubs[8], 0, 1, 0x08);
    faults(ud2_without_stack, 1ul << 40, 8, 0);
    CHECK(last_cr2 >> 12 == (1ul << 40 >> 12) - 1);
    set_gate(8, stubs[8], 0, 0, 0x08);

    *(volatile u32 *)0xfee000f0ul = 0x1ff;
    handlers[2] = outer_nmi;
    send_nmi();
    nop();
    CHECK(nmis == 1 && nested_at == (u64)after_inner_iret);

    /* A stack within a page table that maps it. */
    static u64 self[512] __attribute__((aligned(4096)));
    pml4[2] = (u64)self | 3;
    self[0] = (u64)self | 3;
    write_cr3((u64)pml4);
    handlers[0x23] = happen;
    happened = 0;
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; int $0x23; mov %%rbx, %%rsp"
                     :
                     : "r"((u64)self + 4095)
                     : "rbx", "memory");
    CHECK(happened == 1);
}

/* ---- memory that is a device: pc-testdev's ---- */

static void device_operands(void)
{
    volatile u8 *bytes = (u8 *)0xff000000ul;
    volatile u32 *words = (u32 *)0xff000000ul;
    volatile u64 *quads = (u64 *)0xff000000ul;
    *words = 0x1234;
    __asm__ volatile("orl %1, %0" : "+m"(*words) : "r"(0x8001));
    __asm__ volatile("lock incl %0" : "+m"(*words));
    CHECK(*words == 0x9236);
    *quads = 0x123456789abcdeful;
    u64 a = 0xfedcba9876543210ul;
    __asm__ volatile("xchg %b0, %1" : "+a"(a), "+m"(*quads));
    CHECK(a == 0xfedcba98765432ef && *quads == 0x123456789abcd10);
    *quads = 0x123456789abcdeful;
    a = 0xfedcba9876543210ul;
    __asm__ volatile("xaddl %k0, %1" : "+a"(a), "+m"(*quads));
    CHECK(a == 0x89abcdef && *quads == 0x1234567ffffffff);
    a = 0x1234567ffffffff;
    __asm__ volatile("lock cmpxchgq %2, %1" : "+a"(a), "+m"(*quads) : "r"(0x2222ul));
    CHECK(*quads == 0x2222);
    *(volatile u16 *)(bytes + 4095) = 0x88aa;
    CHECK(bytes[4095] == 0xaa && bytes[4096] == 0x88);

    u8 copy[130];
    for (unsigned k = 0; k < 130; k++)
        bytes[k] = copy[k] = (u8)k;
    copy[100]++;
    const volatile u8 *from = bytes;
    const u8 *to = copy;
    u64 left = 130;
    __asm__ volatile("repe cmpsb" : "+S"(from), "+D"(to), "+c"(left) : : "memory", "cc");
    CHECK(left == 29 && from == bytes + 101);
    outw(0xe0, 0x9999);
    volatile u8 *target = bytes + 4032;
    left = 1024;
    __asm__ volatile("rep insb" : "+D"(target), "+c"(left) : "d"(0xe0) : "memory");
    CHECK(left == 0 && bytes[4032] == 0x99 && bytes[4032 + 1023] == 0x99);
    const char *text = "device";
    left = 6;
    __asm__ volatile("rep outsb" : "+S"(text), "+c"(left) : "d"(0xe0) : "memory");
    CHECK(inb(0xe0) == 'e');

    u32 v[4] __attribute__((aligned(16))) = {1, 2, 3, 4};
    __asm__ volatile("movdqu %1, %%xmm1; movaps %%xmm1, %0" : "=m"(*(volatile u32(*)[4])words) : "m"(v));
    CHECK(words[0] == 1 && words[3] == 4);
    __asm__ volatile("fninit; fld1; fstpl %0" : "=m"(*quads));
    CHECK(*quads == 0x3ff0000000000000);
}

void test(void)
{
    model_specific();
    control();
    privileges();
    segments();
    events();
    device_operands();
}

/* Random page-table entries, accesses and control bits against a model of the page walk: faults, error codes,
 * CR2 and the accessed and dirty bits (SDM vol 3A 4.5-4.8). */
#include "runtime.h"

#define P   1ul
#define W   2ul
#define U   4ul
#define A   0x20ul
#define D   0x40ul
#define PS  0x80ul
#define NX  (1ul << 63)
#define KEY (1ul << 59) /* protection key 1; the others but 0 are closed */

#define CR0_WP   (1ul << 16)
#define CR4_SMEP (1ul << 20)
#define CR4_SMAP (1ul << 21)
#define CR4_PKE  (1ul << 22)
#define EFER     0xc0000080u
#define EFER_NXE 0x800ul

#define ADDRESS     0xffff900000000000ul
#define USER_WINDOW (1ul << 39)
#define ROUNDS      150000

enum access { READ, WRITE, FETCH };

static u64 level3[512] __attribute__((aligned(4096))), level2[512] __attribute__((aligned(4096)));
static u64 level1[512] __attribute__((aligned(4096)));
static u8 page[2 << 20] __attribute__((aligned(2 << 20)));
static u8 user_stack[4096] __attribute__((aligned(4096)));

/* One round's circumstances. */
struct setup {
    enum access access;
    bool user, wp, nxe, smep, smap, ac, pke, key_closed, key_read_only, large;
    u64 entries[3]; /* PDPTE, PDE, PTE */
};

static u32 random_bits(void)
{
    static u64 state = 0x9e3779b97f4a7c15ul;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (u32)(state >> 20);
}
static bool one_in(u32 n) { return random_bits() % n == 0; }

static unsigned physical_bits;
static struct cpuid features;

static u64 random_entry(u64 target, bool leaf)
{
    u64 e = target | (one_in(12) ? 0 : P) | (one_in(3) ? 0 : W) | (one_in(3) ? 0 : U) | (one_in(5) ? NX : 0) |
            (one_in(2) ? A : 0);
    if (leaf && one_in(2)) e |= D;
    if (one_in(12)) e |= 1ul << (physical_bits + random_bits() % (52 - physical_bits));
    if (!leaf) return e | (u64)(random_bits() % 16) << 59; /* keys mean nothing here, bit 63 apart */
    return e | (one_in(2) ? KEY : 0);
}

static void choose(struct setup *s)
{
    s->access = random_bits() % 3;
    s->user = one_in(2), s->wp = one_in(2), s->nxe = !one_in(4), s->large = one_in(2);
    s->smep = (features.b >> 7 & 1) && one_in(2);
    s->smap = (features.b >> 20 & 1) && one_in(2);
    s->ac = (features.b >> 20 & 1) && one_in(2);
    s->pke = (features.c >> 3 & 1) && one_in(2);
    s->key_closed = one_in(3), s->key_read_only = one_in(3);
    s->entries[0] = (u64)level2 | P | (one_in(6) ? 0 : W) | (one_in(6) ? 0 : U) | (one_in(8) ? NX : 0) |
                    (one_in(2) ? A : 0);
    s->entries[1] = s->large ? random_entry((u64)page | PS, true) | (one_in(16) ? 1ul << 13 : 0) |
                                   (one_in(2) ? 1ul << 12 : 0)
                             : random_entry((u64)level1, false);
    s->entries[2] = random_entry((u64)page, true);
}

/* What must happen: -1, or the error code; what the entries become. */
static int model(const struct setup *s, u64 after[3])
{
    const bool write = s->access == WRITE, fetch = s->access == FETCH;
    const unsigned levels = s->large ? 2 : 3;
    int code = (write ? 2 : 0) | (s->user ? 4 : 0) | (fetch && (s->nxe || s->smep) ? 16 : 0);
    u64 rights = W | U, nx = 0, leaf = s->entries[levels - 1];
    for (unsigned n = 0; n < 3; n++)
        after[n] = s->entries[n];
    for (unsigned n = 0; n < levels; n++) {
        u64 e = s->entries[n], reserved = ((1ul << 52) - 1) & ~((1ul << physical_bits) - 1);
        if (!s->nxe) reserved |= NX;
        if (s->large && n == 1) reserved |= 0x1fe000;
        if (!(e & P)) return code;
        if (e & reserved) return code | 9;
        rights &= e;
        nx |= e & NX;
    }
    const bool user_page = rights & U;
    bool denied = s->user ? !user_page : user_page && (fetch ? s->smep : s->smap && !s->ac), by_key = false;
    if (write && !(rights & W) && (s->user || s->wp)) denied = true;
    if (fetch && nx) denied = true;
    if (s->pke && user_page && !fetch && leaf >> 59 & 15) {
        bool closed = (leaf >> 59 & 15) != 1 || s->key_closed,
             read_only = (leaf >> 59 & 15) != 1 || s->key_read_only;
        by_key = closed || (write && read_only && (s->user || s->wp));
    }
    if (denied || by_key) return code | 1 | (by_key ? 32 : 0);
    for (unsigned n = 0; n < levels; n++)
        after[n] |= A;
    if (write) after[levels - 1] |= D;
    return -1;
}

/* The accesses, for both privileges; user code is reached through its own window. */
extern const u8 user_code[];
__asm__(".text; .balign 4096\n"
        "user_code: cmp $1, %rsi; je 1f; cmp $2, %rsi; je 2f\n"
        "   mov (%rdi), %al; int $0x80\n"
        "1: movb $0x5a, (%rdi); int $0x80\n"
        "2: call *%rdi; int $0x80\n"
        ".balign 4096");

static void kernel_access(u64 access)
{
    switch (access) {
    case READ: __asm__ volatile("movb (%0), %%al" : : "r"(ADDRESS) : "rax", "memory"); break;
    case WRITE: __asm__ volatile("movb $0x5a, (%0)" : : "r"(ADDRESS) : "memory"); break;
    default: __asm__ volatile("call *%0" : : "r"(ADDRESS) : "memory"); break;
    }
}

static int perform(const struct setup *s)
{
    if (s->user) {
        int vector =
            try_user((void *)USER_WINDOW, (void *)(USER_WINDOW + 0x2000 - 16), 2, ADDRESS, s->access);
        return vector == 0x80 ? -1 : vector;
    }
    if (s->ac) __asm__ volatile("stac" : : : "memory");
    int vector = try(kernel_access, s->access);
    if (features.b >> 20 & 1) __asm__ volatile("clac" : : : "memory");
    return vector;
}

void test(void)
{
    static u64 window3[512] __attribute__((aligned(4096))), window2[512] __attribute__((aligned(4096)));
    static u64 window1[512] __attribute__((aligned(4096)));
    features = cpuid(7, 0);
    physical_bits = cpuid(0x80000008, 0).a & 0xff;
    /* The first GiB, where everything is, becomes the supervisor's. */
    for (unsigned n = 0; n < 512; n++)
        page_directories[n] &= ~U;
    pml4[USER_WINDOW >> 39] = (u64)window3 | 7;
    window3[0] = (u64)window2 | 7;
    window2[0] = (u64)window1 | 7;
    window1[0] = (u64)user_code | P | U | A;
    window1[1] = (u64)user_stack | P | W | U | A | D;
    pml4[ADDRESS >> 39 & 511] = (u64)level3 | 7;
    write_cr3((u64)pml4);

    const u64 cr0 = read_cr0(), cr4 = read_cr4(), efer = rdmsr(EFER);
    unsigned wrong = 0;
    for (unsigned round = 0; round < ROUNDS && wrong < 10; round++) {
        struct setup s;
        u64 after[3];
        choose(&s);
        page[0] = 0xc3; /* RET */
        level3[0] = s.entries[0], level2[0] = s.entries[1], level1[0] = s.entries[2];
        write_cr0(s.wp ? cr0 | CR0_WP : cr0 & ~CR0_WP);
        wrmsr(EFER, s.nxe ? efer | EFER_NXE : efer & ~EFER_NXE);
        write_cr4(cr4 | (s.smep ? CR4_SMEP : 0) | (s.smap ? CR4_SMAP : 0) | (s.pke ? CR4_PKE : 0));
        if (s.pke) {
            u32 pkru = 0xfffffff0u | (s.key_closed ? 4 : 0) | (s.key_read_only ? 8 : 0);
            __asm__ volatile("wrpkru" : : "a"(pkru), "c"(0), "d"(0) : "memory");
        }
        invlpg(ADDRESS);
        for (unsigned times = 0; times < 2; times++) { /* the second time perhaps from the TLB */
            int want = model(&s, after), vector = perform(&s);
            bool ok = want < 0 ? vector < 0 : vector == 14 && last.error == (u64)want && last_cr2 == ADDRESS;
            /* After a fault, accessed bits of the upper levels may be either. */
            u64 ignore = want < 0 ? 0 : A;
            ok = ok && !((level3[0] ^ after[0]) & ~ignore) && !((level2[0] ^ after[1]) & ~ignore) &&
                 (s.large || level1[0] == after[2]);
            if (!ok) {
                wrong++;
                check(false,
                      "round %u.%u: access %u user %u wp %u nxe %u smep %u smap %u ac %u pke %u,%u,%u large "
                      "%u, entries %lx %lx "
                      "%lx: vector %d error %lx CR2 %lx, want %d; now %lx %lx %lx",
                      round, times, s.access, s.user, s.wp, s.nxe, s.smep, s.smap, s.ac, s.pke, s.key_closed,
                      s.key_read_only, s.large, s.entries[0], s.entries[1], s.entries[2], vector,
                      vector < 0 ? 0 : last.error, vector < 0 ? 0 : last_cr2, want, level3[0], level2[0],
                      level1[0]);
            }
            s.entries[0] = level3[0], s.entries[1] = level2[0], s.entries[2] = level1[0];
        }
    }
    write_cr4(cr4);
    write_cr0(cr0);
    wrmsr(EFER, efer);
    check(!wrong, "%u rounds were wrong", wrong);
}

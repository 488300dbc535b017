/* The native side of the oracle: runs cases on the host's processor.
 *
 * A child process maps the window, and lives inside one signal handler while it works through a batch: every case ends
 * with an exception, which Linux turns into a signal whose frame holds the whole processor state (general registers,
 * segments, XSAVE image, trap number, error code, CR2). The handler copies it out, writes the next case's state into the
 * frame, and returns into it. 32-bit and 16-bit code runs in the same 64-bit process through the flat 32-bit code segment
 * and through LDT segments.
 *
 * A case may jump anywhere, so system calls made from below 4 GiB (or by the 32-bit gates) are trapped by a seccomp
 * filter, and a timer in user time ends what does not end.
 *
 * References: the Linux signal frame (arch/x86 uapi sigcontext.h, ucontext.h); [SDM1] 13.4 XSAVE layout. */
#define _GNU_SOURCE
#include <sys/ucontext.h>

/* Before our own headers, which have another REG_RIP. */
enum {
    G_RIP = REG_RIP,
    G_EFL = REG_EFL,
    G_SEGS = REG_CSGSFS,
    G_TRAPNO = REG_TRAPNO,
    G_ERR = REG_ERR,
    G_CR2 = REG_CR2
};
/* In the order of machine_state.regs. */
static const unsigned char greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                          REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

#undef REG_RIP
#include "oracle.h"

#include <asm/ldt.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the two processes share. */
struct shared {
    volatile u32 count;    /* cases in this batch */
    u32 patience;          /* ticks of the timer that a case may take */
    volatile u32 next;     /* the case that runs now; == count when the batch is done */
    unsigned processor;    /* to run on */
    u64 ldt[LDT_COUNT];  /* as the kernel built it */
    u8 image[IMAGE_SIZE];  /* the data every case starts from */
    struct oracle_case cases[BATCH];
    struct oracle_result results[BATCH];
};

struct native {
    struct shared *shared;
    pid_t pid;
    int fd; /* to the child: a byte starts a batch, a byte back ends it */
};

/* ---- the child ---- */

#define ALTSTACK_SIZE (256u << 10)
#define XSAVE_HEADER  512
#define XSAVE_AVX     576

/* From ucontext.h of the kernel: take the frame's SS as it is. */
#define UC_FLAGS_SS 6u

/* One child has one batch under way; the assembly below names these. */
static struct shared *work;
static bool running;
static u64 timer_case; /* the case seen at the last timer signal, ... */
static u32 timer_ticks; /* ... and at how many before */
static struct {
    greg_t gregs[__NGREG];
    u8 legacy[464];
    u8 xstate_bv[8];
    u8 ymm_high[256];
} home;
static struct {
    u16 ds, es, fs, gs;
    u64 fs_base, gs_base;
    u64 host_fs_base;
    u64 flags; /* for POPF before the return: the bits that sigreturn keeps from its caller */
} guest_state __attribute__((used));

__asm__(".text\n"
        ".globl oracle_signal_entry\n"
        ".hidden oracle_signal_entry\n"
        ".type oracle_signal_entry, @function\n"
        "oracle_signal_entry:\n"
        "    pushq $2\n"
        "    popfq\n" /* the case's AC, ID and NT stay set at handler entry */
        "    movw %ds, guest_state+0(%rip)\n"
        "    movw %es, guest_state+2(%rip)\n"
        "    movw %fs, guest_state+4(%rip)\n"
        "    movw %gs, guest_state+6(%rip)\n"
        "    rdfsbase %rax\n"
        "    movq %rax, guest_state+8(%rip)\n"
        "    rdgsbase %rax\n"
        "    movq %rax, guest_state+16(%rip)\n"
        "    movq guest_state+24(%rip), %rax\n"
        "    wrfsbase %rax\n"
        "    subq $8, %rsp\n"
        "    call oracle_signal\n"
        "    addq $8, %rsp\n"
        "    movw guest_state+0(%rip), %ds\n"
        "    movw guest_state+2(%rip), %es\n"
        "    movw guest_state+4(%rip), %fs\n"
        "    movw guest_state+6(%rip), %gs\n"
        "    movq guest_state+8(%rip), %rax\n"
        "    wrfsbase %rax\n"
        "    movq guest_state+16(%rip), %rax\n"
        "    wrgsbase %rax\n"
        "    pushq guest_state+32(%rip)\n"
        "    popfq\n"
        "    ret\n");
void oracle_signal_entry(int sig, siginfo_t *info, void *context);
void oracle_signal(int sig, siginfo_t *info, ucontext_t *uc);

static u8 *window_ptr(void) { return (u8 *)(uintptr_t)WINDOW; }

static void save_state(struct machine_state *s, const ucontext_t *uc)
{
    const greg_t *g = uc->uc_mcontext.gregs;
    const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
    for (unsigned n = 0; n < 16; n++) s->regs[n] = (u64)g[greg_of[n]];
    s->rip = (u64)g[G_RIP];
    s->rflags = (u64)g[G_EFL];
    s->cs = (u16)g[G_SEGS];
    s->ss = (u16)((u64)g[G_SEGS] >> 48);
    s->ds = guest_state.ds;
    s->es = guest_state.es;
    s->fs = guest_state.fs;
    s->gs = guest_state.gs;
    s->fs_base = guest_state.fs_base;
    s->gs_base = guest_state.gs_base;
    memcpy(s->legacy, fp, 512);
    memcpy(s->ymm_high, fp + XSAVE_AVX, 256);
}

/* ID and NT, which the return from a signal handler leaves as they are. */
static void keep_flags(u64 flags) { guest_state.flags = (flags & (1u << 21 | 1u << 14)) | 2; }

static void load_state(const struct machine_state *s, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
    for (unsigned n = 0; n < 16; n++) g[greg_of[n]] = (greg_t)s->regs[n];
    g[G_RIP] = (greg_t)s->rip;
    g[G_EFL] = (greg_t)s->rflags;
    g[G_SEGS] = (greg_t)((u64)s->cs | (u64)s->ss << 48);
    uc->uc_flags |= UC_FLAGS_SS;
    guest_state.ds = s->ds;
    guest_state.es = s->es;
    guest_state.fs = s->fs;
    guest_state.gs = s->gs;
    guest_state.fs_base = s->fs_base;
    guest_state.gs_base = s->gs_base;
    keep_flags(s->rflags);
    memcpy(fp, s->legacy, 464); /* the rest is the kernel's bookkeeping */
    *(u64 *)(void *)(fp + XSAVE_HEADER) = 7;
    memcpy(fp + XSAVE_AVX, s->ymm_high, 256);
}

static void go_home(ucontext_t *uc)
{
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
    memcpy(uc->uc_mcontext.gregs, home.gregs, sizeof home.gregs);
    uc->uc_flags |= UC_FLAGS_SS;
    memcpy(fp, home.legacy, sizeof home.legacy);
    memcpy(fp + XSAVE_HEADER, home.xstate_bv, 8);
    memcpy(fp + XSAVE_AVX, home.ymm_high, 256);
    guest_state.ds = guest_state.es = guest_state.fs = guest_state.gs = 0;
    guest_state.fs_base = guest_state.host_fs_base;
    guest_state.gs_base = 0;
    guest_state.flags = 2;
}

static void leave_home(const ucontext_t *uc)
{
    const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
    memcpy(home.gregs, uc->uc_mcontext.gregs, sizeof home.gregs);
    home.gregs[G_RIP] += 2; /* after UD2 */
    memcpy(home.legacy, fp, sizeof home.legacy);
    memcpy(home.xstate_bv, fp + XSAVE_HEADER, 8);
    memcpy(home.ymm_high, fp + XSAVE_AVX, 256);
}

__attribute__((used)) void oracle_signal(int sig, siginfo_t *info, ucontext_t *uc)
{
    (void)info;
    if (!running) {
        if (sig != SIGILL) {
            if (sig == SIGVTALRM) return;
            _exit(3);
        }
        leave_home(uc);
        running = true;
        timer_case = ~0ull;
    } else {
        u32 k = work->next;
        struct oracle_result *r = &work->results[k];
        if (sig == SIGVTALRM) {
            timer_ticks = timer_case == k ? timer_ticks + 1 : 0;
            timer_case = k;
            if (timer_ticks < work->patience) {
                keep_flags((u64)uc->uc_mcontext.gregs[G_EFL]);
                return;
            }
        }
        r->vector = sig == SIGVTALRM ? VECTOR_TIMEOUT
                    : sig == SIGSYS  ? VECTOR_SYSCALL
                                     : (int)uc->uc_mcontext.gregs[G_TRAPNO];
        r->error_code = (u64)uc->uc_mcontext.gregs[G_ERR];
        r->cr2 = (u64)uc->uc_mcontext.gregs[G_CR2];
        save_state(&r->out, uc);
        window_collect(window_ptr(), work->image, &work->cases[k], r);
        work->next = k + 1;
    }
    if (work->next >= work->count) {
        running = false;
        go_home(uc);
        return;
    }
    const struct oracle_case *c = &work->cases[work->next];
    window_put_code(window_ptr(), c);
    load_state(&c->in, uc);
}

static int child_ldt(void)
{
    static const struct {
        unsigned limit, contents, read_exec_only, big, absent;
    } entries[LDT_COUNT] = {
        [LDT_CODE16] = {0xffff, 2, 0, 0, 0},          [LDT_DATA16] = {0xffff, 0, 0, 0, 0},
        [LDT_CODE32] = {0xffff, 2, 0, 1, 0},          [LDT_DATA32] = {0xffff, 0, 0, 1, 0},
        [LDT_SHORT] = {LDT_SHORT_LIMIT, 0, 0, 1, 0},  [LDT_DOWN] = {LDT_DOWN_LIMIT, 1, 0, 1, 0},
        [LDT_RO] = {0xffff, 0, 1, 1, 0},              [LDT_XO] = {0xffff, 2, 1, 1, 0},
        [LDT_ABSENT] = {0xffff, 0, 0, 1, 1},
    };
    for (unsigned n = 0; n < LDT_COUNT; n++) {
        struct user_desc d;
        memset(&d, 0, sizeof d);
        d.entry_number = n;
        d.base_addr = WINDOW;
        d.limit = entries[n].limit;
        d.contents = entries[n].contents;
        d.read_exec_only = entries[n].read_exec_only;
        d.seg_32bit = entries[n].big;
        d.seg_not_present = entries[n].absent;
        d.useable = 1;
        if (syscall(SYS_modify_ldt, 0x11, &d, sizeof d) != 0) {
            fprintf(stderr, "oracle: modify_ldt: %s\n", strerror(errno));
            return -errno;
        }
    }
    syscall(SYS_modify_ldt, 0, work->ldt, sizeof work->ldt);
    return 0;
}

static int child_window(void)
{
    for (unsigned p = 0; p < WINDOW_PAGES; p++) {
        enum page_kind kind = window_page(p);
        if (kind == PAGE_NONE) continue;
        void *at = window_ptr() + (size_t)p * GUEST_PAGE_SIZE;
        int prot = PROT_READ | PROT_WRITE | (kind == PAGE_RWX ? PROT_EXEC : 0);
        void *got = mmap(at, GUEST_PAGE_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE,
                         -1, 0);
        if (got != at) {
            fprintf(stderr, "oracle: cannot map the window at %p: %s\n", at, strerror(errno));
            return -ENOMEM;
        }
    }
    return 0;
}

static int child_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGVTALRM};
    stack_t ss = {.ss_size = ALTSTACK_SIZE};
    ss.ss_sp = mmap(NULL, ALTSTACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL) != 0) return -errno;
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = oracle_signal_entry;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    for (size_t n = 0; n < ARRAY_LEN(signals); n++) sigaddset(&sa.sa_mask, signals[n]);
    for (size_t n = 0; n < ARRAY_LEN(signals); n++) sigaction(signals[n], &sa, NULL);
    struct itimerval tick = {.it_interval = {.tv_usec = 40000}, .it_value = {.tv_usec = 40000}};
    setitimer(ITIMER_VIRTUAL, &tick, NULL);
    return 0;
}

static int child_seccomp(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = ARRAY_LEN(code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
        fprintf(stderr, "oracle: seccomp: %s\n", strerror(errno));
        return -errno;
    }
    return 0;
}

/* Between batches. */
static void child_fill_window(void)
{
    u8 *at = window_ptr() + RO_OFF;
    mprotect(at, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE);
    window_fill(window_ptr(), work->image);
    mprotect(at, GUEST_PAGE_SIZE, PROT_READ);
}

static _Noreturn void child(struct shared *shared, int fd)
{
    work = shared;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(work->processor, &one); /* LSL of Linux' CPU number segment shows it */
    sched_setaffinity(0, sizeof one, &one);
    guest_state.host_fs_base = __builtin_ia32_rdfsbase64();
    u8 byte = child_ldt() || child_window() || child_signals() || child_seccomp();
    if (write(fd, &byte, 1) != 1 || byte) _exit(1);
    for (;;) {
        ssize_t got = read(fd, &byte, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got != 1) _exit(0);
        child_fill_window();
        /* Everything happens in the signal handler, which comes back here. */
        __asm__ volatile("ud2" ::: "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                         "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");
        if (write(fd, &byte, 1) != 1) _exit(1);
    }
}

/* ---- the parent ---- */

static int wait_byte(const struct native *n, u8 *byte)
{
    struct pollfd p = {.fd = n->fd, .events = POLLIN};
    int ready;
    do ready = poll(&p, 1, 60000);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0) return -ETIMEDOUT;
    ssize_t got;
    do got = read(n->fd, byte, 1);
    while (got < 0 && errno == EINTR);
    return got == 1 ? 0 : -EPIPE;
}

static int start_child(struct native *n)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -errno;
    fflush(NULL);
    n->pid = fork();
    if (n->pid < 0) {
        close(pair[0]);
        close(pair[1]);
        return -errno;
    }
    if (n->pid == 0) {
        close(pair[0]);
        child(n->shared, pair[1]);
    }
    close(pair[1]);
    n->fd = pair[0];
    u8 byte = 1;
    if (wait_byte(n, &byte) != 0 || byte) {
        fprintf(stderr, "oracle: the native side did not start\n");
        return -EIO;
    }
    return 0;
}

static void stop_child(struct native *n)
{
    if (n->pid <= 0) return;
    close(n->fd);
    kill(n->pid, SIGKILL);
    waitpid(n->pid, NULL, 0);
    n->pid = 0;
}

static unsigned nth_processor(unsigned n)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || !CPU_COUNT(&set)) return 0;
    n %= (unsigned)CPU_COUNT(&set);
    for (unsigned k = 0;; k++)
        if (CPU_ISSET(k, &set) && n-- == 0) return k;
}

struct native *native_create(unsigned nth)
{
    struct native *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->shared = mmap(NULL, sizeof *n->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (n->shared != MAP_FAILED) n->shared->processor = nth_processor(nth);
    if (n->shared == MAP_FAILED || start_child(n) != 0) {
        stop_child(n);
        free(n);
        return NULL;
    }
    return n;
}

void native_destroy(struct native *n)
{
    if (!n) return;
    stop_child(n);
    munmap(n->shared, sizeof *n->shared);
    free(n);
}

unsigned native_processor(const struct native *n) { return n->shared->processor; }
const u64 *native_ldt(const struct native *n) { return n->shared->ldt; }
struct oracle_result *native_result(const struct native *n, unsigned k) { return &n->shared->results[k]; }

int native_run(struct native *n, const u8 *image, const struct oracle_case *cases, unsigned count, bool patient)
{
    struct shared *s = n->shared;
    memcpy(s->image, image, IMAGE_SIZE);
    memcpy(s->cases, cases, count * sizeof *cases);
    s->count = count;
    s->patience = patient ? 50 : 1;
    s->next = 0;
    while (s->next < count) {
        u8 byte = 0;
        if (write(n->fd, &byte, 1) == 1 && wait_byte(n, &byte) == 0) continue;
        /* It died (or hangs) in case s->next: note that and go on behind it. */
        int status = 0;
        kill(n->pid, SIGKILL);
        close(n->fd);
        waitpid(n->pid, &status, 0);
        n->pid = 0;
        if (s->next < count) {
            s->results[s->next].vector = VECTOR_CRASH;
            s->results[s->next].changed = 0;
            s->results[s->next].error_code = (u64)status;
            s->next++;
        }
        int err = start_child(n);
        if (err) return err;
    }
    return 0;
}

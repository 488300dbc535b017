/* build/tests/insn/insn_runner [bt] build/tests/insn/real.bin    (each program is two ctests: ctest -R insn_)
 *
 * Runs a flat program on the interpreter, or on the translator with every block translated at once, and a bare CPU: 4 MiB of RAM, no devices but two ports. It is loaded at 10000H and entered in real
 * mode at 1000:0000 with SS:SP = 9000:FFF0. A write to port F4H ends it: 0 is success, anything else the source line of
 * the check that failed. Port E9H prints. HLT with interrupts off, a triple fault and ten seconds without an end fail. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bus.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "no_devices.h"
#include "translate/bt.h"

#define RAM_SIZE  0x400000u
#define LOAD_AT   0x10000u
#define PORT_EXIT 0xf4
#define PORT_TEXT 0xe9

struct runner {
    struct cpu *cpu;
    bool ended;
    u64 code; /* what was written to PORT_EXIT */
};

static struct cpu *alarm_cpu;

static void on_alarm(int sig)
{
    (void)sig;
    cpu_event_set(alarm_cpu, EVENT_KICK);
}

static u64 exit_read(void *opaque, u64 offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}
static void exit_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct runner *r = opaque;
    (void)offset, (void)size;
    r->ended = true;
    r->code = value;
    cpu_event_set(r->cpu, EVENT_KICK);
}
static void text_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    putchar((int)value & 0xff);
}
static const struct region_ops exit_ops = {.read = exit_read, .write = exit_write, .min_size = 1, .max_size = 4};
static const struct region_ops text_ops = {.read = exit_read, .write = text_write, .min_size = 1, .max_size = 1};

static bool load(struct ram *ram, const char *name)
{
    FILE *f = fopen(name, "rb");
    if (!f) {
        fprintf(stderr, "insn_runner: %s: %s\n", name, strerror(errno));
        return false;
    }
    size_t n = fread(ram->host + LOAD_AT, 1, RAM_SIZE - LOAD_AT, f);
    fclose(f);
    return n > 0;
}

int main(int argc, char **argv)
{
    const bool translate = argc == 3 && !strcmp(argv[1], "bt");
    if (argc != 2 + translate) {
        fprintf(stderr, "usage: insn_runner [bt] PROGRAM.bin\n");
        return 2;
    }
    const char *program = argv[1 + translate];
    struct runner r = {0};
    struct cpu_model *model = NULL;
    struct ram *ram = ram_create(RAM_SIZE);
    struct bus *mem = bus_create("memory", 1ull << 52), *io = bus_create("io", 0x10000);
    if (!ram || !mem || !io || cpu_model_parse("max", &model)) return 2;
    bus_add_ram(mem, "ram", 0, RAM_SIZE, 0, ram, ram_alloc(ram, RAM_SIZE), false);
    bus_add(io, "exit", PORT_EXIT, 4, 0, &exit_ops, &r);
    bus_add(io, "text", PORT_TEXT, 1, 0, &text_ops, &r);
    if (!load(ram, program)) return 2;
    struct cpu *cpu = r.cpu = alarm_cpu = cpu_create(0, mem, io, ram, &no_devices, model, translate ? &bt_engine : &interp_engine);
    if (!cpu) return 2;
    if (translate) bt_set_threshold(cpu, 1);
    cpu->seg[SEG_CS].selector = 0x1000;
    cpu->seg[SEG_CS].base = LOAD_AT;
    cpu->seg[SEG_SS].selector = 0x9000;
    cpu->seg[SEG_SS].base = 0x90000;
    cpu->regs[R_SP] = 0xfff0;
    cpu->rip = 0;
    cpu_update_mode(cpu);
    signal(SIGALRM, on_alarm);
    alarm(200);
    enum cpu_exit why;
    do why = cpu->engine_ops->run(cpu);
    while (why == EXIT_HALT && cpu_has_work(cpu));

    int status = r.ended && r.code == 0 ? 0 : 1;
    if (!r.ended)
        fprintf(stderr, "insn_runner: %s: %s\n", program,
                why == EXIT_HALT ? "halted" : why == EXIT_TRIPLE ? "triple fault" : "did not end");
    else if (status)
        fprintf(stderr, "insn_runner: %s: check at line %llu failed\n", program, (unsigned long long)r.code);
    if (status) cpu_dump(cpu, stderr);
    cpu_destroy(cpu);
    cpu_model_destroy(model);
    bus_destroy(mem);
    bus_destroy(io);
    ram_destroy(ram);
    return status;
}

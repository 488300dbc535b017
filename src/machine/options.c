/* The command line: QEMU's options with QEMU's meaning, for what there is; all others are refused by name.
 *
 * Options that refer to character devices are looked at after all others, so that -chardev and -nographic may
 * come in any order. */
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "machine/version.h"

#define DEFAULT_RAM (128ull << 20)

typedef int option_handler(struct options *o, const char *option, const char *arg);

/* Without its dashes. */
static const char *option_name(const char *option) { return option + 1 + (option[1] == '-'); }

/* ---- what waits for the end of the command line ---- */

static int opt_later(struct options *o, const char *option, const char *arg)
{
    const struct {
        const char *name;
        struct options_texts *texts;
        int max;
    } lists[] = {
        {"chardev", &o->later.chardevs, OPTIONS_CHARDEVS}, {"device", &o->later.devices, OPTIONS_DEVICES},
        {"netdev", &o->later.netdevs, OPTIONS_NETS},       {"net", &o->later.nets, OPTIONS_NETS},
        {"object", &o->later.objects, OPTIONS_NETS},       {"serial", &o->later.serials, OPTIONS_SERIALS},
        {"parallel", &o->later.parallels, 1},              {"debugcon", &o->later.debugcons, 1},
        {"monitor", &o->later.monitors, OPTIONS_MONITORS}, {"qmp", &o->later.monitors, OPTIONS_MONITORS},
        {"qmp-pretty", &o->later.monitors, OPTIONS_MONITORS}, {"mon", &o->later.monitors, OPTIONS_MONITORS},
    };
    const char *name = option_name(option);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (strcmp(name, lists[i].name)) continue;
        struct options_texts *t = lists[i].texts;
        if (t->count == lists[i].max) return option_bad(option, arg, "given too often");
        t->option[t->count] = name;
        t->text[t->count++] = arg;
        o->monitor_said |= t == &o->later.monitors;
    }
    return 0;
}

static bool asks_help(const char *arg) { return !strcmp(arg, "help") || !strcmp(arg, "?"); }

static int opt_chardev(struct options *o, const char *option, const char *arg)
{
    if (!asks_help(arg)) return opt_later(o, option, arg);
    printf("Available chardev backend types:\n  file\n  null\n  pipe\n  pty\n  socket\n  stdio\n");
    return 1;
}

static int opt_device(struct options *o, const char *option, const char *arg)
{
    if (!asks_help(arg)) return opt_later(o, option, arg);
    options_device_list();
    return 1;
}

static int opt_netdev(struct options *o, const char *option, const char *arg)
{
    return asks_help(arg) ? options_netdev(o, arg) : opt_later(o, option, arg);
}

/* ---- display ---- */

static int opt_vga(struct options *o, const char *option, const char *arg)
{
    if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
        printf("none                 no graphic card\nstd                  standard VGA (default)\n");
        return 1;
    }
    if (!strcmp(arg, "std"))
        o->vga = true;
    else if (!strcmp(arg, "none"))
        o->vga = false;
    else
        return option_bad(option, arg, "not supported (there are std and none)");
    return 0;
}

/* ---- the rest ---- */

static int opt_log(struct options *o, const char *option, const char *arg)
{
    u32 mask;
    const char *where = arg;
    int err = log_parse(arg, &mask, &where);
    if (err > 0) return 1;
    if (err < 0) {
        fprintf(stderr, "calque: %s %s: unknown log item '%.*s'\n", option, arg, (int)strcspn(where, ","), where);
        return -EINVAL;
    }
    return option_set(&o->log_items, arg);
}

static int opt_flag(struct options *o, const char *option, const char *arg)
{
    const struct {
        const char *name;
        bool *flag, value;
    } flags[] = {
        {"no-reboot", &o->no_reboot, true},   {"no-shutdown", &o->no_shutdown, true}, {"S", &o->start_stopped, true},
        {"daemonize", &o->daemonize, true},   {"no-hpet", &o->hpet, false},           {"no-acpi", &o->acpi, false},
        {"usb", &o->usb, true},               {"full-screen", &o->full_screen, true}, {"nodefaults", &o->nodefaults, true},
        {"snapshot", &o->snapshot, true},     {"perfmap", &o->perfmap, true},         {"nographic", &o->nographic, true},
    };
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (!strcmp(option_name(option), flags[i].name)) *flags[i].flag = flags[i].value;
    return 0;
}

static int opt_text(struct options *o, const char *option, const char *arg)
{
    const struct {
        const char *name;
        char **text;
    } texts[] = {{"kernel", &o->kernel}, {"initrd", &o->initrd},   {"append", &o->append},
                 {"bios", &o->bios},     {"pidfile", &o->pidfile}, {"D", &o->log_file}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!strcmp(option_name(option), texts[i].name)) return option_set(texts[i].text, arg);
    return 0;
}

/* What may be given, as it asks for what is the case: nothing is locked in memory; messages are what they are. */
static int opt_fixed(struct options *o, const char *option, const char *arg)
{
    static const char *const off[] = {"mem-lock", "cpu-pm", "timestamp", "guest-name"};
    struct option_list l;
    bool on = false;
    (void)o;
    int err = option_list_parse(&l, option, arg, NULL);
    if (err) return err;
    for (size_t i = 0; i < ARRAY_LEN(off) && !err; i++) {
        err = option_list_bool(&l, off[i], &on);
        if (!err && on && i < 2) err = option_bad(option, arg, "not supported");
        on = false;
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

static int opt_version(struct options *o, const char *option, const char *arg)
{
    (void)o;
    (void)option;
    (void)arg;
    printf("Calque emulator version " CALQUE_VERSION "\n");
    return 1;
}

static int opt_help(struct options *o, const char *option, const char *arg);

/* ---- the table ---- */

static const struct option {
    const char *name;        /* without the dash */
    const char *argument;    /* as in the help; NULL: takes none */
    option_handler *handler; /* what it does */
    const char *help;        /* one line; NULL: not shown */
} table[] = {
    {"h", NULL, opt_help, "print this help and exit"},
    {"help", NULL, opt_help, NULL},
    {"version", NULL, opt_version, "print the version and exit"},
    {"machine", "[type=]pc[,prop=value...]", options_machine, "select the machine (accel=, hpet=, acpi=, ...)"},
    {"M", "pc", options_machine, NULL},
    {"cpu", "model[,feature=on|off...]", options_cpu, "select the CPU (-cpu help lists them)"},
    {"accel", "bt|interp|auto|tcg", options_accel, "select the engine that runs guest code (default: bt)"},
    {"enable-kvm", NULL, options_enable_kvm, NULL},
    {"smp", "[cpus=]n[,sockets=][,cores=][,threads=]", options_smp, "number of CPUs"},
    {"m", "[size=]megabytes", options_memory, "guest memory, suffixes M and G (default: 128M)"},
    {"boot", "[order=drives][,menu=on|off][,strict=on|off]", options_boot, "where to boot from"},
    {"hda", "file", options_drive_file, "hard disk image, IDE primary master; likewise -hdb, -hdc and -hdd"},
    {"hdb", "file", options_drive_file, NULL},
    {"hdc", "file", options_drive_file, NULL},
    {"hdd", "file", options_drive_file, NULL},
    {"cdrom", "file", options_drive_file, "CD image, IDE secondary master"},
    {"fda", "file", options_drive_file, "floppy image; likewise -fdb"},
    {"fdb", "file", options_drive_file, NULL},
    {"drive", "[file=]file[,if=ide|virtio|floppy|none][,media=disk|cdrom][,index=n][,format=raw|qcow2][,readonly=on][,snapshot=on|off]"
              "[,cache=mode][,discard=unmap][,rerror=|werror=report|ignore|stop|enospc][,id=name][,serial=text]", options_drive, "a drive"},
    {"blockdev", "driver=raw|qcow2|vmdk|vpc|vhdx|file,node-name=name,file=node|file.filename=file|filename=file", options_blockdev,
     "a drive for -device ...,drive=name"},
    {"kernel", "file", opt_text, "boot a Linux, Multiboot or ELF kernel"},
    {"initrd", "file", opt_text, "its initial RAM disk, or Multiboot modules (\"file args,file...\")"},
    {"append", "text", opt_text, "its command line"},
    {"bios", "file", opt_text, "firmware image (default: bios-256k.bin)"},
    {"L", "directory", options_path, "look there for firmware"},
    {"option-rom", "file", options_option_rom, "have the firmware load an expansion ROM"},
    {"fw_cfg", "[name=]name,file=file|string=text", options_fw_cfg, "add a firmware configuration item"},
    {"serial", "target", opt_later, "connect a serial port: stdio, pty, file:F, pipe:F, unix:F, tcp:H:P, null, none; mon:target "
     "shares it with a monitor"},
    {"parallel", "target", opt_later, "connect the parallel port, as for -serial"},
    {"monitor", "target", opt_later, "a monitor for people, there"},
    {"qmp", "target", opt_later, "a monitor for programs, there (QMP)"},
    {"qmp-pretty", "target", opt_later, NULL},
    {"mon", "[chardev=]id[,mode=readline|control][,pretty=on|off]", opt_later, "a monitor on a -chardev"},
    {"chardev", "kind,id=id[,...]", opt_chardev, "a character device, for -serial chardev:id"},
    {"add-fd", "fd=n,set=n", options_add_fd, "an open file, for -chardev file,path=/dev/fdset/n"},
    {"overcommit", "mem-lock=off,cpu-pm=off", opt_fixed, NULL},
    {"msg", "timestamp=on|off", opt_fixed, NULL},
    {"debugcon", "target", opt_later, "connect the debug port 0xe9"},
    {"device", "driver[,prop=value...]", opt_device, "add a device (-device help lists them)"},
    {"nographic", NULL, opt_flag, "no display; serial port 0 on standard input and output"},
    {"display", "none|vnc=address|sdl|curses[,prop=value...]", options_display, "how the screen is shown"},
    {"vnc", "none|[host]:display|unix:path[,to=n][,password=on][,share=policy]", options_vnc, "show it to VNC clients"},
    {"k", "en-us", options_keyboard, "the keyboard layout that the guest believes in"},
    {"usb", NULL, opt_flag, "a USB controller (UHCI)"},
    {"usbdevice", "tablet|mouse|keyboard", options_usb, "the same with that device"},
    {"full-screen", NULL, opt_flag, "start with a window that fills the screen"},
    {"vga", "std|none", opt_vga, "select the graphics adapter"},
    {"nic", "user|tap|socket|stream|none[,model=][,mac=][,prop=value...]", options_nic, "a network card and its network"},
    {"netdev", "user|tap|socket|stream,id=id[,prop=value...]", opt_netdev, "a network, for -device e1000,netdev=id"},
    {"net", "nic|user|tap|socket|none[,prop=value...]", opt_later, NULL},
    {"object", "kind,id=id[,prop=value...]", opt_later,
     "filter-dump: write a network's frames to a file; rng-random, rng-builtin"},
    {"audiodev", "none|sdl|wav,id=id[,path=file][,out.frequency=n]", options_audiodev,
     "where sound goes, for -device AC97,audiodev=id"},
    {"audio", "none|sdl|wav,model=ac97|pcspk[,prop=value...]", options_audio, "the same with that card"},
    {"rtc", "[base=utc|localtime|date][,clock=host|rt|vm][,driftfix=none|slew]", options_rtc, "the guest's real-time clock"},
    {"S", NULL, opt_flag, "do not start before the monitor says so (cont)"},
    {"daemonize", NULL, opt_flag, "go to the background when everything is ready"},
    {"action", "[reboot=reset|shutdown][,shutdown=poweroff|pause]", options_action, "what the guest's reset and power-off do"},
    {"no-reboot", NULL, opt_flag, "exit instead of rebooting"},
    {"no-shutdown", NULL, opt_flag, "stop instead of exiting on power-off"},
    {"no-acpi", NULL, opt_flag, "no ACPI tables"},
    {"no-hpet", NULL, opt_flag, "no HPET"},
    {"nodefaults", NULL, opt_flag, "no devices that were not asked for"},
    {"no-user-config", NULL, opt_flag, NULL},
    {"snapshot", NULL, opt_flag, "write to temporary files instead of disk images"},
    {"uuid", "uuid", options_uuid, "the machine's identity in SMBIOS"},
    {"name", "text", options_guest_name, "the machine's name"},
    {"d", "item,...", opt_log, "log (-d help lists the items)"},
    {"D", "file", opt_text, "log there instead of to standard error"},
    {"perfmap", NULL, opt_flag, "name translated code for perf(1), in /tmp/perf-PID.map"},
    {"pidfile", "file", opt_text, "write the process ID there"},
};

const char *options_name(size_t i) { return i < ARRAY_LEN(table) ? table[i].name : NULL; }

static int opt_help(struct options *o, const char *option, const char *arg)
{
    (void)o;
    (void)option;
    (void)arg;
    printf("Calque emulator version " CALQUE_VERSION "\nusage: calque [options]\n"
           "Options have the names and the meaning they have in QEMU.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (!table[i].help) continue;
        int width = printf("-%s %s", table[i].name, table[i].argument ? table[i].argument : "");
        if (width >= 40) {
            putchar('\n');
            width = 0;
        }
        printf("%*s%s\n", 40 - width, "", table[i].help);
    }
    return 1;
}

/* Devices refer to these; the others refer to devices. */
static bool is_rng(const char *object) { return !strncmp(object, "rng-", 4) || !strncmp(object, "qom-type=rng-", 13); }

static int finish_networks(struct options *o)
{
    const struct options_later *l = &o->later;
    int err = 0;
    for (int i = 0; i < l->nets.count && !err; i++) err = options_net(o, l->nets.text[i]);
    if (!err) err = options_net_finish(o);
    for (int i = 0; i < l->objects.count && !err; i++)
        if (!is_rng(l->objects.text[i])) err = options_object(o, l->objects.text[i]);
    return err;
}

static int finish_chardevs(struct options *o)
{
    const struct options_later *l = &o->later;
    int err = 0;
    for (int i = 0; i < l->netdevs.count && !err; i++) err = options_netdev(o, l->netdevs.text[i]);
    for (int i = 0; i < l->chardevs.count && !err; i++) err = options_chardev_define(o, l->chardevs.text[i]);
    for (int i = 0; i < l->serials.count && !err; i++) {
        static const char *const labels[OPTIONS_SERIALS] = {"serial0", "serial1", "serial2", "serial3"};
        err = options_chardev_target(o, "-serial", l->serials.text[i], labels[i], &o->serial[i]);
    }
    for (int i = 0; i < l->monitors.count && !err; i++) {
        const char *option = l->monitors.option[i];
        bool pretty = !strcmp(option, "qmp-pretty");
        err = !strcmp(option, "mon")
                  ? options_mon(o, l->monitors.text[i])
                  : options_monitor(o, option - 1, l->monitors.text[i], strcmp(option, "monitor") != 0, pretty);
    }
    if (!err && l->parallels.count) err = options_chardev_target(o, "-parallel", l->parallels.text[0], "parallel0", &o->parallel);
    if (!err && l->debugcons.count) err = options_chardev_target(o, "-debugcon", l->debugcons.text[0], "debugcon", &o->debugcon);
    for (int i = 0; i < l->objects.count && !err; i++)
        if (is_rng(l->objects.text[i])) err = options_object(o, l->objects.text[i]);
    for (int i = 0; i < l->devices.count && !err; i++) err = options_device(o, l->devices.text[i]);
    if (err || o->nodefaults) return err;
    if (o->parallel == CHARDEV_UNSET && (err = options_chardev_target(o, "-parallel", "null", "parallel0", &o->parallel)))
        return err;
    /* The default serial port, and the default monitor. */
    bool use_stdio = o->nographic;
    for (int i = 0; i < o->chardev_count; i++) use_stdio &= o->chardevs[i].kind != CHARDEV_STDIO;
    if (o->serial[0] == CHARDEV_UNSET) {
        const char *target = !use_stdio ? "null" : o->monitor_said ? "stdio" : "mon:stdio";
        return options_chardev_target(o, "-serial", target, "serial0", &o->serial[0]);
    }
    return use_stdio && !o->monitor_said ? options_monitor(o, "-monitor", "stdio", false, false) : 0;
}

/* ---- all of it ---- */

static const struct option *lookup(const char *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!strcmp(table[i].name, option_name(arg))) return &table[i];
    return NULL;
}

static int parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || !argv[i][1]) {
            int err = options_drive_file(o, argv[i], argv[i]);
            if (err) return err;
            continue;
        }
        const struct option *option = lookup(argv[i]);
        if (!option) {
            fprintf(stderr, "calque: %s: option not supported\n", argv[i]);
            return -EINVAL;
        }
        const char *arg = "";
        const char *given = argv[i];
        if (option->argument) {
            if (i + 1 == argc) {
                fprintf(stderr, "calque: %s: requires an argument\n", given);
                return -EINVAL;
            }
            arg = argv[++i];
        }
        int result = option->handler(o, given, arg);
        if (result) return result;
    }
    return 0;
}

static int check_boot_indexes(const struct options *o)
{
    int used[OPTIONS_DRIVES + OPTIONS_NETS], count = 0;
    for (int i = 0; i < o->drive_count + o->nic_count; i++) {
        int index = i < o->drive_count ? o->drives[i].bootindex : o->nics[i - o->drive_count].bootindex;
        char text[16];
        snprintf(text, sizeof(text), "%d", index);
        for (int k = 0; k < count; k++)
            if (used[k] == index) return option_bad("-device bootindex", text, "another device has it");
        if (index >= 0) used[count++] = index;
    }
    return 0;
}

/* What only makes sense together. */
static int check(const struct options *o)
{
    if (check_boot_indexes(o)) return -EINVAL;
    static const char no_terminal[] = "there is no terminal in the background";
    for (int i = 0; i < o->chardev_count && o->daemonize; i++)
        if (o->chardevs[i].kind == CHARDEV_STDIO) return option_bad("-daemonize", "stdio", no_terminal);
    for (int i = 0; i < o->display_count && o->daemonize; i++)
        if (o->displays[i].kind == DISPLAY_CURSES) return option_bad("-daemonize", "curses", no_terminal);
    if (o->kernel) return 0;
    if (o->initrd) fprintf(stderr, "calque: -initrd needs -kernel\n");
    else if (o->append) fprintf(stderr, "calque: -append needs -kernel\n");
    else return 0;
    return -EINVAL;
}

int options_parse(struct options *o, int argc, char **argv)
{
    memset(o, 0, sizeof(*o));
    o->ram_size = DEFAULT_RAM;
    o->cpus = o->cores = o->threads = 1;
    o->hpet = o->acpi = o->vga = true;
    o->vga_config = (struct vga_config)VGA_DEFAULT;
    o->splash_time = o->reboot_timeout = UINT64_MAX;
    o->debugcon = o->parallel = CHARDEV_UNSET;
    for (int i = 0; i < OPTIONS_SERIALS; i++) o->serial[i] = CHARDEV_UNSET;

    /* -nodefaults also means no VGA, unless one is asked for, wherever it stands. */
    bool vga_said = false;
    for (int i = 1; i < argc; i++) vga_said |= !strcmp(argv[i], "-vga") || !strcmp(argv[i], "--vga");

    int result = parse(o, argc, argv);
    if (!result) result = options_accel_check(o);
    if (!result && o->nodefaults && !vga_said) o->vga = false;
    if (!result) result = finish_chardevs(o);
    if (!result) result = finish_networks(o);
    if (!result) result = options_audio_finish(o);
    if (!result) result = options_drive_finish(o);
    if (!result) result = options_display_finish(o);
    if (!result) result = check(o);
    if (!result) result = cpu_model_parse(o->cpu ? o->cpu : "max", &o->cpu_model);
    if (!result) cpu_model_set_topology(o->cpu_model, o->cores, o->threads);
    return result;
}

void options_free(struct options *o)
{
    options_net_free(o);
    if (o->cpu_model) cpu_model_destroy(o->cpu_model);
    char *const strings[] = {o->cpu,  o->kernel,    o->initrd,   o->append, o->bios,
                             o->name, o->log_items, o->log_file, o->pidfile};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) free(strings[i]);
    options_drive_free(o);
    options_virtio_free(o);
    options_audio_free(o);
    for (int i = 0; i < o->display_count; i++) options_display_free(&o->displays[i]);
    for (int i = 0; i < o->path_count; i++) free(o->paths[i]);
    for (int i = 0; i < o->option_rom_count; i++) free(o->option_roms[i]);
    for (int i = 0; i < o->fw_cfg_count; i++) {
        free(o->fw_cfg[i].name);
        free(o->fw_cfg[i].file);
        free(o->fw_cfg[i].string);
    }
    for (int i = 0; i < o->chardev_count; i++) {
        free((char *)o->chardevs[i].label);
        free((char *)o->chardevs[i].path);
        free((char *)o->chardevs[i].host);
        free((char *)o->chardevs[i].port);
    }
}

// build/tests/test_options
/* The command line: what it makes of the machine. What it refuses is in tests/boot/errors.sh. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>

#include "machine/option_list.h"
#include "machine/options.h"

static struct options o;

#define PARSE(...)                                                                                            \
    do {                                                                                                      \
        char *argv_[] = {"calque", __VA_ARGS__};                                                              \
        cr_assert_eq(options_parse(&o, (int)ARRAY_LEN(argv_), argv_), 0);                                     \
    } while (0)

static void teardown(void) { options_free(&o); }
TestSuite(options, .fini = teardown);

Test(options, defaults)
{
    char *argv[] = {"calque"};
    cr_assert_eq(options_parse(&o, 1, argv), 0);
    cr_assert_eq(o.ram_size, 128u << 20);
    cr_assert_eq(o.cpus, 1);
    cr_assert(o.vga && o.hpet && o.acpi);
    cr_assert_not(o.no_reboot || o.no_shutdown || o.nographic);
    cr_assert_eq(o.chardevs[o.serial[0]].kind, CHARDEV_NULL);
    cr_assert_eq(o.serial[1], CHARDEV_UNSET);
    cr_assert_not_null(o.cpu_model);
}

Test(options, floppies_and_blockdev)
{
    PARSE("-fda", "a.img", "-drive", "if=floppy", "-blockdev", "driver=file,node-name=f,filename=x,,y,read-only=on",
          "-blockdev", "{\"driver\": \"qcow2\", \"node-name\": \"q\", \"file\": \"f\", \"cache\": {\"direct\": true}}",
          "-device", "ide-hd,drive=q,unit=1,rerror=stop", "-drive", "file=z,cache=directsync,rerror=ignore,werror=stop,if=virtio");
    const struct drive_option *d = o.drives;
    cr_assert(d[0].interface == DRIVE_FLOPPY && d[0].index == 0 && !strcmp(d[0].file, "a.img"));
    cr_assert(d[1].interface == DRIVE_FLOPPY && d[1].index == 1 && !d[1].file);
    cr_assert(d[2].interface == DRIVE_NONE && d[2].taken && !d[2].file);
    cr_assert(d[3].interface == DRIVE_IDE && d[3].index == 1 && d[3].format == DISK_QCOW2 && d[3].readonly && d[3].direct);
    cr_assert_str_eq(d[3].file, "x,y");
    cr_assert(d[4].direct && d[4].write_through && d[4].read_error == DISK_IGNORE && d[4].write_error == DISK_STOP);
    cr_assert(d[3].read_error == DISK_STOP && d[3].write_error == DISK_ENOSPC);
}

Test(options, snapshot_of_all_but_one)
{
    PARSE("-snapshot", "-hda", "a", "-drive", "file=b,snapshot=off,index=1", "-drive", "file=c,if=virtio");
    cr_assert(o.drives[0].snapshot && !o.drives[1].snapshot && o.drives[2].snapshot);
}

Test(options, snapshot_is_not_for_blockdev)
{
    PARSE("-snapshot", "-hda", "a", "-blockdev", "driver=qcow2,node-name=q,file.filename=b", "-device", "ide-hd,drive=q");
    cr_assert(o.drives[0].snapshot && !o.drives[1].snapshot);
}

Test(options, virtio_disks_have_any_number)
{
    PARSE("-drive", "if=virtio,file=a,index=7", "-drive", "if=virtio,file=b", "-drive", "if=virtio,file=c,unit=1", "-drive",
          "if=virtio,file=d", "-hda", "e");
    static const int indexes[] = {7, 0, 1, 2, 0};
    for (int i = 0; i < 5; i++) cr_expect_eq(o.drives[i].index, indexes[i], "drive %d: %d", i, o.drives[i].index);
}

Test(options, json_and_descriptors)
{
    PARSE("-add-fd", "set=3,fd=7,opaque=x", "-chardev", "{\"backend\": \"file\", \"id\": \"f\", \"path\": \"/dev/fdset/3\"}",
          "-chardev", "socket,id=m,fd=27,server=on,wait=off", "-mon", "chardev=m,mode=control,id=x", "-daemonize", "-display", "none",
          "-overcommit", "mem-lock=off", "-msg", "timestamp=on", "-object", "secret,id=s,format=raw,file=/nosuch",
          "-audiodev", "{\"id\": \"a\", \"driver\": \"none\", \"out\": {\"frequency\": 48000}}", "-serial", "null");
    cr_assert_str_eq(o.chardevs[0].path, "/dev/fd/7");
    cr_assert(o.chardevs[1].has_fd && o.chardevs[1].fd == 27 && o.chardevs[1].server);
    cr_assert(o.daemonize);
    cr_assert_eq(o.audios[0].rate, 48000);
}

Test(options, memory_sizes)
{
    static const struct {
        char *text;
        u64 bytes;
    } sizes[] = {
        {"512", 512ull << 20}, {"512M", 512ull << 20}, {"2G", 2ull << 30},         {"2g", 2ull << 30},
        {"1.5G", 3ull << 29},  {"65536k", 64ull << 20}, {"size=256", 256ull << 20}, {"1048577b", 0x102000},
        {"0x100", 256ull << 20},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        PARSE("-m", sizes[i].text);
        cr_assert_eq(o.ram_size, sizes[i].bytes, "%s: %llu", sizes[i].text, (unsigned long long)o.ram_size);
        options_free(&o);
    }
    PARSE("-m", "64");
}

Test(options, processors)
{
    static const struct {
        char *text;
        unsigned cpus, cores, threads;
    } cases[] = {
        {"1", 1, 1, 1},
        {"4", 4, 4, 1},
        {"cpus=2", 2, 2, 1},
        {"4,sockets=2", 4, 2, 1},
        {"4,sockets=4", 4, 1, 1},
        {"8,sockets=2,cores=2,threads=2", 8, 2, 2},
        {"sockets=2,cores=3", 6, 3, 1},
        {"4,threads=2", 4, 2, 2},
        {"2,maxcpus=2", 2, 2, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        PARSE("-smp", cases[i].text);
        cr_assert_eq(o.cpus, cases[i].cpus, "%s", cases[i].text);
        cr_assert_eq(o.cores, cases[i].cores, "%s: %u cores", cases[i].text, o.cores);
        cr_assert_eq(o.threads, cases[i].threads, "%s", cases[i].text);
        options_free(&o);
    }
    PARSE("-smp", "2");
}

Test(options, accelerators_are_tried_in_order)
{
    PARSE("-accel", "kvm", "-accel", "interp");
    options_free(&o);
    PARSE("-machine", "pc,accel=kvm:auto");
    options_free(&o);
    PARSE("-machine", "pc,accel=tcg");
    options_free(&o);
    PARSE("--accel", "auto");
}

Test(options, nographic_takes_stdio)
{
    PARSE("-nographic");
    cr_assert_eq(o.chardevs[o.serial[0]].kind, CHARDEV_STDIO);
    cr_assert(o.chardevs[o.serial[0]].mux);
    cr_assert_not(o.chardevs[o.serial[0]].signals);
    options_free(&o);
    /* In any order, and not when something else has it. */
    PARSE("-serial", "stdio", "-nographic");
    cr_assert(o.chardevs[o.serial[0]].mux);
    cr_assert_eq(o.chardev_count, 2); /* and the parallel port's, which leads nowhere */
    cr_assert_eq(o.chardevs[o.parallel].kind, CHARDEV_NULL);
    options_free(&o);
    PARSE("-serial", "file:x", "-nographic");
    cr_assert_eq(o.chardevs[o.serial[0]].kind, CHARDEV_FILE);
    options_free(&o);
    PARSE("-serial", "stdio");
    cr_assert(o.chardevs[o.serial[0]].signals);
    cr_assert_not(o.chardevs[o.serial[0]].mux);
}

Test(options, no_serial_port)
{
    PARSE("-serial", "none");
    cr_assert_eq(o.serial[0], CHARDEV_NONE);
    options_free(&o);
    PARSE("-nodefaults");
    cr_assert_eq(o.serial[0], CHARDEV_UNSET);
    cr_assert_not(o.vga);
    options_free(&o);
    PARSE("-nodefaults", "-vga", "std");
    cr_assert(o.vga);
}

Test(options, character_devices)
{
    PARSE("-chardev", "socket,id=s,path=/a,,b,server=on,wait=off", "-chardev", "file,id=f,path=log,append=on", "-serial",
          "chardev:f", "-serial", "unix:/tmp/x,server,nowait", "-serial", "tcp:host:77,nodelay", "-serial",
          "telnet:[::1]:23,server=on", "-device", "isa-debugcon,iobase=0x402,chardev=s");
    const struct chardev_config *f = &o.chardevs[o.serial[0]], *u = &o.chardevs[o.serial[1]],
                                *t = &o.chardevs[o.serial[2]], *n = &o.chardevs[o.serial[3]],
                                *s = &o.chardevs[o.devices[0].chardev];
    cr_assert_eq(f->kind, CHARDEV_FILE);
    cr_assert(f->append);
    cr_assert_str_eq(f->path, "log");
    cr_assert_eq(u->kind, CHARDEV_UNIX);
    cr_assert(u->server && !u->wait);
    cr_assert_str_eq(u->path, "/tmp/x");
    cr_assert_eq(t->kind, CHARDEV_TCP);
    cr_assert(!t->server && t->nodelay);
    cr_assert_str_eq(t->host, "host");
    cr_assert_str_eq(t->port, "77");
    cr_assert(n->server && n->wait && n->telnet);
    cr_assert_str_eq(n->host, "::1");
    cr_assert_str_eq(s->path, "/a,b");
    cr_assert(s->server && !s->wait);
    cr_assert_eq(o.devices[0].kind, DEVICE_DEBUG_CONSOLE);
    cr_assert_eq(o.devices[0].iobase, 0x402);
}

Test(options, test_suite_command_line)
{
    PARSE("-nodefaults", "-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-vnc", "none",
          "-serial", "stdio", "-device", "pci-testdev", "-machine", "accel=interp", "-kernel", "x.flat", "-smp", "1",
          "-append", "a b", "-initrd", "env");
    cr_assert_eq(o.device_count, 3);
    cr_assert_eq(o.devices[0].kind, DEVICE_PC_TESTDEV);
    cr_assert_eq(o.devices[1].kind, DEVICE_DEBUG_EXIT);
    cr_assert_eq(o.devices[1].iobase, 0xf4);
    cr_assert_eq(o.devices[1].iosize, 4);
    cr_assert_eq(o.devices[2].kind, DEVICE_PCI_TESTDEV);
    cr_assert_str_eq(o.append, "a b");
}

Test(options, boot_and_clock)
{
    PARSE("-boot", "order=dc,once=n,menu=on,strict=on,splash-time=100", "-rtc", "base=2006-06-17T16:01:21,clock=vm");
    cr_assert_str_eq(o.boot_order, "dc");
    cr_assert_str_eq(o.boot_once, "n");
    cr_assert(o.boot_menu && o.boot_strict);
    cr_assert_eq(o.splash_time, 100);
    cr_assert_eq(o.reboot_timeout, UINT64_MAX);
    cr_assert(o.rtc_fixed);
    cr_assert_eq(o.rtc_base, 1150560081);
    cr_assert_eq(o.rtc_clock, CLOCK_WALL_GUEST);
    cr_assert(!o.rtc_slew);
    options_free(&o);
    PARSE("-boot", "c", "-rtc", "base=2000-01-01,driftfix=slew");
    cr_assert_eq(o.rtc_clock, CLOCK_WALL_HOST);
    cr_assert(o.rtc_slew);
    cr_assert_str_eq(o.boot_order, "c");
    cr_assert_eq(o.rtc_base, 946684800);
}

Test(options, identity)
{
    static const u8 uuid[16] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8};
    PARSE("-uuid", "12345678-9ABC-def0-0102-030405060708", "-name", "guest=a,,b,process=x", "-fw_cfg",
          "name=opt/x,string=1,,2");
    cr_assert(o.has_uuid);
    cr_assert(!memcmp(o.uuid, uuid, 16));
    cr_assert_str_eq(o.name, "a,b");
    cr_assert_str_eq(o.fw_cfg[0].string, "1,2");
}

Test(options, machine_properties)
{
    PARSE("-M", "pc-i440fx-7.2,hpet=off,usb=off,vmport=off,kernel_irqchip=on,append=hello,kernel=k");
    cr_assert_not(o.hpet);
    cr_assert_str_eq(o.append, "hello");
    cr_assert_str_eq(o.kernel, "k");
    options_free(&o);
    PARSE("-no-acpi", "-no-hpet", "-no-reboot", "-no-shutdown");
    cr_assert(!o.acpi && !o.hpet && o.no_reboot && o.no_shutdown);
}

Test(option_list, splitting)
{
    struct option_list l;
    cr_assert_eq(option_list_parse(&l, "-x", "first,a=1,,2,flag,nooff,b=", "key"), 0);
    cr_assert_str_eq(option_list_get(&l, "key"), "first");
    cr_assert_str_eq(option_list_get(&l, "a"), "1,2");
    cr_assert_str_eq(option_list_get(&l, "flag"), "on");
    cr_assert_str_eq(option_list_get(&l, "off"), "off");
    cr_assert_str_eq(option_list_get(&l, "b"), "");
    cr_assert_null(option_list_get(&l, "c"));
    cr_assert_eq(option_list_check(&l), 0);
    option_list_free(&l);
}

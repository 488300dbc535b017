/* What the firmware is given: -boot, -L, -option-rom, -fw_cfg. */
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int options_path(struct options *o, const char *option, const char *arg)
{
    if (o->path_count == OPTIONS_PATHS) return option_bad(option, arg, "too many directories");
    return option_set(&o->paths[o->path_count++], arg);
}

int options_option_rom(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "romfile");
    if (err) return err;
    const char *file = option_list_get(&l, "romfile");
    if (!file || !*file)
        err = option_bad(option, arg, "no file named");
    else if (o->option_rom_count == OPTIONS_FILES)
        err = option_bad(option, arg, "too many ROMs");
    else
        err = option_set(&o->option_roms[o->option_rom_count++], file);
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

int options_fw_cfg(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "name");
    if (err) return err;
    const char *name = option_list_get(&l, "name");
    const char *file = option_list_get(&l, "file");
    const char *string = option_list_get(&l, "string");
    if (!name || !*name)
        err = option_bad(option, arg, "no item named");
    else if (strlen(name) > 55)
        err = option_bad(option, arg, "the item's name has more than 55 characters");
    else if (!file == !string)
        err = option_bad(option, arg, "give either file or string");
    else if (o->fw_cfg_count == OPTIONS_FILES)
        err = option_bad(option, arg, "too many items");
    if (!err) err = option_list_check(&l);
    if (!err) {
        struct fw_cfg_option *f = &o->fw_cfg[o->fw_cfg_count++];
        f->name = strdup(name);
        f->file = file ? strdup(file) : NULL;
        f->string = string ? strdup(string) : NULL;
    }
    option_list_free(&l);
    return err;
}

/* Letters of drives, of which the CMOS has room for three; NULL: none were given. */
static int drives(const char *option, const char *arg, const char *letters, char to[4])
{
    u32 seen = 0;
    if (!letters) return 0;
    for (const char *p = letters; *p; p++) {
        u32 bit = *p >= 'a' && *p <= 'z' ? 1u << (*p - 'a') : 0;
        if (!strchr("abcdnop", *p) || (seen & bit)) return option_bad(option, arg, "invalid boot order");
        seen |= bit;
    }
    snprintf(to, 4, "%.3s", letters);
    return 0;
}

int options_boot(struct options *o, const char *option, const char *arg)
{
    struct option_list l;
    int err = option_list_parse(&l, option, arg, "order");
    if (err) return err;
    err = drives(option, arg, option_list_get(&l, "order"), o->boot_order);
    if (!err) err = drives(option, arg, option_list_get(&l, "once"), o->boot_once);
    if (!err) err = option_list_bool(&l, "menu", &o->boot_menu);
    if (!err) err = option_list_bool(&l, "strict", &o->boot_strict);
    if (!err) err = option_list_number(&l, "splash-time", 65535, &o->splash_time);
    if (!err) err = option_list_number(&l, "reboot-timeout", 65535, &o->reboot_timeout);
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

/* -monitor, -qmp, -mon: who controls the machine while it runs; -action. */
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int options_monitor_add(struct options *o, const char *option, int chardev, bool qmp, bool pretty)
{
    if (o->monitor_count == OPTIONS_MONITORS) {
        fprintf(stderr, "calque: %s: too many monitors\n", option);
        return -EINVAL;
    }
    o->monitors[o->monitor_count++] = (struct monitor_option){.chardev = chardev, .qmp = qmp, .pretty = pretty};
    return 0;
}

int options_monitor(struct options *o, const char *option, const char *target, bool qmp, bool pretty)
{
    char label[24];
    int chardev = CHARDEV_NONE;
    snprintf(label, sizeof(label), "compat_monitor%d", o->monitor_count);
    int err = options_chardev_target(o, option, target, label, &chardev);
    if (err || chardev < 0) return err;
    return options_monitor_add(o, option, chardev, qmp, pretty);
}

int options_mon(struct options *o, const char *text)
{
    struct option_list l;
    int err = option_list_parse(&l, "-mon", text, "chardev");
    if (err) return err;
    const char *id = option_list_get(&l, "chardev"), *mode = option_list_get(&l, "mode");
    option_list_get(&l, "id"); /* nobody refers to it */
    bool qmp = mode && !strcmp(mode, "control"), pretty = false;
    int chardev = CHARDEV_NONE;
    if (!id) {
        fprintf(stderr, "calque: -mon %s: no chardev named\n", text);
        err = -EINVAL;
    } else if (mode && !qmp && strcmp(mode, "readline")) {
        fprintf(stderr, "calque: -mon %s: mode=%s not supported (there are readline and control)\n", text, mode);
        err = -EINVAL;
    }
    if (!err) err = option_list_bool(&l, "pretty", &pretty);
    if (!err) err = option_list_check(&l);
    if (!err) err = options_chardev_take(o, "-mon", id, &chardev);
    if (!err) err = options_monitor_add(o, "-mon", chardev, qmp, pretty);
    option_list_free(&l);
    return err;
}

/* One event of -action: the index of its action in values, -1: not given; -EINVAL with a message. */
static int action(struct option_list *l, const char *event, const char *const *values)
{
    const char *value = option_list_get(l, event);
    if (!value) return -1;
    for (int i = 0; values[i]; i++)
        if (!strcmp(value, values[i])) return i;
    fprintf(stderr, "calque: -action: %s=%s not supported\n", event, value);
    return -EINVAL;
}

int options_action(struct options *o, const char *option, const char *text)
{
    (void)option;
    static const char *const reboot[] = {"reset", "shutdown", NULL}, *const shutdown[] = {"poweroff", "pause", NULL};
    /* These events do not happen: there is neither a panic device nor a watchdog. */
    static const char *const panic[] = {"pause", "shutdown", "exit-failure", "none", NULL};
    static const char *const watchdog[] = {"reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi", NULL};
    struct option_list l;
    int err = option_list_parse(&l, "-action", text, NULL);
    if (err) return err;
    int on_reboot = action(&l, "reboot", reboot), on_shutdown = action(&l, "shutdown", shutdown);
    if (on_reboot < -1 || on_shutdown < -1 || action(&l, "panic", panic) < -1 || action(&l, "watchdog", watchdog) < -1)
        err = -EINVAL;
    if (!err) err = option_list_check(&l);
    if (on_reboot >= 0) o->no_reboot = on_reboot == 1;
    if (on_shutdown >= 0) o->no_shutdown = on_shutdown == 1;
    option_list_free(&l);
    return err;
}

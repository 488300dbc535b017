/* -display, -vnc, -full-screen, -k, -usbdevice: how the screen is shown, and what the user has in hand. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "devices/edid.h"
#include "machine/option_list.h"

#define VNC_PORT 5900 /* of display 0 */

static struct display_config *add(struct options *o, const char *option, const char *text)
{
    struct display_config *c = NULL;
    /* A later -vnc, or a later other display, replaces an earlier one. */
    bool vnc = !strncmp(text, "vnc=", 4);
    for (int i = 0; i < o->display_count; i++)
        if ((o->displays[i].kind == DISPLAY_VNC) == vnc) c = &o->displays[i];
    if (!c) c = &o->displays[o->display_count++];
    else options_display_free(c);
    memset(c, 0, sizeof(*c));
    if (vnc) c->kind = DISPLAY_VNC;
    if (asprintf(&c->option, "%s %s", option, !strcmp(option, "-vnc") ? text + 4 : text) < 0) c->option = NULL;
    return c;
}

/* "unix:PATH", "[HOST]:N" or "HOST:N" */
static int vnc_address(struct display_config *c, const char *option, const char *address, u64 last)
{
    if (!strncmp(address, "unix:", 5)) {
        c->path = strdup(address + 5);
        return c->path && c->path[0] ? 0 : option_bad(option, address, "no path");
    }
    const char *colon = strrchr(address, ':');
    u64 number;
    if (!colon || !option_number(colon + 1, UINT16_MAX - VNC_PORT, &number))
        return option_bad(option, address, "expected HOST:DISPLAY, unix:PATH or none");
    size_t length = (size_t)(colon - address);
    bool brackets = length >= 2 && address[0] == '[' && colon[-1] == ']';
    c->host = strndup(address + brackets, length - 2u * brackets);
    c->port = (u16)(VNC_PORT + number);
    c->last_port = (u16)(VNC_PORT + MAX(number, last));
    return 0;
}

int options_vnc(struct options *o, const char *option, const char *text)
{
    o->display_said = true;
    if (!strcmp(text, "none")) return 0;
    if (!strcmp(text, "help") || !strcmp(text, "?")) {
        printf("-vnc none | HOST:DISPLAY | unix:PATH [,to=DISPLAY][,password=on][,share=allow-exclusive|force-shared|ignore]\n");
        return 1;
    }
    char named[512];
    struct option_list l;
    int err = option_list_parse(&l, option, text, "vnc");
    if (err) return err;
    snprintf(named, sizeof(named), "vnc=%s", text);
    struct display_config *c = add(o, option, named);
    const char *address = option_list_get(&l, "vnc"), *share = option_list_get(&l, "share");
    u64 last = 0;
    bool ignored; /* the library chooses encodings by the client's wishes; there is no power control */
    if (!address) err = option_bad(option, text, "no address");
    if (!err) err = option_list_number(&l, "to", UINT16_MAX - VNC_PORT, &last);
    if (!err) err = option_list_bool(&l, "password", &c->password);
    if (!err) err = option_list_bool(&l, "lossy", &ignored);
    if (!err) err = option_list_bool(&l, "non-adaptive", &ignored);
    option_list_get(&l, "id");
    option_list_get(&l, "audiodev"); /* clients hear nothing */
    if (!err && share) {
        static const char *const names[] = {"allow-exclusive", "force-shared", "ignore"};
        while (c->share < ARRAY_LEN(names) && strcmp(share, names[c->share])) c->share++;
        if (c->share == ARRAY_LEN(names)) err = option_bad(option, share, "no such share policy");
    }
    if (!err) err = option_list_check(&l);
    if (!err) err = vnc_address(c, option, address, last);
    option_list_free(&l);
    return err;
}

static int window_properties(struct display_config *c, struct option_list *l)
{
    bool close = true, gl = false;
    int err = option_list_bool(l, "full-screen", &c->full_screen);
    if (!err) err = option_list_bool(l, "window-close", &close);
    if (!err) err = option_list_bool(l, "window_close", &close);
    if (!err) err = option_list_bool(l, "show-cursor", &c->show_cursor);
    if (!err) err = option_list_bool(l, "gl", &gl);
    if (!err && gl) err = option_bad("-display", "gl=on", "not supported");
    c->keep_open = !close;
    const char *grab = option_list_get(l, "grab-mod");
    if (err || !grab) return err;
    static const char *const names[] = {"lctrl-lalt", "lshift-lctrl-lalt", "rctrl"};
    while (c->grab_modifiers < ARRAY_LEN(names) && strcmp(grab, names[c->grab_modifiers])) c->grab_modifiers++;
    return c->grab_modifiers < ARRAY_LEN(names) ? 0 : option_bad("-display", grab, "no such grab-mod");
}

int options_display(struct options *o, const char *option, const char *text)
{
    (void)option;
    if (!strcmp(text, "help") || !strcmp(text, "?")) {
        printf("Available display backend types:\nnone\n%s%s%s", display_vnc_present ? "vnc\n" : "",
               display_sdl_present ? "sdl\n" : "",
               display_curses_present ? "curses\n" : "");
        return 1;
    }
    o->display_said = true;
    if (!strncmp(text, "vnc=", 4)) return options_vnc(o, "-display", text + 4);
    struct option_list l;
    int err = option_list_parse(&l, "-display", text, "type");
    if (err) return err;
    const char *type = option_list_get(&l, "type");
    struct display_config *c = add(o, "-display", text);
    if (!type || !strcmp(type, "none")) {
        c->kind = DISPLAY_NONE;
    } else if (!strcmp(type, "sdl")) {
        c->kind = DISPLAY_SDL;
        err = window_properties(c, &l);
    } else if (!strcmp(type, "curses")) {
        c->kind = DISPLAY_CURSES;
        const char *charset = option_list_get(&l, "charset");
        if (charset && strcasecmp(charset, "CP437"))
            err = option_bad("-display", charset, "charset not supported (there is CP437)");
    } else {
        err = option_bad("-display", type, "not supported (there are none, vnc, sdl and curses)");
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

int options_keyboard(struct options *o, const char *option, const char *text)
{
    (void)o;
    return strcmp(text, "en-us") ? option_bad(option, text, "keyboard layout not supported (there is en-us)") : 0;
}

static const char *const usb_names[][2] = {[USB_HID_KEYBOARD] = {"usb-kbd", "keyboard"},
                                           [USB_HID_MOUSE] = {"usb-mouse", "mouse"},
                                           [USB_HID_TABLET] = {"usb-tablet", "tablet"}};

static size_t usb_kind(const char *name)
{
    size_t k = 0;
    while (k < ARRAY_LEN(usb_names) && strcmp(usb_names[k][0], name) && strcmp(usb_names[k][1], name)) k++;
    return k;
}

bool options_usb_driver(const char *driver) { return !strncmp(driver, "usb-", 4) && usb_kind(driver) < ARRAY_LEN(usb_names); }

int options_usb(struct options *o, const char *option, const char *name)
{
    size_t kind = usb_kind(name);
    if (kind == ARRAY_LEN(usb_names)) return option_bad(option, name, "not supported (there are tablet, mouse and keyboard)");
    if (o->usb_count == OPTIONS_USB) return option_bad(option, name, "the USB controller has two ports");
    o->usb = true;
    o->usb_devices[o->usb_count++] = (enum usb_hid_kind)kind;
    return 0;
}

int options_vga_device(struct options *o, struct option_list *l)
{
    struct vga_config *c = &o->vga_config;
    u64 megabytes = c->vram_size >> 20, sizes[4] = {c->xres, c->yres, c->xmax, c->ymax};
    static const char *const keys[4] = {"xres", "yres", "xmax", "ymax"};
    int err = options_pci_place(l, "VGA", &c->devfn);
    if (!err) err = option_list_number(l, "vgamem_mb", 256, &megabytes);
    if (!err) err = option_list_bool(l, "edid", &c->edid);
    for (int i = 0; i < 4 && !err; i++) err = option_list_number(l, keys[i], EDID_MAX_RES, &sizes[i]);
    if (err) return err;
    if (!megabytes || megabytes & (megabytes - 1)) {
        fprintf(stderr, "calque: -device VGA: vgamem_mb=%llu is no power of two\n", (unsigned long long)megabytes);
        return -EINVAL;
    }
    if (sizes[0] < 320 || sizes[1] < 200) {
        fprintf(stderr, "calque: -device VGA: %llux%llu: no monitor is that small\n", (unsigned long long)sizes[0],
                (unsigned long long)sizes[1]);
        return -EINVAL;
    }
    c->vram_size = megabytes << 20;
    c->xres = (unsigned)sizes[0];
    c->yres = (unsigned)sizes[1];
    c->xmax = (unsigned)sizes[2];
    c->ymax = (unsigned)sizes[3];
    o->vga = true;
    return option_list_check(l);
}

/* Without a word about displays: a window where there is a desktop. */
int options_display_finish(struct options *o)
{
    bool desktop = getenv("DISPLAY") || getenv("WAYLAND_DISPLAY");
    if (!o->display_said && !o->display_count && !o->nographic && o->vga) {
        if (desktop && display_sdl_present) add(o, "-display", "sdl")->kind = DISPLAY_SDL;
        else o->display_missing = true;
    }
    for (int k = 0; k < o->chardev_count; k++) o->display_missing &= o->chardevs[k].kind != CHARDEV_STDIO;
    for (int i = 0; i < o->display_count; i++) {
        o->displays[i].full_screen |= o->full_screen;
        if (o->displays[i].kind != DISPLAY_CURSES) continue;
        for (int k = 0; k < o->chardev_count; k++)
            if (o->chardevs[k].kind == CHARDEV_STDIO)
                return option_bad("-display", "curses", "standard input and output are taken");
    }
    return 0;
}

void options_display_free(struct display_config *c)
{
    free(c->option);
    free(c->host);
    free(c->path);
}

/* -audiodev and -audio, sound cards as -device, and who plays the PC speaker. */
#define _GNU_SOURCE
#include "machine/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "machine/option_list.h"

static int find(const struct options *o, const char *id)
{
    for (int i = 0; i < o->audio_count; i++)
        if (!strcmp(o->audios[i].id, id)) return i;
    return -1;
}

/* Properties that may be given, as long as they ask for what is the case, or only tune the host's side. */
static int fixed_properties(struct option_list *l)
{
    static const struct {
        const char *key, *value;
    } fixed[] = {{"out.mixing-engine", "on"}, {"out.fixed-settings", "on"}, {"out.channels", "2"}, {"out.format", "s16"},
                 {"in.mixing-engine", "on"},  {"in.fixed-settings", "on"},  {"in.channels", "2"},  {"in.format", "s16"}};
    static const char *const ignored[] = {"timer-period", "out.buffer-length", "out.buffer-count", "out.voices",
                                          "in.buffer-length", "in.buffer-count", "in.voices", "in.frequency"};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        const char *value = option_list_get(l, fixed[i].key);
        if (value && strcmp(value, fixed[i].value)) return option_bad(l->option, fixed[i].key, "that value is not supported");
    }
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) option_list_get(l, ignored[i]);
    return 0;
}

/* A back end of that kind: its index, or -EINVAL with a message. */
static int add_audio(struct options *o, const char *kind, const char *id, struct option_list *l)
{
    struct audio_config c = {.rate = AUDIO_DEFAULT_RATE};
    u64 rate = c.rate;
    if (o->audio_count == OPTIONS_AUDIOS) return option_bad(l->option, kind, "too many of them");
    if (find(o, id) >= 0) return option_bad(l->option, id, "duplicate id");
    if (!strcmp(kind, "none"))
        c.kind = AUDIO_NONE;
    else if (!strcmp(kind, "wav"))
        c.kind = AUDIO_WAV;
    else if (!strcmp(kind, "sdl") && audio_sdl_present)
        c.kind = AUDIO_SDL;
    else
        return option_bad(l->option, kind, "not supported (-audiodev help lists what is)");
    int err = option_list_number(l, "out.frequency", AUDIO_RATE_MAX, &rate);
    if (!err && rate < AUDIO_RATE_MIN) err = option_bad(l->option, "out.frequency", "too low");
    if (!err) err = fixed_properties(l);
    if (err) return err;
    c.rate = (u32)rate;
    const char *path = c.kind == AUDIO_WAV ? option_list_get(l, "path") : NULL;
    c.path = path ? strdup(path) : NULL;
    c.id = strdup(id);
    o->audios[o->audio_count] = c;
    return o->audio_count++;
}

static int list_kinds(void)
{
    printf("Available audio drivers:\nnone\n%swav\n", audio_sdl_present ? "sdl\n" : "");
    return 1;
}

int options_audiodev(struct options *o, const char *option, const char *text)
{
    (void)option;
    struct option_list l;
    if (!strcmp(text, "help") || !strcmp(text, "?")) return list_kinds();
    int err = option_list_parse(&l, "-audiodev", text, "driver");
    if (err) return err;
    const char *kind = option_list_get(&l, "driver"), *id = option_list_get(&l, "id");
    if (!kind || !*kind)
        err = option_bad("-audiodev", text, "no kind of back end");
    else if (!id || !isalpha((unsigned char)*id))
        err = option_bad("-audiodev", text, "property 'id' is missing or not a valid id");
    else
        err = add_audio(o, kind, id, &l);
    if (err >= 0) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

/* ---- cards ---- */

bool options_audio_driver(const char *driver) { return !strcasecmp(driver, "AC97"); }

int options_audio_device(struct options *o, const char *driver, struct option_list *l)
{
    struct device_option d = {.kind = DEVICE_AC97, .chardev = CHARDEV_NONE, .devfn = -1};
    const char *id = option_list_get(l, "audiodev");
    /* A card for which nobody is named plays on the first that was given; without any, it is not heard. */
    d.audio = id ? find(o, id) : o->audio_count ? 0 : -1;
    if (id && d.audio < 0) return option_bad("-device", id, "no such audiodev");
    if (o->device_count == OPTIONS_DEVICES) return option_bad("-device", driver, "too many devices");
    int err = options_pci_place(l, driver, &d.devfn);
    if (!err) err = option_list_check(l);
    if (!err) o->devices[o->device_count++] = d;
    return err;
}

/* The card of an -audio, on the back end before. */
static int add_model(struct options *o, const char *model)
{
    const char *id = o->audios[o->audio_count - 1].id;
    struct option_list l;
    char text[64];
    if (!strcmp(model, "pcspk")) {
        free(o->pcspk_audiodev);
        o->pcspk_audiodev = strdup(id);
        return 0;
    }
    if (!options_audio_driver(model)) return option_bad("-audio model", model, "not supported (-audio model=help lists what is)");
    snprintf(text, sizeof(text), "audiodev=%s", id);
    int err = option_list_parse(&l, "-audio", text, NULL);
    if (err) return err;
    err = options_audio_device(o, model, &l);
    option_list_free(&l);
    return err;
}

int options_audio(struct options *o, const char *option, const char *text)
{
    (void)option;
    struct option_list l;
    char id[16];
    if (!strcmp(text, "help") || !strcmp(text, "?")) return list_kinds();
    int err = option_list_parse(&l, "-audio", text, "driver");
    if (err) return err;
    const char *kind = option_list_get(&l, "driver"), *model = option_list_get(&l, "model");
    snprintf(id, sizeof(id), "#audio%d", o->audio_count);
    if (model && (!strcmp(model, "help") || !strcmp(model, "?"))) {
        printf("Valid audio device model names:\nac97\npcspk\n");
        err = 1;
    } else if (!kind || !*kind || !model) {
        err = option_bad("-audio", text, model ? "no kind of back end" : "no model");
    } else {
        err = add_audio(o, kind, id, &l);
        if (err >= 0) err = option_list_check(&l);
        if (!err) err = add_model(o, model);
    }
    option_list_free(&l);
    return err;
}

int options_audio_finish(struct options *o)
{
    o->pcspk_audio = -1;
    if (!o->pcspk_audiodev) return 0;
    o->pcspk_audio = find(o, o->pcspk_audiodev);
    return o->pcspk_audio < 0 ? option_bad("-machine pcspk-audiodev", o->pcspk_audiodev, "no such audiodev") : 0;
}

void options_audio_free(struct options *o)
{
    for (int i = 0; i < o->audio_count; i++) {
        free(o->audios[i].id);
        free(o->audios[i].path);
    }
    free(o->pcspk_audiodev);
}

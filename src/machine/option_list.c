/* Parsing of comma separated option lists and of the values in them. */
#include "machine/option_list.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copy one item up to an unescaped comma; *text moves behind it. NULL when memory is short. */
static char *next_item(const char **text)
{
    char *item = malloc(strlen(*text) + 1);
    if (!item) return NULL;
    size_t n = 0;
    const char *p = *text;
    for (; *p; p++) {
        if (*p == ',') {
            if (p[1] != ',') break;
            p++;
        }
        item[n++] = *p;
    }
    item[n] = 0;
    *text = *p ? p + 1 : p;
    return item;
}

static int add(struct option_list *l, const char *key, const char *value)
{
    if (l->count == OPTION_LIST_MAX) {
        fprintf(stderr, "calque: %s: too many properties\n", l->option);
        return -EINVAL;
    }
    l->items[l->count].key = strdup(key);
    l->items[l->count].value = strdup(value);
    l->items[l->count].used = false;
    l->count++;
    return 0;
}

/* {"a": {"b": "x"}} is a.b=x. */
static int add_json(struct option_list *l, json_t *from, const char *prefix)
{
    const char *key;
    json_t *value;
    json_object_foreach(from, key, value) {
        char name[128], number[32];
        int err = -EINVAL;
        snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
        if (json_is_object(value)) {
            err = add_json(l, value, name);
        } else if (json_is_string(value)) {
            err = add(l, name, json_string_value(value));
        } else if (json_is_boolean(value)) {
            err = add(l, name, json_is_true(value) ? "on" : "off");
        } else if (json_is_integer(value)) {
            snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            err = add(l, name, number);
        } else if (json_is_null(value)) {
            err = add(l, name, "");
        } else {
            fprintf(stderr, "calque: %s: '%s': such a value is not understood\n", l->option, name);
        }
        if (err) return err;
    }
    return 0;
}

static int parse_json(struct option_list *l, const char *text)
{
    json_error_t e;
    json_t *json = json_loads(text, 0, &e);
    int err = json ? add_json(l, json, "") : -EINVAL;
    if (!json) fprintf(stderr, "calque: %s: %s: not understood: %s\n", l->option, text, e.text);
    json_decref(json);
    if (err) option_list_free(l);
    return err;
}

int option_list_parse(struct option_list *l, const char *option, const char *text, const char *first_key)
{
    memset(l, 0, sizeof(*l));
    l->option = option;
    if (*text == '{') return parse_json(l, text);
    bool first = true;
    while (*text) {
        char *item = next_item(&text);
        if (!item) return -ENOMEM;
        char *equals = strchr(item, '=');
        int err;
        if (equals) {
            *equals = 0;
            err = add(l, item, equals + 1);
        } else if (first && first_key) {
            err = add(l, first_key, item);
        } else if (!*item) {
            err = 0;
        } else if (!strncmp(item, "no", 2) && item[2] && strcmp(item, "nodelay")) {
            err = add(l, item + 2, "off");
        } else {
            err = add(l, item, "on");
        }
        first = false;
        free(item);
        if (err) {
            option_list_free(l);
            return err;
        }
    }
    return 0;
}

void option_list_free(struct option_list *l)
{
    for (int i = 0; i < l->count; i++) {
        free(l->items[i].key);
        free(l->items[i].value);
    }
    l->count = 0;
}

const char *option_list_get(struct option_list *l, const char *key)
{
    const char *value = NULL;
    for (int i = 0; i < l->count; i++) {
        if (strcmp(l->items[i].key, key)) continue;
        l->items[i].used = true;
        value = l->items[i].value;
    }
    return value;
}

const char *option_list_next(struct option_list *l, const char *key, int *at)
{
    while (*at < l->count) {
        int i = (*at)++;
        if (strcmp(l->items[i].key, key)) continue;
        l->items[i].used = true;
        return l->items[i].value;
    }
    return NULL;
}

int option_list_bool(struct option_list *l, const char *key, bool *value)
{
    const char *text = option_list_get(l, key);
    if (!text) return 0;
    if (!strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true") || !strcmp(text, "y")) {
        *value = true;
    } else if (!strcmp(text, "off") || !strcmp(text, "no") || !strcmp(text, "false") || !strcmp(text, "n")) {
        *value = false;
    } else {
        fprintf(stderr, "calque: %s: %s=%s: expected on or off\n", l->option, key, text);
        return -EINVAL;
    }
    return 0;
}

int option_list_number(struct option_list *l, const char *key, u64 max, u64 *value)
{
    const char *text = option_list_get(l, key);
    if (!text) return 0;
    if (option_number(text, max, value)) return 0;
    fprintf(stderr, "calque: %s: %s=%s: expected a number up to %#llx\n", l->option, key, text,
            (unsigned long long)max);
    return -EINVAL;
}

int option_list_check(const struct option_list *l)
{
    for (int i = 0; i < l->count; i++) {
        if (l->items[i].used) continue;
        fprintf(stderr, "calque: %s: property '%s' not supported\n", l->option, l->items[i].key);
        return -EINVAL;
    }
    return 0;
}

bool option_number(const char *text, u64 max, u64 *value)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (errno || *end || v > max) return false;
    *value = v;
    return true;
}

bool option_size(const char *text, u64 unit, u64 *bytes)
{
    static const char suffixes[] = "bkmgtpe";
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    u64 whole = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    if (errno) return false;
    double fraction = 0;
    if (*end == '.') {
        double scale = 0.1;
        for (end++; isdigit((unsigned char)*end); end++, scale /= 10) fraction += (*end - '0') * scale;
    }
    if (*end) {
        const char *suffix = strchr(suffixes, tolower((unsigned char)*end));
        if (!suffix) return false;
        unit = 1ull << (10 * (suffix - suffixes));
        end++;
    }
    if (*end || (fraction > 0 && unit == 1)) return false;
    if (whole && unit > UINT64_MAX / whole) return false;
    u64 total = whole * unit, part = (u64)llround(fraction * (double)unit);
    if (total + part < total) return false;
    *bytes = total + part;
    return true;
}

int option_bad(const char *option, const char *what, const char *why)
{
    fprintf(stderr, "calque: %s %s: %s\n", option, what, why);
    return -EINVAL;
}

int option_set(char **to, const char *text)
{
    free(*to);
    *to = strdup(text);
    return *to ? 0 : -ENOMEM;
}

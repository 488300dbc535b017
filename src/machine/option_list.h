/* The comma separated key=value lists of the command line. */
#ifndef MACHINE_OPTION_LIST_H
#define MACHINE_OPTION_LIST_H

#include "core/types.h"

#define OPTION_LIST_MAX 32

struct option_list {
    const char *option;  /* "-chardev", for messages */
    int count;           /* entries used */
    struct {
        char *key;       /* heap */
        char *value;     /* heap; "on" for a bare key */
        bool used;       /* somebody asked for it */
    } items[OPTION_LIST_MAX];
};

/* Split text at commas (",," is one comma). first_key, if not NULL, is the key of a first item without "=". Further
 * bare words are keys with the value "on", or "off" for "noKEY". A JSON object is such a list, too. 0, or -EINVAL with
 * a message. */
int option_list_parse(struct option_list *l, const char *option, const char *text, const char *first_key);
void option_list_free(struct option_list *l);
/* The last value of key, NULL when it is absent; marks it as used. */
const char *option_list_get(struct option_list *l, const char *key);
/* All values of a key that may be given several times: *at starts at 0. NULL: no more. */
const char *option_list_next(struct option_list *l, const char *key, int *at);
/* "on", "off" and their synonyms; absent: leaves *value alone. 0, or -EINVAL with a message. */
int option_list_bool(struct option_list *l, const char *key, bool *value);
/* A number in C notation, at most max. */
int option_list_number(struct option_list *l, const char *key, u64 max, u64 *value);
/* -EINVAL with a message when a key was given that nobody asked for. */
int option_list_check(const struct option_list *l);

/* Text in C notation, all of it: a number up to max. */
bool option_number(const char *text, u64 max, u64 *value);
/* "512", "1.5G", "64k": bytes; without a suffix in units of unit. */
bool option_size(const char *text, u64 unit, u64 *bytes);

/* "calque: OPTION WHAT: WHY" on standard error; -EINVAL. */
int option_bad(const char *option, const char *what, const char *why);
/* A copy of the text, in place of the one that was there. */
int option_set(char **to, const char *text);

#endif

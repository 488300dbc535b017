/* The monitor for people: a prompt with a line editor. What lines mean is monitor_commands.c's.
 *
 * Keys: Left/Right, Home/End, Backspace, Delete, Up/Down for earlier lines, Tab to complete, and Ctrl-A B D E F K N P U W as
 * in Emacs and shells. The prompt is the one that scripts for QEMU's monitor wait for. */
#include "machine/monitor.h"

#include <stdlib.h>
#include <string.h>

#include "core/chardev.h"
#include "machine/machine.h"
#include "machine/version.h"

#define PROMPT  "(qemu) "
#define LINE    1024
#define HISTORY 64

struct console {
    struct monitor mon;       /* must stay first */
    struct machine *machine;  /* what it controls */
    struct chardev *chr;      /* the user */
    unsigned cpu;             /* which CPU commands look at */
    char line[LINE];          /* being typed; terminated */
    size_t len, at;           /* characters, and the cursor's place */
    char *history[HISTORY];   /* earlier lines, latest last */
    int count, recalled;      /* lines there; which is shown (count: the new one) */
    int escape;               /* in an escape sequence: 1 behind ESC, 2 behind ESC [ */
    int number;               /* its parameter */
    bool entered;             /* the last key was CR: a LF behind it is telnet's */
};

static void put(struct console *c, const char *text, size_t len) { chardev_write(c->chr, (const u8 *)text, len); }
static void puts_to(struct console *c, const char *text) { put(c, text, strlen(text)); }

/* Text with lines that end as terminals want it. */
static void put_lines(struct console *c, const char *text, size_t len)
{
    while (len) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len;
        put(c, text, n);
        if (end) puts_to(c, "\r\n"), n++;
        text += n;
        len -= n;
    }
}

/* ---- the line ---- */

static void show(struct console *c)
{
    char back[24];
    puts_to(c, "\r" PROMPT);
    put(c, c->line, c->len);
    puts_to(c, "\x1b[K");
    if (c->at == c->len) return;
    snprintf(back, sizeof(back), "\x1b[%zuD", c->len - c->at);
    puts_to(c, back);
}

static void insert(struct console *c, const char *text, size_t n)
{
    if (c->len + n >= LINE) return;
    bool end = c->at == c->len;
    memmove(c->line + c->at + n, c->line + c->at, c->len - c->at + 1);
    memcpy(c->line + c->at, text, n);
    c->len += n;
    c->at += n;
    if (end)
        put(c, text, n);
    else
        show(c);
}

/* Take out [from, to); the cursor goes to from. */
static void cut(struct console *c, size_t from, size_t to)
{
    memmove(c->line + from, c->line + to, c->len - to + 1);
    c->len -= to - from;
    c->at = from;
    show(c);
}

static void set_line(struct console *c, const char *text)
{
    c->len = c->at = (size_t)snprintf(c->line, LINE, "%s", text);
    show(c);
}

static void move(struct console *c, size_t to)
{
    c->at = to;
    show(c);
}

static void recall(struct console *c, int step)
{
    int to = c->recalled + step;
    if (to < 0 || to > c->count) return;
    c->recalled = to;
    set_line(c, to == c->count ? "" : c->history[to]);
}

static void remember(struct console *c)
{
    if (c->len && (!c->count || strcmp(c->history[c->count - 1], c->line))) {
        char *copy = strdup(c->line);
        if (copy && c->count == HISTORY) {
            free(c->history[0]);
            memmove(c->history, c->history + 1, sizeof(c->history) - sizeof(c->history[0]));
            c->count--;
        }
        if (copy) c->history[c->count++] = copy;
    }
    c->recalled = c->count;
}

static void execute(struct console *c)
{
    char *text = NULL;
    size_t size = 0;
    puts_to(c, "\r\n");
    remember(c);
    FILE *out = open_memstream(&text, &size);
    if (out) {
        monitor_run_line(c->machine, c->line, &c->cpu, out);
        fclose(out);
        put_lines(c, text, size);
    }
    free(text);
    c->len = c->at = 0;
    c->line[0] = 0;
    if (!c->machine->exit_wanted) puts_to(c, PROMPT);
}

/* Add what all candidates have in common; when that is nothing, list them. */
static void complete(struct console *c)
{
    const char *matches[256];
    char start[LINE];
    snprintf(start, sizeof(start), "%.*s", (int)c->at, c->line);
    size_t n = monitor_complete(start, matches, ARRAY_LEN(matches));
    if (!n) return;
    size_t word = c->at;
    while (word && start[word - 1] != ' ') word--;
    size_t typed = c->at - word, common = strlen(matches[0]);
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < common; k++)
            if (matches[i][k] != matches[0][k]) common = k;
    if (common > typed) insert(c, matches[0] + typed, common - typed);
    if (n == 1) {
        insert(c, " ", 1);
    } else if (common <= typed) {
        for (size_t i = 0; i < n; i++) {
            puts_to(c, i % 4 ? " " : "\r\n");
            char cell[24];
            snprintf(cell, sizeof(cell), "%-18s", matches[i]);
            puts_to(c, cell);
        }
        puts_to(c, "\r\n");
        show(c);
    }
}

/* ---- keys ---- */

static void cut_word(struct console *c)
{
    size_t from = c->at;
    while (from && c->line[from - 1] == ' ') from--;
    while (from && c->line[from - 1] != ' ') from--;
    cut(c, from, c->at);
}

#define CONTROL(letter) ((letter) & 0x1f)

static void plain_key(struct console *c, char key)
{
    switch (key) {
    case '\r':
    case '\n': execute(c); break;
    case '\t': complete(c); break;
    case 0x1b: c->escape = 1; break;
    case 0x08:
    case 0x7f:
        if (c->at) cut(c, c->at - 1, c->at);
        break;
    case CONTROL('A'): move(c, 0); break;
    case CONTROL('B'):
        if (c->at) move(c, c->at - 1);
        break;
    case CONTROL('D'):
        if (c->at < c->len) cut(c, c->at, c->at + 1);
        break;
    case CONTROL('E'): move(c, c->len); break;
    case CONTROL('F'):
        if (c->at < c->len) move(c, c->at + 1);
        break;
    case CONTROL('K'): cut(c, c->at, c->len); break;
    case CONTROL('N'): recall(c, 1); break;
    case CONTROL('P'): recall(c, -1); break;
    case CONTROL('U'): cut(c, 0, c->at); break;
    case CONTROL('W'): cut_word(c); break;
    default:
        if ((u8)key >= ' ') insert(c, &key, 1);
        break;
    }
}

/* The end of ESC [ NUMBER key, or of ESC O key. */
static void escape_key(struct console *c, char key)
{
    static const char numbered[] = {[1] = 'H', [3] = '~', [4] = 'F', [7] = 'H', [8] = 'F'};
    if (key == '~') key = c->number < (int)sizeof(numbered) ? numbered[c->number] : 0;
    switch (key) {
    case 'A': plain_key(c, CONTROL('P')); break;
    case 'B': plain_key(c, CONTROL('N')); break;
    case 'C': plain_key(c, CONTROL('F')); break;
    case 'D': plain_key(c, CONTROL('B')); break;
    case 'H': plain_key(c, CONTROL('A')); break;
    case 'F': plain_key(c, CONTROL('E')); break;
    case '~': plain_key(c, CONTROL('D')); break;
    }
}

static size_t can_receive(void *opaque)
{
    (void)opaque;
    return 64;
}

static void receive(void *opaque, const u8 *buf, size_t len)
{
    struct console *c = opaque;
    for (size_t i = 0; i < len; i++) {
        char key = (char)buf[i];
        if (c->escape == 1) {
            c->escape = key == '[' || key == 'O' ? 2 : 0;
            c->number = 0;
        } else if (c->escape == 2 && key >= '0' && key <= '9') {
            c->number = MIN(c->number * 10 + key - '0', 99);
        } else if (c->escape) {
            c->escape = 0;
            escape_key(c, key);
        } else if (key != '\n' || !c->entered) {
            plain_key(c, key);
        }
        c->entered = key == '\r';
    }
}

static void connected(void *opaque, bool up)
{
    struct console *c = opaque;
    c->escape = 0;
    if (!up) return;
    puts_to(c, "\r\nCalque " CALQUE_VERSION " monitor - type 'help' for more information\r\n" PROMPT);
    if (c->len) show(c);
}

static const struct chardev_front front = {.can_receive = can_receive, .receive = receive, .connected = connected};

/* ---- life ---- */

static void destroy(struct monitor *mon)
{
    struct console *c = (struct console *)mon;
    for (int i = 0; i < c->count; i++) free(c->history[i]);
    free(c);
}

struct monitor *monitor_create(struct machine *m, const struct monitor_option *option)
{
    struct chardev *chr = chardev_port(m->chardevs[option->chardev]);
    if (!chr) return NULL;
    if (option->qmp) return qmp_create(m, chr, option->pretty);
    struct console *c = calloc(1, sizeof(*c));
    if (!c) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    c->mon.destroy = destroy;
    c->machine = m;
    c->chr = chr;
    chr->lossy = true;
    chardev_attach(chr, &front, c);
    return &c->mon;
}

void monitor_destroy(struct monitor *mon)
{
    if (mon) mon->destroy(mon);
}

/* Text modes in our terminal, by ncurses; graphics modes are only named.
 *
 * A terminal sends characters, not keys: each becomes a press and a release, with shift, ctrl or alt around it. Escape
 * followed at once by a character is alt. When the terminal is smaller than the screen, the part with the cursor is
 * shown. Characters are those of code page 437. */
#define _GNU_SOURCE
#define NCURSES_WIDECHAR 1
#include "host/display_open.h"

#include <curses.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "host/refresh.h"

const bool display_curses_present = true;

struct display_curses {
    struct display_view view;         /* must stay first */
    struct display_listener listener; /* what changes */
    struct display_host host;         /* whose screen */
    struct refresh *refresh;          /* looks for changes */
    struct event_source *source;      /* standard input */
    SCREEN *screen;                   /* ncurses' */
    int width, height;                /* of the picture, pixels */
    bool changed;                     /* since it was last drawn */
    bool listening;                   /* the display knows listener */
    struct display_text text;         /* what is drawn */
};

/* Code page 437 by Unicode: below 0x20 and from 0x7f on. */
static const wchar_t low_characters[] = L" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
static const wchar_t high_characters[] =
    L"⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    L"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

static wchar_t character(u8 code)
{
    return code < 0x20 ? low_characters[code] : code < 0x7f ? (wchar_t)code : high_characters[code - 0x7f];
}

/* ---- colours ---- */

/* VGA counts blue, green, red from bit 0, terminals the other way round. */
static int terminal_color(int c) { return (c & 1) << 2 | (c & 2) | (c >> 2 & 1) | (c & 8); }

static int foregrounds(void) { return COLORS >= 16 ? 16 : 8; }
static short pair_of(u8 attribute) { return (short)(1 + (attribute >> 4 & 7) * foregrounds() + attribute % foregrounds()); }

static void make_colors(void)
{
    if (!has_colors()) return;
    start_color();
    for (int a = 0; a < 0x80; a++)
        if (a % 16 < foregrounds() && pair_of((u8)a) < COLOR_PAIRS)
            init_pair(pair_of((u8)a), (short)terminal_color(a % 16), (short)terminal_color(a >> 4));
}

static void put_cell(int y, int x, u16 cell)
{
    u8 attribute = (u8)(cell >> 8);
    wchar_t text[2] = {character((u8)cell), 0};
    cchar_t c;
    attr_t style = has_colors() && foregrounds() == 16 ? 0 : attribute & 8 ? A_BOLD : 0;
    if (!has_colors() && attribute & 0x70) style |= A_REVERSE;
    setcchar(&c, text, style, has_colors() ? pair_of(attribute) : 0, NULL);
    mvadd_wch(y, x, &c);
}

/* ---- the picture ---- */

/* First row or column of what is shown of `size`, so that the cursor is there. */
static int scroll_to(int cursor, int size, int room)
{
    int first = cursor >= room ? cursor - room + 1 : 0;
    return MAX(MIN(first, size - room), 0);
}

static void draw(struct display_curses *s)
{
    const struct display_text *t = &s->text;
    erase();
    if (!display_read_text(s->host.display, &s->text)) {
        mvprintw(LINES / 2, MAX(COLS / 2 - 12, 0), "[ %d x %d graphics mode ]", s->width, s->height);
        curs_set(0);
        refresh();
        return;
    }
    int top = scroll_to(t->cursor_y, t->rows, LINES), left = scroll_to(t->cursor_x, t->columns, COLS);
    for (int y = 0; y < MIN(LINES, t->rows - top); y++)
        for (int x = 0; x < MIN(COLS, t->columns - left); x++)
            put_cell(y, x, t->cells[(y + top) * t->columns + x + left]);
    curs_set(t->cursor_visible);
    if (t->cursor_visible) move(t->cursor_y - top, t->cursor_x - left);
    refresh();
}

static void on_resized(void *opaque, const struct display_surface *surface)
{
    struct display_curses *s = opaque;
    s->width = surface->width;
    s->height = surface->height;
    s->changed = true;
}

static void on_changed(void *opaque, int x, int y, int width, int height)
{
    struct display_curses *s = opaque;
    (void)x, (void)y, (void)width, (void)height;
    s->changed = true;
}

/* ---- keys ---- */

static void press(struct display_curses *s, enum input_key key, bool shift, bool ctrl, bool alt)
{
    enum input_key keys[4];
    size_t n = 0;
    if (ctrl) keys[n++] = INPUT_KEY_ctrl;
    if (alt) keys[n++] = INPUT_KEY_alt;
    if (shift) keys[n++] = INPUT_KEY_shift;
    keys[n++] = key;
    if (key != INPUT_KEY_unmapped) input_send_keys(s->host.input, keys, n, 0);
}

static void typed(struct display_curses *s, wint_t c, bool alt)
{
    bool shift = false, ctrl = false;
    enum input_key key;
    switch (c) {
    case 8:
    case 0x7f: key = INPUT_KEY_backspace; break;
    case 9: key = INPUT_KEY_tab; break;
    case 10:
    case 13: key = INPUT_KEY_ret; break;
    case 27: key = INPUT_KEY_esc; break;
    default:
        ctrl = c < 0x20;
        if (ctrl) c += c >= 1 && c <= 26 ? 0x60 : 0x40;
        if (c == '@') c = '2'; /* Ctrl-@ needs no shift */
        key = input_key_by_keysym((u32)c, &shift);
        break;
    }
    press(s, key, shift, ctrl, alt);
}

static void function_key(struct display_curses *s, wint_t c, bool alt)
{
    static const struct {
        int code;           /* ncurses' */
        enum input_key key; /* ours */
        bool shift;         /* with it */
    } table[] = {
        {KEY_UP, INPUT_KEY_up, false},       {KEY_DOWN, INPUT_KEY_down, false},     {KEY_LEFT, INPUT_KEY_left, false},
        {KEY_RIGHT, INPUT_KEY_right, false}, {KEY_HOME, INPUT_KEY_home, false},     {KEY_END, INPUT_KEY_end, false},
        {KEY_PPAGE, INPUT_KEY_pgup, false},  {KEY_NPAGE, INPUT_KEY_pgdn, false},    {KEY_IC, INPUT_KEY_insert, false},
        {KEY_DC, INPUT_KEY_delete, false},   {KEY_ENTER, INPUT_KEY_ret, false},     {KEY_B2, INPUT_KEY_kp_5, false},
        {KEY_BACKSPACE, INPUT_KEY_backspace, false},                                {KEY_BTAB, INPUT_KEY_tab, true},
        {KEY_SLEFT, INPUT_KEY_left, true},   {KEY_SRIGHT, INPUT_KEY_right, true},   {KEY_SR, INPUT_KEY_up, true},
        {KEY_SF, INPUT_KEY_down, true},      {KEY_SHOME, INPUT_KEY_home, true},     {KEY_SEND, INPUT_KEY_end, true},
        {KEY_SPREVIOUS, INPUT_KEY_pgup, true}, {KEY_SNEXT, INPUT_KEY_pgdn, true},   {KEY_SDC, INPUT_KEY_delete, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].code == (int)c) press(s, table[i].key, table[i].shift, false, alt);
    /* Terminals count on with modifiers: F13 is shift + F1, F25 ctrl + F1. */
    for (int n = 0; n < 36; n++) {
        if ((int)c != KEY_F(n + 1)) continue;
        char name[8];
        snprintf(name, sizeof(name), "f%d", n % 12 + 1);
        press(s, input_key_by_name(name), n / 12 == 1, n / 12 == 2, alt);
    }
}

static void read_keys(struct display_curses *s)
{
    bool alt = false;
    wint_t c;
    for (int kind; (kind = get_wch(&c)) != ERR;) {
        if (kind == KEY_CODE_YES && c == KEY_RESIZE) {
            s->changed = true;
        } else if (kind == KEY_CODE_YES) {
            function_key(s, c, alt);
            alt = false;
        } else if (c == 27 && !alt) {
            alt = true; /* with what follows at once */
        } else {
            typed(s, c, alt);
            alt = false;
        }
    }
    if (alt) typed(s, 27, false);
}

static void on_input(void *opaque, short revents)
{
    struct display_curses *s = opaque;
    if (revents & POLLIN) read_keys(s);
    else s->host.quit(s->host.opaque); /* the terminal is gone */
}

static void tick(void *opaque)
{
    struct display_curses *s = opaque;
    read_keys(s); /* a change of size comes by signal */
    display_update(s->host.display);
    if (s->changed) draw(s);
    s->changed = false;
}

/* ---- life ---- */

static void curses_destroy(struct display_view *v)
{
    struct display_curses *s = (struct display_curses *)v;
    if (s->listening) display_unlisten(s->host.display, &s->listener);
    event_source_remove(s->source);
    refresh_destroy(s->refresh);
    if (s->screen) {
        endwin();
        delscreen(s->screen);
    }
    free(s);
}

static const struct display_view_ops curses_ops = {.destroy = curses_destroy};

struct display_view *display_curses_open(const struct display_config *config, const struct display_host *host)
{
    struct display_curses *s = calloc(1, sizeof(*s));
    if (!s || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        fprintf(stderr, "calque: %s: %s\n", config->option, s ? "standard input and output are not a terminal" : "out of memory");
        free(s);
        return NULL;
    }
    s->view.ops = &curses_ops;
    s->host = *host;
    s->listener = (struct display_listener){.resized = on_resized, .changed = on_changed, .opaque = s};
    setlocale(LC_CTYPE, "");
    if (!(s->screen = newterm(NULL, stdout, stdin))) {
        fprintf(stderr, "calque: %s: cannot use this terminal\n", config->option);
        curses_destroy(&s->view);
        return NULL;
    }
    set_escdelay(25);
    raw();
    noecho();
    nonl();
    nodelay(stdscr, TRUE);
    keypad(stdscr, TRUE);
    make_colors();
    s->source = event_loop_add(host->loop, STDIN_FILENO, POLLIN, on_input, s);
    s->refresh = refresh_create(host->loop, tick, s);
    if (!s->source || !s->refresh) {
        curses_destroy(&s->view);
        fprintf(stderr, "calque: %s: out of memory\n", config->option);
        return NULL;
    }
    display_listen(host->display, &s->listener);
    s->listening = true;
    refresh_run(s->refresh, true);
    return &s->view;
}

/* A window, by SDL2.
 *
 * The library is polled on the event loop's thread, with the rhythm of the picture. With a tablet in the guest the
 * pointer moves freely in and out; with a mouse a click grabs it, and Ctrl-Alt-G gives it back. Ctrl-Alt-F fills the
 * screen, Ctrl-Alt-U gives the window the picture's size. The window can have any size: the picture is scaled. */
#include "host/display_open.h"

#include <SDL.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/refresh.h"

const bool display_sdl_present = true;

struct display_sdl {
    struct display_view view;              /* must stay first */
    struct display_listener listener;      /* what changes */
    struct display_host host;              /* whose screen */
    const struct display_config *config;   /* what the user wants */
    struct refresh *refresh;               /* looks for changes and events */
    const struct display_surface *surface; /* the display's, as last told */
    SDL_Window *window;                    /* on the desktop */
    SDL_Renderer *renderer;                /* draws in it */
    SDL_Texture *texture;                  /* the picture, NULL: to be made */
    SDL_Rect changed;                      /* of the picture, since it was last drawn; w 0: nothing */
    bool exposed;                          /* the window is to be drawn again */
    bool full_screen;                      /* it fills the screen */
    bool grabbed;                          /* the pointer is ours */
    bool running;                          /* the machine runs */
    bool listening;                        /* the display knows listener */
};

static void set_title(struct display_sdl *s)
{
    static const char *const keys[] = {[DISPLAY_GRAB_CTRL_ALT] = "Ctrl-Alt-G",
                                       [DISPLAY_GRAB_CTRL_ALT_SHIFT] = "Ctrl-Alt-Shift-G",
                                       [DISPLAY_GRAB_RIGHT_CTRL] = "Right-Ctrl-G"};
    char title[256];
    const char *name = s->host.name;
    snprintf(title, sizeof(title), "Calque%s%s%s%s%s%s", name ? " (" : "", name ? name : "", name ? ")" : "",
             s->running ? "" : " [Stopped]", s->grabbed ? " - Press to release: " : "",
             s->grabbed ? keys[s->config->grab_modifiers] : "");
    SDL_SetWindowTitle(s->window, title);
}

static void show_pointer(struct display_sdl *s)
{
    bool hide = s->grabbed || (input_is_absolute(s->host.input) && !s->config->show_cursor);
    SDL_ShowCursor(hide ? SDL_DISABLE : SDL_ENABLE);
}

static void grab(struct display_sdl *s, bool on)
{
    s->grabbed = on;
    SDL_SetWindowGrab(s->window, on);
    SDL_SetRelativeMouseMode(on && !input_is_absolute(s->host.input));
    show_pointer(s);
    set_title(s);
}

static void fill_screen(struct display_sdl *s, bool on)
{
    s->full_screen = on;
    SDL_SetWindowFullscreen(s->window, on ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
    if (!on) SDL_SetWindowSize(s->window, s->surface->width, s->surface->height);
    grab(s, on);
    s->exposed = true;
}

/* ---- the picture ---- */

static void on_resized(void *opaque, const struct display_surface *surface)
{
    struct display_sdl *s = opaque;
    s->surface = surface;
    if (s->texture) SDL_DestroyTexture(s->texture);
    s->texture = NULL;
    s->changed = (SDL_Rect){0, 0, surface->width, surface->height};
    if (!s->full_screen && !(SDL_GetWindowFlags(s->window) & SDL_WINDOW_MAXIMIZED))
        SDL_SetWindowSize(s->window, surface->width, surface->height);
    SDL_RenderSetLogicalSize(s->renderer, surface->width, surface->height);
}

static void on_changed(void *opaque, int x, int y, int width, int height)
{
    struct display_sdl *s = opaque;
    SDL_Rect rect = {x, y, width, height};
    if (s->changed.w) SDL_UnionRect(&s->changed, &rect, &s->changed);
    else s->changed = rect;
}

static void draw(struct display_sdl *s)
{
    if (!s->changed.w && !s->exposed) return;
    const struct display_surface *p = s->surface;
    if (!s->texture) {
        s->texture = SDL_CreateTexture(s->renderer, SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_STREAMING, p->width,
                                       p->height);
        s->changed = (SDL_Rect){0, 0, p->width, p->height};
    }
    if (!s->texture) return; /* larger than the graphics card can do */
    if (s->changed.w) {
        const u32 *from = p->pixels + (size_t)s->changed.y * (size_t)p->stride + s->changed.x;
        SDL_UpdateTexture(s->texture, &s->changed, from, p->stride * (int)sizeof(u32));
    }
    s->changed.w = 0;
    s->exposed = false;
    SDL_RenderClear(s->renderer);
    SDL_RenderCopy(s->renderer, s->texture, NULL, NULL);
    SDL_RenderPresent(s->renderer);
}

/* ---- keys and pointers ---- */

static enum input_key key_of(SDL_Scancode code)
{
    static const struct {
        SDL_Scancode code;
        enum input_key key;
    } others[] = { /* SDL has its own numbers for what is not on HID's keyboard page */
        {SDL_SCANCODE_NONUSHASH, INPUT_KEY_backslash},   {SDL_SCANCODE_SYSREQ, INPUT_KEY_sysrq},
        {SDL_SCANCODE_AUDIONEXT, INPUT_KEY_audionext},   {SDL_SCANCODE_AUDIOPREV, INPUT_KEY_audioprev},
        {SDL_SCANCODE_AUDIOSTOP, INPUT_KEY_audiostop},   {SDL_SCANCODE_AUDIOPLAY, INPUT_KEY_audioplay},
        {SDL_SCANCODE_AUDIOMUTE, INPUT_KEY_audiomute},   {SDL_SCANCODE_MEDIASELECT, INPUT_KEY_mediaselect},
        {SDL_SCANCODE_MAIL, INPUT_KEY_mail},             {SDL_SCANCODE_CALCULATOR, INPUT_KEY_calculator},
        {SDL_SCANCODE_COMPUTER, INPUT_KEY_computer},     {SDL_SCANCODE_AC_HOME, INPUT_KEY_ac_home},
        {SDL_SCANCODE_AC_BACK, INPUT_KEY_ac_back},       {SDL_SCANCODE_AC_FORWARD, INPUT_KEY_ac_forward},
        {SDL_SCANCODE_AC_REFRESH, INPUT_KEY_ac_refresh}, {SDL_SCANCODE_AC_BOOKMARKS, INPUT_KEY_ac_bookmarks},
        {SDL_SCANCODE_SLEEP, INPUT_KEY_sleep},
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i].code == code) return others[i].key;
    return code < 256 ? input_key_by_hid((u8)code) : INPUT_KEY_unmapped;
}

/* Were the keys down that open a shortcut? (The state as of that event; there may be later ones already.) */
static bool shortcut_open(const struct display_sdl *s, unsigned now)
{
    switch (s->config->grab_modifiers) {
    case DISPLAY_GRAB_CTRL_ALT_SHIFT: return now & KMOD_LCTRL && now & KMOD_LALT && now & KMOD_LSHIFT;
    case DISPLAY_GRAB_RIGHT_CTRL: return now & KMOD_RCTRL;
    default: return now & KMOD_LCTRL && now & KMOD_LALT;
    }
}

static bool shortcut(struct display_sdl *s, SDL_Scancode code)
{
    switch (code) {
    case SDL_SCANCODE_G: grab(s, !s->grabbed); break;
    case SDL_SCANCODE_F: fill_screen(s, !s->full_screen); break;
    case SDL_SCANCODE_U:
        if (!s->full_screen) SDL_SetWindowSize(s->window, s->surface->width, s->surface->height);
        break;
    default: return false;
    }
    input_release_all(s->host.input); /* the guest got the modifiers */
    return true;
}

static void key(struct display_sdl *s, const SDL_KeyboardEvent *e)
{
    bool down = e->type == SDL_KEYDOWN;
    if (down && shortcut_open(s, e->keysym.mod) && (e->repeat || shortcut(s, e->keysym.scancode))) return;
    enum input_key k = key_of(e->keysym.scancode);
    if (down || input_key_is_down(s->host.input, k)) input_key(s->host.input, k, down);
}

static void motion(struct display_sdl *s, const SDL_MouseMotionEvent *e)
{
    struct input *in = s->host.input;
    int width = MAX(s->surface->width - 1, 1), height = MAX(s->surface->height - 1, 1);
    if (input_is_absolute(in))
        input_move_to(in, (int)((s64)e->x * INPUT_ABS_MAX / width), (int)((s64)e->y * INPUT_ABS_MAX / height));
    else if (s->grabbed)
        input_move_by(in, e->xrel, e->yrel);
}

static void button(struct display_sdl *s, const SDL_MouseButtonEvent *e)
{
    static const u8 buttons[] = {[SDL_BUTTON_LEFT] = INPUT_BUTTON_left, [SDL_BUTTON_MIDDLE] = INPUT_BUTTON_middle,
                                 [SDL_BUTTON_RIGHT] = INPUT_BUTTON_right, [SDL_BUTTON_X1] = INPUT_BUTTON_side,
                                 [SDL_BUTTON_X2] = INPUT_BUTTON_extra};
    if (!s->grabbed && !input_is_absolute(s->host.input)) {
        if (e->type == SDL_MOUSEBUTTONDOWN) grab(s, true); /* this click is for us */
        return;
    }
    if (e->button >= SDL_BUTTON_LEFT && e->button < ARRAY_LEN(buttons))
        input_button(s->host.input, buttons[e->button], e->type == SDL_MOUSEBUTTONDOWN);
}

static void wheel(struct display_sdl *s, int clicks, enum input_button plus, enum input_button minus)
{
    for (int n = MIN(abs(clicks), 16); n > 0; n--) input_button(s->host.input, clicks > 0 ? plus : minus, true);
}

static void window(struct display_sdl *s, const SDL_WindowEvent *e)
{
    switch (e->event) {
    case SDL_WINDOWEVENT_EXPOSED:
    case SDL_WINDOWEVENT_SIZE_CHANGED: s->exposed = true; break;
    case SDL_WINDOWEVENT_ENTER: show_pointer(s); break;
    case SDL_WINDOWEVENT_FOCUS_LOST:
        input_release_all(s->host.input);
        if (s->grabbed && !s->full_screen) grab(s, false);
        break;
    case SDL_WINDOWEVENT_CLOSE:
        if (!s->config->keep_open) s->host.quit(s->host.opaque);
        break;
    default: break;
    }
}

static void event(struct display_sdl *s, const SDL_Event *e)
{
    switch (e->type) {
    case SDL_KEYDOWN:
    case SDL_KEYUP: key(s, &e->key); break;
    case SDL_MOUSEMOTION: motion(s, &e->motion); break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP:
        button(s, &e->button);
        input_sync(s->host.input);
        break;
    case SDL_MOUSEWHEEL:
        wheel(s, e->wheel.y, INPUT_BUTTON_wheel_up, INPUT_BUTTON_wheel_down);
        wheel(s, e->wheel.x, INPUT_BUTTON_wheel_right, INPUT_BUTTON_wheel_left);
        input_sync(s->host.input);
        break;
    case SDL_WINDOWEVENT: window(s, &e->window); break;
    case SDL_RENDER_TARGETS_RESET:
    case SDL_RENDER_DEVICE_RESET: on_resized(s, s->surface); break;
    default: break;
    }
}

static void tick(void *opaque)
{
    struct display_sdl *s = opaque;
    SDL_Event e;
    while (SDL_PollEvent(&e)) event(s, &e);
    input_sync(s->host.input);
    display_update(s->host.display);
    draw(s);
}

/* ---- life ---- */

static void sdl_set_running(struct display_view *v, bool running)
{
    struct display_sdl *s = (struct display_sdl *)v;
    s->running = running;
    set_title(s);
}

static void sdl_destroy(struct display_view *v)
{
    struct display_sdl *s = (struct display_sdl *)v;
    if (s->listening) display_unlisten(s->host.display, &s->listener);
    refresh_destroy(s->refresh);
    if (s->texture) SDL_DestroyTexture(s->texture);
    if (s->renderer) SDL_DestroyRenderer(s->renderer);
    if (s->window) SDL_DestroyWindow(s->window);
    SDL_QuitSubSystem(SDL_INIT_VIDEO);
    free(s);
}

static const struct display_view_ops sdl_ops = {.destroy = sdl_destroy, .set_running = sdl_set_running};

struct display_view *display_sdl_open(const struct display_config *config, const struct display_host *host)
{
    struct display_sdl *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: %s: out of memory\n", config->option);
        return NULL;
    }
    *s = (struct display_sdl){.view.ops = &sdl_ops, .host = *host, .config = config, .running = true};
    s->listener = (struct display_listener){.resized = on_resized, .changed = on_changed, .opaque = s};
    SDL_SetMainReady();
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
    SDL_SetHint(SDL_HINT_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR, "0");
    SDL_SetHint(SDL_HINT_GRAB_KEYBOARD, "1");
    SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, "linear");
    if (!SDL_InitSubSystem(SDL_INIT_VIDEO) &&
        (s->window = SDL_CreateWindow("Calque", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, 640, 480,
                                      SDL_WINDOW_RESIZABLE)) &&
        (s->renderer = SDL_CreateRenderer(s->window, -1, 0))) {
        SDL_EventState(SDL_TEXTINPUT, SDL_IGNORE);
        display_listen(host->display, &s->listener);
        s->listening = true;
        set_title(s);
        if (config->full_screen) fill_screen(s, true);
        s->refresh = refresh_create(host->loop, tick, s);
        if (s->refresh) {
            refresh_run(s->refresh, true);
            return &s->view;
        }
    } else {
        fprintf(stderr, "calque: %s: cannot open a window: %s\n", config->option, SDL_GetError());
    }
    sdl_destroy(&s->view);
    return NULL;
}

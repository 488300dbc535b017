/* vnc_client ADDRESS COMMAND...: a VNC client for tests, on libvncclient, which reads text off the screen.
 *
 * ADDRESS is HOST:PORT or a Unix socket's path; $VNC_PASSWORD is the password. Commands, done in order:
 *   wait SECONDS TEXT   until TEXT is in one of the screen's lines, else exit 1 with the screen as text
 *   text                print the screen as text
 *   type TEXT           keys for these characters, each as a keysym alone; the next one when the picture has changed
 *   key KEYSYM          press and release (0xff0d: return)
 *   down KEYSYM, up KEYSYM
 *   move X Y, click X Y BUTTON, drag FROM-X FROM-Y TO-X TO-Y (button 1)
 *   size W H SECONDS    until the picture has that size
 *   drawn SECONDS       until the picture is not of one colour
 *   save FILE           the picture as PPM
 *   sleep MILLISECONDS
 *   leave               end without saying goodbye
 * Text is recognized by the 8x16 font in the video BIOS, in cells of 8x16 or 9x16 pixels, whatever their colours. */
#include <errno.h>
#include <rfb/rfbclient.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef VGA_BIOS
#define VGA_BIOS "/usr/share/seabios/vgabios-stdvga.bin"
#endif

static rfbClient *client;
static unsigned updates; /* of the picture */
static unsigned char font[256][16];

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "vnc_client: %s %s\n", what, detail);
    exit(1);
}

static void load_font(void)
{
    static const unsigned char letter_a[16] = {0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6};
    static unsigned char rom[1 << 18];
    FILE *f = fopen(VGA_BIOS, "rb");
    size_t size = f ? fread(rom, 1, sizeof(rom), f) : 0;
    for (size_t i = 16 * 'A'; i + 16 <= size; i++) {
        if (memcmp(rom + i, letter_a, 16)) continue;
        memcpy(font, rom + i - 16 * 'A', sizeof(font));
        fclose(f);
        return;
    }
    fail("no font in", VGA_BIOS);
}

static void updated(rfbClient *c, int x, int y, int w, int h)
{
    (void)c, (void)x, (void)y, (void)w, (void)h;
    updates++;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void serve(double seconds)
{
    double end = now() + seconds;
    do {
        /* The library may have read more than one message, and then looks at the socket only. */
        int ready = client->buffered ? 1 : WaitForMessage(client, 20000);
        if (ready < 0 || (ready > 0 && !HandleRFBServerMessage(client))) fail("the server", "is gone");
    } while (now() < end);
}

static uint32_t pixel(int x, int y)
{
    return ((uint32_t *)client->frameBuffer)[y * client->width + x] & 0xffffff;
}

/* The character whose pixels differ from the cell's corner where the font has ones, or zeros; '?' for none. */
static char recognize(int left, int top)
{
    unsigned char rows[16];
    uint32_t background = pixel(left, top);
    for (int y = 0; y < 16; y++) {
        rows[y] = 0;
        for (int x = 0; x < 8; x++) rows[y] = (unsigned char)(rows[y] << 1 | (pixel(left + x, top + y) != background));
    }
    for (int c = ' '; c < 0x7f; c++)
        if (!memcmp(rows, font[c], 14)) return (char)c; /* the last lines may have the cursor */
    return '?';
}

/* Lines of the screen, each ended by a newline. */
static char *screen_text(void)
{
    int cell = client->width % 9 == 0 ? 9 : 8, columns = client->width / cell, rows = client->height / 16;
    char *text = calloc((size_t)(columns + 1) * (size_t)rows + 1, 1), *p = text;
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < columns; x++) *p++ = recognize(x * cell, y * 16);
        while (p > text && p[-1] == ' ') p--;
        *p++ = '\n';
    }
    *p = 0;
    return text;
}

static void wait_text(double seconds, const char *wanted)
{
    double end = now() + seconds;
    for (;;) {
        serve(0.1);
        char *text = screen_text();
        if (strstr(text, wanted)) {
            free(text);
            return;
        }
        if (now() > end) {
            fputs(text, stdout);
            fail("not seen:", wanted);
        }
        free(text);
    }
}

static void key(unsigned long keysym, int down)
{
    SendKeyEvent(client, (uint32_t)keysym, (rfbBool)down);
    serve(0.02);
}

/* At once: a key that is held down begins to repeat, however busy the host is. */
static void press(unsigned long keysym)
{
    SendKeyEvent(client, (uint32_t)keysym, TRUE);
    key(keysym, 0);
}

/* A busy guest has room for a few keys only: it gets a character when it has shown the one before, or after a second. */
static void type_character(char c)
{
    const unsigned before = updates;
    const double end = now() + 1;
    press((unsigned char)c);
    while (updates == before && now() < end) serve(0);
}

static bool drawn(void)
{
    for (int n = 1; n < client->width * client->height; n++)
        if (pixel(n % client->width, n / client->width) != pixel(0, 0)) return true;
    return false;
}

static void save(const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f) fail("cannot write", path);
    fprintf(f, "P6\n%d %d\n255\n", client->width, client->height);
    for (int y = 0; y < client->height; y++) {
        for (int x = 0; x < client->width; x++) {
            uint32_t c = pixel(x, y);
            putc((int)(c & 0xff), f);
            putc((int)(c >> 8 & 0xff), f);
            putc((int)(c >> 16), f);
        }
    }
    fclose(f);
}

static char *password(rfbClient *c)
{
    (void)c;
    const char *text = getenv("VNC_PASSWORD");
    return strdup(text ? text : "");
}

static void quiet(const char *format, ...) { (void)format; }

static void connect_to(char *address)
{
    rfbClientLog = quiet;
    client = rfbGetClient(8, 3, 4);
    client->GetPassword = password;
    client->GotFrameBufferUpdate = updated;
    client->canHandleNewFBSize = TRUE;
    client->appData.encodingsString = "tight zrle hextile raw";
    char *colon = strrchr(address, ':');
    if (colon && address[0] != '/') {
        *colon = 0;
        client->serverPort = atoi(colon + 1);
    }
    client->serverHost = strdup(address);
    if (!rfbInitClient(client, NULL, NULL)) {
        client = NULL;
        fail("cannot connect to", address);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) fail("usage:", "vnc_client ADDRESS COMMAND...");
    load_font();
    connect_to(argv[1]);
    for (int i = 2; i < argc;) {
        const char *command = argv[i++];
        char *a[4] = {"", "", "", ""};
        for (int k = 0; k < 4 && i + k < argc; k++) a[k] = argv[i + k];
        if (!strcmp(command, "wait")) {
            wait_text(atof(a[0]), a[1]);
            i += 2;
        } else if (!strcmp(command, "text")) {
            serve(0.3);
            char *text = screen_text();
            fputs(text, stdout);
            free(text);
        } else if (!strcmp(command, "type")) {
            for (const char *p = a[0]; *p; p++) type_character(*p);
            i++;
        } else if (!strcmp(command, "key")) {
            press(strtoul(a[0], NULL, 0));
            i++;
        } else if (!strcmp(command, "down") || !strcmp(command, "up")) {
            key(strtoul(a[0], NULL, 0), command[0] == 'd');
            i++;
        } else if (!strcmp(command, "move")) {
            SendPointerEvent(client, atoi(a[0]), atoi(a[1]), 0);
            serve(0.05);
            i += 2;
        } else if (!strcmp(command, "click")) {
            SendPointerEvent(client, atoi(a[0]), atoi(a[1]), 1 << (atoi(a[2]) - 1));
            serve(0.1);
            SendPointerEvent(client, atoi(a[0]), atoi(a[1]), 0);
            serve(0.1);
            i += 3;
        } else if (!strcmp(command, "drag")) {
            int x = atoi(a[0]), y = atoi(a[1]), dx = atoi(a[2]) - x, dy = atoi(a[3]) - y;
            for (int step = 0; step <= 10; step++) {
                SendPointerEvent(client, x + dx * step / 10, y + dy * step / 10, 1);
                serve(0.1);
            }
            SendPointerEvent(client, x + dx, y + dy, 0);
            serve(0.1);
            i += 4;
        } else if (!strcmp(command, "size")) {
            double end = now() + atof(a[2]);
            while (client->width != atoi(a[0]) || client->height != atoi(a[1])) {
                if (now() > end) fail("the picture never had the size", a[0]);
                serve(0.1);
            }
            i += 3;
        } else if (!strcmp(command, "drawn")) {
            for (const double end = now() + atof(a[0]); !drawn(); serve(0.1))
                if (now() > end) fail("nothing is", "drawn");
            i++;
        } else if (!strcmp(command, "save")) {
            serve(0.3);
            save(a[0]);
            i++;
        } else if (!strcmp(command, "sleep")) {
            serve(atof(a[0]) / 1000);
            i++;
        } else if (!strcmp(command, "leave")) {
            return 0;
        } else {
            fail("unknown command", command);
        }
    }
    serve(0.1);
    rfbClientCleanup(client);
    return 0;
}

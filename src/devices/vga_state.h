/* The VGA's private state, shared by vga.c (ports, PCI), vga_mem.c (the 0xa0000 window), vga_vbe.c (Bochs VBE),
 * vga_render.c (the picture) and vga_display.c (what of it changed).
 *
 * Video memory is stored with the four planes interleaved: plane p's byte n is vram[4 * n + p]. In chain-4
 * and VBE modes video memory is then simply linear. */
#ifndef DEVICES_VGA_STATE_H
#define DEVICES_VGA_STATE_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/types.h"
#include "devices/edid.h"
#include "devices/pci.h"
#include "devices/vga.h"

/* Sequencer registers. */
enum { SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_CHARACTER_MAP, SEQ_MEMORY_MODE, SEQ_COUNT = 8 };
#define SEQ_CLOCKING_8_DOTS    0x01 /* characters are 8 dots wide, not 9 */
#define SEQ_CLOCKING_HALF      0x08 /* dot clock divided by two */
#define SEQ_CLOCKING_OFF       0x20 /* screen off */
#define SEQ_MEMORY_SEQUENTIAL  0x04 /* odd/even addressing off */
#define SEQ_MEMORY_CHAIN_4     0x08

/* Graphics controller registers. */
enum {
    GFX_SET_RESET,
    GFX_ENABLE_SET_RESET,
    GFX_COLOR_COMPARE,
    GFX_ROTATE,
    GFX_READ_MAP,
    GFX_MODE,
    GFX_MISC,
    GFX_COLOR_DONT_CARE,
    GFX_BIT_MASK,
    GFX_COUNT = 16
};
#define GFX_MODE_READ_COMPARE 0x08 /* read mode 1 */
#define GFX_MODE_ODD_EVEN     0x10
#define GFX_MODE_SHIFT        0x60 /* 0 planar, 0x20 two bits per pixel, 0x40 256 colours */
#define GFX_MISC_GRAPHICS     0x01
#define GFX_MISC_MAP          0x0c

/* CRT controller registers. */
enum {
    CRTC_H_TOTAL = 0x00,
    CRTC_H_DISPLAY_END = 0x01,
    CRTC_V_TOTAL = 0x06,
    CRTC_OVERFLOW = 0x07,
    CRTC_PRESET_ROW = 0x08,
    CRTC_MAX_SCAN = 0x09,
    CRTC_CURSOR_START = 0x0a,
    CRTC_CURSOR_END = 0x0b,
    CRTC_START_HIGH = 0x0c,
    CRTC_START_LOW = 0x0d,
    CRTC_CURSOR_HIGH = 0x0e,
    CRTC_CURSOR_LOW = 0x0f,
    CRTC_V_RETRACE_START = 0x10,
    CRTC_V_RETRACE_END = 0x11,
    CRTC_V_DISPLAY_END = 0x12,
    CRTC_OFFSET = 0x13,
    CRTC_UNDERLINE = 0x14,
    CRTC_MODE = 0x17,
    CRTC_LINE_COMPARE = 0x18,
    CRTC_LAST = 0x18,
    CRTC_LATCH = 0x22,     /* undocumented: data latch of the plane selected for reading */
    CRTC_FLIP_FLOP = 0x24, /* undocumented: attribute controller's flip-flop in bit 7 */
};

/* Attribute controller registers after the 16 palette entries. */
enum { ATTR_MODE = 0x10, ATTR_OVERSCAN, ATTR_PLANES, ATTR_PANNING, ATTR_COLOR_SELECT, ATTR_COUNT };
#define ATTR_MODE_GRAPHICS   0x01
#define ATTR_MODE_MONO       0x02
#define ATTR_MODE_LINE       0x04 /* characters 0xc0-0xdf extend into the ninth dot */
#define ATTR_MODE_BLINK      0x08
#define ATTR_MODE_PAN_SPLIT  0x20 /* below the line compare there is no panning */
#define ATTR_MODE_256        0x40
#define ATTR_MODE_P54        0x80 /* palette bits 5 and 4 come from the color select register */
#define ATTR_INDEX_SCREEN_ON 0x20 /* in the index register: palette given to the screen */

/* Bochs VBE registers. */
enum {
    VBE_ID,
    VBE_XRES,
    VBE_YRES,
    VBE_BPP,
    VBE_ENABLE,
    VBE_BANK,
    VBE_VIRT_WIDTH,
    VBE_VIRT_HEIGHT,
    VBE_X_OFFSET,
    VBE_Y_OFFSET,
    VBE_MEMORY_64K,
    VBE_COUNT
};
#define VBE_ENABLED      0x01
#define VBE_GET_CAPS     0x02
#define VBE_DAC_8BIT     0x20
#define VBE_LFB          0x40
#define VBE_NO_CLEAR     0x80

/* The CRTC's programming, decoded. */
struct vga_scan {
    int columns;      /* character clocks per line */
    int lines;        /* scan lines */
    int row_lines;    /* scan lines per character row, before doubling */
    int doubling;     /* 2 with double scanning */
    int step;         /* scan lines per line of the picture */
    int line_compare; /* last scan line above the split */
    u32 start;        /* address of the first cell */
    u32 pitch;        /* cells from row to row */
};

#define VGA_LINE_MAX ((256 + 2) * 9) /* dots of the widest line with one character of panning */

/* What is the same for all lines of a picture. */
struct vga_frame {
    int width, height;          /* pixels */
    bool on;                    /* else all is black */
    bool vbe;                   /* a VBE mode */
    struct vga_scan scan;       /* else: where the lines are */
    u32 palette[256];           /* the DAC's colours as pixels */
    u8 dots[VGA_LINE_MAX];      /* scratch: a line as DAC indices */
};

struct vga {
    struct pci_device pci;     /* function, first */
    struct clock *clock;       /* retrace and blinking follow it */
    struct ram *ram;           /* where video memory lives */
    u64 vram_offset;           /* video memory: RAM offset */
    u8 *vram;                  /* and host address */
    u64 vram_size;             /* bytes */
    u8 edid[EDID_SIZE];        /* the monitor's */
    bool has_edid;             /* it has one */
    struct region *regions[5]; /* window, ports */

    u8 misc;           /* miscellaneous output */
    u8 feature;        /* feature control */
    u8 enable;         /* video subsystem enable, port 0x3c3 */
    u8 seq_index;      /* registers selected for access */
    u8 gfx_index;
    u8 crtc_index;
    u8 attr_index;     /* with the screen-on bit */
    bool attr_data;    /* flip-flop: the next write to 0x3c0 is data */
    u8 seq[SEQ_COUNT]; /* register files */
    u8 gfx[GFX_COUNT];
    u8 crtc[CRTC_LAST + 1];
    u8 attr[ATTR_COUNT];
    u32 latch;         /* the four data latches, plane 0 in the low byte */

    u8 dac_mask;      /* pixel mask */
    u8 dac_read;      /* entries selected for reading and writing */
    u8 dac_write;
    u8 dac_component; /* red, green or blue next */
    u8 dac_state;     /* 3 after a read index was set, 0 after a write index */
    u8 dac_cache[3];  /* components written so far */
    u8 dac[256][3];   /* palette */

    u16 vbe_index;          /* VBE register selected for access */
    u16 vbe[VBE_COUNT];     /* VBE registers */

    struct display *display; /* where the picture is shown, NULL: nowhere */
    bool registers_changed;  /* the picture may differ with the same memory */
    u64 blink_phase;         /* vga_blink_phase() of the last picture */
    u64 *dirty;              /* pages of video memory that were written before the last picture and perhaps after it */
};

static inline bool vga_vbe_on(const struct vga *v) { return (v->vbe[VBE_ENABLE] & VBE_ENABLED) != 0; }
/* VBE mode with packed pixels: video memory is linear, whatever the VGA registers say. */
static inline bool vga_vbe_packed(const struct vga *v) { return vga_vbe_on(v) && v->vbe[VBE_BPP] > 4; }

/* vga_mem.c: the 128 KiB window at 0xa0000 (opaque: the vga). */
extern const struct region_ops vga_mem_ops;

/* vga_vbe.c */
void vga_vbe_reset(struct vga *v);
u16 vga_vbe_read(struct vga *v, unsigned index);
void vga_vbe_write(struct vga *v, unsigned index, u16 value);
/* Bytes from one VBE scanline to the next. */
u32 vga_vbe_pitch(const struct vga *v);

/* vga_render.c: a picture line by line, and whether what blinks is shown. */
void vga_frame_begin(const struct vga *v, struct vga_frame *f);
void vga_frame_line(const struct vga *v, struct vga_frame *f, int y, u32 *out);
u64 vga_blink_phase(const struct vga *v);

/* Lines and timing out of the CRTC's registers. */
int vga_crtc_value(const struct vga *v, int low, int overflow_bit8, int overflow_bit9);

#endif

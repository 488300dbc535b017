/* The 8042 keyboard controller, with the firmware of a PS/2 compatible PC.
 *
 * Models the controller's memory and commands, scan code translation, both PS/2 ports, the output port with
 * the A20 gate and the reset pulse. Commands and bytes take no time, so the input buffer is always empty.
 * Leaves out the password (reported as not installed) and the diagnostic dump.
 *
 * [8042] IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"
 * [PCAT] IBM PC/AT Technical Reference, "Keyboard Controller" */
#include "devices/i8042.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

/* status register, port 0x64 */
#define STATUS_OBF     0x01 /* output buffer full */
#define STATUS_SYS     0x04 /* system flag: the self test was passed */
#define STATUS_CMD     0x08 /* the last write went to port 0x64 */
#define STATUS_UNLOCK  0x10 /* the keyboard lock is open */
#define STATUS_AUX     0x20 /* the byte in the output buffer is the mouse's */
#define STATUS_TIMEOUT 0x40 /* the device did not answer */

/* command byte, RAM 0 */
#define MODE_KBD_INT   0x01
#define MODE_AUX_INT   0x02
#define MODE_SYS       0x04
#define MODE_KBD_OFF   0x10
#define MODE_AUX_OFF   0x20
#define MODE_TRANSLATE 0x40

/* output port */
#define OUT_RESET   0x01 /* 0 resets */
#define OUT_A20     0x02
#define OUT_KBD_OBF 0x10 /* IRQ1 */
#define OUT_AUX_OBF 0x20 /* IRQ12 */
#define OUT_IDLE    0xcc /* the clock and data lines of the two ports, at rest */

#define INPUT_PORT 0xb0 /* keyboard unlocked, colour display, no manufacturing jumper, second RAM bank on */

enum {
    CMD_READ_RAM = 0x20,  /* to 0x3f */
    CMD_WRITE_RAM = 0x60, /* to 0x7f */
    CMD_TEST_PASSWORD = 0xa4,
    CMD_AUX_DISABLE = 0xa7,
    CMD_AUX_ENABLE = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_KBD_TEST = 0xab,
    CMD_KBD_DISABLE = 0xad,
    CMD_KBD_ENABLE = 0xae,
    CMD_READ_INPUT = 0xc0,
    CMD_READ_OUTPUT = 0xd0,
    CMD_WRITE_OUTPUT = 0xd1,
    CMD_WRITE_KBD_BUFFER = 0xd2,
    CMD_WRITE_AUX_BUFFER = 0xd3,
    CMD_WRITE_AUX = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_READ_TEST = 0xe0,
    CMD_PULSE = 0xf0, /* to 0xff */
};

enum source { FROM_CONTROLLER, FROM_KEYBOARD, FROM_MOUSE };

struct i8042 {
    struct device dev;           /* what the machine sees */
    struct irq_line irq1, irq12; /* keyboard, mouse interrupt */
    struct irq_line a20, reset;  /* A20 gate, machine reset */
    struct ps2_device *kbd;      /* on the first port, or NULL */
    struct ps2_device *aux;      /* on the second port, or NULL */
    struct region *regions[2];   /* ports 0x60, 0x64 */
    u8 ram[32];                  /* controller memory; 0 is the command byte */
    u8 status;                   /* STATUS_OBF, _SYS, _CMD, _AUX, _TIMEOUT */
    u8 data;                     /* output buffer */
    bool aux_data;               /* the byte in the output buffer raises IRQ12, not IRQ1 */
    bool a20_on;                 /* output port bit 1 */
    u8 command;                  /* command whose parameter comes next on port 0x60, or 0 */
    bool reply_waiting;          /* an answer of the controller waits for the output buffer */
    bool reply_aux;              /* it goes out as mouse data */
    u8 reply;                    /* it */
    u8 reply_status;             /* STATUS_TIMEOUT if it goes out with that */
    bool break_prefix;           /* translation has swallowed F0 */
};

/* Scan code set 2 to set 1 [PCAT] "Keyboard Controller", "Scan Code Translation" */
static const u8 translation[0x85] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, /* 00 */
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, /* 10 */
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, /* 20 */
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, /* 30 */
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, /* 40 */
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, /* 50 */
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, /* 60 */
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, /* 70 */
    0x80, 0x81, 0x82, 0x41, 0x54,                                                                   /* 80 */
};

/* ---- the output buffer ---- */

static void update_irq(struct i8042 *k)
{
    bool full = k->status & STATUS_OBF;
    irq_set(&k->irq1, full && !k->aux_data && (k->ram[0] & MODE_KBD_INT));
    irq_set(&k->irq12, full && k->aux_data && (k->ram[0] & MODE_AUX_INT));
}

static void put(struct i8042 *k, u8 byte, bool aux, u8 extra_status)
{
    k->data = byte;
    k->aux_data = aux;
    k->status =
        (k->status & ~(STATUS_AUX | STATUS_TIMEOUT)) | STATUS_OBF | (aux ? STATUS_AUX : 0) | extra_status;
}

/* One byte from the keyboard, translated if asked for. False when it only set the break prefix. */
static bool translate(struct i8042 *k, u8 byte, u8 *result)
{
    *result = byte;
    if (!(k->ram[0] & MODE_TRANSLATE)) {
        k->break_prefix = false;
        return true;
    }
    if (byte == 0xf0) {
        k->break_prefix = true;
        return false;
    }
    if (byte < ARRAY_LEN(translation)) byte = translation[byte];
    *result = byte | (k->break_prefix ? 0x80 : 0);
    k->break_prefix = false;
    return true;
}

/* Fill the empty output buffer with what waits longest by rank: controller, keyboard, mouse. */
static void fill(struct i8042 *k)
{
    if (!(k->status & STATUS_OBF) && k->reply_waiting) {
        k->reply_waiting = false;
        put(k, k->reply, k->reply_aux, k->reply_status);
    }
    while (!(k->status & STATUS_OBF) && k->kbd && !(k->ram[0] & MODE_KBD_OFF) && ps2_has_data(k->kbd)) {
        u8 byte;
        if (translate(k, ps2_take(k->kbd), &byte)) put(k, byte, false, 0);
    }
    if (!(k->status & STATUS_OBF) && k->aux && !(k->ram[0] & MODE_AUX_OFF) && ps2_has_data(k->aux))
        put(k, ps2_take(k->aux), true, 0);
    update_irq(k);
}

static void answer(struct i8042 *k, u8 byte, bool aux, u8 extra_status)
{
    k->reply_waiting = true;
    k->reply = byte;
    k->reply_aux = aux;
    k->reply_status = extra_status;
    fill(k);
}

static void device_ready(void *opaque) { fill(opaque); }

/* ---- commands ---- */

void i8042_note_a20(struct i8042 *k, bool on) { k->a20_on = on; }

static void set_a20(struct i8042 *k, bool on)
{
    k->a20_on = on;
    irq_set(&k->a20, on);
}

static u8 output_port(const struct i8042 *k)
{
    u8 value = OUT_IDLE | OUT_RESET | (k->a20_on ? OUT_A20 : 0);
    if (k->status & STATUS_OBF) value |= k->aux_data ? OUT_AUX_OBF : OUT_KBD_OBF;
    return value;
}

static void write_ram(struct i8042 *k, u8 index, u8 value)
{
    k->ram[index] = value;
    if (index) return;
    k->status = (k->status & ~STATUS_SYS) | (value & MODE_SYS ? STATUS_SYS : 0);
    fill(k);
}

static void write_command(struct i8042 *k, u8 command)
{
    k->command = 0;
    switch (command) {
    case CMD_READ_RAM ... CMD_READ_RAM + 0x1f: answer(k, k->ram[command & 0x1f], false, 0); break;
    case CMD_WRITE_RAM ... CMD_WRITE_RAM + 0x1f:
    case CMD_WRITE_OUTPUT:
    case CMD_WRITE_KBD_BUFFER:
    case CMD_WRITE_AUX_BUFFER:
    case CMD_WRITE_AUX: k->command = command; break;
    case CMD_TEST_PASSWORD: answer(k, 0xf1, false, 0); break; /* none installed */
    case CMD_AUX_DISABLE: k->ram[0] |= MODE_AUX_OFF; break;
    case CMD_AUX_ENABLE:
        k->ram[0] &= ~MODE_AUX_OFF;
        fill(k);
        break;
    case CMD_AUX_TEST:
    case CMD_KBD_TEST: answer(k, 0x00, false, 0); break; /* no error */
    case CMD_SELF_TEST:
        k->status |= STATUS_SYS;
        k->ram[0] |= MODE_SYS;
        answer(k, 0x55, false, 0);
        break;
    case CMD_KBD_DISABLE: k->ram[0] |= MODE_KBD_OFF; break;
    case CMD_KBD_ENABLE:
        k->ram[0] &= ~MODE_KBD_OFF;
        fill(k);
        break;
    case CMD_READ_INPUT: answer(k, INPUT_PORT, false, 0); break;
    case CMD_READ_OUTPUT: answer(k, output_port(k), false, 0); break;
    case CMD_A20_OFF: set_a20(k, false); break;
    case CMD_A20_ON: set_a20(k, true); break;
    case CMD_READ_TEST: answer(k, k->ram[0] & MODE_KBD_OFF ? 0x02 : 0x03, false, 0); break;
    case CMD_PULSE ... CMD_PULSE + 0x0f:
        /* Bits 3-0 that are 0 are pulsed; only the first is wired to anything that notices. */
        if (!(command & OUT_RESET)) irq_pulse(&k->reset);
        break;
    default: log_printf(LOG_GUEST_ERROR, "i8042: unknown command %#x\n", command); break;
    }
}

static void write_output_port(struct i8042 *k, u8 value)
{
    set_a20(k, value & OUT_A20);
    if (!(value & OUT_RESET)) irq_pulse(&k->reset);
}

/* A byte for a device. One that is absent shows as a timeout, with FE for data [8042] "Status Register". */
static void write_device(struct i8042 *k, struct ps2_device *d, bool aux, u8 value)
{
    k->ram[0] &= aux ? ~MODE_AUX_OFF : ~MODE_KBD_OFF; /* transmitting opens the port */
    k->status &= ~STATUS_TIMEOUT;
    if (d)
        d->receive(d, value);
    else
        answer(k, 0xfe, aux, STATUS_TIMEOUT);
    fill(k);
}

static void write_data(struct i8042 *k, u8 value)
{
    u8 command = k->command;
    k->command = 0;
    switch (command) {
    case 0: write_device(k, k->kbd, false, value); break;
    case CMD_WRITE_AUX: write_device(k, k->aux, true, value); break;
    case CMD_WRITE_OUTPUT: write_output_port(k, value); break;
    case CMD_WRITE_KBD_BUFFER: answer(k, value, false, 0); break;
    case CMD_WRITE_AUX_BUFFER: answer(k, value, true, 0); break;
    default: write_ram(k, command & 0x1f, value); break;
    }
}

/* ---- ports ---- */

static u64 data_read(void *opaque, u64 offset, unsigned size)
{
    struct i8042 *k = opaque;
    (void)offset, (void)size;
    u8 value = k->data;
    if (k->status & STATUS_OBF) {
        k->status &= ~(STATUS_OBF | STATUS_AUX);
        update_irq(k); /* the line falls, so that the next byte makes an edge */
        fill(k);
    }
    return value;
}

static void data_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8042 *k = opaque;
    (void)offset, (void)size;
    k->status &= ~STATUS_CMD;
    write_data(k, value);
}

static u64 status_read(void *opaque, u64 offset, unsigned size)
{
    struct i8042 *k = opaque;
    (void)offset, (void)size;
    return k->status | STATUS_UNLOCK;
}

static void command_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8042 *k = opaque;
    (void)offset, (void)size;
    k->status |= STATUS_CMD;
    write_command(k, value);
}

static const struct region_ops data_ops = {data_read, data_write, 1, 1};
static const struct region_ops status_ops = {status_read, command_write, 1, 1};

/* ---- the device ---- */

static void i8042_reset(struct device *d)
{
    struct i8042 *k = container_of(d, struct i8042, dev);
    for (size_t i = 0; i < sizeof(k->ram); i++)
        k->ram[i] = 0;
    k->ram[0] = MODE_KBD_INT | MODE_AUX_INT;
    k->status = STATUS_CMD;
    k->data = 0;
    k->aux_data = k->reply_waiting = k->break_prefix = false;
    k->command = 0;
    update_irq(k);
    set_a20(k, true);
}

static void i8042_destroy(struct device *d)
{
    struct i8042 *k = container_of(d, struct i8042, dev);
    for (size_t i = 0; i < ARRAY_LEN(k->regions); i++)
        if (k->regions[i]) region_remove(k->regions[i]);
    free(k);
}

static const struct device_class i8042_class = {"i8042", i8042_reset, i8042_destroy};

struct device *i8042_device(struct i8042 *k) { return &k->dev; }

struct i8042 *i8042_create(struct bus *ports, struct irq_line irq1, struct irq_line irq12,
                           struct irq_line a20, struct irq_line reset, struct ps2_device *keyboard,
                           struct ps2_device *mouse)
{
    struct i8042 *k = calloc(1, sizeof(*k));
    if (!k) {
        fprintf(stderr, "calque: i8042: out of memory\n");
        return NULL;
    }
    k->dev.cls = &i8042_class;
    k->irq1 = irq1;
    k->irq12 = irq12;
    k->a20 = a20;
    k->reset = reset;
    k->kbd = keyboard;
    k->aux = mouse;
    if (keyboard) ps2_attach(keyboard, device_ready, k);
    if (mouse) ps2_attach(mouse, device_ready, k);
    k->regions[0] = bus_add(ports, "i8042-data", 0x60, 1, 0, &data_ops, k);
    k->regions[1] = bus_add(ports, "i8042-command", 0x64, 1, 0, &status_ops, k);
    i8042_reset(&k->dev);
    return k;
}

/* What the parts of the floppy controller share: fdc.c (registers, commands without data), fdc_data.c (those that
 * transfer sectors). */
#ifndef DEVICES_FDC_STATE_H
#define DEVICES_FDC_STATE_H

#include "devices/fdc.h"

#define FDC_SECTOR     512u
#define FDC_UNITS      4  /* drives that can be selected */
#define FDC_PARAMETERS 16 /* bytes of the longest command or result */

/* status registers 0 to 2 [82078] 5.1 */
#define ST0_ABNORMAL  0x40
#define ST0_INVALID   0x80
#define ST0_SEEK_END  0x20
#define ST0_EQUIPMENT 0x10
#define ST1_END       0x80 /* past the last sector, and the host still wants more */
#define ST1_DATA      0x20 /* CRC */
#define ST1_OVERRUN   0x10
#define ST1_NO_DATA   0x04 /* that sector is not on the track */
#define ST1_PROTECTED 0x02
#define ST1_NO_MARK   0x01 /* nothing readable on the track */
#define ST2_DELETED   0x40 /* not the kind of data mark that was asked for */
#define ST2_DATA      0x20
#define ST2_CYLINDER  0x10 /* the track says that it is another one */

/* How a disk is recorded. */
struct fdc_format {
    u8 cylinders, heads, sectors; /* of FDC_SECTOR bytes */
    u8 rates;                     /* data rates it can be read at: bit per value of the rate bits */
    u8 type;                      /* drive for it, as CMOS numbers them */
};

struct fdc_drive {
    bool present;                    /* it is installed */
    u8 type;                         /* as CMOS numbers them */
    struct block *medium;            /* NULL: empty */
    const struct fdc_format *format; /* of the medium */
    u8 cylinder;                     /* where the heads are */
    bool changed;                    /* the change line: until a step pulse with a disk in */
    u8 passed;                       /* the sector that READ ID saw last */
};

enum fdc_phase { FDC_COMMAND, FDC_EXECUTION, FDC_RESULT };

enum fdc_operation { FDC_READ, FDC_READ_DELETED, FDC_READ_TRACK, FDC_VERIFY, FDC_WRITE, FDC_FORMAT };

/* A command that transfers sectors. */
struct fdc_transfer {
    enum fdc_operation op; /* which */
    u8 unit, head;         /* where */
    u8 c, h, r, n;         /* the sector's ID, as in the result phase */
    u8 eot;                /* last sector of the track */
    bool multi, skip, mfm; /* bits 7 to 5 of the command */
    unsigned count;        /* READ_TRACK, VERIFY, FORMAT: sectors that are left; 0: by eot */
    u8 fill;               /* FORMAT: the data */
    u8 st1, st2;           /* errors */
    bool tc;               /* terminal count was seen */
    bool writing;          /* the host's data is on its way to the disk */
    size_t pos, size;      /* bytes of buf that were moved to or from the host, all of them */
};

struct fdc {
    struct device dev;                 /* what the machine sees */
    struct irq_line irq;               /* IRQ 6 */
    struct i8237 *dma;                 /* its channel 2 */
    struct clock *clock;               /* for the patience with DMA */
    struct timer *retry;               /* looks again whether DMA is set up */
    unsigned retries;                  /* how often it may */
    struct fdc_drive drives[FDC_UNITS]; /* the last two are never there */
    struct region *regions[2];         /* 0x3f2, 0x3f7 */

    u8 dor, tape, rate;                /* digital output, tape drive; data rate */
    u8 config, pretrack;               /* CONFIGURE */
    bool lock;                         /* LOCK: that outlives resets by software */
    u8 specify[2];                     /* SPECIFY */
    u8 perpendicular;                  /* PERPENDICULAR MODE */
    u8 option, power;                  /* OPTION, POWERDOWN MODE */
    u8 pcn[FDC_UNITS];                 /* present cylinder numbers */
    u8 last_eot;                       /* SC/EOT of the last data command, for DUMPREG */

    enum fdc_phase phase;              /* of the command */
    u8 bytes[FDC_PARAMETERS];          /* command, or result */
    unsigned at, length;               /* bytes written or read, and to be */
    bool line;                         /* interrupt request, before the DOR's gate */
    u8 unsensed;                       /* bit per unit: SENSE INTERRUPT STATUS has something to tell */
    u8 sense[FDC_UNITS];               /* its ST0 */

    struct fdc_transfer t;             /* the data command that runs */
    struct block_request request;      /* its access to the medium */
    bool in_flight;                    /* request is with the back end */
    bool dropped;                      /* nobody wants its result any more */
    bool destroyed;                    /* nobody wants any of this: its end frees it */
    bool io_wanted;                    /* another access waits for its end */
    u8 buf[FDC_SECTOR];                /* data */
};

/* ---- fdc.c ---- */

void fdc_raise(struct fdc *f, bool level);
/* To the result phase, with so many of f->bytes. */
void fdc_result(struct fdc *f, unsigned length);
/* Step the heads; the unit may be missing. */
void fdc_seek(struct fdc *f, u8 unit, int cylinder);
/* SPECIFY's ND bit */
static inline bool fdc_pio(const struct fdc *f) { return f->specify[1] & 1; }

/* ---- fdc_data.c ---- */

/* The command in f->bytes, for which there is an operation. */
void fdc_data_start(struct fdc *f, enum fdc_operation op);
void fdc_read_id(struct fdc *f);
/* A reset: forget it. */
void fdc_data_abort(struct fdc *f);
/* The host moves bytes itself (PIO): is one wanted, in which direction; here it is. */
bool fdc_data_ready(const struct fdc *f);
bool fdc_data_to_host(const struct fdc *f);
u8 fdc_data_read(struct fdc *f);
void fdc_data_write(struct fdc *f, u8 value);
/* The retry timer. */
void fdc_data_retry(void *opaque);

#endif

/* What the parts of the IDE model share: ide.c (registers and protocols), ide_ata.c, ide_smart.c,
 * ide_atapi.c, ide_atapi_info.c, ide_identify.c (commands), piix3_ide.c (the PCI function). Nobody else includes it. */
#ifndef DEVICES_IDE_DRIVE_H
#define DEVICES_IDE_DRIVE_H

#include "core/block.h"
#include "core/bus.h"
#include "core/irq.h"

/* Status register [ATA-6] 7.15. */
#define IDE_BSY  0x80
#define IDE_DRDY 0x40
#define IDE_DF   0x20
#define IDE_DSC  0x10 /* seek complete, before ATA-4 */
#define IDE_DRQ  0x08
#define IDE_ERR  0x01 /* CHK for ATAPI */

/* Error register [ATA-6] 7.9. */
#define IDE_ICRC 0x80
#define IDE_UNC  0x40
#define IDE_IDNF 0x10
#define IDE_ABRT 0x04

/* Device register. */
#define IDE_DEV_LBA 0x40
#define IDE_DEV_DEV 0x10

/* Device control [ATA-6] 7.8. */
#define IDE_HOB  0x80
#define IDE_SRST 0x04
#define IDE_NIEN 0x02

/* ATAPI interrupt reason, in the sector count register [ATA-6] 7.12 */
#define IDE_REASON_COD 0x01
#define IDE_REASON_IO  0x02

#define IDE_SECTOR    512u
#define IDE_CD_SECTOR 2048u
#define IDE_BUFFER    (256u << 10) /* bytes of a drive's buffer */
#define IDE_PIECES    512u         /* of memory in a request to the back end */
#define IDE_MULTIPLE  16           /* sectors: the limit of SET MULTIPLE MODE */

struct ide_channel;
struct ide_drive;
struct ide_io;

enum ide_kind { IDE_NONE, IDE_ATA, IDE_ATAPI };

/* What the drive does. */
enum ide_phase {
    IDE_IDLE,    /* no command */
    IDE_WORKING, /* BSY: waits for the back end */
    IDE_PIO_IN,  /* DRQ: the host reads buf[pos, end) */
    IDE_PIO_OUT, /* DRQ: the host writes it */
    IDE_DMA_IN,  /* DMARQ: to memory */
    IDE_DMA_OUT, /* DMARQ: from memory */
    IDE_SLEEP,   /* after SLEEP: until a reset */
};

typedef void ide_step(struct ide_drive *d);

/* SCSI sense data of an ATAPI drive. */
struct ide_sense {
    u8 key, asc, ascq; /* as in REQUEST SENSE */
};

struct ide_drive {
    struct ide_channel *channel; /* its cable */
    int unit;                    /* 0 or 1 */
    enum ide_kind kind;          /* IDE_NONE: nobody there */
    struct block *block;         /* contents, or NULL */
    char serial[21], model[41];  /* for IDENTIFY */

    /* The task file; [1]: what the register held before the last write, for 48-bit commands. */
    u8 feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
    u8 device;        /* device register */
    u8 status, error; /* as read */
    u8 command;       /* in execution, or the last one */
    bool intrq;       /* the drive asserts its interrupt */

    enum ide_phase phase; /* what it does */
    u8 *buf;              /* IDE_BUFFER bytes */
    size_t pos, end;      /* of the data block in transfer */
    ide_step *next;       /* what to do when pos reaches end */
    bool direct;          /* DMA_IN, DMA_OUT: not from or to buf; see ide_dma_direct() */
    enum block_op direct_op; /* READ or WRITE */
    void (*direct_done)(struct ide_drive *d, int error, size_t good); /* what follows */
    struct ide_io *io;    /* request at the back end, or NULL */

    /* An ATA read or write in execution. */
    u64 lba;         /* next sector to ask the back end for */
    u32 left;        /* sectors from there on */
    u32 chunk;       /* sectors in buf, or at the back end */
    u32 served;      /* bytes of those that the host has seen */
    u32 drq_sectors; /* sectors in a DRQ data block */
    bool ext;        /* a 48-bit command */
    bool chs;        /* the address was given as cylinder, head, sector */
    bool fua;        /* flush after writing */
    bool failing;    /* the sectors in buf are the last before a bad one */
    bool writing;    /* data goes to the disk */
    bool dma;        /* by DMA */

    /* Settings. */
    u16 cylinders;                                     /* default translation */
    u8 heads, sectors;                                 /* likewise */
    u8 cur_heads, cur_sectors;                         /* INITIALIZE DEVICE PARAMETERS */
    u8 multiple;                                       /* SET MULTIPLE MODE, sectors; 0: off */
    u8 udma, mwdma;                                    /* selected mode + 1, 0: none */
    bool write_cache, default_write_cache, look_ahead; /* SET FEATURES */
    bool no_revert;                /* SET FEATURES 66h: a software reset leaves settings alone */
    bool smart_on, smart_autosave; /* SMART */
    u8 power;                      /* CHECK POWER MODE's answer */

    /* ATAPI. */
    u8 packet[12];               /* the command packet */
    bool packet_dma;             /* data goes by DMA */
    u32 byte_limit;              /* host's limit for a data block */
    u32 data_left;               /* bytes of buf[] not yet in a data block */
    u32 cd_lba, cd_left;         /* blocks still to be read */
    u32 cd_block;                /* bytes of a block: 2048 or 2352 */
    struct ide_sense sense;      /* of the last command */
    struct ide_sense attention;  /* unit attention to be reported, key 0: none */
    bool tray_open, tray_locked; /* the mechanics */
    void (*tray_moved)(void *opaque, bool open); /* tells the user; NULL: nobody asks */
    void *tray_opaque;           /* its first argument */
    u8 media_event;              /* for GET EVENT STATUS NOTIFICATION */
};

/* The bus master's side of a channel. Moves up to size bytes between buf and memory: the number done. Fewer
 * when it is not started or its table ends; then it calls ide_dma_continue() when it is started (again).
 *
 * Find() says where in RAM the next bytes go to or come from, whole sectors of at most size bytes in at most IDE_PIECES
 * pieces, and takes them for moved: how many; 0: not now, as above; -1: move() has to do it. After that, move() of no
 * bytes says that they are. */
struct ide_dma {
    int (*find)(void *opaque, struct iovec *pieces, unsigned *count, struct ram **ram, size_t size, bool to_memory);
    size_t (*move)(void *opaque, u8 *buf, size_t size, bool to_memory);
    void (*irq)(void *opaque); /* the cable's interrupt went up */
    void *opaque;              /* first argument of all */
};

struct ide_channel {
    struct ide_drive drive[2]; /* master and slave */
    int selected;              /* the DEV bit */
    u8 control;                /* device control register */
    bool line;                 /* what irq was driven to */
    struct irq_line irq;       /* ISA interrupt */
    struct ide_dma dma;        /* bus master */
    struct region *command;    /* eight ports */
    struct region *ctl;        /* one port */
};

/* ---- ide.c ---- */

void ide_channel_init(struct ide_channel *c, struct bus *ports, u16 command, u16 control,
                      struct irq_line irq);
void ide_channel_fini(struct ide_channel *c);
/* Power-on state. */
void ide_channel_reset(struct ide_channel *c);
/* The bus master was started, and stopped: memory is not used any more. */
void ide_dma_continue(struct ide_channel *c);
void ide_dma_stop(struct ide_channel *c);

/* Make sure that d->buf is there; false: the command was aborted. */
bool ide_need_buffer(struct ide_drive *d);
/* Offer buf[pos, pos + size) to the host, or take it from there, then go on with next. irq: announce it. */
void ide_pio_in(struct ide_drive *d, size_t pos, size_t size, ide_step *next);
void ide_pio_out(struct ide_drive *d, size_t pos, size_t size, bool irq, ide_step *next);
/* Move buf[0, size) by DMA. */
void ide_dma_in(struct ide_drive *d, size_t size, ide_step *next);
void ide_dma_out(struct ide_drive *d, size_t size, ide_step *next);
/* Move sectors between disk and memory at once, as soon as the bus master is started: at most d->chunk of them, which is set
 * to the number. Buffered: what to do when that is not possible. */
void ide_dma_direct(struct ide_drive *d, enum block_op op, ide_step *buffered,
                    void (*done)(struct ide_drive *d, int error, size_t good));
/* What went that way has arrived. */
void ide_dma_moved(struct ide_drive *d);
/* Ask the back end; done is called with its answer, unless the command was cancelled. */
void ide_submit(struct ide_drive *d, enum block_op op, u64 offset, size_t size,
                void (*done)(struct ide_drive *d, int error, size_t good));
/* The end of a command; without an interrupt where the last block of PIO data had its own. */
void ide_command_done(struct ide_drive *d);
void ide_command_read(struct ide_drive *d);
void ide_command_failed(struct ide_drive *d, u8 error);
void ide_raise(struct ide_drive *d);
/* After a reset and EXECUTE DEVICE DIAGNOSTIC [ATA-6] 9.12. */
void ide_signature(struct ide_drive *d);

/* ---- commands ---- */

void ide_ata_command(struct ide_drive *d, u8 command);
void ide_ata_attach(struct ide_drive *d);
void ide_ata_reset(struct ide_drive *d, bool hard);
void ide_atapi_command(struct ide_drive *d, u8 command);
void ide_atapi_reset(struct ide_drive *d, bool hard);
int ide_atapi_tray(struct ide_drive *d, bool open, bool force);
int ide_atapi_change(struct ide_drive *d, struct block *block, bool force);
/* SET FEATURES subcommand 03h; false: no such mode. */
bool ide_set_transfer_mode(struct ide_drive *d, u8 mode);
/* IDENTIFY DEVICE and IDENTIFY PACKET DEVICE into page[512]. */
void ide_identify(const struct ide_drive *d, u8 *page);
/* SMART; ide_smart.c. */
void ide_smart(struct ide_drive *d);

static inline u64 ide_sectors(const struct ide_drive *d)
{
    return d->block ? d->block->size / IDE_SECTOR : 0;
}

#endif

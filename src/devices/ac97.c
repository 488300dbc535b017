/* Intel 82801AA (ICH) AC'97 audio: two I/O BARs, the codec's mixer registers (NAM) and three bus masters (NABM) that
 * walk rings of 32 buffer descriptors: PCM in, PCM out, microphone.
 *
 * Models playback of 16-bit stereo at variable rates, the volumes of master and PCM out, and recording, which hears
 * silence. Registers show the DMA position to the sample at the time of the access.
 * Leaves out: modem, secondary codecs, power-down (the bits store), FIFO errors, the tone and 3D registers.
 *
 * A buffer descriptor:  31:0 address, bit 0 zero | 47:32 length in samples | 62 BUP, play silence after it | 63 IOC
 *
 * References: [ICH] Intel 82801AA (ICH) and 82801AB (ICH0) data sheet, 290655; [AC97] Audio Codec '97 2.1. */
#include "devices/ac97.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define NAM_SIZE  256u
#define NABM_SIZE 64u
#define MASTERS   3u
#define BUFFERS   32u
#define FIXED_RATE 48000u

/* A bus master's registers, at 16 times its number [ICH] 13.2. */
enum { BDBAR = 0x0, CIV = 0x4, LVI = 0x5, SR = 0x6, PICB = 0x8, PIV = 0xa, CR = 0xb };
enum { GLOB_CNT = 0x2c, GLOB_STA = 0x30, CAS = 0x34 };

#define SR_DCH   0x01 /* halted */
#define SR_CELV  0x02 /* the current buffer is the last valid one */
#define SR_LVBCI 0x04 /* the last valid buffer is done */
#define SR_BCIS  0x08 /* a buffer with IOC is done */
#define SR_FIFOE 0x10
#define SR_W1C   (SR_LVBCI | SR_BCIS | SR_FIFOE)

#define CR_RPBM  0x01 /* run */
#define CR_RR    0x02 /* reset the master */
#define CR_LVBIE 0x04
#define CR_FEIE  0x08
#define CR_IOCE  0x10

#define GC_COLD 0x02 /* 0: the codec is held in reset */
#define GC_WARM 0x04
#define GC_MASK 0x3f
#define GS_PCR  0x100u /* primary codec ready */

#define BD_IOC 0x8000u

/* Mixer registers [AC97] 5.7; 16 bits each. */
enum {
    MIX_RESET = 0x00, MIX_MASTER = 0x02, MIX_HEADPHONE = 0x04, MIX_MONO = 0x06, MIX_PHONE = 0x0c, MIX_MIC = 0x0e,
    MIX_LINE = 0x10, MIX_CD = 0x12, MIX_VIDEO = 0x14, MIX_AUX = 0x16, MIX_PCM = 0x18, MIX_RECORD = 0x1a,
    MIX_GAIN = 0x1c, MIX_GENERAL = 0x20, MIX_POWER = 0x26, MIX_EXT_ID = 0x28, MIX_EXT_CTL = 0x2a,
    MIX_PCM_RATE = 0x2c, MIX_IN_RATE = 0x32, MIX_MIC_RATE = 0x34, MIX_VENDOR1 = 0x7c, MIX_VENDOR2 = 0x7e
};

#define EXT_VRA 0x0001 /* variable rates */
#define EXT_VRM 0x0008 /* for the microphone, too */
#define MUTE    0x8000

struct ac97;

struct master {
    struct ac97 *card;         /* where it belongs */
    struct audio_voice *voice; /* calls for samples while it runs */
    u32 bdbar;                 /* address of the ring of descriptors */
    u8 civ, lvi, piv;          /* current, last valid, prefetched index */
    u8 sr, cr;                 /* status, control */
    u16 picb;                  /* samples left in the current buffer */
    bool loaded;               /* addr and flags are those of buffer civ */
    u32 addr;                  /* of the next sample */
    u16 flags;                 /* the current descriptor's */
};

struct ac97 {
    struct pci_device pci;            /* must stay first */
    struct audio *audio;              /* where it is heard */
    struct master master[MASTERS];    /* PI, PO, MC */
    u32 glob_cnt;                     /* global control */
    bool cas;                         /* the codec access semaphore is taken */
    u16 mixer[NAM_SIZE / 2];          /* codec registers */
};

enum { PI, PO, MC };

/* ---- interrupts ---- */

static bool pending(const struct master *m)
{
    return ((m->sr & SR_LVBCI) && (m->cr & CR_LVBIE)) || ((m->sr & SR_BCIS) && (m->cr & CR_IOCE)) ||
           ((m->sr & SR_FIFOE) && (m->cr & CR_FEIE));
}

static u32 global_status(const struct ac97 *a)
{
    u32 value = a->glob_cnt & GC_COLD ? GS_PCR : 0;
    for (unsigned i = 0; i < MASTERS; i++)
        if (pending(&a->master[i])) value |= 0x20u << i; /* PIINT, POINT, MINT */
    return value;
}

static void update_irq(struct ac97 *a) { pci_set_irq(&a->pci, (global_status(a) & 0xe0) != 0); }

/* ---- bus masters ---- */

static bool running(const struct master *m) { return (m->cr & CR_RPBM) && !(m->sr & SR_DCH); }

static void load(struct master *m)
{
    u8 bd[8] = {0};
    pci_dma_read(&m->card->pci, m->bdbar + 8u * m->civ, bd, sizeof(bd));
    m->addr = pci_get32(bd) & ~1u;
    m->picb = pci_get16(bd + 4);
    m->flags = pci_get16(bd + 6);
    m->loaded = true;
}

static void next(struct master *m)
{
    m->civ = m->piv;
    m->piv = (m->piv + 1) % BUFFERS;
    load(m);
}

/* The current buffer is done. At most 32 steps lead from any buffer to the last valid one, however short they are. */
static void complete(struct master *m)
{
    if (m->flags & BD_IOC) m->sr |= SR_BCIS;
    if (m->civ == m->lvi) {
        m->sr |= SR_LVBCI | SR_CELV | SR_DCH;
        m->loaded = false;
    } else {
        next(m);
    }
}

static u32 rate_of(const struct ac97 *a, const struct master *m)
{
    static const u8 registers[MASTERS] = {MIX_IN_RATE, MIX_PCM_RATE, MIX_MIC_RATE};
    unsigned i = (unsigned)(m - a->master);
    bool variable = a->mixer[MIX_EXT_CTL / 2] & (i == MC ? EXT_VRM : EXT_VRA);
    return variable ? a->mixer[registers[i] / 2] : FIXED_RATE;
}

/* 65536 for 0 dB; steps of 1.5 dB, down when positive. */
static s64 gain(int steps)
{
    s64 g = 65536;
    for (; steps > 0; steps--) g = g * 55142 >> 16;
    for (; steps < 0; steps++) g = g * 77890 >> 16;
    return g;
}

/* Master attenuates by 0 to 46.5 dB, PCM out goes from +12 dB (0) over 0 dB (8) down to -34.5 dB [AC97] 5.7.2. */
static void apply_volume(const struct ac97 *a, s16 *frames, u32 count)
{
    u16 master = a->mixer[MIX_MASTER / 2], pcm = a->mixer[MIX_PCM / 2];
    bool mute = (master | pcm) & MUTE;
    for (unsigned k = 0; k < 2; k++) {
        unsigned shift = k ? 0 : 8;
        s64 g = mute ? 0 : gain((master >> shift & 31) + (pcm >> shift & 31) - 8);
        for (u32 i = k; i < 2 * count && g != 65536; i += 2) {
            s64 value = frames[i] * g >> 16;
            frames[i] = (s16)MIN(MAX(value, INT16_MIN), INT16_MAX);
        }
    }
}

static void fill(void *opaque, s16 *frames, u32 count)
{
    struct master *m = opaque;
    struct ac97 *a = m->card;
    bool out = m == &a->master[PO];
    u32 channels = m == &a->master[MC] ? 1 : 2, left = count * channels;
    s16 *at = frames;
    while (left && running(m)) {
        u32 n = MIN(left, (u32)m->picb);
        if (out)
            pci_dma_read(&a->pci, m->addr, at, n * sizeof(*at));
        else
            pci_dma_write(&a->pci, m->addr, at, n * sizeof(*at));
        m->addr += n * (u32)sizeof(*at);
        m->picb -= (u16)n;
        at += n;
        left -= n;
        if (!m->picb) complete(m);
    }
    if (out) apply_volume(a, frames, count);
    if (!running(m)) audio_voice_stop(m->voice);
    update_irq(a);
}

/* Run or not, as the registers say. */
static void update(struct master *m)
{
    if (running(m))
        audio_voice_start(m->voice, rate_of(m->card, m));
    else
        audio_voice_stop(m->voice);
    update_irq(m->card);
}

static void master_reset(struct master *m)
{
    audio_voice_stop(m->voice);
    m->bdbar = m->addr = 0;
    m->civ = m->lvi = m->piv = m->cr = 0;
    m->sr = SR_DCH;
    m->picb = m->flags = 0;
    m->loaded = false;
}

static void write_cr(struct master *m, u8 value)
{
    if (value & CR_RR) {
        /* [ICH] 13.2.7: only while it does not run; the interrupt enables stay */
        if (m->cr & CR_RPBM) return;
        u8 enables = m->cr & (CR_LVBIE | CR_FEIE | CR_IOCE);
        master_reset(m);
        m->cr = enables;
        return;
    }
    bool started = (value & CR_RPBM) && !(m->cr & CR_RPBM);
    m->cr = value & 0x1d;
    if (started) {
        if (!m->loaded) next(m); /* else it was paused */
        m->sr &= (u8) ~(SR_DCH | SR_CELV);
    }
    if (!(value & CR_RPBM)) m->sr |= SR_DCH;
}

static void write_lvi(struct master *m, u8 value)
{
    m->lvi = value % BUFFERS;
    /* New buffers for a master that has run out of them. */
    if ((m->cr & CR_RPBM) && (m->sr & SR_DCH) && (m->sr & SR_CELV)) {
        m->sr &= (u8) ~(SR_DCH | SR_CELV);
        next(m);
    }
}

/* ---- NABM ---- */

static u8 master_byte(const struct master *m, unsigned at)
{
    switch (at) {
    case CIV: return m->civ;
    case LVI: return m->lvi;
    case SR: return m->sr;
    case PICB: return (u8)m->picb;
    case PICB + 1: return (u8)(m->picb >> 8);
    case PIV: return m->piv;
    case CR: return m->cr;
    default: return at < 4 ? (u8)(m->bdbar >> (8 * at)) : 0;
    }
}

static u64 nabm_read(void *opaque, u64 offset, unsigned size)
{
    struct ac97 *a = opaque;
    u32 value = 0;
    if (offset < 16 * MASTERS && (offset & 15) < 12) {
        struct master *m = &a->master[offset / 16];
        audio_voice_sync(m->voice);
        for (unsigned i = 0; i < size; i++) value |= (u32)master_byte(m, (offset & 15) + i) << (8 * i);
        return value;
    }
    if (offset == CAS) {
        value = a->cas;
        a->cas = true; /* the reader has it; a codec access gives it back [ICH] 13.2.10 */
        return value;
    }
    unsigned at = offset & ~3u;
    value = at == GLOB_CNT ? a->glob_cnt : at == GLOB_STA ? global_status(a) : 0;
    return value >> (8 * (offset & 3));
}

static void codec_reset(struct ac97 *a);

static void write_glob_cnt(struct ac97 *a, u32 value)
{
    if ((a->glob_cnt & GC_COLD) && !(value & GC_COLD)) {
        for (unsigned i = 0; i < MASTERS; i++) master_reset(&a->master[i]);
        codec_reset(a);
    }
    a->glob_cnt = value & GC_MASK & ~(u32)GC_WARM; /* a warm reset is over at once */
}

static void master_write(struct master *m, unsigned at, u8 value)
{
    audio_voice_sync(m->voice);
    switch (at) {
    case LVI: write_lvi(m, value); break;
    case SR: m->sr &= (u8)~(value & SR_W1C); break;
    case CR: write_cr(m, value); break;
    case CIV:
    case PICB:
    case PICB + 1:
    case PIV: break; /* read-only */
    default: /* BDBAR, where bits 2 to 0 are zero */
        if (at >= 4) break;
        m->bdbar = (m->bdbar & ~(0xffu << (8 * at))) | (u32)value << (8 * at);
        m->bdbar &= ~7u;
        break;
    }
    update(m);
}

static void nabm_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct ac97 *a = opaque;
    if (offset < 16 * MASTERS && (offset & 15) < 12) {
        for (unsigned i = 0; i < size; i++) master_write(&a->master[offset / 16], (offset & 15) + i, (u8)(value >> (8 * i)));
        return;
    }
    if (offset == CAS) a->cas = value & 1;
    if (offset == GLOB_CNT) write_glob_cnt(a, (u32)value);
    update_irq(a);
}

/* ---- the codec ---- */

static void codec_reset(struct ac97 *a)
{
    memset(a->mixer, 0, sizeof(a->mixer));
    static const struct {
        u8 at;
        u16 value;
    } defaults[] = {
        {MIX_MASTER, 0x8000}, {MIX_HEADPHONE, 0x8000}, {MIX_MONO, 0x8000}, {MIX_PHONE, 0x8008}, {MIX_MIC, 0x8008},
        {MIX_LINE, 0x8808}, {MIX_CD, 0x8808}, {MIX_VIDEO, 0x8808}, {MIX_AUX, 0x8808}, {MIX_PCM, 0x8808},
        {MIX_GAIN, 0x8000}, {MIX_POWER, 0x000f}, /* all parts ready */
        {MIX_EXT_ID, EXT_VRA | EXT_VRM}, {MIX_PCM_RATE, FIXED_RATE}, {MIX_IN_RATE, FIXED_RATE},
        {MIX_MIC_RATE, FIXED_RATE}, {MIX_VENDOR1, 0x8384}, {MIX_VENDOR2, 0x7600}, /* a SigmaTel STAC9700 */
    };
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) a->mixer[defaults[i].at / 2] = defaults[i].value;
}

static u64 nam_read(void *opaque, u64 offset, unsigned size)
{
    struct ac97 *a = opaque;
    (void)size;
    a->cas = false;
    return a->glob_cnt & GC_COLD ? a->mixer[offset / 2] : 0xffff;
}

/* A volume of five bits; drivers find out by writing six: [AC97] 5.7.2 then has all ones stored. */
static u16 volume(u16 value, bool stereo)
{
    u16 stored = value & (stereo ? 0x9f1f : 0x801f);
    if (value & 0x0020) stored |= 0x001f;
    if (stereo && (value & 0x2000)) stored |= 0x1f00;
    return stored;
}

static void nam_write(void *opaque, u64 offset, u64 written, unsigned size)
{
    struct ac97 *a = opaque;
    u16 value = (u16)written, *r = &a->mixer[offset / 2];
    (void)size;
    a->cas = false;
    if (!(a->glob_cnt & GC_COLD)) return;
    for (unsigned i = 0; i < MASTERS; i++) audio_voice_sync(a->master[i].voice); /* with the volume and rate until now */
    switch (offset) {
    case MIX_RESET: codec_reset(a); break;
    case MIX_MASTER:
    case MIX_HEADPHONE: *r = volume(value, true); break;
    case MIX_MONO: *r = volume(value, false); break;
    case MIX_PHONE: *r = value & 0x801f; break;
    case MIX_MIC: *r = value & 0x805f; break;
    case MIX_LINE:
    case MIX_CD:
    case MIX_VIDEO:
    case MIX_AUX:
    case MIX_PCM: *r = value & 0x9f1f; break;
    case MIX_RECORD: *r = value & 0x0707; break;
    case MIX_GAIN: *r = value & 0x8f0f; break;
    case MIX_GENERAL: *r = value & 0x0380; break;
    case MIX_POWER: *r = (*r & 0x000f) | (value & 0xff00); break;
    case MIX_EXT_CTL:
        *r = value & (EXT_VRA | EXT_VRM);
        /* Without variable rates the registers go back to 48 kHz [AC97] A.2.1. */
        if (!(value & EXT_VRA)) a->mixer[MIX_PCM_RATE / 2] = a->mixer[MIX_IN_RATE / 2] = FIXED_RATE;
        if (!(value & EXT_VRM)) a->mixer[MIX_MIC_RATE / 2] = FIXED_RATE;
        break;
    case MIX_PCM_RATE:
    case MIX_IN_RATE:
    case MIX_MIC_RATE:
        if (a->mixer[MIX_EXT_CTL / 2] & (offset == MIX_MIC_RATE ? EXT_VRM : EXT_VRA))
            *r = (u16)MIN(MAX(value, 4000u), FIXED_RATE); /* the nearest rate that there is is stored */
        break;
    default: break; /* read-only, or not there */
    }
    for (unsigned i = 0; i < MASTERS; i++) update(&a->master[i]);
}

static const struct region_ops nam_ops = {nam_read, nam_write, 2, 2};
static const struct region_ops nabm_ops = {nabm_read, nabm_write, 1, 4};

/* ---- life ---- */

static void ac97_reset(struct device *d)
{
    struct ac97 *a = (struct ac97 *)d;
    pci_device_reset(&a->pci);
    a->glob_cnt = 0;
    a->cas = false;
    for (unsigned i = 0; i < MASTERS; i++) master_reset(&a->master[i]);
    codec_reset(a);
    update_irq(a);
}

static void ac97_destroy(struct device *d)
{
    struct ac97 *a = (struct ac97 *)d;
    for (unsigned i = 0; i < MASTERS; i++) audio_voice_destroy(a->master[i].voice);
    pci_device_destroy(&a->pci);
    free(a);
}

static const struct device_class class = {.name = "AC97", .reset = ac97_reset, .destroy = ac97_destroy};
static const struct pci_info info = {
    .vendor = 0x8086, .device = 0x2415, .revision = 1, .class_code = 0x040100, .interrupt_pin = 1};

struct device *ac97_create(struct pci_bus *pci, int devfn, struct audio *audio)
{
    struct ac97 *a = calloc(1, sizeof(*a));
    if (!a) {
        fprintf(stderr, "calque: AC97: out of memory\n");
        return NULL;
    }
    if (pci_device_init(&a->pci, pci, devfn, &info, &class) < 0) {
        free(a);
        return NULL;
    }
    a->audio = audio;
    for (unsigned i = 0; i < MASTERS; i++) {
        struct master *m = &a->master[i];
        m->card = a;
        if ((m->voice = audio_voice_create(audio, fill, m))) continue;
        ac97_destroy(&a->pci.dev);
        return NULL;
    }
    pci_add_bar(&a->pci, 0, PCI_BAR_IO, NAM_SIZE, "ac97-mixer", &nam_ops, a);
    pci_add_bar(&a->pci, 1, PCI_BAR_IO, NABM_SIZE, "ac97-master", &nabm_ops, a);
    ac97_reset(&a->pci.dev);
    return &a->pci.dev;
}

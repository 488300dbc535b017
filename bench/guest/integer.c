/* Integer work: what compilers, compressors and interpreters spend their time on. */
#include "item.h"

#include <string.h>

/* CRC-32 over 64 KiB, a table look-up for each byte. */
static uint64_t crc(unsigned rounds)
{
    static uint32_t table[256];
    static uint8_t text[65536];
    uint32_t state = 1, sum = 0;
    for (unsigned i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) {
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
        }
        table[i] = value;
    }
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)item_random(&state);
    }
    while (rounds--) {
        for (size_t i = 0; i < sizeof text; i++) {
            sum = sum >> 8 ^ table[(sum ^ text[i]) & 0xff];
        }
    }
    return sum;
}

static void quicksort(uint32_t *from, uint32_t *to)
{
    while (to - from > 1) {
        uint32_t pivot = from[(to - from) / 2], *low = from, *high = to - 1;
        while (low <= high) {
            while (*low < pivot) {
                low++;
            }
            while (*high > pivot) {
                high--;
            }
            if (low <= high) {
                uint32_t value = *low;
                *low++ = *high;
                *high-- = value;
            }
        }
        quicksort(from, high + 1);
        from = low;
    }
}

/* Quicksort of 16,384 words. */
static uint64_t sort(unsigned rounds)
{
    static uint32_t words[16384];
    uint32_t state = 7;
    uint64_t sum = 0;
    while (rounds--) {
        for (unsigned i = 0; i < 16384; i++) {
            words[i] = item_random(&state);
        }
        quicksort(words, words + 16384);
        sum += words[0] ^ words[8192];
    }
    return sum;
}

/* A hash table with open addressing: insertions, look-ups that hit and miss. */
static uint64_t hash(unsigned rounds)
{
    static struct slot {
        uint32_t key, count;
    } slots[65536];
    uint32_t state = 99;
    uint64_t sum = 0;
    while (rounds--) {
        memset(slots, 0, sizeof slots);
        for (unsigned i = 0; i < 200000; i++) {
            uint32_t key = item_random(&state) & 0xffff;
            uint32_t at = key * 2654435761u >> 16;
            key |= 0x10000;
            while (slots[at].key && slots[at].key != key) {
                at = (at + 1) & 0xffff;
            }
            slots[at].key = key;
            sum += ++slots[at].count;
        }
    }
    return sum;
}

/* Eratosthenes, a bit for each number below a million. */
static uint64_t sieve(unsigned rounds)
{
    enum { LIMIT = 1000000 };
    static uint32_t composite[LIMIT / 32 + 1];
    uint64_t sum = 0;
    while (rounds--) {
        memset(composite, 0, sizeof composite);
        for (unsigned i = 2; i < LIMIT; i++) {
            if (composite[i / 32] >> i % 32 & 1) {
                continue;
            }
            sum++;
            for (unsigned k = i * 2; k < LIMIT; k += i) {
                composite[k / 32] |= 1u << k % 32;
            }
        }
    }
    return sum;
}

/* Shifts, rotations, masks, scans: the bits of a word counted, reversed and searched. */
static uint64_t bits(unsigned rounds)
{
    uint32_t state = 5;
    uint64_t sum = 0;
    while (rounds--) {
        for (unsigned i = 0; i < 1000; i++) {
            uint32_t x = item_random(&state), n = x;
            n -= n >> 1 & 0x55555555;
            n = (n & 0x33333333) + (n >> 2 & 0x33333333);
            n = ((n + (n >> 4)) & 0x0f0f0f0f) * 0x01010101 >> 24;
            uint32_t r = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
            r = (r >> 2 & 0x33333333) | (r & 0x33333333) << 2;
            r = __builtin_bswap32((r >> 4 & 0x0f0f0f0f) | (r & 0x0f0f0f0f) << 4);
            sum += n + (r << (x & 31) | r >> (-x & 31)) + (uint32_t)__builtin_ctz(x) +
                   (uint32_t)__builtin_clz(x);
        }
    }
    return sum;
}

/* SHA-256's compression function [FIPS 180-4, 6.2.2], with constants that are random here: the work is the
 * same. */
static uint64_t sha256(unsigned rounds)
{
#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
    static uint32_t constant[64];
    uint32_t state = 3, h[8], w[64];
    for (int i = 0; i < 64; i++) {
        constant[i] = item_random(&state);
    }
    for (int i = 0; i < 8; i++) {
        h[i] = item_random(&state);
    }
    while (rounds--) {
        for (int i = 0; i < 16; i++) {
            w[i] = h[i & 7] + (uint32_t)i;
        }
        for (int i = 16; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (ROTATE(a, 7) ^ ROTATE(a, 18) ^ a >> 3) + w[i - 7] +
                   (ROTATE(b, 17) ^ ROTATE(b, 19) ^ b >> 10);
        }
        uint32_t v[8];
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t one = v[7] + (ROTATE(v[4], 6) ^ ROTATE(v[4], 11) ^ ROTATE(v[4], 25)) +
                           ((v[4] & v[5]) ^ (~v[4] & v[6])) + constant[i] + w[i];
            uint32_t two = (ROTATE(v[0], 2) ^ ROTATE(v[0], 13) ^ ROTATE(v[0], 22)) +
                           ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof v[0]);
            v[4] += one;
            v[0] = one + two;
        }
        for (int i = 0; i < 8; i++) {
            h[i] += v[i];
        }
    }
    return h[0];
#undef ROTATE
}

/* Division and remainder, 32 and 64 bits, signed and unsigned. */
static uint64_t divide(unsigned rounds)
{
    uint32_t state = 11;
    uint64_t sum = 0;
    while (rounds--) {
        for (unsigned i = 0; i < 1000; i++) {
            uint32_t a = item_random(&state), b = item_random(&state) >> 12 | 1;
            int64_t c = (int64_t)((uint64_t)a << 24 | b);
            sum += a / b + a % b + (uint64_t)(c / (int32_t)(b | 3)) + (uint64_t)((int32_t)a % (int32_t)b);
        }
    }
    return sum;
}

/* Text byte by byte: words split, their lengths and values taken, compared with the one before. */
static uint64_t text(unsigned rounds)
{
    static char buffer[32768];
    uint32_t state = 21;
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof buffer - 1; i++) {
        uint32_t random = item_random(&state) % 14;
        buffer[i] = random < 10 ? (char)('0' + random) : random < 12 ? ' ' : (char)('a' + (i & 15));
    }
    while (rounds--) {
        const char *last = "", *at = buffer;
        while (*at) {
            const char *word = at;
            uint32_t value = 0;
            while (*at && *at != ' ') {
                value = value * 10 + (uint32_t)(*at++ - '0');
            }
            const char *a = word, *b = last;
            while (a < at && *a == *b) {
                a++, b++;
            }
            sum += value + (uint64_t)(at - word) * (uint64_t)(*a > *b);
            last = word;
            while (*at == ' ') {
                at++;
            }
        }
    }
    return sum;
}

const struct item integer_items[] = {
    {"integer", "crc", crc, 3000, NULL},
    {"integer", "sort", sort, 350, NULL},
    {"integer", "hash", hash, 350, NULL},
    {"integer", "sieve", sieve, 180, NULL},
    {"integer", "bits", bits, 100000, NULL},
    {"integer", "sha256", sha256, 700000, NULL},
    {"integer", "divide", divide, 60000, NULL},
    {"integer", "text", text, 8000, NULL},
    {NULL, NULL, NULL, 0, NULL},
};

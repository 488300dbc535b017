/* rom_pack IN OUT.bin OUT.c SYMBOL: finish an expansion ROM image at build time.
 *
 * Pads to 512-byte units, fills in the length byte, the checksum of the Plug and Play header and the checksum of the
 * whole (its last byte), and writes the image and a C array of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROM_MAX (64 * 1024)

static unsigned char sum(const unsigned char *p, size_t n)
{
    unsigned char total = 0;
    while (n--) total = (unsigned char)(total + *p++);
    return total;
}

static int fail(const char *what, const char *name)
{
    fprintf(stderr, "rom_pack: %s: %s\n", name, what);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static unsigned char rom[ROM_MAX];
    if (argc != 5) return fail("usage: rom_pack IN OUT.bin OUT.c SYMBOL", "arguments");

    FILE *in = fopen(argv[1], "rb");
    if (!in) return fail("cannot open", argv[1]);
    size_t size = fread(rom, 1, sizeof(rom), in);
    fclose(in);
    if (size < 0x40 || rom[0] != 0x55 || rom[1] != 0xaa) return fail("not an expansion ROM", argv[1]);

    size_t padded = (size + 1 + 511) / 512 * 512; /* at least one byte for the checksum */
    if (padded > ROM_MAX) return fail("too large", argv[1]);
    rom[2] = (unsigned char)(padded / 512);

    size_t pnp = rom[0x1a] | (size_t)rom[0x1b] << 8;
    if (pnp + 0x20 > size || memcmp(rom + pnp, "$PnP", 4)) return fail("no Plug and Play header", argv[1]);
    size_t pnp_size = rom[pnp + 5] * 16u;
    rom[pnp + 9] = (unsigned char)-sum(rom + pnp, pnp_size);
    rom[padded - 1] = (unsigned char)-sum(rom, padded);

    FILE *out = fopen(argv[2], "wb");
    if (!out || fwrite(rom, 1, padded, out) != padded || fclose(out)) return fail("cannot write", argv[2]);

    out = fopen(argv[3], "w");
    if (!out) return fail("cannot write", argv[3]);
    fprintf(out, "/* Generated from %s.S */\n#include \"machine/roms.h\"\n\nconst u8 %s[] = {", argv[4], argv[4]);
    for (size_t i = 0; i < padded; i++) fprintf(out, "%s0x%02x,", i % 16 ? " " : "\n    ", rom[i]);
    fprintf(out, "\n};\nconst size_t %s_size = sizeof(%s);\n", argv[4], argv[4]);
    return fclose(out) ? fail("cannot write", argv[3]) : EXIT_SUCCESS;
}

/* The address window both sides share: which pages are mapped, and what the selectors mean. */
#include "oracle.h"

#include <string.h>

enum page_kind window_page(unsigned page)
{
    unsigned off = page * GUEST_PAGE_SIZE;
    if (off >= CODE_OFF && off < CODE_OFF + CODE_SIZE) return PAGE_RWX;
    if (off >= DATA_OFF && off < DATA_OFF + DATA_SIZE) return PAGE_RW;
    if (off == RO_OFF) return PAGE_RO;
    if (off >= STACK_OFF && off < STACK_OFF + STACK_SIZE) return PAGE_RW;
    return PAGE_NONE;
}

int image_offset(unsigned window_offset)
{
    int image = 0;
    if (window_offset >= WINDOW_SIZE) return -1;
    for (unsigned p = 0; p < window_offset / GUEST_PAGE_SIZE; p++)
        if (window_page(p) != PAGE_NONE) image += (int)GUEST_PAGE_SIZE;
    if (window_page(window_offset / GUEST_PAGE_SIZE) == PAGE_NONE) return -1;
    return image + (int)(window_offset % GUEST_PAGE_SIZE);
}

unsigned image_to_window(unsigned image_off)
{
    unsigned left = image_off / GUEST_PAGE_SIZE;
    for (unsigned p = 0; p < WINDOW_PAGES; p++) {
        if (window_page(p) == PAGE_NONE) continue;
        if (left-- == 0) return p * GUEST_PAGE_SIZE + image_off % GUEST_PAGE_SIZE;
    }
    return WINDOW_SIZE;
}

void window_fill(u8 *window, const u8 *image)
{
    for (unsigned p = 0; p < WINDOW_PAGES; p++) {
        if (window_page(p) == PAGE_NONE) continue;
        memcpy(window + p * GUEST_PAGE_SIZE, image, GUEST_PAGE_SIZE);
        image += GUEST_PAGE_SIZE;
    }
}

void window_put_code(u8 *window, const struct oracle_case *c) { memcpy(window + c->code_off, c->code, c->code_len); }

void window_collect(u8 *window, const u8 *image, const struct oracle_case *c, struct oracle_result *r)
{
    u8 *code = window + c->code_off;
    const bool patched = r->patched = memcmp(code, c->code, c->code_len) != 0;
    if (!patched) memcpy(code, image + image_offset(c->code_off), c->code_len);
    r->changed = 0;
    for (unsigned p = 0, n = 0; p < WINDOW_PAGES; p++) {
        const enum page_kind kind = window_page(p);
        if (kind == PAGE_NONE) continue;
        const size_t at = n++ * (size_t)GUEST_PAGE_SIZE;
        u8 *page = window + p * GUEST_PAGE_SIZE;
        if (!(patched && kind == PAGE_RWX) && memcmp(page, image + at, GUEST_PAGE_SIZE) == 0) continue;
        r->changed |= 1u << (n - 1);
        memcpy(r->image + at, page, GUEST_PAGE_SIZE);
        memcpy(page, image + at, GUEST_PAGE_SIZE);
    }
}

bool result_same_memory(const struct oracle_result *a, const struct oracle_result *b)
{
    if (a->changed != b->changed) return false;
    for (unsigned n = 0; n < IMAGE_PAGES; n++) {
        const size_t at = n * (size_t)GUEST_PAGE_SIZE;
        if (a->changed >> n & 1 && memcmp(a->image + at, b->image + at, GUEST_PAGE_SIZE) != 0) return false;
    }
    return true;
}

void result_complete(struct oracle_result *r, const u8 *image, const struct oracle_case *c)
{
    for (unsigned n = 0; n < IMAGE_PAGES; n++) {
        if (r->changed >> n & 1) continue;
        const unsigned at = n * GUEST_PAGE_SIZE, end = at + GUEST_PAGE_SIZE, code = (unsigned)image_offset(c->code_off);
        const unsigned from = MAX(at, code), to = MIN(end, code + c->code_len);
        memcpy(r->image + at, image + at, GUEST_PAGE_SIZE);
        if (from < to) memcpy(r->image + from, c->code + (from - code), to - from);
    }
    r->changed = (1u << IMAGE_PAGES) - 1;
}

u64 selector_base(u16 selector) { return selector & 4 ? WINDOW : 0; }

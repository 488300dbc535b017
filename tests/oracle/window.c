/* The address window both sides share: which pages are mapped, and what the selectors mean. */
#include "oracle.h"

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

u64 selector_base(u16 selector) { return selector & 4 ? WINDOW : 0; }

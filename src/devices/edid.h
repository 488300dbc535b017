/* What a monitor says about itself: the base block of an EDID. */
#ifndef DEVICES_EDID_H
#define DEVICES_EDID_H

#include "core/types.h"

#define EDID_SIZE    128u
#define EDID_MAX_RES 4095 /* what a detailed timing has bits for */

/* A monitor that prefers xres by yres at 60 Hz; other modes up to xmax by ymax, 0: any. */
void edid_make(u8 edid[EDID_SIZE], unsigned xres, unsigned yres, unsigned xmax, unsigned ymax);

#endif

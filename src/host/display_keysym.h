/* Keysyms, as VNC clients send them, to keys of a guest that believes in a US keyboard. */
#ifndef HOST_DISPLAY_KEYSYM_H
#define HOST_DISPLAY_KEYSYM_H

#include "core/input.h"

/* A key of the client's moves. Characters that need another state of the shift keys than they are in get it. */
void display_keysym(struct input *in, u32 keysym, bool down);

#endif

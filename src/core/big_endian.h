/* Numbers whose highest byte comes first, as networks and SCSI have them. */
#ifndef CORE_BIG_ENDIAN_H
#define CORE_BIG_ENDIAN_H

#include "core/types.h"

static inline u16 be_get16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }
static inline u32 be_get32(const u8 *p) { return (u32)be_get16(p) << 16 | be_get16(p + 2); }
static inline void be_put16(u8 *p, u32 value)
{
    p[0] = (u8)(value >> 8);
    p[1] = (u8)value;
}
static inline void be_put32(u8 *p, u32 value)
{
    be_put16(p, value >> 16);
    be_put16(p + 2, value);
}

#endif

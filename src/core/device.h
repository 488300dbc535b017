/* What every device model has in common, so that the machine can reset and remove it. */
#ifndef CORE_DEVICE_H
#define CORE_DEVICE_H

#include "core/types.h"

struct device;

struct device_class {
    const char *name;                 /* as in logs and `info qtree` */
    void (*reset)(struct device *d);  /* to the state after power-on; also called once by the machine */
    void (*destroy)(struct device *d);
};

/* First member of each device's private struct. x_create() returns struct device *, or a pointer to an
 * opaque struct x when the device has methods of its own; then x_device(x) gives this part. */
struct device {
    const struct device_class *cls;
    struct device *next; /* the machine's list, in creation order */
};

#endif

/* USB keyboard, mouse and tablet. */
#ifndef DEVICES_USB_HID_H
#define DEVICES_USB_HID_H

#include "core/clock.h"
#include "core/input.h"
#include "devices/usb.h"

enum usb_hid_kind { USB_HID_KEYBOARD, USB_HID_MOUSE, USB_HID_TABLET };

/* Gets its events from the router once the guest reads them. NULL with a message. */
struct usb_device *usb_hid_create(enum usb_hid_kind kind, struct clock *clock, struct input *input);

#endif

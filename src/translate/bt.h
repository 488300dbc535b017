/* The binary translator as an engine: -accel bt. */
#ifndef TRANSLATE_BT_H
#define TRANSLATE_BT_H

#include "cpu/engine.h"

extern const struct engine_ops bt_engine;

#endif

/* The face of floor 1: slices, memory, errors, steps, text codecs, logging, the door to the operating system. */
#ifndef YARILO_BASE_BASE_H
#define YARILO_BASE_BASE_H

#include "base/slice.h"
#include "base/mem.h"
#include "base/error.h"
#include "base/step.h"
#include "base/text.h"
#include "base/log.h"
#include "base/os.h"
#include "base/os_map.h"

#endif

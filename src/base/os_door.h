/* Inside of the door: every mutating call of os*.c is made between os_door_enter and os_door_leave. Private. */
#ifndef YARILO_BASE_OS_DOOR_H
#define YARILO_BASE_OS_DOOR_H

#include "base/os.h"

enum os_door { OS_DOOR_GO, OS_DOOR_FAIL, OS_DOOR_SHORT };

/* Counts the call (event->call) and numbers the event. FAIL: errno is set, the call is not to be made. SHORT: at most *keep bytes are to be written, then
 * the call fails with *err (only for calls that write). */
enum os_door os_door_enter(struct os_event *, size_t *keep, int *err);
/* Tells the trace, and ends the process if the fault says so; keeps errno. Returns event->err == 0 ? 0 : -1. */
int os_door_leave(struct os_event *);
/* Faults are armed: the sync pool runs inline, so that call N is the same one each time. */
bool os_door_armed(void);

#endif

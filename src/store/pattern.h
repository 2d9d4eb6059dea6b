/* LIST patterns ('*' and '%', RFC 3501 section 6.3.8), compiled once, matched in time linear in the name. */
#ifndef YARILO_STORE_PATTERN_H
#define YARILO_STORE_PATTERN_H

#include "base/base.h"

struct mailbox_pattern;
/* inbox: "inbox" at the beginning matches in any case. */
struct mailbox_pattern *mailbox_pattern_new(struct arena *, struct slice pattern, char separator, bool inbox);
bool mailbox_pattern_run(const struct mailbox_pattern *, struct slice name);

#endif

#!/usr/bin/env python3
"""A lower floor never includes a higher one (docs/architecture.md "Floors").

usage: floors.py TOP     prints each include that breaks the rule; exit 1 if there is one.
"""
import os
import re
import sys

from files import lines, source_files

FLOORS = [
    ["base"],
    ["net", "mime", "smtp", "conf"],
    ["rpc", "index", "sql"],
    ["store"],
    ["sieve", "fts", "auth", "dict", "anvil", "locks", "stats", "log"],
    ["imap", "pop3", "lmtp", "migrate", "submission", "managesieve", "jmap", "login", "dispatch", "indexer", "urlauth", "director", "monitor", "admin",
     "replicator"],
    ["master"],
]
FLOOR = {folder: number for number, folders in enumerate(FLOORS, 1) for folder in folders}

# Neighbours on one floor know nothing of each other, but for these, each with its reason.
SAME_FLOOR = {
    ("sieve", "dict"),      # duplicate, vacation and extdata keep state in a dict
    ("urlauth", "imap"),    # what a URL means is said once
    ("urlauth", "login"), ("urlauth", "dispatch"),  # a login as every other, and a process that becomes a user
    ("net", "conf"),        # TLS contexts are made from ssl_* settings
}
# The dialect of Dovecot's configuration is known only to these programs; others get a compiled snapshot (decision 8).
MAY_INCLUDE_COMPAT = {"compat", "doveadm-compat"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def house_of(name):
    """The folder that a file lives in, as it appears in includes."""
    parts = name.split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return parts[0] if parts[0] in ("compat", "doveadm-compat") else None


def fault(me, other):
    if other in ("compat", "doveadm-compat"):
        return None if me in MAY_INCLUDE_COMPAT else "only compat/ and doveadm-compat/ may"
    if me in MAY_INCLUDE_COMPAT:
        return None
    if other not in FLOOR:
        return f"{other} has no floor; give it one in tests/house/floors.py"
    if me not in FLOOR:
        return f"{me} has no floor; give it one in tests/house/floors.py"
    if FLOOR[other] < FLOOR[me] or other == me or (me, other) in SAME_FLOOR:
        return None
    return f"{me} is on floor {FLOOR[me]}, {other} on floor {FLOOR[other]}"


def main(top):
    known = set(FLOOR) | {"compat", "doveadm-compat"}
    known |= {d for d in os.listdir(os.path.join(top, "src")) if os.path.isdir(os.path.join(top, "src", d))}
    seen = faults = 0
    for name in source_files(top):
        me = house_of(name)
        if me is None or not name.endswith((".c", ".h")):
            continue
        for number, line in enumerate(lines(top, name), 1):
            match = INCLUDE.match(line)
            other = match and match[1].split("/")[0]
            if not match or "/" not in match[1] or other not in known:
                continue
            seen += 1
            why = fault(me, other)
            if why:
                faults += 1
                print(f"{name}:{number}: includes {match[1]}: {why}")
    print(f"{seen} includes between folders looked at, {faults} faults")
    return 1 if faults or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

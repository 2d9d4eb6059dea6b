#!/usr/bin/env python3
"""The source speaks of itself: no paths of one machine, no unfinished places, no sleeps in tests, no secrets compared by memcmp.

usage: words.py TOP
"""
import re
import sys

from files import lines, source_files

# (where, what, why); the classes in brackets keep this file from finding itself.
RULES = [
    (r"", r"(^|[^a-z])/[w]ork/[a-z.]+|/[t]mp/bash_|(^|[\s\"'=(])/[h]ome/[a-z]+/", "a path of one machine"),
    (r"^(src|compat|doveadm-compat|imaptest|pigeonhole-tests)/.*\.[ch]$",
     r"\b([T]ODO|[F]IXME|[X]XX|[H]ACK)\b|\b[n]ot (yet )?implemented\b|\b[u]nimplemented\b",
     "unfinished: finish it, or list it in docs/compatibility.md"),
    (r"^tests/.*\.(c|sh|py)$", r"(^|[^a-z_.])(u?[s]leep|time\.[s]leep)[ (]+[0-9.]+",
     "a sleep: wait for the event instead"),
    (r"^src/.*\.c$", r"\b(memcmp|strn?cmp|slice_(equal|compare))\([^\"]*\b(password|secret|cookie|ticket|stored|verifier)\b",
     "the time that this takes tells of a secret: slice_equal_secret"),
]
# User names in examples of mail paths are not machines'.
ALLOWED = re.compile(r"/[h]ome/(user|vmail|%[a-z]|alice|bob|joe)/")
SKIP = re.compile(r"^(tests/(golden|recordings|conf|imap|lmtp|mime)/|fuzz/(seeds|crashers)/)|\.(eml|json|db|xz|png)$")


def main(top):
    rules = [(re.compile(where), re.compile(what), why) for where, what, why in RULES]
    seen = faults = 0
    for name in source_files(top):
        if SKIP.search(name):
            continue
        active = [(what, why) for where, what, why in rules if where.search(name)]
        for number, line in enumerate(lines(top, name), 1):
            seen += 1
            for what, why in active:
                if what.search(ALLOWED.sub("", line)):
                    faults += 1
                    print(f"{name}:{number}: {why}: {line.strip()[:120]}")
    print(f"{seen} lines looked at, {faults} faults")
    return 1 if faults or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

#!/usr/bin/env python3
"""Reads what `strace -f -y` saw of a server and checks that nothing was acknowledged before it was on disk.

usage: durable.py TRACE COUNT REGEX

An acknowledgement is a write to a socket whose text matches REGEX. Since the one before it, and finished before it began:
a file's sync, then its link or rename into new/ or cur/, then the sync of that folder. COUNT acknowledgements are expected, and
each needs a file of its own. Exit 1, with the events in between, where one is missing.
"""
import re
import sys

CALL = re.compile(r"^(\d+) +([a-z0-9_]+)\((.*)\) += (-?\d+|\?)")
UNFINISHED = re.compile(r"^(\d+) +([a-z0-9_]+)\((.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. ([a-z0-9_]+) resumed>(.*)\) += (-?\d+|\?)")
FD_PATH = re.compile(r"^\d+<([^>]*)>")
NAMES = re.compile(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


def events(path):
    """(call, arguments, result): a call that finishes counts where it finishes, an answer where it begins."""
    pending = {}
    with open(path, errors="replace") as src:
        for line in src:
            line = line.rstrip("\n")
            found = CALL.match(line)
            if found:
                yield found[2], found[3], found[4]
                continue
            found = UNFINISHED.match(line)
            if found:
                if is_write(found[2]):
                    yield found[2], found[3], "0"
                else:
                    pending[found[1]] = found[3]
                continue
            found = RESUMED.match(line)
            if found and not is_write(found[2]):
                yield found[2], pending.pop(found[1], "") + found[3], found[4]


def is_write(call):
    return call in ("write", "writev", "sendto", "sendmsg")


def full_names(args):
    names = []
    for folder, name in NAMES.findall(args):
        names.append(name if name.startswith("/") or not folder else folder + "/" + name)
    return names


def main(path, count, pattern):
    answer = re.compile(pattern)
    synced, named, folders, seen, answers, faults = set(), {}, set(), [], 0, 0
    for call, args, result in events(path):
        if call in ("fsync", "fdatasync") and result == "0":
            name = FD_PATH.match(args)
            if name and re.search(r"/(new|cur)$", name[1]):
                folders.add(name[1])
                seen.append("folder synced: " + name[1])
            elif name:
                synced.add(name[1].removesuffix(" (deleted)"))
                seen.append("file synced: " + name[1])
        elif call in ("rename", "renameat", "renameat2", "link", "linkat") and result == "0":
            names = full_names(args)
            folder = re.match(r"(.*/(?:new|cur))/[^/]+$", names[-1]) if len(names) == 2 else None
            if folder:
                named[names[1]] = (names[0] in synced, folder[1])
                folders.discard(folder[1])
                seen.append("%s named %s" % tuple(names))
        elif is_write(call) and answer.search(args):
            answers += 1
            if not any(was_synced and folder in folders for was_synced, folder in named.values()):
                faults += 1
                print("answer %d came too early: %s" % (answers, args[:100]))
                print("\n".join("    " + text for text in seen))
            synced, named, folders, seen = set(), {}, set(), []
    if answers != count:
        print("%d answers, %d expected" % (answers, count))
    print("%d answers, %d too early" % (answers, faults))
    return 1 if faults or answers != count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))

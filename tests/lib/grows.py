#!/usr/bin/env python3
"""Waits until a file has so many lines: grows.py FILE LINES. Exit 1 after a minute."""
import sys
import time

POLL = 0.01


def lines(path):
    try:
        with open(path, "rb") as src:
            return src.read().count(b"\n")
    except OSError:
        return 0


def main(path, wanted):
    end = time.monotonic() + 60
    while lines(path) < wanted:
        if time.monotonic() > end:
            print("grows: %s has %d lines of %d" % (path, lines(path), wanted), file=sys.stderr)
            return 1
        time.sleep(POLL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))

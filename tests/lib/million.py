#!/usr/bin/env python3
"""A mailbox of a million messages, and what it costs.

usage: million.py fill HOST PORT                 three messages in INBOX, one after the other
       million.py grow INDEX_FILE COUNT        adds records to a base index, all seen; UIDs go on
       million.py talk HOST PORT BOX INDEX_FILE LOG_FILE [append]
                                               SELECT, a flag change and an APPEND: prints what was read and written for each

What a server reads is what read calls return (rchar of its processes), and the pages of the base index that come into the page
cache, from which they were taken before. Where they cannot be taken out, the touched part is not counted: "pages unknown".
"""
import ctypes
import imaplib
import mmap
import os
import struct
import sys

PAGE = mmap.PAGESIZE
MESSAGES, SEEN, NEXT_UID = 32, 40, 28  # of the base header (docs/formats/index.md)


def grow(path, count):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    header_size, size = struct.unpack_from("<II", data, 4)
    messages, = struct.unpack_from("<I", data, MESSAGES)
    next_uid, = struct.unpack_from("<I", data, NEXT_UID)
    seen, = struct.unpack_from("<I", data, SEEN)
    assert len(data) == header_size + messages * size, "another index than expected"
    more = bytearray(size * count)
    uids = b"".join(uid.to_bytes(4, "little") for uid in range(next_uid, next_uid + count))
    for byte in range(4):
        more[byte::size] = uids[byte::4]
    more[4::size] = b"\x08" * count
    struct.pack_into("<I", data, MESSAGES, messages + count)
    struct.pack_into("<I", data, NEXT_UID, next_uid + count)
    struct.pack_into("<I", data, SEEN, seen + count)
    owner = os.stat(path)
    with open(path + ".new", "wb") as file:
        file.write(data + more)
        os.fchmod(file.fileno(), owner.st_mode)
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
    os.rename(path + ".new", path)


class Pages:
    """How much of a file is in the page cache."""

    def __init__(self, path):
        self.file = open(path, "r+b")
        self.size = os.fstat(self.file.fileno()).st_size
        self.whole = mmap.mmap(self.file.fileno(), self.size)  # shared: it touches nothing
        self.known = False

    def drop(self):
        os.fsync(self.file.fileno())
        os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.known = self.resident() == 0

    def resident(self):
        state = (ctypes.c_ubyte * ((self.size + PAGE - 1) // PAGE))()
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.whole))
        if ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(at), ctypes.c_size_t(self.size), state) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(page & 1 for page in state) * PAGE


def io_of(pids):
    total = {}
    for pid in pids:
        with open("/proc/%d/io" % pid) as file:
            for line in file:
                key, value = line.split(": ")
                total[key] = total.get(key, 0) + int(value)
    return total


def imap_workers():
    """Processes of this scene whose program is called imap."""
    pids = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.path.basename(os.readlink("/proc/%s/exe" % pid)) == "imap" and \
                    os.environ["SCENE"].encode() in open("/proc/%s/environ" % pid, "rb").read() + open("/proc/%s/maps" % pid, "rb").read() \
                    + b"".join(os.readlink("/proc/%s/fd/%s" % (pid, fd)).encode() for fd in os.listdir("/proc/%s/fd" % pid)):
                pids.append(int(pid))
        except OSError:
            continue
    return pids


def main():
    if sys.argv[1] == "grow":
        grow(sys.argv[2], int(sys.argv[3]))
        return
    if sys.argv[1] == "fill":
        for _ in range(3):
            session = imaplib.IMAP4(sys.argv[2], int(sys.argv[3]))
            session.login("u1", "pass")
            session.append("INBOX", "\\Seen", None, b"Subject: real\r\n\r\nx\r\n")
            session.select("INBOX")
            session.logout()
        return
    host, port, box, index, log = sys.argv[2:7]
    session = imaplib.IMAP4(host, int(port))
    session.login("u1", "pass")
    session.noop()
    pids = imap_workers()
    assert pids, "no process of the session was found"
    pages = Pages(index)
    pages.drop()

    def measure(what, reply):
        now = io_of(pids)
        print("%s: %s read %d pages %s written %d" % (what, reply[0], now["rchar"] - measure.before["rchar"],
                                                       pages.resident() if pages.known else "unknown",
                                                       now["wchar"] - measure.before["wchar"]))
        measure.before = io_of(pids)

    measure.before = io_of(pids)
    reply = session.select(box)
    measure("SELECT %d, log of %d" % (int(reply[1][0]), os.path.getsize(log)), reply)
    measure("STORE", session.uid("STORE", "2", "+FLAGS", "\\Flagged"))
    if sys.argv[7:]:
        measure("APPEND", session.append(box, None, None, b"Subject: one more\r\n\r\nx\r\n"))
    session.logout()


main()

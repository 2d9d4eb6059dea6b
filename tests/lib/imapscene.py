#!/usr/bin/env python3
"""Scenes of several IMAP connections at a time, against a running server.

usage: imapscene.py slow HOST PORT PID...        clients that ask for a huge FETCH and do not read do not stop others, and
                                                 the memory of the processes PID (and their children) stays bounded
       imapscene.py idle HOST PORT COMMAND...    COMMAND delivers a message to user u; the idling client hears of it
       imapscene.py two HOST PORT                two sessions on one mailbox: who hears what, and when
       imapscene.py fair HOST PORT PID           one session works for long, another one of its worker is answered meanwhile; the
                                                 server below PID cuts slices of three units (YARILO_SLICE_UNITS)
       imapscene.py hostile HOST PORT            malformed input, in pieces and at random: the server goes on answering

Exit 1 with a text when it is not so.
"""
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading

SLOW_CLIENTS, MESSAGES, MESSAGE_SIZE = 8, 100, 1 << 20
GROWTH_MAX = 160 << 20  # of 8 x 100 MiB that would wait without backpressure (ASan keeps freed memory for a while)
HEARD_SECS = 10        # less than the 30 s after which a session without inotify would look by itself


def fail(text):
    sys.exit("imapscene: " + text)


class Imap:
    def __init__(self, host, port, user):
        self.sock = socket.create_connection((host, port), timeout=60)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        self.tag = 0
        self.command("LOGIN %s pass" % user)

    def send(self, text):
        self.sock.sendall(text.encode("latin-1"))

    def line(self):
        got = self.file.readline()
        literal = re.search(rb"\{(\d+)\}\r\n$", got)
        if literal:
            self.file.read(int(literal[1]))
        return got.decode("latin-1").rstrip("\r\n")

    def command(self, text, data=None):
        self.tag += 1
        self.send("t%d %s\r\n" % (self.tag, text))
        lines = []
        while True:
            got = self.line()
            if not got:
                fail("%s: the connection has ended" % text)
            if got.startswith("+") and data is not None:
                self.send(data + "\r\n")
            lines.append(got)
            if got.startswith("t%d " % self.tag):
                if not got.startswith("t%d OK" % self.tag):
                    fail("%s: %s" % (text, got))
                return lines


def processes(roots):
    """The roots and everything below them."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="latin-1") as f:
                    parents.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
            except OSError:
                pass
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += parents.get(pid, [])
    return found


def memory(roots):
    total = 0
    for pid in processes(roots):
        try:
            with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
                total += int(re.search(r"Private_Dirty:\s+(\d+)", f.read())[1]) << 10
        except (OSError, TypeError):
            pass
    return total


def slow(host, port, pids):
    writer = Imap(host, port, "u")
    body = "Subject: big\r\n\r\n" + ("x" * 76 + "\r\n") * (MESSAGE_SIZE // 78)
    for _ in range(MESSAGES):
        writer.command("APPEND INBOX {%d}" % len(body), body)
    clients = []
    other = Imap(host, port, "u")
    other.command("SELECT INBOX")
    before = memory(pids)
    for _ in range(SLOW_CLIENTS):
        c = Imap(host, port, "u")
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.command("SELECT INBOX")
        c.send("x FETCH 1:* BODY.PEEK[]\r\n")
        clients.append(c)
    for c in clients:
        if not c.file.readline().startswith(b"* 1 FETCH"):
            fail("a slow client got no answer at all")
    for _ in range(50):
        other.command("NOOP")
        other.command("FETCH 1:* FLAGS")
    grown = memory(pids) - before
    if grown > GROWTH_MAX:
        fail("memory has grown by %d MiB" % (grown >> 20))
    # What was begun is finished, whole, when the client reads at last.
    got = 0
    while True:
        data = clients[0].sock.recv(1 << 20)
        if not data:
            fail("the slow answer was cut off")
        got += len(data)
        if b"x OK Fetch completed" in data[-200:]:
            break
    if got < MESSAGES * (len(body) - 65536):
        fail("the slow answer is too short: %d bytes" % got)
    print("memory grew by %d KiB" % (grown >> 10))


FAIR_MESSAGES, SLICE, NOOP_SLICES, NOOPS = 200, 3, 20, 20
SO_TIMESTAMPNS, STAMP = 35, struct.Struct("@qq")


class Stamped:
    """What a session hears, with the time at which the server sent it: the kernel's, since this process may look late."""

    def __init__(self, imap):
        self.sock, self.lines, self.rest = imap.sock, [], b""
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        for _ in range(100):  # the kernel begins to stamp a moment later
            imap.send("s NOOP\r\n")
            if self.receive()[1]:
                return
        fail("the kernel gives no time stamps")

    def receive(self):
        data, control, _, _ = self.sock.recvmsg(1 << 16, 256)
        if not data:
            fail("the connection has ended")
        return data, [STAMP.unpack(c[2]) for c in control if c[0] == socket.SOL_SOCKET and c[1] == SO_TIMESTAMPNS]

    def until(self, start):
        while True:
            data, stamps = self.receive()
            self.rest += data
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                self.lines.append((stamps[0], line))
                if line.startswith(start):
                    if b" OK " not in line:
                        fail(line.decode("latin-1"))
                    return stamps[0]


def fair(host, port, pids):
    busy, other = Imap(host, port, "u"), Imap(host, port, "u")
    busy.command("CREATE copies")
    message = "Subject: s%d\r\n\r\n" + "text and more of it\r\n" * 20
    texts = [message % (n * 7919 % 1000) for n in range(FAIR_MESSAGES)]
    busy.send("t APPEND INBOX" + "".join(" {%d+}\r\n%s" % (len(text), text) for text in texts) + "\r\n")
    while not busy.line().startswith("t OK"):
        pass
    busy.command("SELECT INBOX")
    other.command("SELECT copies")
    workers = [pid for pid in processes(pids) if b"imap" == open("/proc/%d/cmdline" % pid, "rb").read().split(b"\0")[0].split(b"/")[-1]]
    if not workers:
        fail("there is no worker")
    a, b = Stamped(busy), Stamped(other)
    for n, command in enumerate(("SEARCH BODY nothing", "SORT (SUBJECT) UTF-8 ALL", "THREAD REFERENCES UTF-8 BODY more", "COPY 1:* copies",
                                 "FETCH 1:* (BODY.PEEK[HEADER])", "STORE 1:* +FLAGS.SILENT (\\Deleted)", "EXPUNGE")):
        a.lines, b.lines = [], []
        for pid in workers:  # both commands lie there when the worker looks
            os.kill(pid, signal.SIGSTOP)
        busy.send("a%d %s\r\n" % (n, command))
        # what changes messages has some steps besides them: several commands, so that their turns are more than those
        other.send("c NOOP\r\n" * (NOOPS if command.startswith(("STORE", "EXPUNGE")) else 0) + "b%d NOOP\r\n" % n)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        answered, done = b.until(b"b%d " % n), a.until(b"a%d " % n)
        if answered >= done:
            fail("NOOP had to wait for the end of " + command)
        before = sum(1 for stamp, line in a.lines if stamp < answered and b" FETCH (" in line)
        if command.startswith("FETCH") and before > NOOP_SLICES * SLICE:
            fail("NOOP had to wait for %d messages of a FETCH" % before)
    print("fair")


def idle(host, port, command):
    c = Imap(host, port, "u")
    c.command("SELECT INBOX")
    for round_ in range(3):
        c.send("i%d IDLE\r\n" % round_)
        if not c.line().startswith("+"):
            fail("IDLE was not begun")
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        c.sock.settimeout(HEARD_SECS)
        try:
            while not c.line().endswith("EXISTS"):
                pass
        except TimeoutError:
            fail("the idling client heard nothing of delivery %d" % (round_ + 1))
        c.sock.settimeout(60)
        c.send("DONE\r\n")
        while not c.line().startswith("i%d OK" % round_):
            pass
    if not any("3 EXISTS" in line for line in c.command("SELECT INBOX")):
        fail("not all deliveries are there")


def expect(lines, *wanted):
    """These untagged lines, in this order, and no others."""
    came = [line for line in lines if line.startswith("* ")]
    if len(came) != len(wanted) or not all(re.fullmatch(w, line) for w, line in zip(wanted, came)):
        fail("expected %s, got %s" % (wanted, came))


def two(host, port):
    a, b = Imap(host, port, "u"), Imap(host, port, "u")
    for text in ("one", "two", "three"):
        a.command("APPEND INBOX {%d}" % len(text), text)
    a.command("SELECT INBOX")
    b.command("SELECT INBOX")
    flags, permanent = r"\* FLAGS \(.* kw\)", r"\* OK \[PERMANENTFLAGS .* kw \\\*\)\] Flags permitted\."
    a.command("STORE 2 +FLAGS (kw \\Deleted)")
    a.command("APPEND INBOX {4}", "four")
    # FETCH: everything but the expunge may be told
    expect(a.command("EXPUNGE"), r"\* 2 EXPUNGE", r"\* [34] RECENT")
    got = b.command("FETCH 1:3 UID")
    expect(got[:3], r"\* 1 FETCH \(UID 1\)", r"\* 2 FETCH \(UID 2\)", r"\* 3 FETCH \(UID 3\)")
    if any("EXPUNGE" in line for line in got):
        fail("EXPUNGE during FETCH: %s" % got)
    if not re.fullmatch(flags, got[3]) or not re.fullmatch(permanent, got[4]):
        fail("no new keywords: %s" % got)
    # SEARCH with the old numbers, then the expunge
    expect([line for line in b.command("SEARCH ALL") if "SEARCH" in line], r"\* SEARCH 1 2 3 4")
    expect([line for line in b.command("NOOP") if "EXPUNGE" in line], r"\* 2 EXPUNGE")
    expect(b.command("UID FETCH 1:* UID"), r"\* 1 FETCH \(UID 1\)", r"\* 2 FETCH \(UID 3\)", r"\* 3 FETCH \(UID 4\)")
    # own changes without SILENT come back once, others' once
    expect(b.command("STORE 1 +FLAGS (\\Flagged)"), r"\* 1 FETCH \(FLAGS \(\\Flagged\)\)")
    expect(b.command("STORE 1 +FLAGS (\\Flagged)"))
    expect(a.command("NOOP"), r"\* 1 FETCH \(FLAGS \(\\Flagged \\Recent\)\)")
    expect(a.command("STORE 1 +FLAGS.SILENT (\\Seen)"))
    expect(b.command("NOOP"), r"\* 1 FETCH \(FLAGS \(\\Flagged \\Seen\)\)")
    # a session that has idled twice leaves nothing behind that news would wake
    for _ in range(2):
        b.send("i IDLE\r\n")
        b.line()
        b.send("DONE\r\n")
        while not b.line().startswith("i OK"):
            pass
    b.command("LOGOUT")
    a.command("STORE 1 -FLAGS.SILENT (\\Seen)")
    a.command("NOOP")


GRAMMAR = ["(", ")", "\"", "{3}", "{3+}", "{99999999999}", "~{2+}", "\\", "\0", "\r", "\n", "\r\n", " ", "\xff", "NIL", "*", "%",
           "1:*", "4294967296", "BODY[", "]", "<0.1>", "UID", "FETCH", "STORE", "SEARCH", "OR", "NOT", "FLAGS", "abc",
           "APPEND INBOX ", "LIST \"\" *", "STATUS INBOX (MESSAGES)", "IDLE", "DONE", "ENABLE QRESYNC", "MODSEQ 1", "CHARSET x"]


def hostile(host, port):
    random.seed(7)
    watcher = Imap(host, port, "watcher")
    watcher.command("SELECT INBOX")
    for round_ in range(60):
        c = Imap(host, port, "u")
        c.command("SELECT INBOX")
        c.sock.settimeout(0.05)
        try:
            for _ in range(40):
                text = "h%d %s" % (round_, " ".join(random.choice(GRAMMAR) for _ in range(random.randrange(1, 12))))
                data = (text + random.choice(["\r\n", "\n", ""])).encode("latin-1")
                cut = random.randrange(len(data) + 1)
                c.sock.sendall(data[:cut])
                c.sock.sendall(data[cut:])
                try:
                    c.sock.recv(65536)
                except TimeoutError:
                    pass
        except OSError:
            pass  # a connection that is closed on the hostile one is a fine answer
        c.sock.close()
        watcher.command("NOOP")


FLOOD, BOXES, FLOOD_GROWTH = 100000, 1000, 24 << 20


def flood(host, port, pids):
    """A client that pipelines without reading, opens many mailboxes, announces what no disk holds, and disappears."""
    other = Imap(host, port, "other")
    other.command("SELECT INBOX")
    c = Imap(host, port, "u")
    c.command("SELECT INBOX")
    before = memory(pids)
    c.sock.settimeout(0.5)
    data, sent = b"".join(b"p%d STATUS INBOX (MESSAGES)\r\n" % n for n in range(FLOOD)), 0
    try:  # the server stops reading when nobody reads its answers
        while sent < len(data):
            sent += c.sock.send(data[sent:sent + 65536])
    except TimeoutError:
        pass
    for _ in range(20):
        other.command("NOOP")
    grown = memory(pids) - before
    if grown > FLOOD_GROWTH:
        fail("commands that were not answered cost %d KiB" % (grown >> 10))
    c.sock.settimeout(60)
    writer = threading.Thread(target=lambda: c.sock.sendall(data[sent:]))
    writer.start()
    for n in range(FLOOD):
        c.line()
        if not c.line().startswith("p%d OK" % n):
            fail("command %d of the flood was not answered" % n)
    writer.join()
    before = memory(pids)
    for n in range(BOXES):
        c.command("CREATE b%d" % n)
        c.command("SELECT b%d" % n)
        if n % 2:
            c.command("STATUS b%d (MESSAGES SIZE)" % (n // 2))
    grown = memory(pids) - before
    if grown > FLOOD_GROWTH:
        fail("%d mailboxes cost %d KiB" % (BOXES, grown >> 10))
    for size in ("9223372036854775808", "99999999999999999999999", "70000"):
        d = Imap(host, port, "u")
        d.send("q LIST \"\" {%s}\r\n" % size)
        if "* BYE Literal size too large" not in d.line():
            fail("a literal of %s bytes" % size)
        d.sock.close()
    d = Imap(host, port, "u")
    d.send("q APPEND INBOX {9223372036854775806}\r\n")
    if not d.line().startswith("+"):
        fail("a long message was not asked for")
    d.send("some of it\r\n")
    d.sock.close()  # ... and the client is gone
    d = Imap(host, port, "u")
    if "MESSAGES 0" not in d.command("STATUS INBOX (MESSAGES)")[0]:
        fail("an unfinished message was stored")
    print("bounded")


def main():
    kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    guard = threading.Timer(240, lambda: (print("imapscene: nothing goes on"), os._exit(1)))
    guard.daemon = True
    guard.start()
    if kind == "slow":
        slow(host, port, [int(pid) for pid in sys.argv[4:]])
    elif kind == "idle":
        idle(host, port, sys.argv[4:])
    elif kind == "fair":
        fair(host, port, [int(pid) for pid in sys.argv[4:]])
    elif kind == "flood":
        flood(host, port, [int(pid) for pid in sys.argv[4:]])
    elif kind == "two":
        two(host, port)
    else:
        hostile(host, port)
    return 0


if __name__ == "__main__":
    sys.exit(main())

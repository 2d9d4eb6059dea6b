#!/usr/bin/env python3
"""Sessions that go to imap-hibernate and come back, against a running server with imap_hibernate_timeout = 1s.

usage: hibernate.py same HOST PORT RUN         a conversation; what clients hear is printed, without what differs from run to run
                                               and the lines that Dovecot adds after a return (RECENT, HIGHESTMODSEQ)
       hibernate.py count HOST PORT RUN LOG    the counters of the log line, and a client that leaves while it rests
       hibernate.py reload HOST PORT RUN PID   resting sessions outlive SIGHUP of the master PID, and are told when it stops
       hibernate.py stays HOST PORT RUN LOG RE sessions that cannot rest stay; the log says why (RE)
       hibernate.py kills HOST PORT RUN        a killed worker takes no resting session along; a killed hibernator no other
       hibernate.py kick HOST PORT RUN CMD...  CMD disconnects user u: the resting session of u alone
       hibernate.py tls HOST PORT RUN          behind a login process that does TLS
       hibernate.py limit HOST PORT RUN        room for one: the other one stays
       hibernate.py leaves HOST PORT RUN USER LOG  a client that leaves while it rests; prints its log line without numbers and the session
       hibernate.py urlauth HOST PORT RUN      fetches another user's URL after it has rested twice
       hibernate.py gaps HOST PORT RUN HOME    a mailbox whose UIDs are full of gaps, which is a long text; HOME is the users' folder
       hibernate.py compress HOST PORT RUN CMD with COMPRESS=DEFLATE; what imap-hibernate says itself too: a keep-alive, BYE after CMD

RUN is base_dir. That a session rests is seen at anvil: its pid is that of imap-hibernate. Exit 1 with a text when it is not so.
"""
import os
import random
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import zlib

SECS = 30


def fail(text):
    sys.exit("hibernate: " + text)


def wait_for(what, look):
    end = time.time() + SECS
    while time.time() < end:
        got = look()
        if got:
            return got
        select.select([], [], [], 0.05)
    fail("waited in vain for " + what)


def connections(run):
    """[(user, pid)] of anvil."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(run + "/anvil")
        s.settimeout(SECS)
        s.sendall(b"VERSION\tanvil\t1\t0\nCONNECT-DUMP\n")
        data = b""
        while not data.endswith(b"\n\n") and data != b"\n":
            more = s.recv(65536)
            if not more:
                break
            data += more
    found = []
    for line in data.decode().split("\n"):
        fields = line.split("\t")
        if len(fields) == 3:
            found += [(fields[0].split("/")[-1], int(fields[1]))] * int(fields[2])
    return found


def program(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return os.path.basename(f.read().split(b"\0")[0].split(b" ")[0].decode())
    except OSError:
        return ""


def no_ghosts(pid):
    """The process is not woken by what it has given away: all in its epoll set is still open."""
    folder = "/proc/%d/" % pid
    for fd in os.listdir(folder + "fd"):
        if "eventpoll" in os.readlink(folder + "fd/" + fd):
            with open(folder + "fdinfo/" + fd) as f:
                polled = re.findall(r"tfd:\s+(\d+)", f.read())
            if not polled or not set(polled) <= set(os.listdir(folder + "fd")):
                fail("polled: %s, open: %s" % (polled, os.listdir(folder + "fd")))


def connect(host, port, tls):
    sock = socket.create_connection((host, port), timeout=SECS)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    return sock


class Client:
    live = []

    def __init__(self, user, tls=False):
        self.user = user
        self.live.append(self)
        self.sock = connect(HOST, PORT, tls)
        self.data = b""
        self.deflate = self.inflate = None
        self.heard = []
        self.line()
        self.command("l", "LOGIN %s pass" % user)
        self.heard = []

    def line(self):
        while b"\r\n" not in self.data:
            try:
                more = self.sock.recv(65536)
            except socket.timeout:
                fail("%s hears nothing; before: %s" % (self.user, self.heard[-3:]))
            except ConnectionResetError:
                more = b""
            if not more:
                self.heard.append("(end)")
                Client.live = [c for c in Client.live if c is not self]
                return None
            self.data += self.inflate.decompress(more) if self.inflate else more
        line, self.data = self.data.split(b"\r\n", 1)
        self.heard.append(line.decode())
        return self.heard[-1]

    def send(self, text):
        data = text.encode()
        if self.deflate:
            data = self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.sock.sendall(data)

    def compress(self, tag):
        if " OK " not in self.command(tag, "COMPRESS DEFLATE"):
            fail("no COMPRESS")
        self.deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.inflate = zlib.decompressobj(-15)

    def until(self, pattern):
        while True:
            line = self.line()
            if line is None:
                fail("%s: the connection has ended before %s: %s" % (self.user, pattern, self.heard[-5:]))
            if re.search(pattern, line):
                return line

    def command(self, tag, text):
        self.send("%s %s\r\n" % (tag, text))
        return self.until("^%s (OK|NO|BAD)" % tag)

    def until_url(self, tag, rump):
        self.command(tag, 'GENURLAUTH "%s" INTERNAL' % rump)
        return next(re.search('"?(imap://[^" ]+)', line)[1] for line in self.heard if "GENURLAUTH" in line)

    def idle(self, tag):
        self.send(tag + " IDLE\r\n")
        self.until(r"^\+ idling")

    def rests(self):
        """The user has a session in imap-hibernate, and none is on its way there or back: that one is counted twice."""
        def look():
            held = [program(p) for u, p in connections(RUN) if u == self.user]
            return "imap-hibernate" in held and len(held) <= sum(c.user == self.user for c in self.live)
        wait_for("rest of " + self.user, look)

    def awake(self):
        wait_for("return of " + self.user,
                 lambda: not any(u == self.user and program(p) == "imap-hibernate" for u, p in connections(RUN)))

    def rest(self, tag):
        self.idle(tag)
        self.rests()


def shown(client):
    for line in client.heard:
        if re.search("Still here|HIGHESTMODSEQ|RECENT", line):
            continue
        line = re.sub(r" \(\d+\.\d+ \+.* secs\)\.$", " (TIME).", line)
        line = re.sub(r"UIDVALIDITY \d+", "UIDVALIDITY N", line)
        line = re.sub(r"APPENDUID \d+", "APPENDUID N", line)
        print(client.user, line)
    client.heard = []


def append(client, tag, count=1):
    for i in range(count):
        client.command("%s%d" % (tag, i), "APPEND INBOX {14+}\r\nSubject: x\r\n\r\n")


def same():
    b = Client("u")
    append(b, "b", 4)
    b.command("b", "SELECT INBOX")  # recent messages are this one's
    a = Client("u")
    a.command("a1", "SELECT INBOX")
    a.rest("a2")
    print("-- DONE")
    a.send("DONE\r\n")
    a.until("^a2 ")
    a.awake()
    a.command("a3", "NOOP")
    print("-- a new IDLE in the same packet")
    a.rest("a4")
    a.send("DONE\r\na5 IDLE\r\n")
    a.until(r"^\+ idling")
    a.send("done\r\na6 idle\r\n")
    a.until(r"^\+ idling")
    print("-- flags and a keyword")
    b.command("c", "STORE 2 +FLAGS (\\Flagged kw1)")
    a.until("^. 2 FETCH")
    print("-- DONE in two pieces")
    a.send("DO")
    a.send("NE\r\n")
    a.until("^a6 ")
    a.awake()
    a.rest("a7")
    print("-- expunge, news, flags")
    b.command("d", "STORE 4 -FLAGS.SILENT (\\Flagged)")
    b.command("e", "STORE 1,3 +FLAGS.SILENT (\\Deleted)")
    a.until("^. 3 FETCH")
    a.rests()
    b.command("f", "EXPUNGE")
    a.until("^. 1 EXPUNGE")
    a.rests()
    append(b, "g")
    a.until("^. 3 EXISTS")
    a.rests()
    print("-- no DONE")
    a.command("a8", "NOOP")
    a.awake()
    a.rest("a9")
    print("-- more behind DONE")
    a.send("DONE\r\nb1 SEARCH ALL\r\nb2 NOOP\r\n")
    a.until("^b2 ")
    a.awake()
    print("-- examined, CONDSTORE, saved result")
    a.command("c1", "EXAMINE INBOX (CONDSTORE)")
    a.command("c2", "SEARCH RETURN (SAVE) 2")
    a.rest("c3")
    a.send("DONE\r\n")
    a.until("^c3 ")
    a.command("c4", "FETCH $ (UID)")
    a.command("c5", "STORE 1 +FLAGS (\\Seen)")
    a.command("c6", "LOGOUT")
    b.command("x", "LOGOUT")
    print("-- no mailbox")
    d = Client("v")
    d.rest("d1")
    d.send("DONE\r\n")
    d.until("^d1 ")
    for client in (a, d):
        shown(client)


def count(log):
    a = Client("u")
    append(a, "a", 2)
    a.command("a", "SELECT INBOX")
    a.command("b", "FETCH 1 (BODY[])")
    a.rest("c")
    a.send("DONE\r\n")
    a.until("^c ")
    a.awake()
    a.command("d", "FETCH 2 (BODY[])")
    # Dovecot tells a client with QRESYNC nothing of what was expunged while it rested.
    a.command("d1", "ENABLE QRESYNC")
    b = Client("u")
    b.command("b", "SELECT INBOX")
    b.command("c", "STORE 1 +FLAGS.SILENT (\\Deleted)")
    a.rest("e")
    b.command("d", "EXPUNGE")
    a.until("^. VANISHED 1$")
    a.rests()
    a.sock.close()
    line = wait_for("the log line", lambda: re.search(r"imap-hibernate\(u\)<\d+><[^>]+>: Info: Disconnected: Connection closed (.*)",
                                                       open(log).read()))
    if not re.search(r"body_count=2 .*appended=2", line[1]):
        fail("counters are lost: " + line[0])


def reload(master):
    a, b = Client("u"), Client("v")
    for c in (a, b):
        c.command("a", "SELECT INBOX")
        c.rest("b")
    before = connections(RUN)
    os.kill(int(master), signal.SIGHUP)
    new = Client("w")           # answered by the new generation
    new.command("a", "NOOP")
    append(new, "c")
    a.send("DONE\r\n")
    a.until("^b ")
    a.command("d", "NOOP")
    other = Client("v")
    append(other, "e")
    b.until("^. 1 EXISTS")
    b.rests()
    if len(before) != 2:
        fail("two sessions, and anvil counts %s" % before)
    os.kill(int(master), signal.SIGTERM)
    b.until("^. BYE Server shutting down.")
    b.line()


def stays(log, pattern):
    a = Client("u")
    a.command("a", "SELECT INBOX")
    a.idle("b")
    wait_for("the log line", lambda: re.search(pattern, open(log).read()))
    b = Client("u")
    append(b, "b")
    a.until("^. 1 EXISTS")
    a.send("DONE\r\n")
    a.until(r"^b OK Idle completed \(")
    a.command("c", "NOOP")
    said = len(re.findall(pattern, open(log).read()))
    if said != 1:
        fail("the log says it %d times" % said)


def kills():
    a = Client("u")
    a.command("a", "SELECT INBOX")
    b = Client("u")
    worker = [p for u, p in connections(RUN) if program(p) == "imap"][0]
    a.rest("b")
    os.kill(worker, signal.SIGKILL)
    b.line()                    # b's worker is gone, and b with it
    c = Client("u")
    append(c, "c")
    a.until("^. 1 EXISTS")
    a.rests()
    pid = [p for u, p in connections(RUN) if program(p) == "imap-hibernate"][0]
    os.kill(pid, signal.SIGKILL)
    while a.line() is not None:
        pass
    c.command("d", "NOOP")
    a = Client("u")
    a.command("a", "SELECT INBOX")
    a.rest("b")                 # a new one has been started
    a.send("DONE\r\n")
    a.until("^b OK")


def kick(command):
    a, b = Client("u"), Client("v")
    for c in (a, b):
        c.rest("b")
    subprocess.run(command, check=True)
    a.until("^. BYE ")
    b.send("DONE\r\n")
    b.until("^b OK")


def tls():
    a = Client("u", tls=True)
    a.command("a", "SELECT INBOX")
    a.rest("b")
    b = Client("u", tls=True)
    append(b, "b")
    a.until("^. 1 EXISTS")
    a.rests()
    resting = [p for _, p in connections(RUN) if program(p) == "imap-hibernate"][0]
    a.send("DONE\r\n")
    a.until("^b OK Idle completed.$")
    a.awake()
    for pid in {p for _, p in connections(RUN)} | {resting}:
        no_ghosts(pid)
    a.command("c", "COMPRESS DEFLATE")


def limit():
    a, b = Client("u"), Client("v")
    a.rest("a")
    b.command("b", "SELECT INBOX")
    b.idle("c")
    d = Client("v")
    append(d, "d")
    b.until("^. 1 EXISTS")
    b.send("DONE\r\n")
    b.until("^c OK")
    a.send("DONE\r\n")
    a.until("^a OK")


def compress(kick_command):
    a, b = Client("u"), Client("u")
    for c in (a, b):
        c.compress("z")
    a.rest("a0")                # nothing is selected
    a.send("DONE\r\n")
    a.until("^a0 OK")
    a.command("a1", "SELECT INBOX")
    a.command("a2", "UID SEARCH OR HEADER X-Somewhere something HEADER X-Elsewhere nothing")
    a.rest("a3")
    append(b, "b")
    a.until("^. 1 EXISTS")
    a.rests()
    a.until("^. OK Still here")
    a.send("DONE\r\na4 UID SEARCH OR HEADER X-Somewhere something HEADER X-Elsewhere nothing\r\n")
    a.until("^a4 OK")
    a.rest("a5")
    data = a.deflate.compress(b"DONE\r\n") + a.deflate.flush(zlib.Z_SYNC_FLUSH)
    for n in range(len(data)):  # byte by byte
        a.sock.sendall(data[n:n + 1])
    a.until("^a5 OK")
    a.rest("a6")
    subprocess.run(kick_command, check=True)
    a.until("^. BYE ")


def leaves(user, log):
    a = Client(user)
    a.user = user.lower()
    a.rest("a")
    a.sock.close()
    line = wait_for("the log line", lambda: re.search(r"<imap-hibernate\|.*> Info: Disconnected: Connection closed", open(log).read()))
    print(re.sub(r"\|\d+\|\d+\|[^|]{16}\|", "|PID|PID|SESSION|", line[0]))


def urlauth():
    owner, a = Client("owner"), Client("u")
    append(owner, "b")
    said = owner.until_url("c", "imap://owner@mail.example.com/INBOX/;uid=1;urlauth=authuser")
    for tag in ("d", "e"):
        a.rest(tag)
        a.send("DONE\r\n")
        a.until("^%s OK" % tag)
        a.awake()
    a.command("f", 'URLFETCH "%s"' % said)
    if not any(line.endswith("{14}") for line in a.heard):
        fail("the URL was not fetched: %s" % a.heard)


def gaps(home):
    """25 000 messages, 64 to 200 UIDs apart: 67 KB as they are written, and no two alike."""
    chance = random.Random(5)
    box, uid, lines = home + "/gaps/Maildir", 1, []
    for part in ("cur", "new", "tmp"):
        os.makedirs(box + "/" + part)
    with open(box + "/cur/0:2,S", "w") as f:
        f.write("Subject: x\n\n")
    for i in range(25000):
        if i > 0:
            os.link(box + "/cur/0:2,S", box + "/cur/%d:2,S" % i)
        lines.append("%d :%d\n" % (uid, i))
        uid += chance.randrange(64, 200)
    with open(box + "/dovecot-uidlist", "w") as f:
        f.write("3 V1 N%d G00000000000000000000000000000001\n" % uid)
        f.writelines(lines)
    for path in (home + "/gaps", box, box + "/cur", box + "/cur/0:2,S", box + "/new", box + "/tmp", box + "/dovecot-uidlist"):
        os.chown(path, os.stat(home).st_uid, os.stat(home).st_gid)
    a, b = Client("gaps"), Client("gaps")
    a.command("a1", "SELECT INBOX")
    if "* 25000 EXISTS" not in a.heard:
        fail("not 25000 messages: %s" % a.heard)
    a.rest("a2")
    b.command("b1", "SELECT INBOX")
    b.command("b2", "STORE 1,12345 +FLAGS (\\Deleted)")
    b.command("b3", "EXPUNGE")
    a.until("^[*] 12345 EXPUNGE")
    a.until("^[*] 1 EXPUNGE")
    append(b, "b")
    a.until("^[*] 24999 EXISTS")
    a.rests()
    a.send("DONE\r\n")
    a.until("^a2 OK")
    a.command("a3", "FETCH 20000 UID")
    expected = "* 20000 FETCH (UID %s)" % lines[20001].split()[0]
    if expected not in a.heard:
        fail("not %s: %s" % (expected, a.heard[-2:]))


if __name__ == "__main__":
    HOST, PORT, RUN = sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if sys.argv[1] in ("kick", "compress"):
        globals()[sys.argv[1]](sys.argv[5:])
    else:
        globals()[sys.argv[1]](*sys.argv[5:])

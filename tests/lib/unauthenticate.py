#!/usr/bin/env python3
"""UNAUTHENTICATE (RFC 8437) against a running server whose imap_capability names it.

usage: unauthenticate.py plain HOST PORT RUN         one connection, one user after the other; what is sent ahead is not lost
       unauthenticate.py tls HOST PORT RUN           behind TLS, with COMPRESS=DEFLATE: that layer ends, TLS stays
       unauthenticate.py limit HOST PORT RUN         mail_max_userip_connections = 1: the old session does not count any more
       unauthenticate.py rested HOST PORT RUN        imap_hibernate_timeout = 1s: also a session that has been at rest
       unauthenticate.py reload HOST PORT RUN PID    a login process of before the reload of master PID has nobody to log in to
       unauthenticate.py off HOST PORT RUN           without the word there is no such command

RUN is base_dir. Exit 1 with a text when it is not so.
"""
import os
import re
import signal
import socket
import sys
import zlib

from hibernate import connect, connections, fail, program, wait_for

SECS = 30


class Client:
    def __init__(self, tls=False):
        self.sock = connect(HOST, PORT, tls)
        self.data = b""
        self.deflate = self.inflate = None
        self.greeting = self.line()

    def line(self):
        while b"\r\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                return None
            if self.inflate:
                self.data += self.inflate.decompress(more)
                if self.inflate.eof:
                    self.data, self.inflate = self.data + self.inflate.unused_data, None
            else:
                self.data += more
        line, self.data = self.data.split(b"\r\n", 1)
        return line.decode()

    def pack(self, text, flush=zlib.Z_SYNC_FLUSH):
        data = text.encode()
        return self.deflate.compress(data) + self.deflate.flush(flush) if self.deflate else data

    def send(self, text):
        self.sock.sendall(self.pack(text))

    def until(self, tag):
        lines = []
        while not lines or not lines[-1].startswith(tag + " "):
            lines.append(self.line())
            if lines[-1] is None:
                fail("the end before %s: %s" % (tag, lines[-5:]))
        return lines

    def command(self, tag, text):
        self.send("%s %s\r\n" % (tag, text))
        return self.until(tag)

    def login(self, tag, user):
        expect(self.command(tag, "LOGIN %s pass" % user), r" OK \[CAPABILITY .* UNAUTHENTICATE .*\] Logged in$")

    def compress(self, tag):
        expect(self.command(tag, "COMPRESS DEFLATE"), " OK ")
        self.deflate, self.inflate = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)


def expect(lines, pattern, where=-1):
    if not re.search(pattern, lines[where]):
        fail("not %s: %s" % (pattern, lines))


def counted(*users):
    wait_for("the count of " + str(users), lambda: sorted(u for u, p in connections(RUN)) == sorted(users))


def messages(client, tag):
    return int(re.search(r"MESSAGES (\d+)", client.command(tag, "STATUS INBOX (MESSAGES)")[0])[1])


def leave(client, tag):
    lines = client.command(tag, "UNAUTHENTICATE")
    if len(lines) != 1:
        fail("more than the answer: %s" % lines)
    expect(lines, "^%s OK Unauthenticated" % tag)


def login_processes():
    """Those of this server: the kernel's list of sockets is long, and their number is not."""
    inodes = set()
    with open("/proc/net/tcp") as f:
        for words in map(str.split, f):
            if words[1] == "%s:%04X" % (bytes(reversed(socket.inet_aton(HOST))).hex().upper(), PORT):
                inodes.add("socket:[%s]" % words[9])
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if program(int(pid)) == "imap-login" and inodes & {name for name in links(pid)}:
            yield pid


def links(pid):
    for fd in os.listdir("/proc/%s/fd" % pid):
        try:
            yield os.readlink("/proc/%s/fd/%s" % (pid, fd))
        except OSError:
            pass


def fds():
    return sum(len(list(links(pid))) for pid in login_processes())


def plain():
    c = Client()
    expect([c.greeting], "UNAUTHENTICATE")
    expect(c.command("a0", "UNAUTHENTICATE"), "^a0 BAD ")
    c.login("a1", "u")
    c.command("a2", "APPEND INBOX {14+}\r\nSubject: x\r\n\r\n")
    c.command("a3", "CREATE secret")
    c.command("a4", "SELECT INBOX")
    c.command("a5", "ENABLE QRESYNC")
    c.command("a6", "SEARCH RETURN (SAVE) ALL")
    counted("u")
    leave(c, "a7")
    counted()
    for tag, text in ("b1", "FETCH 1 FLAGS"), ("b2", 'LIST "" *'):
        expect(c.command(tag, text), "^%s BAD Error in IMAP command received by server" % tag)
    expect(c.command("b3", "CAPABILITY"), "SASL-IR", 0)
    expect(c.command("b4", "LOGIN v wrong"), r"^b4 NO \[AUTHENTICATIONFAILED\]")
    expect(c.command("b5", "LOGIN v pass"), "^b5 OK Logged in")  # it has asked for the capabilities
    counted("v")
    expect(c.command("b6", "FETCH 1 FLAGS"), "^b6 BAD No mailbox selected")
    if messages(c, "b7") != 0 or any("secret" in line for line in c.command("b8", 'LIST "" *')):
        fail("v sees u's mail")
    expect(c.command("b9", "SELECT INBOX"), "^b9 OK")
    if any("VANISHED" in line for line in c.command("b10", "SELECT INBOX")):
        fail("QRESYNC was left on")
    leave(c, "b11")
    # all at once, and more than the buffers of both processes hold
    c.send("c1 LOGIN u pass\r\nc2 SELECT INBOX\r\nc3 UNAUTHENTICATE\r\n" + "n NOOP\r\n" * 40000 + "c4 LOGIN v pass\r\nc5 STATUS INBOX (MESSAGES)\r\n")
    expect(c.until("c3"), "^c3 OK Unauthenticated")
    noops = [line for line in c.until("c4") if line.startswith("n OK ")]
    if len(noops) != 40000:
        fail("%d of 40000 commands" % len(noops))
    expect(c.until("c5"), "MESSAGES 0", 0)
    leave(c, "c6")
    before = fds()
    for i in range(50):
        c.login("d%d" % i, "uv"[i % 2])
        if messages(c, "e%d" % i) != (i + 1) % 2:
            fail("another user's mail")
        leave(c, "f%d" % i)
    # the last answer is quicker than the login process's end of what it was relaying
    wait_for("%d descriptors" % before, lambda: fds() <= before)
    c.command("g1", "LOGOUT")
    counted()


def tls():
    c = Client(tls=True)
    c.login("a1", "u")
    c.command("a2", "APPEND INBOX {14+}\r\nSubject: x\r\n\r\n")
    c.compress("a3")
    leave(c, "a4")
    if c.inflate:
        fail("the server's layer has not ended")
    c.deflate = None
    c.login("b1", "v")
    if messages(c, "b2") != 0:
        fail("v sees u's mail")
    leave(c, "b3")
    # plain bytes right behind the layer, however its last block lies in its last byte
    for i in range(64):
        tag = "c" + "x" * i
        c.login(tag, "u")
        c.compress(tag + "1")
        how = (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH)[i % 3]
        last = c.pack(tag + "2 NOOP\r\n" + tag + "3 UNAUTHENTICATE\r\n", how)
        c.deflate = None
        c.sock.sendall(last + c.pack(tag + "4 LOGIN v pass\r\n" + tag + "5 UNAUTHENTICATE\r\n"))
        expect(c.until(tag + "3"), "OK Unauthenticated")
        if c.inflate:
            fail("the server's layer has not ended")
        expect(c.until(tag + "5"), "OK Unauthenticated")
    c.command("d1", "LOGOUT")
    counted()


def limit():
    c = Client()
    c.login("a", "u")
    for i in range(100):
        c.send("b%d UNAUTHENTICATE\r\nc%d LOGIN u pass\r\n" % (i, i))
        expect(c.until("c%d" % i), "^c%d OK " % i)
    other = Client()
    expect(other.command("d", "LOGIN u pass"), r"^d NO \[LIMIT\]")
    leave(c, "e")
    other = Client()
    other.login("f", "u")


def rested():
    c = Client()
    c.login("a1", "u")
    c.command("a2", "SELECT INBOX")
    c.send("a3 IDLE\r\n")
    c.until("+")
    wait_for("rest", lambda: [program(p) for u, p in connections(RUN)] == ["imap-hibernate"])
    c.send("DONE\r\n")
    c.until("a3")
    leave(c, "a4")
    counted()
    c.login("b1", "v")
    expect(c.command("b2", "LOGOUT"), "^b2 OK")


def reload(master):
    c = Client()
    c.login("a1", "u")
    os.kill(int(master), signal.SIGHUP)
    wait_for("a new generation", lambda: " V2 " in Client().greeting + " ")
    c.send("a2 UNAUTHENTICATE\r\n")
    expect(c.until("a2"), "OK")
    expect([c.line()], r"^\* BYE ")


def off():
    c = Client()
    if "UNAUTHENTICATE" in c.greeting:
        fail("announced")
    expect(c.command("a0", "UNAUTHENTICATE"), "^a0 BAD ")
    lines = c.command("a1", "LOGIN u pass")
    if "UNAUTHENTICATE" in lines[-1]:
        fail("announced to the user")
    expect(c.command("a2", "UNAUTHENTICATE"), "^a2 BAD Error in IMAP command UNAUTHENTICATE: Unknown command")


if __name__ == "__main__":
    HOST, PORT, RUN = sys.argv[2], int(sys.argv[3]), sys.argv[4]
    globals()[sys.argv[1]](*sys.argv[5:])

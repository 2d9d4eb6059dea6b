#!/usr/bin/env python3
"""What once brought mail servers down (docs/known-faults.md), against a running server.

usage: faults.py SCENE HOST PORT [ARGUMENT ...]

names     NUL, 8-bit, cut UTF-8 and TAB in user names, before login
broken    one client's broken base64, while another one is in the middle of its own
aborted   logins that are begun and aborted: the memory of the processes given, by pid
session   NUL in names, numbers beyond 32 bits, what stands behind a cut literal
thread    reference chains that are long, shuffled, and in circles
compress  unknown algorithms, empty blocks, and each answer in a window of its own
restore   a forged session on the socket given
server_names  a name of a server in each handshake: the memory of the processes given
certificates  client certificates with and without a name, of the folder given
forwarded     ID of a trusted and of another address, with fields for the passdb
proxies       a passdb that says proxy without a host, and in a loop; the processes given go on
filters       two passdbs that differ in username_filter alone
counts        socket of anvil, anvil and login processes by pid: the limit after anvil was killed
"""
import array
import os
import re
import select
import signal
import socket
import ssl
import sys
import zlib


def fail(text):
    sys.exit("faults: " + text)


class Client:
    def __init__(self, host, port, user=None):
        self.sock = socket.create_connection((host, port), timeout=280)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        if user:
            self.expect(b"l LOGIN %s pass\r\n" % user.encode(), b"l OK")

    def send(self, data):
        self.sock.sendall(data)

    def until(self, tag):
        """All lines up to the one that begins with the tag."""
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                fail("closed, wanted %r, got %r" % (tag, lines))
            lines.append(line)
            if line.startswith(tag):
                return lines

    def expect(self, data, wanted):
        self.send(data)
        lines = self.until(data.split(b" ")[0] + b" ")
        if not lines[-1].startswith(wanted):
            fail("%r: %r, wanted %r" % (data[:80], lines[-1], wanted))
        return lines


def names(host, port):
    for name in (b'"u\0x"', b"{3}\r\nu\0x", b"{2}\r\n\xc3\xa4", b"{1}\r\n\xc3", b"{4}\r\n\xf8\x88\x80\x80", b"{3}\r\nu\tx", b"{3}\r\nu\nx",
                 b"{3}\r\nu\1t", b'""'):
        c = Client(host, port)
        head, _, rest = name.partition(b"\r\n")
        if rest:
            c.send(b"a LOGIN " + head + b"\r\n")
            c.until(b"+")
            c.send(rest + b" pass\r\n")
        else:
            c.send(b"a LOGIN " + name + b" pass\r\n")
        line = c.file.readline()
        while line.startswith(b"*"):
            line = c.file.readline()
        if line.startswith(b"a OK"):
            fail("%r was let in" % name)
    Client(host, port, "u")


def broken(host, port):
    waits, other = Client(host, port), Client(host, port)
    waits.send(b"a AUTHENTICATE PLAIN\r\n")
    waits.until(b"+")
    for data in (b"!!!!", b"AHUA=cGFz", b"A", b"AHUAcGFzcw==\tnopassword"):
        other.send(b"a AUTHENTICATE PLAIN\r\n")
        other.until(b"+")
        other.send(data + b"\r\n")
        got = other.until(b"a ")[-1]
        if got.startswith(b"a OK"):
            fail("%r was let in" % data)
        other = Client(host, port)
    waits.send(b"AHUAcGFzcw==\r\n")
    if not waits.until(b"a ")[-1].startswith(b"a OK"):
        fail("another client's base64 stopped a login")


def resident(pids):
    total = 0
    for pid in pids:
        with open("/proc/%s/status" % pid, encoding="ascii") as src:
            total += int(re.search(r"VmRSS:\s*(\d+)", src.read())[1]) << 10
    return total


def aborted(host, port, *pids):
    def many(count):
        for _ in range(count):
            c = Client(host, port)
            c.send(b"a AUTHENTICATE PLAIN\r\n")
            c.until(b"+")
            c.send(b"*\r\n")
            c.until(b"a BAD")
            c.send(b"b AUTHENTICATE PLAIN\r\n")
            c.until(b"+")
            c.sock.close()      # in the middle

    many(300)
    before = resident(pids)
    many(1500)
    Client(host, port, "u")
    grown = resident(pids) - before
    if grown > 1500 * 512:
        fail("%d bytes for each login that was aborted" % (grown // 1500))


def server_names(host, port, *pids):
    """A name of a server in each handshake (2017-15130): nothing of it stays."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def many(first, last):
        for number in range(first, last):
            with context.wrap_socket(socket.create_connection((host, port), timeout=280), server_hostname="n%d.%s.example" % (number, "x" * 60)) as s:
                s.recv(4096)

    many(0, 100)
    before = resident(pids)
    many(100, 500)
    grown = resident(pids) - before
    if grown > 400 * 1024:
        fail("%d bytes for each name" % (grown // 400))


def certificates(host, port, folder):
    """With auth_ssl_username_from_cert the certificate's name logs in, whatever the client says; one without the field nobody (2019-3814)."""
    def login(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if name:
            context.load_cert_chain("%s/%s.crt" % (folder, name), "%s/%s.key" % (folder, name))
        with context.wrap_socket(socket.create_connection((host, port), timeout=280)) as s, s.makefile("rb") as f:
            f.readline()
            s.sendall(b"a LOGIN victim pass\r\n")
            line = f.readline()
            while line.startswith(b"*"):
                line = f.readline()
            return line

    for name, wanted in (("named", b"a OK"), ("unnamed", b"a NO")):
        got = login(name)
        if not got.startswith(wanted):
            fail("certificate %s: %r, wanted %r" % (name, got, wanted))


def forwarded(host, port, trusted, other):
    """ID of a front in login_trusted_networks sets the client's address and forward_ fields, no other field; anybody else's sets nothing."""
    def login(source, fields, password=b"wrong", nul=False):
        c = Client.__new__(Client)
        c.sock = socket.create_connection((host, port), timeout=280, source_address=(source, 0))
        c.file = c.sock.makefile("rb")
        c.file.readline()
        c.expect(b"i ID (" + fields + b")\r\n", b"i BAD" if nul else b"i OK")
        c.send(b"a LOGIN f " + password + b"\r\n")
        return c.until(b"a ")[-1]

    for source in (trusted, other):
        for name in (b"nopassword", b"nopassword=y\tuser", b"passdb_nopassword", b"userdb_uid"):
            fields = b'"x-originating-ip" "10.11.12.13" "x-session-id" "fr0nt" "x-forward-' + name.replace(b"\t", b"") + b'" "y"'
            if not login(source, fields).startswith(b"a NO"):
                fail("%s let in by x-forward-%s" % (source, name))
        login(source, b'"x-forward-a" "b\0nopassword=y"', nul=True)
        if not login(source, b'"x-originating-ip" "10.11.12.13" "x-session-id" "%s"' % source.encode(), b"pass").startswith(b"a OK"):
            fail("the right password fails")


def proxies(host, port, *pids):
    """A passdb that says proxy, without a host or in a loop: the login fails, nothing crashes."""
    for user in ("nohost", "loop"):
        c = Client(host, port)
        c.expect(b"a LOGIN %s pass\r\n" % user.encode(), b"a NO [UNAVAILABLE]")
    for pid in pids:
        os.kill(int(pid), 0)


def filters(host, port):
    """Two passdbs with the same driver and arguments, each with a username_filter of its own (2022-30550)."""
    for user, wanted in ((b"a1", b"a OK"), (b"b1", b"a OK"), (b"c1", b"a NO")):
        Client(host, port).expect(b"a LOGIN " + user + b" one\r\n", wanted)


def counts(host, port, path, anvil, *logins):
    """anvil is killed: the limits hold again as soon as there is another one, for the login processes that were there too."""
    first = Client(host, port, "u")
    known = b""
    while b"/u\t" not in known:  # it stands in a pipe until then, and the next anvil would find it there
        with socket.socket(socket.AF_UNIX) as s, s.makefile("rb") as f:
            s.connect(path)
            s.sendall(b"VERSION\tanvil\t1\t0\nCONNECT-DUMP\n")
            known = f.readline()
    fds = [os.pidfd_open(int(pid)) for pid in (anvil, *logins)]
    os.kill(int(anvil), signal.SIGKILL)
    for fd in fds:
        if not select.select([fd], [], [], 60)[0]:
            fail("a login process goes on without anvil")
    second = Client(host, port, "u")
    Client(host, port).expect(b"a LOGIN u pass\r\n", b"a NO [LIMIT]")
    first.expect(b"b NOOP\r\n", b"b OK")
    second.expect(b"b NOOP\r\n", b"b OK")


def session(host, port):
    c = Client(host, port, "u")
    c.send(b"a APPEND INBOX {6+}\r\nA: b\r\n\r\n")
    c.until(b"a OK")
    c.expect(b"b SELECT INBOX\r\n", b"b OK")
    for number in (b"4294967296", b"4294967297", b"18446744073709551617", b"1:4294967297", b"99999999999999999999999"):
        c.expect(b"c STORE %s +FLAGS (\\Deleted)\r\n" % number, b"c BAD")
    c.expect(b"d UID EXPUNGE 4294967297\r\n", b"d ")
    if not [x for x in c.expect(b"e FETCH 1 FLAGS\r\n", b"e OK") if b"1 FETCH (FLAGS (\\Recent))" in x]:
        fail("a number beyond 32 bits has changed the mail")
    for command in (b'CREATE "x\0y"', b"CREATE {3+}\r\nx\0y", b'SUBSCRIBE "x\0y"', b'LIST "" "x\0y"', b'SEARCH SUBJECT "x\0y"'):
        c.expect(b"f " + command + b"\r\n", b"f BAD")
    if [x for x in c.expect(b'g LIST "" *\r\n', b"g OK") if b" x" in x]:
        fail("a name was cut at its NUL")
    # An entry name that is wrong, with a value in a literal.
    c.expect(b"h SETMETADATA INBOX (comment {3+}\r\nabc)\r\n", b"h BAD")
    # What stands in a literal is no command, whatever was wrong with the line in front of it.
    inside = b"i CREATE executed\r\n"
    for line in (b"FROB {19+}", b"NOOP {19+}", b"SELECT INBOX more {19+}", b"STORE 1 ) {19+}", b'LIST "" b\xe4 {19+}', b"FROB " + b"x" * 9000 + b" {19+}",
                 b"FROB {19+}\r\n" + inside + b" ~{19+}", b"CREATE {99999999999999999999+}", b"FROB {99999999999999999999+}",
                 b"APPEND nowhere {19+}", b"APPEND INBOX (\\Foo) x {19+}"):
        for slow in (False, True):
            c = Client(host, port, "u")
            try:
                for piece in ([b"a " + line[:-1], line[-1:] + b"\r\n", inside[:5], inside[5:] + b"\r\n"] if slow else
                              [b"a " + line + b"\r\n" + inside + b"\r\n"]):
                    c.send(piece)
                c.send(b"j NOOP\r\n")
                c.sock.shutdown(socket.SHUT_WR)
                got = c.file.read()
            except OSError:
                got = b""
            if b"i OK" in got or b"i NO" in got or (b"j OK" not in got and b"99" not in line):
                fail("%r: %r" % (line[-60:], got))
    c = Client(host, port, "u")
    c.send(b"a APPEND INBOX {1000+}\r\nA: b\r\n\r\ni CREATE executed\r\n")
    c.sock.shutdown(socket.SHUT_WR)
    if b" OK" in c.file.read():
        fail("a message that is not whole was answered")
    c = Client(host, port, "u")
    lines = c.expect(b'a LIST "" *\r\n', b"a OK") + c.expect(b"b STATUS INBOX (MESSAGES)\r\n", b"b OK")
    if [x for x in lines if b"executed" in x] or not [x for x in lines if b"(MESSAGES 1)" in x]:
        fail("left behind: %r" % lines)


LINKS, MAILS = 100000, 100


def thread(host, port):
    c = Client(host, port, "u")
    ids = ["<%d@x>" % i for i in range(LINKS)]
    few = ids[:1000]
    mails = [ids, ids[::-1]] + [few[i:] + few[:i] for i in range(0, 1000, 1000 // MAILS)]
    for i, chain in enumerate(mails):
        text = ("Message-ID: <m%d@y>\r\nReferences: %s\r\n\r\n" % (i, "\r\n ".join(chain))).encode()
        c.send(b"a APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
        c.until(b"a OK")
    c.expect(b"b SELECT INBOX\r\n", b"b OK")
    for algorithm in (b"REFERENCES", b"REFS"):
        lines = c.expect(b"c THREAD %s UTF-8 ALL\r\n" % algorithm, b"c OK")
        found = sorted(int(n) for n in re.findall(rb"\d+", [x for x in lines if x.startswith(b"* THREAD")][0]))
        if found != list(range(1, len(mails) + 1)):
            fail("%s lost messages" % algorithm.decode())


def compress(host, port):
    c = Client(host, port, "u")
    for algorithm in (b"BOGUS", b"LZ4", b"DEFLATE/9"):
        c.expect(b"a COMPRESS %s\r\n" % algorithm, b"a NO")
    c.expect(b"b COMPRESS DEFLATE\r\n", b"b OK")
    out, data = zlib.compressobj(wbits=-15), b""
    # A million blocks with nothing in them, in front of the first command.
    c.send(b"\0\0\0\xff\xff" * 1000000)
    for number in range(5):
        tag = b"t%d" % number
        c.send(out.compress(tag + b" NOOP\r\n") + out.flush(zlib.Z_SYNC_FLUSH))
        # Behind a tagged answer begins what needs nothing from before: an inflater that knows nothing of it reads it.
        fresh, text = zlib.decompressobj(wbits=-15), b""
        while tag + b" OK" not in text or not text.endswith(b"\r\n"):
            data = c.sock.recv(65536)
            if not data:
                fail("closed at %r" % text)
            try:
                text += fresh.decompress(data)
            except zlib.error as err:
                fail("answer %d needs the window of the one before: %s" % (number, err))
        if not text.startswith(tag):
            fail("answer %d: %r" % (number, text))
    if not data.endswith(b"\0\0\xff\xff"):
        fail("no flush behind the answer")


def restore(host, port, path):
    """As somebody who may connect to imap-master but makes his sessions up (2020-24386): of a user whom the userdb does not know."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    s.sendall(b"VERSION\timap-master\t1\t0\n")
    fields = [b"ghost", b"session=forged", b"lip=127.0.0.1", b"rip=127.0.0.1",
              b"userdb_fields=uid=8\001tgid=8\001thome=/nonexistent", b"ticket=" + b"0" * 64, b"tag=x", b"state=AAAA"]
    s.sendmsg([b"\t".join(fields) + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
    theirs.close()
    said = b""
    while not re.search(rb"\n[+-]", said):
        said += s.recv(4096) or fail("imap-master says %r" % said)
    s.close()
    while ours.recv(4096):
        pass
    Client(host, port, "u")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]), *sys.argv[4:])

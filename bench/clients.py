"""Just enough of an IMAP and an LMTP client to load a server. Blocking sockets; one object a connection."""
import re
import socket
import ssl


class Failure(Exception):
    """A server said something that the workload did not expect."""


class Line:
    """A line connection."""

    def __init__(self, host, port, tls=False):
        self.sock = socket.create_connection((host, port), timeout=120)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
        self.file = self.sock.makefile("rb", 1 << 16)

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        got = self.file.readline()
        if not got.endswith(b"\n"):
            raise Failure("connection closed: %r" % got)
        return got

    def close(self):
        self.file.close()
        self.sock.close()


class Imap(Line):
    literal = re.compile(rb"\{(\d+)\}\r\n$")

    def __init__(self, server, user=None, tls=False):
        super().__init__(server.host, server.imaps if tls else server.imap, tls)
        self.count = 0
        self.line()
        if user:
            self.cmd(b'LOGIN "%s" "%s"' % (user.encode(), server.password.encode()))

    def response(self):
        """One response with its literals."""
        out = self.line()
        found = self.literal.search(out[-16:])
        while found:
            out += self.file.read(int(found.group(1)))
            more = self.line()
            out += more
            found = self.literal.search(more[-16:])
        return out

    def finish(self, tag):
        got = []
        while True:
            answer = self.response()
            if answer.startswith(tag + b" "):
                if not answer.startswith(tag + b" OK"):
                    raise Failure(answer.decode("utf-8", "replace").strip())
                return got
            got.append(answer)

    def tag(self):
        self.count += 1
        return b"t%d" % self.count

    def cmd(self, text):
        tag = self.tag()
        self.send(tag + b" " + text + b"\r\n")
        return self.finish(tag)

    def select(self, mailbox=b"INBOX"):
        """-> number of messages"""
        return [int(x.split()[1]) for x in self.cmd(b"SELECT " + mailbox) if x.endswith(b" EXISTS\r\n")][0]

    def append(self, mailbox, raw, flags=b""):
        tag = self.tag()
        self.send(tag + b' APPEND "%s" (%s) {%d+}\r\n' % (mailbox, flags, len(raw)) + raw + b"\r\n")
        return self.finish(tag)


class Lmtp(Line):
    def __init__(self, server):
        super().__init__(server.host, server.lmtp)
        self.line()
        self.ask(b"LHLO bench", b"250")

    def ask(self, text, code):
        self.send(text + b"\r\n")
        while True:
            got = self.line()
            if got[3:4] != b"-":
                break
        if not got.startswith(code):
            raise Failure("%r -> %r" % (text, got))

    def deliver(self, users, raw):
        self.ask(b"MAIL FROM:<sender@example.com>", b"250")
        for user in users:
            self.ask(b"RCPT TO:<%s>" % user.encode(), b"250")
        self.ask(b"DATA", b"354")
        self.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
        for _ in users:
            got = self.line()
            if not got.startswith(b"250"):
                raise Failure("DATA -> %r" % got)

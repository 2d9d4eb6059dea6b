#!/usr/bin/env python3
"""URLs of other users (RFC 4467), for the scene urlauth_test.

usage: urlauth.py fetch HOST PORT           what users may fetch of each other's, through the services
       urlauth.py worker HOST PORT SOCKET   the dialogue with imap-urlauth-worker alone, on standard output, to be compared with the
                                            real server's; tokens come from HOST's GENURLAUTH
"""
import imaplib
import re
import socket
import sys

TEXT = b"Subject: one\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nfirst\r\n--x\r\nContent-Type: text/plain\r\n" \
       b"Content-Transfer-Encoding: base64\r\n\r\nYQBi\r\n--x--\r\n"


class Client(imaplib.IMAP4):
    def __init__(self, host, port, user):
        super().__init__(host, port)
        self.login(user, "pass")

    def say(self, line):
        """All the lines that answer a command, literals in them, without the tagged line's times."""
        tag = b"x%d" % self.number()
        self.send(tag + b" " + line + b"\r\n")
        out = b""
        while True:
            got = self.readline()
            if got.startswith(tag + b" "):
                return out, got
            out += got
            size = re.search(rb"\{(\d+)\}\r\n$", got)
            if size:
                out += self.read(int(size.group(1)))

    def number(self):
        self.count = getattr(self, "count", 0) + 1
        return self.count


def url(owner, user, path, access):
    rump = b"imap://%s@mail.example.com/INBOX/;uid=1%s;urlauth=%s" % (user, path, access)
    lines, end = owner.say(b'GENURLAUTH "%s" INTERNAL' % rump)
    found = re.search(rb'(imap://[^" \r]+)', lines)
    if not found:
        sys.exit("GENURLAUTH %r: %r %r" % (rump, lines, end))
    return found.group(1)


def expect(what, got, pattern):
    if not re.search(pattern, got, re.S):
        sys.exit("%s: %r does not match %r" % (what, got, pattern))


def fetch(host, port):
    owner, other, submit = (Client(host, port, user) for user in ("owner", "other", "submit"))
    owner.append("INBOX", None, None, TEXT)
    whole = b"\\{%d\\}\r\n" % len(TEXT) + re.escape(TEXT)
    auth = url(owner, b"owner", b"", b"authuser")
    for who in (owner, other, submit):
        expect("authuser", who.say(b'URLFETCH "%s"' % auth)[0], rb"^\* URLFETCH \S+ " + whole + rb"\r\n$")
    lines, end = other.say(b'URLFETCH ("%s" BODY BODYPARTSTRUCTURE)' % url(owner, b"owner", b"/;section=1", b"authuser"))
    expect("structure", lines, rb'^\* URLFETCH \S+ \(BODYPARTSTRUCTURE \("text" "plain" .*\) BODY \{5\}\r\nfirst\)\r\n$')
    lines, end = other.say(b'URLFETCH ("%s" BINARY)' % url(owner, b"owner", b"/;section=2", b"authuser"))
    expect("binary", lines, rb"^\* URLFETCH \S+ \(BINARY ~\{3\}\r\na\0b\)\r\n$")
    only = url(owner, b"owner", b"", b"user+other")
    expect("user+other", other.say(b'URLFETCH "%s"' % only)[0], whole)
    expect("user+other of another", submit.say(b'URLFETCH "%s"' % only)[0],
           rb"^\* URLFETCH \S+ NIL\r\n$")
    expect("anonymous", other.say(b'URLFETCH "%s"' % url(owner, b"owner", b"", b"anonymous"))[0], whole)
    via = url(owner, b"owner", b"", b"submit+owner")
    expect("submit+", other.say(b'URLFETCH "%s"' % via)[0], rb"NIL\r\n\* NO Failed to fetch .*: No 'submit\+owner' access allowed for user other\.")
    expect("submit+submit", submit.say(b'URLFETCH "%s"' % url(owner, b"owner", b"", b"submit+submit"))[0], whole)
    forged = auth[:-4] + b"0000"
    expect("forged", other.say(b'URLFETCH "%s"' % forged)[0], rb"NIL\r\n$")
    expect("broken", other.say(b'URLFETCH "%s"' % auth.replace(b";uid=1;", b";uid=9;"))[0], rb"NIL\r\n$")
    expect("broken", other.say(b'URLFETCH "%s"' % auth.replace(b"/;uid=1;", b";uidvalidity=1/;uid=1;"))[0],
           rb"NIL\r\n$")
    nobody = b"imap://nobody@mail.example.com/INBOX/;uid=1;urlauth=authuser:internal:01" + b"0" * 40
    lines, end = other.say(b'URLFETCH "%s" "%s" "%s"' % (nobody, auth, forged))
    expect("several", lines, rb"^\* URLFETCH \S+ NIL\r\n\* URLFETCH \S+ " + whole + rb"\r\n\* URLFETCH \S+ NIL\r\n$")
    expect("several", end, rb" OK URLFETCH completed")
    owner.say(b"RESETKEY INBOX")
    expect("after RESETKEY", other.say(b'URLFETCH "%s"' % auth)[0], rb"NIL\r\n$")
    for who in (owner, other, submit):
        who.logout()


def shown(data):
    return repr(re.sub(rb":[0-9a-fx]{42}", b":TOKEN", data))


def worker(host, port, path):
    owner = Client(host, port, "owner")
    owner.append("INBOX", None, None, TEXT)

    def run(access, lines):
        """Each line is sent when the one before is answered."""
        control, (ours, theirs) = socket.socket(socket.AF_UNIX), socket.socketpair()
        control.settimeout(20)
        ours.settimeout(20)
        control.connect(path)
        socket.send_fds(control, [b"0"], [theirs.fileno()])
        theirs.close()
        control.sendall(b"VERSION\timap-urlauth-worker\t2\t0\n")
        print("control:", control.recv(100))
        control.sendall(access)
        print("control:", control.recv(100))
        for line in lines:
            try:
                ours.sendall(line + b"\n")
            except BrokenPipeError:
                break
            if line == b"END":
                break
            data = b""
            while b"\n" not in data:
                got = ours.recv(65536)
                if not got:
                    break
                data += got
            size = re.match(rb"OK\t(?:.*\t)?(\d+)\n", data)
            while size and int(size.group(1)) > 0 and len(data) < len(size.group(0)) + int(size.group(1)) + 1:
                data += ours.recv(65536)
            print(">", shown(line))
            print("<", shown(data))
            if not data:
                break
        if line != b"END":
            ours.close()
        print("control:", control.recv(100).split(b"\t")[0].strip())

    auth = url(owner, b"owner", b"", b"authuser")
    part = url(owner, b"owner", b"/;section=2", b"authuser")
    run(b"ACCESS\tother\timap\n", [b"USER\towner", b"URL\t" + auth + b"\tbody", b"URL\t" + auth + b"\tbpstruct", b"URL\t" + part + b"\tbinary",
                                   b"URL\t" + part + b"\tbody\tbpstruct", b"URL\t" + auth[:-4] + b"0000\tbody",
                                   b"URL\t" + auth.replace(b"/;uid=1;", b";uidvalidity=1/;uid=1;") + b"\tbody",
                                   b"URL\t" + auth.replace(b"internal:01", b"internal:xx") + b"\tbody",
                                   b"URL\t" + auth.replace(b"internal:", b"x:") + b"\tbody",
                                   b"URL\t" + auth.replace(b"mail.example", b"other.example") + b"\tbody",
                                   b"URL\t" + auth.replace(b"/INBOX", b"/nosuch") + b"\tbody",
                                   b"URL\t" + url(owner, b"owner", b"/;section=9", b"authuser") + b"\tbody",
                                   b"URL\t" + url(owner, b"owner", b"", b"submit+other") + b"\tbody", b"END"])
    run(b"ACCESS\tother\timap\tapps=submit+,stream\n", [b"USER\towner", b"URL\t" + url(owner, b"owner", b"", b"submit+other") + b"\tbody",
                                                        b"URL\t" + url(owner, b"owner", b"", b"stream") + b"\tbody"])
    run(b"ACCESS\t\timap\n", [b"USER\towner", b"URL\t" + auth + b"\tbody", b"URL\t" + url(owner, b"owner", b"", b"anonymous") + b"\tbody"])
    run(b"ACCESS\tother\timap\n", [b"USER\tnobody", b"END"])
    run(b"ACCESS\tother\timap\n", [b"URL\t" + auth + b"\tbody"])
    owner.logout()


if __name__ == "__main__":
    if sys.argv[1] == "fetch":
        fetch(sys.argv[2], int(sys.argv[3]))
    else:
        worker(sys.argv[2], int(sys.argv[3]), sys.argv[4])

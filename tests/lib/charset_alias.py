"""charset_alias.py HOST PORT: messages in charsets known and unknown, and what searches, sorts and previews find in them."""
import socket
import sys

CHARSETS = [b"foo", b"FOO", b"utf-8", b"us-ascii", b"bar", b"iso-8859-1", b"", b"utf8", b"koi8-r"]


def main():
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
    lines = sock.makefile("rb")
    lines.readline()

    def command(text, literal=None):
        sock.sendall(b"a " + text + (b"" if literal is None else b" {%d+}\r\n" % len(literal) + literal) + b"\r\n")
        for line in iter(lines.readline, b""):
            if line.startswith(b"a "):
                code = line.split(b"]")[0].split(b"[") if b"[BADCHARSET" in line else []
                print(text.decode(), literal, line.split()[1].decode(), *code[1:])
                return
            if line.startswith((b"* SEARCH", b"* SORT")) or b"PREVIEW" in line or not line.startswith(b"*"):
                print(line.decode("latin-1").strip())

    command(b"LOGIN u pass")
    for charset in CHARSETS:
        command(b"APPEND INBOX", b"Subject: =?" + (charset or b"utf-8") + b"?q?=C4=E4?= x\r\nContent-Type: text/plain" +
                (b"; charset=" + charset if charset else b"") + b"\r\n\r\n\304\344 hallo\r\n")
    command(b"SELECT INBOX")
    for charset in filter(None, CHARSETS):
        for key in ("\u00c4".encode(), "\u0434".encode(), "\ufffd".encode(), b"\304"):
            command(b"SEARCH CHARSET " + charset + b" SUBJECT", key)
            command(b"SEARCH CHARSET " + charset + b" BODY", key)
    command(b"SORT (SUBJECT) utf-8 ALL")
    command(b"SORT (SUBJECT) foo ALL")
    command(b"FETCH 1:* PREVIEW")
    command(b"LOGOUT")


main()

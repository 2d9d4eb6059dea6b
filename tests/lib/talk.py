#!/usr/bin/env python3
"""A conversation with a server, line by line, for scenes.

usage: talk.py [--tls] [--wait SECONDS [--while-runs PID]] HOST PORT     the script is standard input:

  text            sends the text and CRLF; \\r \\n \\t \\\\ \\xNN are escapes
  -text           the same without CRLF
  /REGEX          reads lines until one matches; "line<LF>" without its CRLF is matched
  ?REGEX          one of the lines read since the last send has matched
  !REGEX          none of the lines read since the last send has matched
  tls             STARTTLS has been answered: TLS begins
  eof             reads until the server closes

An IMAP command (a tag, a space, a word) waits for its tagged answer by itself, unless it ends in a literal {n} or is IDLE.
The greeting is read first. Everything received is printed, with "> " in front of what was sent. Exit 1: a line did not come
within 30 seconds, or the connection ended first.
"""
import argparse
import os
import re
import socket
import ssl
import sys
import time

POLL = 0.02  # between attempts to connect: nobody tells when a port opens


class Talk:
    def __init__(self, host, port, tls, wait, pid):
        end = time.monotonic() + wait
        while True:
            try:
                self.sock = socket.create_connection((host, port), timeout=30)
                break
            except OSError as err:
                if time.monotonic() >= end or (pid and not os.path.exists("/proc/%d" % pid)):
                    sys.exit("talk: %s:%d: %s" % (host, port, err))
                time.sleep(POLL)
        self.data, self.since = b"", []
        if tls:
            self.start_tls()

    def start_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def line(self):
        """The next line without its CRLF, or None at the end."""
        while b"\n" not in self.data:
            try:
                got = self.sock.recv(65536)
            except TimeoutError:
                sys.stdout.flush()
                sys.exit("talk: nothing came for 30 seconds")
            except ConnectionResetError:
                got = b""
            if not got:
                if self.data:
                    print(self.data.decode("utf-8", "replace"))
                return None
            self.data += got
        line, self.data = self.data.split(b"\n", 1)
        text = line.decode("utf-8", "surrogateescape").removesuffix("\r")
        print(text.encode("utf-8", "backslashreplace").decode())
        self.since.append(text)
        return text

    def check(self, pattern, wanted):
        """Whether what came since the last send is as it should be."""
        came = [text for text in self.since if re.search(pattern, text)]
        if wanted and not came:
            sys.exit("talk: did not come: /%s/" % pattern)
        if not wanted and came:
            sys.exit("talk: came, but must not: %s" % came[0])

    def until(self, pattern):
        found = re.compile(pattern)
        while True:
            text = self.line()
            if text is None:
                sys.exit("talk: closed before /%s/" % pattern)
            if found.search(text):
                return

    def send(self, text, crlf):
        data = re.sub(rb"\\(x[0-9a-fA-F]{2}|[rnt\\])",
                      lambda m: bytes([int(m[1][1:], 16)]) if m[1][:1] == b"x" else
                      {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}[m[1]], os.fsencode(text))
        print("> " + text)
        self.since = []
        self.sock.sendall(data + (b"\r\n" if crlf else b""))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--wait", type=float, default=0)
    parser.add_argument("--while-runs", type=int)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    talk = Talk(options.host, options.port, options.tls, options.wait, options.while_runs)
    talk.until("")
    for line in sys.stdin:
        line = line.rstrip("\n")
        if line.startswith("/"):
            talk.until(line[1:])
        elif line.startswith(("?", "!")):
            talk.check(line[1:], line[0] == "?")
        elif line == "tls":
            talk.start_tls()
        elif line == "eof":
            while talk.line() is not None:
                pass
        elif line.startswith("-"):
            talk.send(line[1:], False)
        else:
            talk.send(line, True)
            command = re.match(r"([A-Za-z0-9.]+) [A-Za-z]+", line)
            upper = line.upper()
            smtp = re.match(r"(MAIL|RCPT|LHLO|EHLO|XCLIENT|VRFY|AUTH|HELP) ", upper)
            if command and not smtp and not re.search(r"\{\d+\+?\}$", line) and not upper.endswith(" IDLE"):
                talk.until(r"^%s (OK|NO|BAD)" % re.escape(command[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

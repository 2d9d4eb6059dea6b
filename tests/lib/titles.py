#!/usr/bin/env python3
"""What ps shows of imap and imap-login with verbose_proctitle: titles.py MASTER HOST PORT TLS_PORT

One process of each, each for all clients. Waits for each title; exit 1 when one does not come within 30 seconds.
"""
import os
import re
import socket
import ssl
import sys
import time

MASTER, HOST, PORT, TLS_PORT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
POLL = 0.02


def titles():
    """Of all processes below master, sorted."""
    parents, lines = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="latin-1") as src:
                parents[int(pid)] = int(src.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{pid}/cmdline", "rb") as src:
                lines[int(pid)] = src.read().rstrip(b"\0").replace(b"\0", b" ").decode("latin-1")
        except OSError:
            pass
    found = []
    for pid, line in lines.items():
        above = pid
        while above in parents and above != MASTER:
            above = parents[above]
        if above == MASTER and re.match(r"dovecot/imap(-login)?( \[.*\])?$", line):
            found.append(line.removeprefix("dovecot/"))
    return sorted(found)


def wait(step, *wanted):
    end = time.monotonic() + 30
    while titles() != sorted(wanted):
        if time.monotonic() > end:
            sys.exit(f"titles: {step}: {titles()}, wanted {sorted(wanted)}")
        time.sleep(POLL)


class Client:
    def __init__(self, tls=False, user=None):
        self.sock = socket.create_connection((HOST, TLS_PORT if tls else PORT), timeout=30)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        if user:
            self.command("a LOGIN %s pass" % user)

    def send(self, text):
        self.sock.sendall(text.encode() + b"\r\n")

    def command(self, text):
        self.send(text)
        while not self.file.readline().startswith(text[:2].encode()):
            pass

    def close(self):
        self.file.close()
        self.sock.close()


def main():
    first = Client(tls=True)
    me = first.sock.getsockname()[0]
    wait("before login", f"imap-login [{me} pre-login]")
    second = Client()
    wait("two", "imap-login [2 pre-login]")
    second.close()
    user = Client(tls=True, user="u")
    wait("one logged in", "imap-login [1 pre-login + 1 TLS proxies]", f"imap [u {me}]")
    first.close()
    wait("the other gone", f"imap-login [{me} TLS proxy]", f"imap [u {me}]")
    user.send("b APPEND INBOX {10}")
    wait("a literal", f"imap-login [{me} TLS proxy]", f"imap [u {me} APPEND]")
    user.sock.sendall(b"A: b\r\n\r\nab\r\n")
    wait("a message", f"imap-login [{me} TLS proxy]", f"imap [u {me}]")
    user.command("c SELECT INBOX")
    user.send("d UID SEARCH BODY {3}")
    wait("a search", f"imap-login [{me} TLS proxy]", f"imap [u {me} UID SEARCH]")
    user.send("abc")
    wait("a search is done", f"imap-login [{me} TLS proxy]", f"imap [u {me}]")
    user.send("e IDLE")
    wait("idle", f"imap-login [{me} TLS proxy]", f"imap [u {me} IDLE]")
    other = Client(user="u")
    wait("two sessions", f"imap-login [{me} TLS proxy]", "imap [2 connections]")
    other.command("b LOGOUT")
    other.close()
    wait("idle again", f"imap-login [{me} TLS proxy]", f"imap [u {me} IDLE]")
    user.send("DONE")
    user.command("f LOGOUT")
    user.close()
    last = Client()
    wait("all gone", f"imap-login [{me} pre-login]", "imap [idling]")
    last.close()


if __name__ == "__main__":
    main()

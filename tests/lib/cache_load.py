#!/usr/bin/env python3
"""Sessions that ask one mailbox for headers that nobody has asked for yet, while others save, expunge, sort and search.

usage: cache_load.py HOST PORT SECONDS CLIENTS SEED     exit 1 with a text when an answer is none
"""
import random
import re
import socket
import sys
import threading
import time

FIELDS = ["Subject", "From", "To", "Date", "Message-ID", "References", "List-Id", "Received", "Cc", "Reply-To"] + ["X-%d" % i for i in range(40)]
ITEMS = ["ENVELOPE", "FLAGS", "BODYSTRUCTURE", "RFC822.SIZE", "INTERNALDATE", "BODY", "PREVIEW"]


class Client(threading.Thread):
    def __init__(self, host, port, end, seed):
        super().__init__()
        self.host, self.port, self.end, self.rand, self.bad = host, port, end, random.Random(seed), None

    def command(self, text):
        self.sock.sendall(b"t " + text.encode() + b"\r\n")
        while True:
            line = self.file.readline()
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if literal:
                self.file.read(int(literal[1]))
            elif line.startswith(b"t "):
                # a number that another session has expunged is no fault
                if line.startswith(b"t BAD") and b"Invalid messageset" not in line:
                    raise ValueError("%s: %s" % (text, line))
                return
            elif not line:
                raise ValueError("%s: the connection ends" % text)

    def one(self):
        r = self.rand
        fields = " ".join(r.sample(FIELDS, r.randint(1, 6)))
        mail = "".join("%s: v%d\r\n" % (r.choice(FIELDS), r.randint(0, 999)) for _ in range(12)) + "\r\nbody\r\n"
        return r.choice(
            ["FETCH 1:* (UID %s BODY.PEEK[HEADER.FIELDS (%s)])" % (r.choice(ITEMS), fields)] * 8 +
            ["APPEND INBOX (%s) {%d+}\r\n%s" % (r.choice(["", "\\Seen"]), len(mail), mail)] * 5 +
            ["STORE %d +FLAGS (%s)" % (r.randint(1, 20), r.choice(["\\Deleted", "\\Seen", "kw%d" % r.randint(0, 9)]))] * 2 +
            ["EXPUNGE", "SEARCH HEADER %s v1" % r.choice(FIELDS), "SORT (%s) UTF-8 ALL" % r.choice(["SUBJECT", "REVERSE DATE", "FROM", "CC"]),
             "THREAD REFERENCES UTF-8 ALL", "STATUS INBOX (MESSAGES SIZE)"])

    def run(self):
        try:
            while time.monotonic() < self.end:
                self.sock = socket.create_connection((self.host, self.port), 60)
                self.file = self.sock.makefile("rb")
                self.file.readline()
                self.command("LOGIN u pass")
                self.command("SELECT INBOX")
                for _ in range(self.rand.randint(1, 25)):
                    self.command(self.one())
                self.command("LOGOUT")
                self.sock.close()
        except (OSError, ValueError) as e:
            self.bad = e


host, port, seconds, clients, seed = sys.argv[1], *map(int, sys.argv[2:6])
threads = [Client(host, port, time.monotonic() + seconds, seed * 1000 + n) for n in range(clients)]
for t in threads:
    t.start()
for t in threads:
    t.join()
bad = [str(t.bad) for t in threads if t.bad]
print("\n".join(bad))
sys.exit(1 if bad else 0)

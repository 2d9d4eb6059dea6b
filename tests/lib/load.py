#!/usr/bin/env python3
"""Load that remembers what was acknowledged, and the look afterwards: nothing acknowledged may be missing.

usage: load.py run HOST IMAP LMTP SECONDS FILE    users u1..u4; deliveries by LMTP, APPEND, COPY, STORE over IMAP; a line of
                                                 FILE for each message that the server acknowledged. A connection that ends
                                                 is opened again: servers may be killed meanwhile.
       load.py check HOST IMAP FILE               every message of FILE is in its mailbox, with its bytes, once for each time
                                                 that it was acknowledged, and the uids are in order.
"""
import hashlib
import re
import socket
import sys
import threading
import time

USERS = ["u1", "u2", "u3", "u4"]
POLL = 0.02  # until a restarted server answers again


class Gone(Exception):
    """The connection has ended, as it does when the server is killed."""


class Connection:
    def __init__(self, host, port):
        try:
            self.sock = socket.create_connection((host, port), timeout=60)
            self.file = self.sock.makefile("rb")
            self.greeting = self.line()
        except OSError as err:
            raise Gone(str(err)) from err

    def line(self):
        try:
            got = self.file.readline()
        except OSError as err:
            raise Gone(str(err)) from err
        if not got.endswith(b"\n"):
            raise Gone("closed")
        return got

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as err:
            raise Gone(str(err)) from err

    def close(self):
        self.file.close()
        self.sock.close()


class Imap(Connection):
    def __init__(self, host, port, user):
        super().__init__(host, port)
        self.cmd(b"LOGIN %s pass" % user.encode())

    def cmd(self, text):
        """-> all lines, literals in them; a NO or BAD is fatal: nothing here may be refused."""
        self.send(b"t " + text + b"\r\n")
        out = []
        while True:
            got = self.line()
            literal = re.search(rb"\{(\d+)\}\r\n$", got)
            while literal:
                size = int(literal.group(1))
                body = self.file.read(size)
                if len(body) != size:
                    raise Gone("closed in a literal")
                more = self.line()
                got += body + more
                literal = re.search(rb"\{(\d+)\}\r\n$", more)
            if got.startswith(b"t "):
                if not got.startswith(b"t OK"):
                    if b"UNAVAILABLE" in got or b"[SERVERBUG]" in got or b"emporary" in got:
                        raise Gone(got.decode())  # the process behind it was killed
                    raise SystemExit("refused: %r -> %r" % (text[:60], got))
                return out
            if got.startswith(b"* BYE"):
                raise Gone(got.decode())
            out.append(got)


RUN = time.time_ns() // 1000000 % 10**9  # rounds must not make the same message twice


def message(user, worker, number):
    worker += RUN * 100000
    return (b"From: a@example.org\r\nSubject: %s %d %d\r\nMessage-ID: <%s.%d.%d@load>\r\n\r\n" %
            (user.encode(), worker, number, user.encode(), worker, number) + b"line of text\r\n" * (number % 40))


def deliver(host, port, user, worker, stop, note):
    number = 0
    while not stop.is_set():
        conn = Connection(host, port)
        conn.send(b"LHLO load\r\n")
        while not conn.line().startswith(b"250 "):
            pass
        for _ in range(10):
            number += 1
            body = message(user, worker, number)
            for text, code in ((b"MAIL FROM:<a@example.org>", b"250"), (b"RCPT TO:<%s>" % user.encode(), b"250"),
                               (b"DATA", b"354"), (body + b".", b"250")):
                conn.send(text + b"\r\n")
                got = conn.line()
                if not got.startswith(code):
                    raise Gone(got.decode())  # 4xx: the delivery was refused for now, not lost
            note(user, "INBOX", body)
        conn.send(b"QUIT\r\n")
        conn.close()


def use(host, port, user, worker, stop, note):
    """A person's client: appends, flags, copies."""
    number = 0
    conn = Imap(host, port, user)
    conn.cmd(b"SELECT INBOX")
    while not stop.is_set():
        number += 1
        body = message(user, worker, 100000 + number)
        conn.cmd(b"APPEND INBOX (\\Seen) {%d+}\r\n" % len(body) + body)
        note(user, "INBOX", body)
        conn.cmd(b"NOOP")
        conn.cmd(b"STORE * +FLAGS (\\Flagged)")
        if number % 5 == 0:
            conn.cmd(b"FETCH * (UID FLAGS ENVELOPE)")
    conn.cmd(b"LOGOUT")
    conn.close()


def run(host, imap, lmtp, seconds, path):
    stop, lock, counts = threading.Event(), threading.Lock(), {"done": 0, "again": 0}
    refused = []
    with open(path, "a", buffering=1) as out:
        def note(user, mailbox, body):
            with lock:
                counts["done"] += 1
                out.write("%s %s %s\n" % (user, mailbox, re.search(rb"<([^>]*)>", body).group(1).decode() + " "
                                          + hashlib.sha256(body.split(b"\r\n\r\n", 1)[1]).hexdigest()))

        def work(job, port, user, worker):
            while not stop.is_set():
                try:
                    job(host, port, user, worker, stop, note)
                except Gone:
                    counts["again"] += 1
                    worker += 10
                    time.sleep(POLL)
                except SystemExit as err:
                    refused.append(str(err))
                    return

        threads = []
        for n, user in enumerate(USERS):
            threads.append(threading.Thread(target=work, args=(deliver, lmtp, user, 10000 * (n + 1))))
            threads.append(threading.Thread(target=work, args=(use, imap, user, 10000 * (n + 1) + 5000)))
        for thread in threads:
            thread.start()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join()
    print("%(done)d messages acknowledged, %(again)d connections ended early" % counts)
    for text in refused:
        print(text)
    return 1 if refused or not counts["done"] else 0


def check(host, imap, path):
    wanted, faults = {}, 0
    with open(path) as src:
        for line in src:
            user, mailbox, ident, digest = line.split()
            wanted.setdefault((user, mailbox), {})[ident] = digest
    for (user, mailbox), messages in sorted(wanted.items()):
        conn = Imap(host, imap, user)
        conn.cmd(b"SELECT %s" % mailbox.encode())
        found, last = {}, 0
        for got in conn.cmd(b"FETCH 1:* (UID BODY.PEEK[])"):
            uid = re.search(rb"UID (\d+)", got)
            ident = re.search(rb"Message-ID: <([^>]*)>", got)
            if not uid or not ident:
                continue
            if int(uid.group(1)) <= last:
                faults += 1
                print("%s: uid %s after %d" % (user, uid.group(1).decode(), last))
            last = int(uid.group(1))
            body = re.search(rb"\r\n\r\n((?:line of text\r\n)*)", got).group(1)
            found[ident.group(1).decode()] = hashlib.sha256(body).hexdigest()
        for ident, digest in messages.items():
            if found.get(ident) != digest:
                faults += 1
                print("%s/%s: %s is %s" % (user, mailbox, ident, "changed" if ident in found else "missing"))
        print("%s: %d acknowledged, %d there" % (user, len(messages), len(found)))
        conn.close()
    return 1 if faults or not wanted else 0


def main():
    if sys.argv[1:2] == ["run"] and len(sys.argv) == 7:
        return run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), sys.argv[6])
    if sys.argv[1:2] == ["check"] and len(sys.argv) == 5:
        return check(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main())

"""The workloads. Each is setup(bench, server) -> state and run(bench, server, state) -> (operations, check).

check() is called when the time is taken, and gives a checksum of what the server says, where that must be the same for every
server; None: there is nothing to compare. An operation is what the first line of the workload says.

What is timed is played by the compiled client (sessions.c), which costs a fraction of what the servers do.
"""
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time

from clients import Imap

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import mailgen  # noqa: E402


class Bench:
    """Sizes, and the accounts that were used."""

    def __init__(self, scale, seed, client):
        self.scale, self.seed, self.client, self.used = scale, seed, client, {}
        self.seconds = 0  # that the last play took

    def n(self, count):
        return max(1, int(count * self.scale))

    def user(self, server):
        """A fresh account."""
        self.used[server.name] = self.used.get(server.name, 0) + 1
        return "bench%d" % self.used[server.name]

    def play(self, server, protocol, parallel, scripts, count=None):
        """Plays sessions, one a script (or `count` with the scripts in turn), so many at a time. A script: (piece, number of answers)."""
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for script in scripts:
                files.append(os.path.join(folder, str(len(files))))
                with open(files[-1], "wb") as out:
                    for piece, answers in script:
                        out.write(b"%d %d\n" % (len(piece), answers) + piece)
            start = time.monotonic()
            subprocess.run([self.client, server.host, str(server.imap if protocol == "imap" else server.lmtp), protocol,
                            str(count or len(files)), str(parallel), *files], check=True)
            self.seconds = time.monotonic() - start

    def imap(self, server, user, *commands, count=1, parallel=1):
        """Sessions of one user."""
        login = b"LOGIN %s %s" % (user.encode(), server.password.encode())
        self.play(server, "imap", parallel, [[(command, 1) for command in (login, *commands, b"LOGOUT")]], count)

    def lmtp(self, server, parallel, transactions):
        """A session for each list of (recipients, message)."""
        scripts = []
        for session in transactions:
            script = [(b"LHLO bench\r\n", 1)]
            for users, raw in session:
                script.append((b"MAIL FROM:<sender@example.com>\r\n", 1))
                script += [(b"RCPT TO:<%s>\r\n" % user.encode(), 1) for user in users]
                script += [(b"DATA\r\n", 1), (re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n", len(users))]
            scripts.append(script + [(b"QUIT\r\n", 1)])
        self.play(server, "lmtp", parallel, scripts)

    def fill(self, server, count):
        """An account with realistic mail."""
        user = self.user(server)
        conn = Imap(server, user)
        for number, raw in enumerate(mailgen.messages(count, self.seed)):
            conn.append(b"INBOX", raw, (b"", b"\\Seen", b"\\Seen \\Answered", b"\\Flagged")[number % 4])
        conn.cmd(b"LOGOUT")
        conn.close()
        return user

    def fill_small(self, server, count):
        """An account with many short messages."""
        user = self.user(server)
        conn = Imap(server, user)
        for start in range(0, count, 200):
            out, numbers = [], range(start, min(count, start + 200))
            for n in numbers:
                raw = (b"From: a%d@example.com\r\nTo: b@example.com\r\nSubject: message %d of thread %d\r\n"
                       b"Message-ID: <%d@example.com>\r\nDate: Thu, 01 Jan 2026 %02d:%02d:%02d +0000\r\n\r\nbody %d\r\n"
                       % (n % 97, n, n % 500, n, n // 3600 % 24, n // 60 % 60, n % 60, n))
                out.append(b'p%d APPEND "INBOX" (\\Seen) {%d+}\r\n' % (n, len(raw)) + raw + b"\r\n")
            conn.send(b"".join(out))
            for n in numbers:
                conn.finish(b"p%d" % n)
        conn.cmd(b"LOGOUT")
        conn.close()
        return user


def digest(chunks):
    state = hashlib.sha256()
    for one in chunks:
        state.update(re.sub(rb"\(\d\.\d+ \+ [^)]*\)", b"", one))
    return state.hexdigest()[:12]


WORKLOADS = {}


class Workload:
    def __init__(self, run, setup, cold):
        self.run, self.setup, self.cold = run, setup, cold
        self.about = run.__doc__.strip()


def workload(setup=None, cold=False):
    def register(run):
        WORKLOADS[run.__name__] = Workload(run, setup, cold)
        return run
    return register


def filled(count):
    return lambda bench, server: bench.fill(server, bench.n(count))


def small(count):
    return lambda bench, server: bench.fill_small(server, bench.n(count))


def said(server, user, *commands):
    """The check of what is answered to them."""
    def check():
        conn = Imap(server, user)
        conn.select()
        got = [line for command in commands for line in conn.cmd(command)]
        conn.close()
        return digest(got)
    return check


def logins(bench, server, parallel):
    count = bench.n(2000)
    bench.imap(server, bench.user(server), count=count, parallel=parallel)
    return count, None


@workload()
def login_logout(bench, server, _state):
    """LOGIN and LOGOUT, 8 connections at a time"""
    return logins(bench, server, 8)


@workload()
def login_crowd(bench, server, _state):
    """LOGIN and LOGOUT, 32 connections at a time"""
    return logins(bench, server, 32)


@workload(lambda bench, server: bench.fill(server, 50))
def login_select_fetch(bench, server, user):
    """what a webmail does: LOGIN, SELECT, FETCH 20 envelopes, LOGOUT; 8 connections at a time"""
    count = bench.n(1000)
    bench.imap(server, user, b"SELECT INBOX", b"FETCH 31:50 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)", count=count, parallel=8)
    return count, None


def deliver(bench, server, parallel, each):
    users = [bench.user(server) for _ in range(20)]
    batch = list(mailgen.messages(bench.n(400), bench.seed))
    bench.lmtp(server, parallel, [[([users[at // each % 20]], raw) for raw in batch[at:at + each]] for at in range(0, len(batch), each)])
    return len(batch), None


@workload()
def lmtp(bench, server, _state):
    """a delivery of realistic mail, 4 connections, 10 messages each"""
    return deliver(bench, server, 4, 10)


@workload()
def lmtp_one(bench, server, _state):
    """a delivery of realistic mail, one connection"""
    return deliver(bench, server, 1, bench.n(400))


@workload()
def lmtp_streams(bench, server, _state):
    """a delivery of realistic mail, 20 connections, 20 messages each"""
    return deliver(bench, server, 20, 20)


@workload()
def lmtp_fanout(bench, server, _state):
    """a recipient of messages to 20 recipients each"""
    users = [bench.user(server) for _ in range(20)]
    batch = list(mailgen.messages(bench.n(20), bench.seed))
    bench.lmtp(server, 1, [[(users, raw) for raw in batch]])
    return len(batch) * 20, None


@workload()
def append(bench, server, _state):
    """APPEND of realistic mail, one connection"""
    batch = list(mailgen.messages(bench.n(400), bench.seed))
    bench.imap(server, bench.user(server), *(b"APPEND INBOX (\\Seen) {%d+}\r\n" % len(raw) + raw for raw in batch))
    return len(batch), None


@workload(small(20000))
def select_warm(bench, server, user):
    """SELECT of a large mailbox, indexes warm"""
    count = bench.n(500)
    bench.imap(server, user, *[b"SELECT INBOX", b"UNSELECT"] * count)
    return count, said(server, user, b"STATUS INBOX (MESSAGES UIDNEXT UNSEEN)")


@workload(small(20000), cold=True)
def open_cold(bench, server, user):
    """a message of the first SELECT and FETCH ENVELOPE after the indexes were lost"""
    command = b"FETCH 1:* ENVELOPE"
    bench.imap(server, user, b"SELECT INBOX", command)
    return bench.n(20000), said(server, user, command)


def again(bench, server, user, exists, times, command):
    """`command` so many times, for each message of the mailbox."""
    times = bench.n(times)
    bench.imap(server, user, b"SELECT INBOX", *[command] * times)
    return times * exists, said(server, user, command)


@workload(small(20000))
def fetch_flags(bench, server, user):
    """a message of UID FETCH 1:* (FLAGS)"""
    return again(bench, server, user, bench.n(20000), 20, b"UID FETCH 1:* (FLAGS)")


ENVELOPES = b"FETCH 1:* (ENVELOPE RFC822.SIZE)"


def asked_before(bench, server):
    user = bench.fill_small(server, bench.n(20000))
    said(server, user, ENVELOPES)()
    return user


@workload(asked_before)
def fetch_envelope(bench, server, user):
    """a message of FETCH 1:* (ENVELOPE RFC822.SIZE), cache warm"""
    return again(bench, server, user, bench.n(20000), 10, ENVELOPES)


@workload(filled(500))
def fetch_bodies(bench, server, user):
    """a message of FETCH 1:* BODY.PEEK[], realistic mail"""
    return again(bench, server, user, bench.n(500), 60, b"FETCH 1:* BODY.PEEK[]")


@workload(filled(2000), cold=True)
def bodystructure_cold(bench, server, user):
    """a message of FETCH 1:* (BODYSTRUCTURE ENVELOPE) with nothing cached"""
    command = b"FETCH 1:* (BODYSTRUCTURE ENVELOPE)"  # once, whatever the scale: a second one is not cold
    bench.imap(server, user, b"SELECT INBOX", command)
    return bench.n(2000), said(server, user, command)


@workload(small(10000))
def store_flags(bench, server, user):
    """a message changed by STORE 1:*"""
    count = bench.n(4)
    bench.imap(server, user, b"SELECT INBOX", *[b"STORE 1:* +FLAGS.SILENT (\\Flagged kw)", b"STORE 1:* -FLAGS.SILENT (\\Flagged kw)"] * count)
    return 2 * count * bench.n(10000), said(server, user, b"FETCH 1:* FLAGS")


@workload(small(5000))
def store_single(bench, server, user):
    """a STORE of one message, as somebody reads mail"""
    count = bench.n(1000)
    bench.imap(server, user, b"SELECT INBOX", *(b"STORE %d +FLAGS (\\Answered)" % number for number in range(1, count + 1)))
    return count, said(server, user, b"FETCH 1:* FLAGS")


@workload(filled(500))
def search_body(bench, server, user):
    """a message looked at by SEARCH BODY, no full-text index"""
    commands = [b"SEARCH CHARSET UTF-8 BODY {7+}\r\nm\xc3\xbcller", b'SEARCH BODY "quota ledger"']
    count = bench.n(10)
    bench.imap(server, user, b"SELECT INBOX", *commands * count)
    return 2 * count * bench.n(500), said(server, user, *commands)


@workload(small(20000))
def search_header(bench, server, user):
    """a message looked at by SEARCH SUBJECT, SENTSINCE, flags"""
    commands = [b'SEARCH SUBJECT "thread 77"', b"SEARCH SENTSINCE 1-Jan-2026 UNFLAGGED"]
    count = bench.n(10)
    bench.imap(server, user, b"SELECT INBOX", commands[0], *commands * count)
    return 2 * count * bench.n(20000), said(server, user, *commands)


@workload(small(20000))
def sort_thread(bench, server, user):
    """a message of SORT and THREAD"""
    commands = [b"SORT (SUBJECT) UTF-8 ALL", b"SORT (REVERSE DATE) UTF-8 ALL", b"THREAD REFERENCES UTF-8 ALL"]
    count = bench.n(5)
    bench.imap(server, user, b"SELECT INBOX", *commands, *commands * count)
    return 3 * count * bench.n(20000), said(server, user, *commands)


def many_mailboxes(bench, server):
    user = bench.user(server)
    conn = Imap(server, user)
    for number in range(bench.n(100)):
        conn.cmd(b"CREATE box%d" % number)
        for raw in mailgen.messages(3, bench.seed + number):
            conn.append(b"box%d" % number, raw)
    conn.close()
    return user


@workload(many_mailboxes)
def list_status(bench, server, user):
    """a mailbox of LIST RETURN (STATUS (MESSAGES UNSEEN UIDNEXT))"""
    command, count = b'LIST "" "*" RETURN (STATUS (MESSAGES UNSEEN UIDNEXT))', bench.n(200)
    bench.imap(server, user, *[command] * count)
    return count * (bench.n(100) + 1), said(server, user, command)


@workload(small(5000))
def copy_move_expunge(bench, server, user):
    """a message of COPY 1:*, MOVE 1:*, STORE \\Deleted and EXPUNGE"""
    bench.imap(server, user, b"SELECT INBOX", b"CREATE one", b"CREATE two", b"COPY 1:* one", b"MOVE 1:* two", b"SELECT one",
               b"STORE 1:* +FLAGS.SILENT (\\Deleted)", b"EXPUNGE")
    return 3 * bench.n(5000), None

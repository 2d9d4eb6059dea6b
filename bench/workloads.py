"""The workloads. Each is setup(bench, server) -> state and run(bench, server, state) -> (operations, checksum).

A checksum is of what the server said, where that must be the same for every server. An operation is what the first line
of the workload says.
"""
import hashlib
import os
import re
import subprocess
import sys

from clients import Imap, Lmtp, in_parallel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import mailgen  # noqa: E402


class Bench:
    """Sizes, and the accounts that were used."""

    def __init__(self, scale, seed, client):
        self.scale, self.seed, self.client, self.used = scale, seed, client, {}

    def n(self, count):
        return max(1, int(count * self.scale))

    def user(self, server):
        """A fresh account."""
        self.used[server.name] = self.used.get(server.name, 0) + 1
        return "bench%d" % self.used[server.name]

    def sessions(self, server, count, parallel, *commands):
        """Plays whole sessions with the compiled client (sessions.c), which costs a tenth of what the servers do."""
        subprocess.run([self.client, server.host, str(server.imap), str(count), str(parallel), *commands], check=True)

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


def selected(server, user):
    conn = Imap(server, user)
    return conn, conn.select()


@workload()
def login_logout(bench, server, _state):
    """LOGIN and LOGOUT, 8 connections at a time"""
    count = bench.n(2000)
    bench.sessions(server, count, 8, "LOGIN %s %s" % (bench.user(server), server.password), "LOGOUT")
    return count, ""


@workload(lambda bench, server: bench.fill(server, 50))
def login_select_fetch(bench, server, user):
    """what a webmail does: LOGIN, SELECT, FETCH 20 envelopes, LOGOUT; 8 connections at a time"""
    count = bench.n(1000)
    bench.sessions(server, count, 8, "LOGIN %s %s" % (user, server.password), "SELECT INBOX",
                   "FETCH 31:50 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)", "LOGOUT")
    return count, ""


@workload()
def lmtp(bench, server, _state):
    """a delivery of realistic mail, 4 connections, 10 messages each"""
    users = [bench.user(server) for _ in range(16)]
    batch = list(mailgen.messages(bench.n(400), bench.seed))

    def deliver(at):
        conn = Lmtp(server)
        for raw in batch[at:at + 10]:
            conn.deliver([users[at // 10 % 16]], raw)
        conn.close()
    in_parallel([lambda at=at: deliver(at) for at in range(0, len(batch), 10)], 4)
    return len(batch), ""


@workload()
def lmtp_fanout(bench, server, _state):
    """a recipient of messages to 20 recipients each"""
    users = [bench.user(server) for _ in range(20)]
    batch = list(mailgen.messages(bench.n(20), bench.seed))
    conn = Lmtp(server)
    for raw in batch:
        conn.deliver(users, raw)
    conn.close()
    return len(batch) * 20, ""


@workload()
def append(bench, server, _state):
    """APPEND of realistic mail, one connection"""
    count = bench.n(400)
    bench.fill(server, count)
    return count, ""


@workload(small(20000))
def select_warm(bench, server, user):
    """SELECT of a large mailbox, indexes warm"""
    conn, count = Imap(server, user), bench.n(100)
    for _ in range(count):
        got = conn.cmd(b"SELECT INBOX")
        conn.cmd(b"UNSELECT")
    conn.close()
    return count, digest(x for x in got if b"EXISTS" in x or b"RECENT" in x)


@workload(small(20000), cold=True)
def open_cold(bench, server, user):
    """a message of the first SELECT and FETCH ENVELOPE after the indexes were lost"""
    conn, _ = selected(server, user)
    got = conn.cmd(b"FETCH 1:* (UID ENVELOPE)")
    conn.close()
    return len(got), digest(re.sub(rb"UID \d+", b"", x) for x in got)


@workload(small(20000))
def fetch_flags(bench, server, user):
    """a message of UID FETCH 1:* (FLAGS)"""
    conn, done = selected(server, user)[0], 0
    for _ in range(bench.n(10)):
        got = conn.cmd(b"UID FETCH 1:* (FLAGS)")
        done += len(got)
    conn.close()
    return done, digest(got)


@workload(small(20000))
def fetch_envelope(bench, server, user):
    """a message of FETCH 1:* (ENVELOPE RFC822.SIZE), cache warm"""
    conn, done = selected(server, user)[0], 0
    conn.cmd(b"FETCH 1:* (ENVELOPE RFC822.SIZE)")
    for _ in range(bench.n(5)):
        got = conn.cmd(b"FETCH 1:* (ENVELOPE RFC822.SIZE)")
        done += len(got)
    conn.close()
    return done, digest(got)


@workload(filled(500))
def fetch_bodies(bench, server, user):
    """a message of FETCH 1:* BODY.PEEK[], realistic mail"""
    conn, done = selected(server, user)[0], 0
    for _ in range(bench.n(4)):
        got = conn.cmd(b"FETCH 1:* BODY.PEEK[]")
        done += len(got)
    conn.close()
    return done, digest(got)


@workload(filled(500), cold=True)
def bodystructure_cold(bench, server, user):
    """a message of FETCH 1:* (BODYSTRUCTURE ENVELOPE) with nothing cached"""
    conn, _ = selected(server, user)
    got = conn.cmd(b"FETCH 1:* (BODYSTRUCTURE ENVELOPE)")
    conn.close()
    return len(got), digest(got)


@workload(small(10000))
def store_flags(bench, server, user):
    """a message changed by STORE 1:*"""
    conn, exists = selected(server, user)
    count = bench.n(4)
    for _ in range(count):
        conn.cmd(b"STORE 1:* +FLAGS.SILENT (\\Flagged kw)")
        conn.cmd(b"STORE 1:* -FLAGS.SILENT (\\Flagged kw)")
    conn.close()
    return 2 * count * exists, ""


@workload(small(5000))
def store_single(bench, server, user):
    """a STORE of one message, as somebody reads mail"""
    conn, exists = selected(server, user)
    count = min(exists, bench.n(1000))
    for number in range(1, count + 1):
        conn.cmd(b"STORE %d +FLAGS (\\Answered)" % number)
    conn.close()
    return count, ""


@workload(filled(500))
def search_body(bench, server, user):
    """a message looked at by SEARCH BODY, no full-text index"""
    conn, exists = selected(server, user)
    count = bench.n(3)
    for _ in range(count):
        got = conn.cmd(b"SEARCH CHARSET UTF-8 BODY {7+}\r\nm\xc3\xbcller ")
        got += conn.cmd(b'SEARCH BODY "quota ledger"')
    conn.close()
    return 2 * count * exists, digest(got)


@workload(small(20000))
def search_header(bench, server, user):
    """a message looked at by SEARCH SUBJECT, SENTSINCE, flags"""
    conn, exists = selected(server, user)
    conn.cmd(b'SEARCH SUBJECT "thread 77"')
    count = bench.n(5)
    for _ in range(count):
        got = conn.cmd(b'SEARCH SUBJECT "thread 77"') + conn.cmd(b"SEARCH SENTSINCE 1-Jan-2026 UNFLAGGED")
    conn.close()
    return 2 * count * exists, digest(got)


@workload(small(5000))
def copy_move_expunge(bench, server, user):
    """a message of COPY 1:*, MOVE 1:*, STORE \\Deleted and EXPUNGE"""
    conn, exists = selected(server, user)
    conn.cmd(b"CREATE one")
    conn.cmd(b"CREATE two")
    conn.cmd(b"COPY 1:* one")
    conn.cmd(b"MOVE 1:* two")
    conn.select(b"one")
    conn.cmd(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
    conn.cmd(b"EXPUNGE")
    conn.close()
    return 3 * exists, ""

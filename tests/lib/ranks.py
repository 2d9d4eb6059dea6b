#!/usr/bin/env python3
"""Two servers on one store sort and thread the same mailbox; ranks that either writes are good for both.

usage: ranks.py OURS REAL PORT MAILBOX-DIR INDEX-TOOL REAL-DOVEADM LOG-OF-OURS

Everything is compared with a model: the texts that messages were made of, in their order.
"""
import imaplib
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ours_host, real_host, port, folder, tool, doveadm, log = sys.argv[1:]
WORDS = ["Alpha", "beta", "Gamma", "delta", "epsilon", "zeta", "", "eta", "theta", "a b  c", "\u00c4pfel", "z\u00fcrich", "iota", "kappa"]
FORMS = ["%s", "Re: %s", "%s (fwd)", "[list] %s", "[list] RE: %s", "Fwd: %s"]
POLL = 0.02          # between looks into a log
NAMES = ["sort-s", "sort-f", "sort-t", "sort-c", "sort-df", "sort-dt"]
rng = random.Random(5)
model = []           # of the messages that are there: uid, subject, from, to, cc, display names


def fail(text):
    sys.exit("ranks: " + text)


def fold(text):
    """The words above need no more: capitals, decomposed."""
    return (text.upper().replace("\u00c4", "A\u0308").replace("\u00dc", "U\u0308")).encode()


class Server:
    def __init__(self, host):
        self.imap = imaplib.IMAP4(host, int(port))
        self.imap.login("u", "pass")
        self.imap.select("INBOX")

    def append(self, count):
        for _ in range(count):
            word = rng.choice(WORDS)
            if word and rng.random() < 0.7:
                word += " %d" % rng.randrange(60)
            people = {one: "p%d" % rng.randrange(40) for one in ("From", "To", "Cc")}
            shown = {one: rng.choice(["", "Name %d" % rng.randrange(9)]) for one in ("From", "To")}
            subject = rng.choice(FORMS) % word if word else ""
            text = b"Subject: %s\r\n" % (subject.encode() if subject.isascii() else b"=?utf-8?q?" + b"".join(
                b"=%02X" % c for c in subject.encode()) + b"?=")
            for one, box in people.items():
                text += ("%s: %s<%s@example.org>\r\n" % (one, shown.get(one, "") + " " if shown.get(one) else "", box)).encode()
            answer = self.imap.append("INBOX", None, None, text + b"\r\nbody\r\n")
            uid = int(re.search(rb"APPENDUID \d+ (\d+)", answer[1][0]).group(1))
            model.append({"uid": uid, "SUBJECT": fold(re.sub(" +", " ", word)), "FROM": fold(people["From"]), "TO": fold(people["To"]),
                          "CC": fold(people["Cc"]), "DISPLAYFROM": fold(shown["From"] or people["From"] + "@example.org"),
                          "DISPLAYTO": fold(shown["To"] or people["To"] + "@example.org")})

    def sort(self, program, keys="ALL"):
        self.imap.noop()
        answer = self.imap.uid("SORT", "(%s)" % program, "UTF-8", keys)
        if answer[0] != "OK":
            fail("SORT (%s): %r" % (program, answer))
        return [int(x) for x in (answer[1][0] or b"").split()]

    def thread(self, how):
        self.imap.noop()
        return self.imap.uid("THREAD", how, "UTF-8", "ALL")[1]

    def expunge(self, count):
        gone = rng.sample(model, count)
        self.imap.uid("STORE", ",".join(str(m["uid"]) for m in gone), "+FLAGS.SILENT", "(\\Deleted)")
        self.imap.expunge()
        for m in gone:
            model.remove(m)


def wanted(program, messages=None):
    order = list(messages or model)
    words = program.split()
    for at in range(len(words) - 1, -1, -1):
        if words[at] != "REVERSE":
            order.sort(key=lambda m: m[words[at]], reverse=at > 0 and words[at - 1] == "REVERSE")
    return [m["uid"] for m in order]


def dumped():
    """The index as the real server's doveadm reads it."""
    return subprocess.run([doveadm, "dump", "-t", "index", folder], stdout=subprocess.PIPE, check=True, text=True, errors="replace").stdout


def reset_id(name):
    return int(re.search(r"name \.* = %s\n(?:[^\n]+\n)*? *reset_id \.* = (\d+)" % name, dumped()).group(1))


def ranks():
    """Extension -> uid -> rank."""
    text = dumped()
    found, uid = {name: {} for name in NAMES}, 0
    for line in text.split("\n"):
        record = re.match(r"RECORD: seq=\d+, uid=(\d+)", line)
        if record:
            uid = int(record.group(1))
        rank = re.match(r" - ext \d+ +(sort-\w+) *: +(\d+) ", line)
        if rank and uid:
            found[rank.group(1)][uid] = int(rank.group(2))
    return found


KEYS = {"sort-s": "SUBJECT", "sort-f": "FROM", "sort-t": "TO", "sort-c": "CC", "sort-df": "DISPLAYFROM", "sort-dt": "DISPLAYTO"}


def check_ranks(names, complete=True):
    got = ranks()
    for name in names:
        ranked = sorted((m[KEYS[name]], got[name].get(m["uid"], 0)) for m in model)
        if complete and any(rank == 0 for _, rank in ranked):
            fail("%s: a message has no rank" % name)
        for (text, rank), (text2, rank2) in zip(ranked, ranked[1:]):
            if (rank != rank2) if text == text2 else (rank >= rank2):
                fail("%s: %r has %d, %r has %d" % (name, text, rank, text2, rank2))
    return got


def check(server, who, programs):
    for program in programs:
        if server.sort(program) != wanted(program):
            fail("%s: SORT (%s) is wrong" % (who, program))


def damage(name, numbers):
    """As the user whom the files belong to: the tool may write a new base index."""
    command, owner = [tool, folder], os.stat(folder)
    for uid, number in numbers:
        command += ["ext", name, str(uid), str(number), ","]
    subprocess.run(command[:-1], stdout=subprocess.DEVNULL, check=True, user=owner.st_uid, group=owner.st_gid, extra_groups=[],
                   env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))


def heard(text):
    """Lines come by way of the log process; nobody tells when one is written."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with open(log, errors="replace") as src:
            if text in src.read():
                return True
        time.sleep(POLL)
    return False


def damages(ours, real):
    """What is damaged is noticed, said, and made anew; the real server finds nothing to complain about afterwards."""
    everything = ranks()["sort-s"]
    uids = sorted(everything)
    damage("sort-s", [(uids[20], 0)])
    check(ours, "ours, a gap", ["SUBJECT"])
    if not heard("Mailbox INBOX: Broken sort-s indexes, resetting: sort_id=0 found in the middle (uid=%d has sort_id, uid=%d doesn't)" % (
            uids[21], uids[20])):
        fail("a gap was not noticed")
    check_ranks(["sort-s"])
    check(real, "the real one, after a gap", ["SUBJECT"])

    damage("sort-s", [(uid, 0xffffffff - rank) for uid, rank in ranks()["sort-s"].items()])
    ours.append(1)
    check(ours, "ours, upside down", ["SUBJECT"])
    if not heard("Broken sort-s indexes, resetting: Invalid sort_id order ("):
        fail("an order upside down was not noticed")
    check_ranks(["sort-s"])
    check(real, "the real one, after upside down", ["SUBJECT"])

    damage("sort-s", [(uid, 77) for uid in ranks()["sort-s"]])
    real.append(1)
    check(ours, "ours, all the same", ["SUBJECT"])
    if not heard("Broken sort-s indexes, resetting: Equal sort_id of "):
        fail("different texts under one rank were not noticed")
    check_ranks(["sort-s"])
    check(real, "the real one, after all the same", ["SUBJECT"])


def main():
    ours, real = Server(ours_host), Server(real_host)
    ours.append(30)
    check(ours, "ours", ["SUBJECT", "FROM"])
    if any(ranks()[name] for name in NAMES):
        fail("ranks of a mailbox where they do not pay")
    ours.append(120)
    # Each key is ranked by one server first, and used by the other.
    for at, name in enumerate(NAMES):
        first, second = (ours, real) if at % 2 == 0 else (real, ours)
        check(first, "the first", [KEYS[name]])
        before = check_ranks([name])
        check(second, "the second", [KEYS[name], "REVERSE " + KEYS[name], KEYS[name] + " REVERSE FROM"])
        if ranks() != before:
            fail("%s was written again" % name)
    # New messages, expunges, in turns.
    for turn in range(12):
        writer, sorter = ((ours, real) if turn % 2 == 0 else (real, ours))
        writer.append(rng.randrange(1, 9))
        if turn % 3 == 2:
            sorter.expunge(5)
        program = KEYS[NAMES[turn % len(NAMES)]]
        before = reset_id(NAMES[turn % len(NAMES)])
        check(sorter, "turn %d, the sorter" % turn, [program, "REVERSE %s SUBJECT" % program])
        check_ranks([NAMES[turn % len(NAMES)]])
        if reset_id(NAMES[turn % len(NAMES)]) != before + 1:
            fail("turn %d: the reset id went from %d to %d" % (turn, before, reset_id(NAMES[turn % len(NAMES)])))
        check(writer, "turn %d, the writer" % turn, [program])
    # Both at once: numbers of two computations are never mixed.
    for _ in range(5):
        real.append(25)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda server: check(server, "at once", ["SUBJECT", "FROM"]), (ours, real)))
        check_ranks(["sort-s", "sort-f"])
    # A few of the messages: their texts alone are read, and no rank is written; then all.
    ours.append(40)
    before = ranks()
    two = [m for m in model if m in model[::len(model) - 1]]
    if len(model) < 300 or ours.sort("SUBJECT", "UID %d,%d" % tuple(m["uid"] for m in two)) != wanted("SUBJECT", two):
        fail("two are out of order")
    few = rng.sample(model, 5)
    if ours.sort("SUBJECT", "UID " + ",".join(str(m["uid"]) for m in few + model[-5:])) != wanted(
            "SUBJECT", [m for m in model if m in few + model[-5:]]):
        fail("a few are out of order")
    if ranks() != before:
        fail("ranks were written for a few")
    for how in ("REFERENCES", "ORDEREDSUBJECT", "REFS"):
        if ours.thread(how) != real.thread(how):
            fail("THREAD %s differs" % how)
    check_ranks(["sort-s"])
    # Both look at new mail that the other one has not seen yet; EXAMINE makes no difference.
    real.append(3)
    ours.imap.select("INBOX", readonly=True)
    check(ours, "ours, examining", ["SUBJECT", "CC"])
    check_ranks(["sort-s"])
    check(real, "the real one", ["CC"])
    ours.imap.select("INBOX")
    damages(ours, real)


main()

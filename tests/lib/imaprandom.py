#!/usr/bin/env python3
"""Random IMAP sessions, the same against two servers: what they answer must be equal, byte for byte but for times and numbers.

usage: imaprandom.py HOST1 HOST2 PORT FIRST COUNT      seeds FIRST, FIRST+1 ...; accounts of its own, password "pass"

The second server is the measure. Each session has eight messages of the recordings in a mailbox and sends COMMANDS commands made by a grammar of what clients
send and of what they should not. The first differing answer of a session is printed, with the command. The grammar leaves out
where the servers are known to differ (docs/compatibility.md).
"""
import os
import random
import re
import socket
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "recordings", "imap"))
import imaprec  # noqa: E402

COMMANDS = 25
MESSAGES = ["plain", "second", "third", "mime", "enc", "nohdr", "big", "broken"]
FLAGS = ["\\Seen", "\\Flagged", "\\Deleted", "\\Draft", "\\Answered", "kw1", "kw2", "$Forwarded", "\\Recent", "a%b"]
ITEMS = ["FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY[]", "BODY.PEEK[]",
         "BODY.PEEK[HEADER]", "BODY[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[2]", "BODY.PEEK[3.HEADER]",
         "BODY.PEEK[3.1]", "BODY.PEEK[HEADER.FIELDS (Subject From)]", "BODY.PEEK[HEADER.FIELDS.NOT (Subject)]",
         "BODY.PEEK[]<0.20>", "BODY.PEEK[TEXT]<5.9999>", "RFC822", "RFC822.HEADER", "RFC822.TEXT", "PREVIEW", "MODSEQ",
         "BINARY.PEEK[2]", "X-GUID", "BODY.PEEK[4]", "BODY.PEEK[1.1.1]", "BODY.PEEK[2.TEXT]", "BODY[MIME]",
         "BODY[HEADER.FIELDS ()]", "BOGUS", "BODY.PEEK[3.1.MIME]", "BODY.PEEK[3.TEXT]"]
BOXES = ["box", "INBOX", "inbox", "a", "a.b", "a.b.c", "x", "x.y", "Sent", '"sp ace"', '""', "a..b", ".a", "a.", '"T&AOQ-st"',
         '"a&b"', "nonexistent", "Trash", '"a*"', "INBOX.sub"]
WORDS = ["a", "plain", "e", "Alice", "needle", "text", "example", "Re:", '""', '"Inner subject"', '"\u00fc"']


class Grammar:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *choices):
        return self.random.choice(choices)

    def number(self):
        return self.pick(str(self.random.randrange(0, 11)), "*", str(self.random.randrange(1, 9)),
                         str(self.random.randrange(1, 9)))

    def sets(self):
        return ",".join(self.number() if self.random.random() < .5 else self.number() + ":" + self.number()
                        for _ in range(self.pick(1, 1, 1, 2, 3)))

    def flags(self):
        names = " ".join(self.random.sample(FLAGS, self.pick(0, 1, 1, 2, 3)))
        return "(" + names + ")" if self.random.random() < .8 else names

    def fetch(self):
        shape = self.random.random()
        if shape < .1:
            items = self.pick("ALL", "FAST", "FULL")
        elif shape < .85:
            items = "(" + " ".join(self.random.choice(ITEMS) for _ in range(self.pick(1, 2, 3))) + ")"
            if self.random.random() < .05:
                items += " (CHANGEDSINCE %d)" % self.random.randrange(1, 30)
        else:
            items = self.random.choice(ITEMS)
        return "%sFETCH %s %s" % (self.pick("", "UID "), self.sets(), items)

    def key(self, depth=0):
        kind = self.random.randrange(30)
        if kind < 8:
            return self.pick("ALL", "SEEN", "UNSEEN", "FLAGGED", "DELETED", "UNDELETED", "ANSWERED", "DRAFT", "NEW", "OLD",
                             "RECENT", "KEYWORD kw1", "UNANSWERED")
        if kind < 14:
            return self.pick("FROM", "TO", "CC", "SUBJECT", "BODY", "TEXT", "BCC") + " " + self.random.choice(WORDS)
        if kind < 16:
            return "HEADER %s %s" % (self.pick("Message-ID", "X-Label", "From", "Subject", "Content-Type"),
                                     self.random.choice(WORDS))
        if kind < 18:
            return "%s %d" % (self.pick("LARGER", "SMALLER"), self.pick(0, 34, 220, 229, 230, 1000, 5000))
        if kind < 21:
            return "%s %d-Jan-2022" % (self.pick("BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE"),
                                       self.random.randrange(1, 12))
        if kind < 25 or depth > 2:
            return self.pick("UID ", "") + self.sets()
        if kind < 27:
            return "NOT " + self.key(depth + 1)
        if kind < 29:
            return "OR %s %s" % (self.key(depth + 1), self.key(depth + 1))
        return "(" + " ".join(self.key(depth + 1) for _ in range(self.pick(1, 2))) + ")"

    def search(self):
        options = self.pick("", "", "", "RETURN () ", "RETURN (MIN MAX) ", "RETURN (COUNT) ", "RETURN (ALL SAVE) ",
                            "RETURN (PARTIAL 1:3) ", "CHARSET UTF-8 ")
        return "%sSEARCH %s%s" % (self.pick("", "UID "), options, " ".join(self.key() for _ in range(self.pick(1, 1, 2))))

    def store(self):
        condition = "(UNCHANGEDSINCE %d) " % self.random.randrange(1, 40) if self.random.random() < .07 else ""
        return "%sSTORE %s %s%s%s %s" % (self.pick("", "UID "), self.sets(), condition, self.pick("+", "-", ""),
                                         self.pick("FLAGS", "FLAGS.SILENT"), self.flags())

    def other(self):
        box, rest = self.random.choice(BOXES), self.random.choice(BOXES[1:])
        return self.pick(
            "NOOP", "CHECK", "EXPUNGE", "UID EXPUNGE " + self.sets(), "CLOSE", "UNSELECT", "NAMESPACE", "SELECT box",
            "SELECT box", "SELECT box", "EXAMINE box", "SELECT box (CONDSTORE)", "CREATE " + box, "DELETE " + rest,
            "SUBSCRIBE " + box, "UNSUBSCRIBE " + box, "LIST (SUBSCRIBED) \"\" * RETURN (CHILDREN)",
            "LIST \"\" % RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)", "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %",
            "STATUS %s (%s)" % (box, self.pick("MESSAGES UNSEEN", "UIDNEXT RECENT", "SIZE", "MESSAGES UIDVALIDITY")),
            "LIST \"%s\" %s" % (self.pick("", "a", "a.", "INBOX"),
                                self.pick("*", "%", "a*", "a.%", "*b", '""', "x%", "%.%", "INBOX*", '"sp*"', '(a "b*")')),
            "LSUB \"\" " + self.pick("*", "%", "a.%", "a%"), "RENAME %s %s" % (rest, box),
            "%sCOPY %s %s" % (self.pick("", "UID "), self.sets(), box), "%sMOVE %s %s" % (self.pick("", "UID "), self.sets(), box))

    def command(self):
        return self.pick(self.fetch, self.fetch, self.search, self.search, self.store, self.store, self.other, self.other,
                         self.other)()


class Session:
    def __init__(self, host, port, user):
        self.sock = socket.create_connection((host, port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        self.ask("z", "LOGIN %s pass" % user)

    def ask(self, tag, text, literal=b""):
        self.sock.sendall((tag + " " + text + "\r\n").encode() + literal)
        out = b""
        while True:
            line = self.file.readline()
            if not line:
                return out + b"<EOF>"
            out += line
            size = re.search(rb"\{(\d+)\}\r\n$", line)
            if size:
                out += self.file.read(int(size[1]))
            elif line.startswith((tag.encode() + b" ", b"+")):
                return out


def play(host, port, user, names, commands, fixture):
    c = Session(host, port, user)
    c.ask("z", "CREATE box")
    for name in names:
        flags, date, data = fixture[name]
        c.ask("z", 'APPEND box (%s) "%s" {%d+}' % (flags, date, len(data)), data + b"\r\n")
    c.ask("z", "SELECT box")
    out = []
    for number, text in enumerate(commands):
        out.append(c.ask("a%d" % number, text))
        if out[-1].endswith(b"<EOF>"):
            break
    c.sock.close()
    return imaprec.normalize(out, user, "pass")


def main():
    hosts, port, first, count = sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    fixture, different = imaprec.load_fixture(), 0
    for seed in range(first, first + count):
        grammar = Grammar(seed)
        names = grammar.random.sample(MESSAGES, len(MESSAGES))
        commands = [grammar.command() for _ in range(COMMANDS)]
        one, two = [play(host, port, "random%d.%d" % (seed, n), names, commands, fixture) for n, host in enumerate(hosts)]
        for text, a, b in zip(commands, one, two):
            if b.endswith("<EOF>"):
                break  # the second one has died of it: nothing to compare with
            if a != b:
                different += 1
                print("seed %d: %s" % (seed, text))
                a, b = a.split("\r\n"), b.split("\r\n")
                print("".join("  - %s\n" % x[:200] for x in b if x not in a) + "".join("  + %s\n" % x[:200] for x in a if x not in b)
                      or "  another order: %s\n" % a)
                break
    print("%d sessions, %d different" % (count, different))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

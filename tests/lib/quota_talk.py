#!/usr/bin/env python3
"""What clients see of limits: saves into full mailboxes, one's own and another user's. usage: quota_talk.py HOST IMAP_PORT

Replies are printed without what depends on the moment.
"""
import imaplib
import re
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
NAMES = ("INBOX", "Old", "Older", "Trash")


def mail(size, subject):
    return ("Subject: %s\r\n\r\n" % subject).encode() + (b"x" * 70 + b"\r\n") * (size // 72)


def login(user):
    session = imaplib.IMAP4(HOST, PORT)
    session.login(user, "pass")
    return session


def plain(reply):
    text = b" ".join(part for part in reply[1] if part).decode()
    text = re.sub(r" \([0-9.]+ \+ .*secs\)", "", text)
    return "%s %s" % (reply[0], re.sub(r"(APPENDUID|COPYUID) [0-9]+", r"\1 V", text))


def tell(what, reply):
    print("%s: %s" % (what, plain(reply)))


def counts(session):
    print("  " + " ".join("%s %s" % (name, re.search(rb"MESSAGES ([0-9]+)", session.status(name, "(MESSAGES)")[1][0])[1].decode())
                          for name in NAMES))


def uids(session, name):
    session.select(name, readonly=True)
    tell("  uids of %s" % name, session.uid("SEARCH", "ALL"))
    session.unselect()


alice = login("alice")
for name in NAMES[1:]:
    alice.create(name)
for name, year in (("Old", 2003), ("Old", 2001), ("Older", 2002), ("Older", 2004), ("Trash", 2000)):
    tell("append %s" % name, alice.append(name, None, '"01-Jan-%d 10:00:00 +0000"' % year, mail(3000, "a%d" % year)))
for size in (3000, 3000, 3000, 6000, 3000, 3000, 30000, 9000):
    tell("append INBOX %d" % size, alice.append("INBOX", None, None, mail(size, "i")))
    counts(alice)
    for name in NAMES[1:3]:
        uids(alice, name)
tell("setacl", alice._simple_command("SETACL", "INBOX", "bob", "lrswi"))
bob = login("bob")
tell("bob into alice's", bob.append("shared/alice", None, None, mail(9000, "s")))
tell("bob into his own", bob.append("INBOX", None, None, mail(9000, "s")))
bob.select("INBOX")
tell("bob copies to alice's", bob.copy("1", "shared/alice"))
tell("bob copies to himself", bob.copy("1", "INBOX"))
bob.logout()
counts(alice)
alice.logout()

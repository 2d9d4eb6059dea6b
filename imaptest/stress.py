"""Random clients on shared mailboxes; what the server says is held against what it said before, to all of them.

usage: imaptest/run stress --host H --port P [options]

  --user NAME       default "user"; %d in it: a number of --users, drawn anew at each login
  --users N         default 1
  --pass TEXT       default "pass"
  --box NAME        default INBOX; --copybox NAME for COPY and MOVE, default none
  --clients N       default 10
  --secs N          default 30
  --msgs N          about so many messages a mailbox, default 30
  --seed N          of the choice of commands, default 1
  --checkpoint N    every N seconds all sessions pause, look, and must see the same messages, flags and modseqs; default off
  --own-flags       each client changes keywords of its own: an update that is lost shows
  --qresync         sessions resume with QRESYNC from what they knew
  --compress        half of the sessions use COMPRESS, if it is offered
  --stall SECS      an answer that takes longer is a violation; default 0 = off
  --mbox FILE       messages for APPEND; default: made here
  --ssl, --timeout SECS

Contradictions (imaptest 7) are printed as "Error: user[id]: text" and counted. Exit status: 0 none, 2 some, 89 bad arguments.
"""
import random
import sys
import threading
import time

from args import Literal, show
from client import Client, Disconnected, Timeout
from runner import Mailbag

HEADER_ITEMS = [b"ENVELOPE", b"BODY", b"BODYSTRUCTURE", b"RFC822.SIZE"]
# Those that the messages have, and many that nobody has asked for yet.
HEADER_NAMES = [b"From", b"To", b"Subject", b"Date", b"Message-ID"] + [b"X-%d" % n for n in range(40)]
STATES = [("list", 20), ("status", 20), ("fetch", 100), ("body", 40), ("headers", 30), ("search", 25), ("sort", 10), ("thread", 5),
          ("store", 50), ("delete", 20), ("expunge", 30), ("append", 60), ("copy", 10), ("move", 5), ("noop", 30),
          ("idle", 10), ("logout", 6)]
# What a server says of a message that is gone but still has its number.
PLACEHOLDERS = {b"0", 0, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)", '("text" "plain" NIL NIL NIL "7bit" 0 0)',
                '("text" "plain" NIL NIL NIL "7bit" 0 0 NIL NIL NIL NIL)', b"01-Jan-1970 00:00:00 +0000"}


class Options:
    host, port, user, users, password, box, copybox = "127.0.0.1", 143, "user", 1, "pass", "INBOX", None
    clients, secs, msgs, seed, checkpoint, own_flags, qresync = 10, 30.0, 30, 1, 0.0, False, False
    compress, stall, mbox, ssl, timeout = False, 0.0, None, False, 60.0


class Known:
    """What was said of a message, by mailbox and UID, to anybody: it never changes but for flags."""

    def __init__(self):
        self.lock, self.facts, self.validity = threading.Lock(), {}, {}

    def check(self, box, uid, item, value):
        """-> None, or the value that was told before."""
        key = (box, uid, item)
        with self.lock:
            before = self.facts.setdefault(key, value)
        return None if before == value else before


class World:
    def __init__(self, options):
        self.options, self.known = options, Known()
        self.lock, self.errors, self.counts, self.slowest = threading.Lock(), 0, {}, 0.0
        self.until = time.monotonic() + options.secs
        self.bag = Mailbag(options.mbox)
        self.gate, self.pause, self.views = None, False, {}

    def violation(self, client, _kind, text):
        with self.lock:
            self.errors += 1
        print("Error: %s[%d]: %s" % (client.user, client.id, text), file=sys.stderr, flush=True)

    def count(self, name, seconds):
        with self.lock:
            n, total = self.counts.get(name, (0, 0.0))
            self.counts[name] = (n + 1, total + seconds)
            self.slowest = max(self.slowest, seconds)

    def next_message(self):
        with self.lock:
            return self.bag.next()


class Session(threading.Thread):
    def __init__(self, world, number):
        super().__init__(daemon=True)
        self.world, self.number, self.options = world, number, world.options
        self.random = random.Random(world.options.seed * 1000 + number)
        self.client, self.saved, self.keyword = None, {}, b"own%d" % number
        self.mine = {}   # own flags: uid -> whether our keyword is set

    # ---- commands ----

    def command(self, name, text, pieces=None, allow_no=False):
        begun = time.monotonic()
        word, tagged, replies = self.client.command(text, pieces)
        took = time.monotonic() - begun
        self.world.count(name, took)
        if self.options.stall and took > self.options.stall:
            self.fail("%s took %.1f s" % (name, took))
        if word == "bad" or (word == "no" and not allow_no):
            self.fail("%s failed: %s" % (name.upper(), show(tagged)))
        self.facts(replies)
        return word, tagged, replies

    def fail(self, text):
        self.world.violation(self.client, "W", text)

    def facts(self, replies):
        """Contents of messages, held against what all sessions were told."""
        tracker = self.client.tracker
        for reply in replies:
            if len(reply) < 4 or reply[2].kind != "atom" or reply[2].text.upper() != b"FETCH" or reply[3].kind != "list":
                continue
            pairs = dict(tracker.pairs(reply[3].items) or [])
            uid = pairs.get(b"UID")
            if uid is None or tracker.uid_validity is None:
                continue
            box = (self.client.user, tracker.mailbox, tracker.uid_validity)
            for item, value in pairs.items():
                if item in (b"UID", b"FLAGS", b"MODSEQ"):
                    continue
                text = show([value]) if value.kind == "list" else value.text
                if item in (b"BODY[]", b"BODY[HEADER]", b"BODY[TEXT]", b"BODY[1]"):
                    text = len(value.text)
                if value.kind == "nil" or text in PLACEHOLDERS:
                    continue    # expunged meanwhile
                before = self.world.known.check(box, uid.text, item, text)
                if before is not None:
                    self.fail("%s changed '%s' -> '%s' (UID %s)" % (item.decode(), before, text, uid.text.decode()))
            if self.options.own_flags and b"FLAGS" in pairs:
                has = any(f.text.lower() == self.keyword for f in pairs[b"FLAGS"].items)
                if self.mine.get(int(uid.text), has) != has:
                    self.fail("Owned keyword changed: %s (UID %s)" % (self.keyword.decode(), uid.text.decode()))

    def count(self):
        return len(self.client.tracker.messages)

    def some(self, at_most=100):
        low = self.random.randint(1, self.count())
        high = min(self.count(), low + self.random.randint(0, at_most - 1))
        return b"%d:%d" % (low, high) if high > low else b"%d" % low

    # ---- states ----

    def login(self):
        user = self.options.user.replace("%d", str(self.random.randint(1, self.options.users)))
        if self.options.own_flags and self.client is not None:
            user = self.client.user
        self.client = Client(self.options, user, self.options.password, self.world.violation)
        self.command("login", b'LOGIN "%s" "%s"' % (user.encode(), self.options.password.encode()))
        if self.options.compress and self.number % 2 and self.client.has("COMPRESS=DEFLATE"):
            self.client.compress()
        self.select()

    def select(self):
        box, tracker = self.options.box.encode(), self.client.tracker
        text = b'SELECT "%s"' % box
        if self.options.qresync and self.client.has("QRESYNC"):
            if not tracker.qresync:
                self.command("enable", b"ENABLE QRESYNC")
            saved = self.saved.get(self.client.user)
            if saved is not None:
                text += b" (QRESYNC (%s %d))" % (saved[0], max(saved[1], 1))
        elif self.client.has("CONDSTORE"):
            text += b" (CONDSTORE)"
        word, _, replies = self.command("select", text, allow_no=True)
        if word == "no":
            self.command("create", b'CREATE "%s"' % box, allow_no=True)
            self.command("select", text)
        for reply in replies:
            words = [a.text.upper() for a in reply if a.kind == "atom"]
            if b"[HIGHESTMODSEQ" in words:
                self.highest = int(words[words.index(b"[HIGHESTMODSEQ") + 1].rstrip(b"]"))
        if self.options.qresync and self.count():
            self.command("fetch", b"FETCH 1:* (UID FLAGS)") # VANISHED names UIDs

    highest = 0

    def remember(self):
        tracker = self.client.tracker
        if self.options.qresync and tracker.uid_validity is not None:
            modseqs = [m.modseq for m in tracker.messages if m.modseq is not None]
            self.saved[self.client.user] = (tracker.uid_validity, min([self.highest] + modseqs) if modseqs else self.highest)

    def do_list(self):
        self.command("list", b'LIST "" *')

    def do_status(self):
        self.command("status", b'STATUS "%s" (MESSAGES UIDNEXT UNSEEN)' % self.options.box.encode(), allow_no=True)

    def do_fetch(self):
        items = [b"UID", b"FLAGS"] + self.random.sample(HEADER_ITEMS + [b"INTERNALDATE"], self.random.randint(1, 3))
        self.command("fetch", b"FETCH %s (%s)" % (self.some(), b" ".join(items)))

    def do_body(self):
        item = self.random.choice([b"BODY.PEEK[]", b"BODY.PEEK[HEADER]", b"BODY.PEEK[TEXT]", b"BODY.PEEK[1]"])
        self.command("body", b"FETCH %s (UID %s)" % (self.some(1), item))

    def do_headers(self):
        names = self.random.sample(HEADER_NAMES, self.random.randint(1, 5))
        self.command("headers", b"FETCH %s (UID BODY.PEEK[HEADER.FIELDS (%s)])" % (self.some(), b" ".join(names)))

    def do_search(self):
        key = self.random.choice([b"ALL", b"SEEN", b"UNSEEN", b"DELETED", b"NOT FLAGGED", b"TEXT message", b"SUBJECT 1",
                                  b"LARGER 100", b"BODY text", b"OR SEEN FLAGGED", b"1:*"])
        self.command("search", b"SEARCH " + key)

    def do_sort(self):
        if self.client.has("SORT"):
            key = self.random.choice([b"ARRIVAL", b"DATE", b"SUBJECT", b"REVERSE SIZE", b"FROM"])
            self.command("sort", b"SORT (%s) US-ASCII ALL" % key)

    def do_thread(self):
        if self.client.has("THREAD=REFERENCES"):
            self.command("thread", b"THREAD REFERENCES US-ASCII ALL")

    def do_store(self):
        if self.options.own_flags:
            self.own_store()
            return
        flags = self.random.sample([b"\\Seen", b"\\Flagged", b"\\Answered", b"\\Draft", b"$Label1", b"$Label2"],
                                   self.random.randint(0, 3))
        sign = self.random.choice([b"+", b"-", b""])
        silent = b".SILENT" if self.random.random() < 0.3 and not self.options.checkpoint else b""
        self.command("store", b"STORE %s %sFLAGS%s (%s)" % (self.some(10), sign, silent, b" ".join(flags)), allow_no=True)

    def own_store(self):
        on = self.random.random() < 0.5
        _, _, replies = self.command("fetch", b"FETCH %s (UID)" % self.some(5))
        uids = [dict(self.client.tracker.pairs(r[3].items)).get(b"UID") for r in replies
                if len(r) > 3 and r[2].kind == "atom" and r[2].text.upper() == b"FETCH" and r[3].kind == "list"]
        uids = [int(u.text) for u in uids if u is not None]
        for uid in uids:
            self.mine.pop(uid, None)    # unknown while it changes
        if uids:
            self.command("store", b"UID STORE %s %sFLAGS.SILENT (%s)" % (
                b",".join(b"%d" % u for u in uids), b"+" if on else b"-", self.keyword), allow_no=True)
            self.mine.update((uid, on) for uid in uids)

    def do_delete(self):
        if self.count() > self.options.msgs // 2:
            self.command("delete", b"STORE %s +FLAGS (\\Deleted)" % self.some(max(1, self.count() - self.options.msgs)),
                         allow_no=True)

    def do_expunge(self):
        self.command("expunge", b"EXPUNGE")

    def do_append(self):
        if self.count() >= self.options.msgs:
            return
        date, text = self.world.next_message()
        flags = self.random.choice([b"", b" ()", b" (\\Seen)", b" ($Label1)"])
        stamp = b' "%s"' % date if date is not None and self.random.random() < 0.5 else b""
        self.command("append", b"APPEND", [b'APPEND "%s"%s%s ' % (self.options.box.encode(), flags, stamp), Literal(text), b""])

    def copy(self, name):
        if self.options.copybox is None:
            return
        box, text = self.options.copybox.encode(), self.some(6)
        word, tagged, _ = self.command(name, b'%s %s "%s"' % (name.upper().encode(), text, box), allow_no=True)
        if word == "no" and b"TRYCREATE" in show(tagged).encode():
            self.command("create", b'CREATE "%s"' % box, allow_no=True)

    def do_copy(self):
        self.copy("copy")

    def do_move(self):
        if self.client.has("MOVE") and self.count() > self.options.msgs // 2:
            self.copy("move")

    def do_noop(self):
        self.command("noop", self.random.choice([b"NOOP", b"CHECK"]))

    def do_idle(self):
        tag = self.client.new_tag()
        self.client.tracker.sent(tag, [b"IDLE"])
        self.client.send_pieces(tag, [b"IDLE"])
        until, done = time.monotonic() + self.random.random(), False
        while True:
            left = until - time.monotonic()
            try:
                reply = self.client.read(None if done else max(left, 0.01))
            except Timeout:
                if done:
                    raise
                self.client.send(b"DONE\r\n")
                done = True
                continue
            if reply and reply[0].text == tag:
                self.client.tracker.tagged(tag, reply)
                return
            if reply and reply[0].text == b"*":
                self.client.untagged(reply)
                self.facts([reply])

    def do_logout(self):
        self.end()
        self.login()

    def end(self):
        self.remember()
        self.client.logging_out = True
        self.command("logout", b"LOGOUT")
        self.client.close()

    # ---- checkpoints ----

    def checkpoint(self):
        self.command("check", b"CHECK")
        self.world.gate.wait()              # nobody changes anything any more
        self.command("check", b"NOOP")
        modseq = b" MODSEQ" if self.client.has("CONDSTORE") else b""
        self.command("check", b"FETCH 1:* (UID FLAGS%s)" % modseq) if self.count() else None
        view = [(m.uid, frozenset((m.flags or set()) - {b"\\recent"}), m.modseq) for m in self.client.tracker.messages]
        with self.world.lock:
            self.world.views.setdefault(self.client.user, []).append((self.client, view))
        if self.world.gate.wait() == 0:
            self.compare()
        self.world.gate.wait()

    def compare(self):
        for views in self.world.views.values():
            _, first = views[0]
            for client, view in views[1:]:
                if len(view) != len(first):
                    self.world.violation(client, "W", "Mailbox has only %d of %d messages" % tuple(sorted((len(view), len(first)))))
                    continue
                for seq, (a, b) in enumerate(zip(first, view), 1):
                    if a[0] != b[0]:
                        self.world.violation(client, "W", "Message seq=%d UID %s != %s" % (seq, a[0], b[0]))
                    elif a[1] != b[1]:
                        self.world.violation(client, "W", "UID %s: flags differ: %s vs %s" % (a[0], sorted(a[1]), sorted(b[1])))
                    elif a[2] != b[2]:
                        self.world.violation(client, "W", "UID %s: modseqs differ: %s vs %s" % (a[0], a[2], b[2]))
        self.world.views = {}

    # ---- the loop ----

    def step(self):
        names, weights = zip(*STATES)
        name = self.random.choices(names, weights)[0]
        if name in ("fetch", "body", "headers", "store", "delete", "copy", "move") and self.count() == 0:
            name = "append"
        getattr(self, "do_" + name)()

    def run(self):
        world, options = self.world, self.options
        next_check = time.monotonic() + options.checkpoint
        try:
            self.login()
            while time.monotonic() < world.until:
                if options.checkpoint and time.monotonic() >= next_check:
                    self.checkpoint()
                    next_check = time.monotonic() + options.checkpoint
                self.step()
            if options.checkpoint:
                self.checkpoint()
            self.end()
        except (Disconnected, Timeout, threading.BrokenBarrierError) as err:
            if not isinstance(err, threading.BrokenBarrierError):
                self.fail(str(err)) if self.client else world.violation(self, "D", str(err))
            if world.gate is not None:
                world.gate.abort()

    id, user = 0, "?"   # as a client that could not connect


def parse(words):
    names = {"host": str, "port": int, "user": str, "users": int, "pass": str, "box": str, "copybox": str, "clients": int,
             "secs": float, "msgs": int, "seed": int, "checkpoint": float, "stall": float, "mbox": str, "timeout": float}
    options, words = Options(), list(words)
    while words:
        key, equals, value = words.pop(0).lstrip("-").partition("=")
        if key in ("h", "help"):
            print(__doc__)
            sys.exit(0)
        if key in ("own-flags", "qresync", "compress", "ssl") and not equals:
            setattr(options, key.replace("-", "_"), True)
            continue
        if key not in names:
            sys.exit("imaptest: unknown option: %s\n%s" % (key, __doc__))
        value = value if equals else words.pop(0)
        setattr(options, "password" if key == "pass" else key, names[key](value))
    return options


def main(words):
    try:
        options = parse(words)
    except (ValueError, IndexError, SystemExit) as err:
        if isinstance(err, SystemExit) and err.code in (0, None):
            return 0
        print(err, file=sys.stderr)
        return 89
    world = World(options)
    world.gate = threading.Barrier(options.clients, timeout=options.timeout) if options.checkpoint else None
    sessions = [Session(world, n) for n in range(1, options.clients + 1)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join(options.secs + 2 * options.timeout)
        if session.is_alive():
            world.violation(session.client or session, "D", "stalled")
    print("Totals: " + ", ".join("%s %d (%.1f ms)" % (name, n, total * 1000 / n)
                                 for name, (n, total) in sorted(world.counts.items())))
    print("%d violations; slowest answer %.2f s" % (world.errors, world.slowest))
    return 2 if world.errors else 0

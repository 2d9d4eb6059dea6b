"""What a server's replies say about the selected mailbox, and where they contradict each other (specification: imaptest 7.1).

Violations are of class "D" (the connection cannot go on) or "W".
"""
import re

from args import show

SYSTEM_FLAGS = {b"\\answered", b"\\flagged", b"\\deleted", b"\\seen", b"\\draft", b"\\recent"}
DATE = re.compile(rb"[ 0-3]\d-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{4} \d\d:\d\d:\d\d [+-]\d{4}", re.I)


class Message:
    __slots__ = ("uid", "flags", "modseq", "date")

    def __init__(self):
        self.uid = self.flags = self.modseq = self.date = None


class Tracker:
    def __init__(self, violation):
        self.violation = violation
        self.commands = {}          # tag -> upper-case name, with UID in front
        self.messages = []          # of the selected mailbox, by sequence number
        self.selected = False
        self.flags = set()          # of the last FLAGS reply
        self.uid_validity = self.highest_modseq = None
        self.validities = {}        # mailbox -> UIDVALIDITY
        self.mailbox = None
        self.qresync = self.rev2 = self.logout = self.bye = False
        self.pending_select = None

    def sent(self, tag, pieces):
        words = pieces[0].split()
        if not words:
            return
        name = words[0].upper()
        if name == b"UID" and len(words) > 1:
            name += b" " + words[1].upper()
        self.commands[tag] = (name, pieces)
        if name in (b"SELECT", b"EXAMINE"):
            self.forget()
            self.pending_select = words[1].strip(b'"') if len(words) > 1 else b""
        elif name == b"LOGOUT":
            self.logout = True
        elif name == b"ENABLE":
            upper = [w.upper() for w in words]
            self.qresync = self.qresync or b"QRESYNC" in upper
            self.rev2 = self.rev2 or b"IMAP4REV2" in upper

    def forget(self):
        self.messages, self.flags, self.uid_validity, self.selected = [], set(), None, False
        self.highest_modseq = None

    def tagged(self, tag, reply):
        name, _ = self.commands.pop(tag, (b"", None))
        word = reply[1].text.upper() if len(reply) > 1 and reply[1].kind == "atom" else b""
        if word not in (b"OK", b"NO", b"BAD"):
            self.violation("D", "Broken tagged reply: %s" % show(reply))
        if name in (b"SELECT", b"EXAMINE"):
            self.selected = word == b"OK"
            self.mailbox = self.pending_select if self.selected else None
            if not self.selected:
                self.forget()
        elif name in (b"CLOSE", b"UNSELECT") and word == b"OK":
            self.forget()
        elif name == b"LOGOUT" and word == b"OK" and not self.bye:
            self.violation("W", "Server didn't send BYE")
        self.code(reply, 1)

    def code(self, reply, at):
        """The response code of an OK, NO, BAD or BYE."""
        words = reply[at + 1:]
        if not words or words[0].kind != "atom" or not words[0].text.startswith(b"["):
            return
        key = words[0].text[1:].upper().rstrip(b"]")
        value = words[1] if len(words) > 1 else None
        if b"]" not in words[0].text and not any(w.kind == "atom" and b"]" in w.text for w in words[1:]):
            self.violation("D", "Missing ']' in resp-text: %s" % show(reply))
            return
        if key == b"UIDVALIDITY" and value is not None:
            validity = value.text.rstrip(b"]")
            if self.uid_validity is not None and self.uid_validity != validity:
                self.violation("W", "UIDVALIDITY changed: %s -> %s" % (self.uid_validity.decode(), validity.decode()))
            self.uid_validity = validity
        elif key == b"PERMANENTFLAGS" and value is not None and value.kind == "list":
            for flag in value.items:
                if not flag.text.startswith(b"\\") and flag.text.lower() not in self.flags:
                    self.violation("W", "Keyword in PERMANENTFLAGS not introduced with FLAGS: %s" % flag.text.decode("latin-1"))

    # ---- untagged replies ----

    def untagged(self, reply, client):
        if not reply or reply[0].text not in (b"*", b"+") or len(reply) < 2 and reply[0].text == b"*":
            self.violation("D", "error parsing input: %s" % show(reply))
            return
        if reply[0].text == b"+":
            return
        word = reply[1].text.upper()
        if word.isdigit() and len(reply) > 2:
            self.numbered(int(word), reply[2].text.upper(), reply)
        elif word == b"BYE":
            self.bye = True
            if not self.logout and not client.logging_out:
                self.violation("W", "Unexpected BYE: %s" % show(reply))
        elif word == b"BAD":
            self.violation("W", "BAD received: %s" % show(reply))
        elif word == b"FLAGS" and len(reply) > 2 and reply[2].kind == "list":
            self.new_flags(reply)
        elif word == b"VANISHED":
            self.vanished(reply)
        elif word in (b"SEARCH", b"SORT"):
            for arg in reply[2:]:
                if arg.kind != "list" and not arg.text.isdigit():
                    self.violation("D", "%s reply is not of numbers: %s" % (word.decode(), show(reply)))
                    break
        if word in (b"OK", b"NO", b"BAD", b"BYE"):
            self.code(reply, 1)

    def new_flags(self, reply):
        flags = {f.text.lower() for f in reply[2].items}
        for gone in self.flags - flags:
            used = sum(1 for m in self.messages if m.flags is not None and gone in m.flags)
            if used and not gone.startswith(b"\\"):
                self.violation("W", "Keyword '%s' dropped, but it still had %d references" % (gone.decode("latin-1"), used))
        self.flags = flags

    def numbered(self, n, word, reply):
        if word == b"EXISTS":
            if n < len(self.messages):
                self.violation("D", "Message count dropped %d -> %d" % (len(self.messages), n))
            while len(self.messages) < min(n, 1000000):
                self.messages.append(Message())
        elif word == b"RECENT":
            if self.rev2:
                self.violation("D", "Unexpected RECENT")
        elif word == b"EXPUNGE":
            self.expunge(n, reply)
        elif word == b"FETCH":
            self.fetch(n, reply)

    def expunge(self, n, reply):
        if n == 0 or n > len(self.messages):
            self.violation("D", "Tried to expunge sequence %d of %d" % (n, len(self.messages)))
            return
        for name, pieces in self.commands.values():
            if name in (b"FETCH", b"STORE", b"SEARCH") and len(self.commands) == 1:
                self.violation("D", "Referenced message expunged seq=%d during %s" % (n, name.decode()))
        del self.messages[n - 1]

    def fetch(self, n, reply):
        if n == 0 or n > len(self.messages):
            self.violation("W", "seq too high (%d > %d): %s" % (n, len(self.messages), show(reply)))
            return
        if len(reply) < 4 or reply[3].kind != "list":
            self.violation("D", "FETCH didn't return a list: %s" % show(reply))
            return
        pairs = self.pairs(reply[3].items)
        if pairs is None:
            self.violation("D", "FETCH reply doesn't have key-value pairs: %s" % show(reply))
            return
        message, told = self.messages[n - 1], set()
        for key, value in pairs:
            told.add(key)
            if key == b"UID":
                uid = int(value.text) if value.text.isdigit() else 0
                if uid == 0 or (message.uid is not None and message.uid != uid):
                    self.violation("D", "UID changed for sequence %d: %s -> %d" % (n, message.uid, uid))
                message.uid = uid
            elif key == b"FLAGS":
                self.fetch_flags(message, value)
            elif key == b"MODSEQ":
                self.fetch_modseq(message, value)
            elif key == b"INTERNALDATE":
                if not DATE.fullmatch(value.text):
                    self.violation("D", "Broken INTERNALDATE: %s" % value.text.decode("latin-1"))
                elif value.text == b"01-Jan-1970 00:00:00 +0000":
                    pass    # gone, but it still has its number
                elif message.date is not None and message.date != value.text:
                    self.violation("D", "INTERNALDATE changed for sequence %d" % n)
                else:
                    message.date = value.text
        if self.qresync and b"UID" not in told and not any(c[0] == b"FETCH" for c in self.commands.values()):
            self.violation("D", "FETCH didn't return UID while QRESYNC was enabled: %s (%s)" % (
                show(reply), b" ".join(c[0] for c in self.commands.values()).decode()))

    @staticmethod
    def pairs(items):
        """BODY[HEADER.FIELDS (a b)]<0> is cut into atom, list, atom: put together again."""
        out, at = [], 0
        while at < len(items):
            if items[at].kind == "list":
                return None
            key = items[at].text.upper()
            at += 1
            if b"[" in key and b"]" not in key:
                begun = at
                while at < len(items) and not (items[at].kind == "atom" and b"]" in items[at].text):
                    at += 1
                at += 1
                key += b" " + show(items[begun:at]).upper().encode("latin-1")
            if at >= len(items):
                return None
            out.append((key, items[at]))
            at += 1
        return out

    def fetch_flags(self, message, value):
        if value.kind != "list":
            self.violation("D", "FLAGS is no list")
            return
        flags = set()
        for flag in value.items:
            name = flag.text.lower()
            if flag.kind != "atom" or (name.startswith(b"\\") and name not in SYSTEM_FLAGS):
                self.violation("D", "Invalid system flag: %s" % flag.text.decode("latin-1"))
            elif name == b"\\recent" and self.rev2:
                self.violation("D", "\\Recent with IMAP4rev2")
            elif not name.startswith(b"\\") and name not in self.flags:
                self.violation("W", "Keyword used without being in FLAGS: %s" % flag.text.decode("latin-1"))
            flags.add(name)
        message.flags = flags

    def fetch_modseq(self, message, value):
        text = value.items[0].text if value.kind == "list" and len(value.items) == 1 else b""
        if not text.isdigit() or int(text) == 0:
            self.violation("D", "Invalid MODSEQ %s returned" % text.decode("latin-1"))
            return
        if message.modseq is not None and int(text) < message.modseq:
            self.violation("W", "MODSEQ dropped %d -> %s" % (message.modseq, text.decode()))
        message.modseq = int(text)

    def vanished(self, reply):
        if not self.qresync and not any(b"QRESYNC" in p[0].upper() for _, p in self.commands.values()):
            self.violation("D", "Server sent VANISHED but we hadn't enabled QRESYNC")
        if len(reply) > 2 and reply[2].kind == "list":
            return    # (EARLIER): of messages that have no number
        gone = set()
        for part in (reply[2].text if len(reply) > 2 else b"").split(b","):
            low, _, high = part.partition(b":")
            if low.isdigit() and (high or low).isdigit() and int(high or low) - int(low) < 10000000:
                gone.update(range(int(low), int(high or low) + 1))
        for uid in sorted(gone):
            self.vanish(uid)

    def vanish(self, uid):
        """UIDs ascend: a message whose UID was never told stands between those of its neighbours."""
        low, high = 0, len(self.messages)
        for k, m in enumerate(self.messages):
            if m.uid == uid:
                del self.messages[k]
                return
            if m.uid is not None and m.uid < uid:
                low = k + 1
            elif m.uid is not None and m.uid > uid:
                high = k
                break
        if low == high:
            self.violation("D", "VANISHED UID=%d not found" % uid)
        else:
            del self.messages[low]

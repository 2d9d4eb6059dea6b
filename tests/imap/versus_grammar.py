"""What `versus` sends: the grammar of random sequences, and which commands are left out of it, with the reason."""
import re

from imaprandom import MESSAGES, Grammar

STEPS = 40
WIDER = 1000000  # seeds from here on are made by the wider grammar; those below it keep their meaning
# Commands that look at flags or new messages: here they see what others did at once, there at the next full synchronisation.
LOOKS = ("SEARCH", "SORT", "THREAD", "STORE", "FETCH", "STATUS", "APPEND", "COPY", "MOVE", "IDLE", "EXPUNGE", "CLOSE")


class Wide(Grammar):
    """All commands, for sessions that disturb each other."""

    def sets(self):
        text = super().sets()
        return text.split(",")[0] if "*" in text else text  # the real server joins '*' with numbers that do not touch it

    def keys(self):
        extra = ["MODSEQ 1", "INTHREAD REFERENCES SUBJECT plain", "$", "UID $", "YOUNGER 1000", "OLDER 1000",
                 "MIMEPART SUBTYPE html", "MIMEPART (TYPE text NOT CHILD EXISTS)", "SAVEDSINCE 1-Jan-2022", "FUZZY SEEN"]
        return self.random.choice(extra) if self.random.random() < .1 else self.key()

    def sort(self):
        program = " ".join(self.random.sample(["ARRIVAL", "DATE", "FROM", "TO", "CC", "SUBJECT", "SIZE", "REVERSE DATE",
                                               "DISPLAYFROM", "DISPLAYTO"], self.pick(1, 1, 2, 3)))
        return "%sSORT %s(%s) UTF-8 %s" % (self.pick("", "UID "), self.pick("", "", "RETURN (MIN MAX COUNT) ", "RETURN (PARTIAL 2:4) ", "RETURN (ALL) "),
                                           program, self.keys())

    def thread(self):
        return "%sTHREAD %s UTF-8 %s" % (self.pick("", "UID "), self.pick("REFERENCES", "REFS"), self.keys())

    def wide_search(self):
        options = self.pick("", "", "RETURN () ", "RETURN (MIN MAX) ", "RETURN (COUNT) ", "RETURN (SAVE) ", "RETURN (ALL SAVE) ", "RETURN (MIN SAVE) ",
                            "RETURN (PARTIAL 1:3) ", "RETURN (UPDATE COUNT) ", "RETURN (UPDATE ALL) ")
        keys = " ".join(self.keys() for _ in range(self.pick(1, 1, 2)))
        if "UPDATE" in options and re.search(r"UID|(^|[ (])[\d*]", keys):
            options = ""  # the real server finds no new message for a search that names messages
        return "%sSEARCH %s%s" % (self.pick("", "UID "), options, keys)

    def append(self):
        box = self.pick("box", "box", "other", "INBOX", "nonexistent", "a.b")
        flags = self.pick("", "(\\Seen) ", "(\\Flagged kw1) ", "(\\Deleted) ", "(kw2 $Forwarded) ")
        # always a date: those of the two servers may fall into different seconds
        date = self.pick('"06-Jan-2022 03:04:05 +0000" ', '"05-Jan-2022 10:00:00 +0200" ', '"7-Feb-2021 00:00:00 +0000" ')
        text = "Subject: made %d\r\n\r\nBody %d\r\n" % (self.random.randrange(9), self.random.randrange(9))
        kind = self.random.random()
        if kind < .6:
            return "APPEND %s %s%s{%d+}" % (box, flags, date, len(text)), (text + "\r\n").encode()
        if kind < .75:
            return ("APPEND %s %s%s{%d+}" % (box, flags, date, len(text)),
                    (text + " (\\Seen) \"06-Jan-2022 03:04:06 +0000\" {5+}\r\nhello\r\n").encode())
        uid = self.random.randrange(1, 10)
        url = self.pick("/box/;UID=%d", "/box/;UID=%d/;SECTION=TEXT", ";UID=%d", "/other/;UID=%d/;SECTION=HEADER", "/box/;UID=%d/;PARTIAL=3.20",
                        "/box/;UID=%d/;SECTION=1.MIME", "box;UID=%d") % uid
        return 'APPEND %s %s%sCATENATE (URL "%s" TEXT {4+}' % (box, flags, date, url), b"A: b URL \"/box/;UID=1/;SECTION=TEXT\")\r\n"

    def idle(self):
        return "IDLE", None

    def misc(self):
        box = self.pick("box", "other", "INBOX", "a.b", "nonexistent")
        return self.pick(
            "NOOP", "NOOP", "CHECK", "EXPUNGE", "CLOSE", "UNSELECT", "SELECT box", "SELECT other", "SELECT box (CONDSTORE)", "EXAMINE box",
            "SELECT INBOX", "ENABLE CONDSTORE", "ENABLE QRESYNC", "UID EXPUNGE " + self.sets(), "STATUS %s (MESSAGES UNSEEN UIDNEXT RECENT SIZE)" % box,
            "%sCOPY %s %s" % (self.pick("", "UID "), self.sets(), box), "%sMOVE %s %s" % (self.pick("", "UID "), self.sets(), box),
            "%sCOPY $ %s" % (self.pick("", "UID "), box), "CANCELUPDATE \"a%d\"" % self.random.randrange(20), "CREATE a.b", "LIST \"\" * RETURN (STATUS (MESSAGES))",
            "LIST \"\" % RETURN (CHILDREN SUBSCRIBED)", "SUBSCRIBE " + box, "LSUB \"\" *", "SELECT box (QRESYNC (1 1))", "UID FETCH 1:* FLAGS (CHANGEDSINCE 1)",
            "FETCH 1:* (UID FLAGS)", "UID STORE 1:* FLAGS ()", "FETCH $ (UID)", "GETMETADATA %s /private/comment" % box,
            "SETMETADATA %s (/private/comment \"c%d\")" % (box, self.random.randrange(3)), "ID NIL", "CAPABILITY")

    def step(self):
        return self.pick(self.fetch, self.fetch, self.store, self.store, self.wide_search, self.sort, self.thread, self.append, self.append, self.misc,
                         self.misc, self.misc, self.misc, self.idle)()


class Wider(Wide):
    """The rest: extensions that Wide leaves out, sessions that end and come back, commands that are broken.

    Beside plain commands there are steps of the player: "COMPRESS DEFLATE" changes the connection, "RELOGIN" logs out and in. @UIDVALIDITY@ stands for the one that the session was told last, @URL@ for the
    URL that it was given last."""

    STATUS = ["MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "BOGUS"]
    BOXES = ["box", "box", "other", "INBOX", "a.b", "a", "nonexistent", '"sp ace"', '"a&b"', '""', "inbox", "a..b", ".a", '"%"', "a.b.c", "Trash"]

    def box(self):
        return self.random.choice(self.BOXES)

    def status(self):
        return "STATUS %s (%s)" % (self.box(), " ".join(self.random.sample(self.STATUS, self.pick(1, 2, 3))))

    def lists(self):
        select = self.pick("", "", "(SUBSCRIBED) ", "(SUBSCRIBED RECURSIVEMATCH) ", "(REMOTE) ", "(SPECIAL-USE) ", "(RECURSIVEMATCH) ", "(BOGUS) ", "() ")
        returns = self.pick("", "", " RETURN (CHILDREN)", " RETURN (SUBSCRIBED)", " RETURN (SPECIAL-USE)", " RETURN ()", " RETURN (STATUS (MESSAGES UNSEEN))",
                            " RETURN (CHILDREN STATUS (SIZE))", " RETURN (BOGUS)", " RETURN (STATUS ())")
        pattern = self.pick("*", "%", '("a*" "b%")', "a.%", '"*b"', '""', "INBOX", "(box other)", "()", "a%b", '"o*" "x"')
        return self.pick("LIST %s%s %s%s" % (select, self.pick('""', '"a."', "a"), pattern, returns), 'LSUB %s %s' % (self.pick('""', '"a."'), self.pick("*", "%", "a.%", "a*")))

    def folders(self):
        box = self.box()
        return self.pick("CREATE " + box, "CREATE a.b.c", "CREATE a.", "SUBSCRIBE " + box, "UNSUBSCRIBE " + box, "DELETE a.b", "DELETE a", "RENAME a.b %s" % self.pick("a.c", "x.y", "box", "a.b"),
                         "DELETE nonexistent", "RENAME nonexistent x", "RENAME a %s" % self.pick("b", "a.x", "c.d"), "DELETE b", "NAMESPACE")

    def binary(self):
        part = self.pick("1", "2", "1.1", "3", "3.1", "", "1.2.3", "0", "HEADER", "MIME")
        return "%sFETCH %s %s" % (self.pick("", "UID "), self.sets(), self.pick(
            "BINARY.PEEK[%s]" % part, "BINARY[%s]" % part, "BINARY.SIZE[%s]" % part, "BINARY.PEEK[%s]<%d.%d>" % (part, self.random.randrange(9), self.random.randrange(30)),
            "(SAVEDATE FLAGS)", "PREVIEW (LAZY)", "SNIPPET", "(UID PREVIEW (FUZZY))", "(MODSEQ)", "(BODY.PEEK[%s] BINARY.SIZE[%s])" % (part, part),
            "(FLAGS) (CHANGEDSINCE %d VANISHED)" % self.random.randrange(9), "BODY.PEEK[%s]<%d.%d>" % (part, self.random.randrange(400), self.random.randrange(60))))

    def saved(self):
        key = self.pick("SAVEDBEFORE", "SAVEDON", "SAVEDSINCE")
        return "%sSEARCH %s %d-%s" % (self.pick("", "UID "), key, self.random.randrange(1, 29), self.pick("Jan-2022", "Feb-2030"))

    def charsets(self):
        return "%sSEARCH CHARSET %s %s" % (self.pick("", "UID "), self.pick("UTF-8", "US-ASCII", "ISO-8859-1", "NOSUCH", "utf-8", '""'), self.keys())

    def context(self):
        return self.pick("%sSORT RETURN (UPDATE %s) (%s) UTF-8 %s" % (self.pick("", "UID "), self.pick("", "COUNT", "ALL", "MIN"), self.pick("ARRIVAL", "SUBJECT"), self.pick("ALL", "UNSEEN", "FLAGGED")),
                         "SEARCH RETURN (UPDATE CONTEXT) %s" % self.pick("ALL", "SEEN"), "CANCELUPDATE", "CANCELUPDATE \"nope\" \"x\"",
                         "UID SEARCH RETURN (PARTIAL %s) ALL" % self.pick("1:2", "5:3", "0:1", "x", "1", "2:*"), "SEARCH RETURN (SAVE COUNT) %s" % self.keys(), "SEARCH RETURN (BOGUS) ALL",
                         "SEARCH RETURN (MIN MAX COUNT ALL SAVE) %s" % self.keys())

    def urls(self):
        url = "imap://@USER@@imap.example.com/%s/;uid=%d%s" % (self.pick("box", "other", "nonexistent"), self.random.randrange(1, 9), self.pick("", "/;section=TEXT", "/;section=1", "/;section=9"))
        access = self.pick(";urlauth=anonymous", ";urlauth=user+@USER@", ";urlauth=authuser", ";urlauth=submit+x", ";urlauth=bogus", "")
        return self.pick('GENURLAUTH "%s%s" INTERNAL' % (url, access), 'GENURLAUTH "%s%s" INTERNAL' % (url, access), 'URLFETCH "@URL@"', 'URLFETCH ("@URL@" BODY BODYPARTSTRUCTURE)',
                         "RESETKEY", "RESETKEY box", "RESETKEY box INTERNAL", "RESETKEY nonexistent", 'GENURLAUTH "%s%s" BOGUS' % (url, access), "URLFETCH", "GENURLAUTH")

    def resync(self):
        return self.pick("SELECT %s (QRESYNC (@UIDVALIDITY@ %d%s))" % (self.pick("box", "other"), self.random.randrange(1, 9), self.pick("", " 1:5", " 1,3:7", " 1:9 (1,3 1,3)", " *")),
                         "EXAMINE box (QRESYNC (@UIDVALIDITY@ 1))", "SELECT box (QRESYNC (0 1))", "SELECT box (QRESYNC 1)", "SELECT box (QRESYNC (1 0))", "SELECT box (BOGUS)",
                         "SELECT nonexistent (CONDSTORE)", "ENABLE QRESYNC CONDSTORE BOGUS", "ENABLE", "ENABLE BOGUS", "ENABLE QRESYNC")

    def meta(self):
        box = self.pick("box", '""', "other", "nonexistent", "INBOX")
        entry = self.pick("/private/comment", "/shared/comment", "/private/vendor/x", "/shared/vendor/x/y", "/bogus/x", "/private/vendor/vendor.dovecot/a", "x", "/private/com*")
        value = self.pick("NIL", '"v%d"' % self.random.randrange(3), '""')
        return self.pick("SETMETADATA %s (%s %s)" % (box, entry, value), "GETMETADATA %s %s" % (box, entry), "GETMETADATA (DEPTH %s) %s (%s)" % (self.pick("0", "1", "infinity", "x"), box, entry),
                         "GETMETADATA (MAXSIZE %s) %s %s" % (self.pick("0", "1", "100", "x"), box, entry), "GETMETADATA %s (%s /private/comment)" % (box, entry))

    def rights(self):
        box, who = self.box(), self.pick("@USER@", "anyone", "carol", "$group", "-carol", "owner", '""')
        return self.pick("GETACL " + box, "MYRIGHTS " + box, "LISTRIGHTS %s %s" % (box, who), "SETACL %s carol %s" % (self.pick("box", "other", "a.b"), self.pick("lr", "+w", "-l", "lrswipkxtea", "z", '""')),
                         "DELETEACL %s carol" % self.pick("box", "other"), "GETQUOTAROOT " + box, "GETQUOTA \"User quota\"", "GETQUOTA bogus", "SETQUOTA \"User quota\" (STORAGE 100)", "GETQUOTA \"\"",
                         "GETACL", "SETACL box", "MYRIGHTS")

    def odd_append(self):
        """Literals that are refused are announced only: without waiting ({n+}) the real server would read them as commands. The same holds for
        the rest of a CATENATE list that it does not like. It refuses NIL as a date only when the next line comes, and takes the 32nd."""
        box = self.pick("box", "other", "nonexistent", '""')
        kind = self.random.randrange(6)
        if kind == 0:
            return 'APPEND %s (\\Seen) "06-Jan-2022 03:04:05 +0000" ~{7+}' % box, b"A: b\r\n\0\r\n"
        if kind == 1:
            return 'APPEND %s %s "06-Jan-2022 03:04:05 +0000" {3}' % (box, self.pick("(\\Bogus)", "(kw1 (x))"))
        if kind == 2:
            return 'APPEND %s %s {3}' % (box, self.pick('"32 Jan 2022 03:04:05 +0000"', '"06-Foo-2022 03:04:05 +0000"', '""', '"x"', '"06-Jan-2022"'))
        if kind == 3:
            return 'APPEND %s "06-Jan-2022 03:04:05 +0000" CATENATE %s' % (box, self.pick("()", '(URL "/box/;UID=1" URL "/other/;UID=2/;SECTION=1")'))
        if kind == 4:
            return 'APPEND %s (\\Draft) "06-Jan-2022 03:04:05 +0000" {5+}' % box, b"h\r\n\r\n \"07-Jan-2022 03:04:05 +0000\" {3+}\r\na:b (x) \"08-Jan-2022 03:04:05 +0000\" {3+}\r\nc:d\r\n"
        return "APPEND %s" % box

    def broken(self):
        """A command with a few of its bytes changed."""
        line = self.pick(self.fetch, self.store, self.wide_search, self.sort, self.thread, self.lists, self.status, self.resync, self.meta, self.context)()
        line = list(line if isinstance(line, str) else "NOOP x")
        for _ in range(self.pick(1, 1, 2)):
            at = self.random.randrange(len(line))
            how = self.random.randrange(3)
            if how == 0:
                del line[at]
            elif how == 1:
                line.insert(at, self.pick("(", ")", '"', "[", "]", "\\", "%", "*", " ", "  ", ",", ":", "<", ">", "0", "99999999999", "\x01", "~", "$", "a"))
            else:
                line = line[:at] + [" "] if at > 3 else line
        return re.sub(r"\{(\d+)\+?\}\s*$", "", "".join(line)).strip("\r\n") or "X"

    def notify(self):
        return self.pick("NOTIFY NONE", "NOTIFY", "NOTIFY SET", "NOTIFY SET (bogus (MessageNew))", "NOTIFY SET (selected (MessageNew))", "NOTIFY SET (personal (Bogus))", "NOTIFY SET ()", "NOTIFY BOGUS")

    def words(self):
        return self.pick("CAPABILITY", "ID NIL", 'ID ("name" "x")', "ID", "NAMESPACE", "LOGIN x y", "AUTHENTICATE PLAIN", "STARTTLS", "BOGUS", "UID", "UID BOGUS", "UID NOOP", "NOOP x", "EXPUNGE 1", "UID EXPUNGE",
                         "COPY", "COPY 1", "MOVE 1 box x", "STORE 1", "STORE 1 FLAGS", "STORE 1 BOGUS (x)", "FETCH", "FETCH 1", "FETCH 1 ()", "SEARCH", "SORT () UTF-8 ALL", "SORT (BOGUS) UTF-8 ALL", "SORT (REVERSE) UTF-8 ALL",
                         "SORT (DATE) NOSUCH ALL", "THREAD BOGUS UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD REFS", "SELECT", "CHECK", "X-CANCEL", "UNSELECT")

    def step(self):
        kind = self.random.random()
        if kind < .35:
            return super().step()
        if kind < .37:
            return self.pick("COMPRESS DEFLATE", "COMPRESS BOGUS", "RELOGIN")
        return self.pick(self.status, self.lists, self.lists, self.folders, self.folders, self.binary, self.binary, self.saved, self.charsets, self.context, self.context, self.urls, self.resync,
                         self.resync, self.meta, self.rights, self.odd_append, self.broken, self.broken, self.broken, self.notify, self.words)()


def joined_wrongly(command):
    """Two keys of one kind are joined to one by the real server. Behind NOT of two sizes or times the wrong one is left. Negated flags with \\Seen
    among them go without what stands before the first unseen message, though UNANSWERED in OR UNANSWERED UNSEEN would find it."""
    if "NOT" in command and any(len(re.findall(r"(?<![A-Z])%s " % key, command)) > 1 for key in ("SMALLER", "LARGER", "BEFORE", "SINCE")):
        return True
    negated = re.findall(r"UN(?:ANSWERED|DELETED|SEEN)|NOT (?:ANSWERED|SEEN|DELETED|DRAFT|FLAGGED|NEW|OLD|RECENT)", command)
    return ("OR " in command and len(negated) > 1 and ("UNSEEN" in negated or "NOT SEEN" in negated) or
            re.search(r"NOT \((SEEN [A-Z]|[A-Z]+ SEEN)", command) is not None)


def asks_for_modseq_of_none(command):
    """MODSEQ beside a set in which there is no message finds nothing, and the real server does not turn CONDSTORE on for it."""
    return "MODSEQ 1" in command and re.search(r"[ (][$\d*]", command.replace("MODSEQ 1", "")) is not None


def left_out(command):
    """The real server cuts a number of PARTIAL to 32 bits."""
    return re.search(r"PARTIAL [0-9:]*\d{10}", command) is not None


def sequence(seed):
    grammar = Wider(seed) if seed >= WIDER else Wide(seed)
    names = grammar.random.sample(MESSAGES, grammar.random.randrange(3, len(MESSAGES) + 1))
    sessions = grammar.pick(1, 2, 2, 3)
    commands, fresh = [], [True] * sessions
    while len(commands) < STEPS:
        n, command = grammar.random.randrange(sessions), grammar.step()
        if joined_wrongly(str(command)) or asks_for_modseq_of_none(str(command)) or left_out(str(command)):
            continue
        if not fresh[n] and any(w in str(command) for w in LOOKS):
            commands.append((n, "NOOP"))
            fresh[n] = True
        fresh = [k == n and fresh[k] for k in range(sessions)]
        commands.append((n, command))
    return names, sessions, seed % 2 == 1, commands

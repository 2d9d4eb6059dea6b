"""The cases of `beside`: settings of IMAP, and conversations that show what they do.

A step is the name of a method of beside.Server and its arguments. `unlike`: lines of the log that are not compared, `aside`: what is
taken out of the answers, with a reason here.
"""
import glob
import hashlib
import hmac
import os

MAIL = "From: a@example.org\r\nSubject: one\r\n\r\nbody\r\n"
PARTS = ("Subject: two\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nfirst\r\n--x\r\nContent-Type: text/plain\r\n"
         "Content-Transfer-Encoding: base64\r\n\r\nYQBi\r\n--x--\r\n")
# what clients of a trusted network may say about theirs; the login process takes it over
FORWARD = ('"x-originating-ip" "192.0.2.7" "x-originating-port" "1234" "x-connected-ip" "192.0.2.9" "x-connected-port" "143" '
           '"x-session-id" "abcdefgh12345678" "x-proxy-ttl" "3" "x-session-ext-id" "ext" "x-forward-color" "blue" "x-connected-name" "mx.example"')


def unreadable(homes):
    """Takes the right to read away from the second message."""
    for path in glob.glob(homes + "/*/Maildir/cur/*") + glob.glob(homes + "/*/Maildir/new/*"):
        with open(path) as f:
            if "closed" in f.read():
                os.chmod(path, 0)


def three(user="ann"):
    return [("login", 1, user), ("append", 1, "INBOX", MAIL), ("append", 1, "INBOX", MAIL + "closed\r\n"), ("append", 1, "INBOX", MAIL),
            ("ask", 1, "s SELECT INBOX"), ("run", unreadable)]


# The real server opens it twice, and says so twice
TWICE = "Error: Mailbox INBOX: (UID=2: )?open"


def failing(value):
    return {"name": "fetch_failure_" + value.replace("-", "_"), "conf": "imap_fetch_failure = %s\n" % value, "unlike": TWICE,
            "steps": three() + [("ask", 1, "f FETCH 1:3 BODY.PEEK[]"), ("ask", 1, "n NOOP"), ("ask", 1, "g FETCH 1:3 (UID BODY.PEEK[HEADER.FIELDS (Subject)])"),
                                ("ask", 1, "m NOOP"), ("ask", 1, "h SEARCH BODY body"), ("ask", 1, "i LOGOUT"), ("wait_log", "Disconnected|Logged out")]}


def failing_items():
    items = ["(FLAGS BODY.PEEK[])", "(BODY.PEEK[HEADER] BODY.PEEK[])", "RFC822.SIZE", "(FLAGS ENVELOPE UID)", "BODY[]",
             "(FLAGS BINARY.PEEK[1])", "BINARY.SIZE[1]", "BODY.PEEK[1]", "INTERNALDATE", "(INTERNALDATE X-GUID FLAGS MODSEQ SAVEDATE)", "RFC822", "(RFC822.TEXT FLAGS)",
             "(BODY.PEEK[HEADER.FIELDS (From)] FLAGS)", "(BODY.PEEK[]<0.3> FLAGS)", "(FLAGS BODY.PEEK[HEADER.FIELDS (X-None)] BODY.PEEK[TEXT])"]
    steps = three() + [("ask", 1, "u UNSELECT")]
    for n, item in enumerate(items):
        steps += [("login", 2 + n, "ann"), ("ask", 2 + n, "s EXAMINE INBOX"), ("ask", 2 + n, "f %sFETCH 2 %s" % (["", "UID "][n % 2], item)), ("ask", 2 + n, "h NOOP"),
                  ("ask", 2 + n, "h LOGOUT")]
    return {"name": "fetch_failure_items", "conf": "mail_never_cache_fields = *\nimap_logout_format = in=%i\n", "unlike": TWICE, "steps": steps + [("wait_log", "Disconnected: (FETCH|Logged)", len(items))]}


def believed():
    """maildir_very_dirty_syncs: the list index is believed as long as the mailbox's log is the same; all of it is written at once."""
    look = 'LIST "" * RETURN (STATUS (MESSAGES UNSEEN UIDNEXT RECENT))'
    steps = [("login", 1, "ann"), ("ask", 1, "s STATUS INBOX (MESSAGES)")]
    for box in "abc":
        steps += [("ask", 1, "c CREATE " + box), ("append", 1, box, MAIL)]
    steps += [("append", 1, "c", MAIL), ("ask", 1, "l1 " + look), ("ask", 1, "x LOGOUT"), ("login", 2, "ann"), ("ask", 2, "l2 " + look),
              ("ask", 2, "x LOGOUT"), ("wait_log", "Logged out", 2)]
    return {"name": "list_believed", "conf": "maildir_very_dirty_syncs = yes\n", "steps": steps}


def selected():
    """LIST's STATUS of the selected mailbox is what the session has been told of it. When a session makes a mailbox's row stale, and for
    how long, is each server's own."""
    steps = [("login", 1, "ann"), ("ask", 1, "c CREATE a"), ("append", 1, "a", MAIL), ("ask", 1, "s SELECT a"), ("ask", 1, "t1 STATUS a (RECENT SIZE)"),
             ("ask", 1, 't2 LIST "" a RETURN (STATUS (MESSAGES RECENT SIZE))'), ("append", 1, "a", MAIL), ("login", 2, "ann"), ("append", 2, "a", MAIL),
             ("ask", 2, "g SELECT a"), ("ask", 2, "h STORE 1 +FLAGS.SILENT (\\Deleted)"), ("ask", 2, "i EXPUNGE"), ("ask", 1, "f FETCH 1 UID"),
             ("ask", 1, 't3 LIST "" a RETURN (STATUS (MESSAGES RECENT UIDNEXT UNSEEN SIZE))'), ("ask", 1, "n NOOP"),
             ("ask", 1, 't4 LIST "" a RETURN (STATUS (MESSAGES RECENT UIDNEXT UNSEEN SIZE HIGHESTMODSEQ))'), ("ask", 1, "x LOGOUT"), ("ask", 2, "x LOGOUT"),
             ("wait_log", "Logged out", 2)]
    return {"name": "list_selected", "conf": "", "aside": r"\\(Un)?Marked", "steps": steps}


def vanished():
    """Sets with '*' of which messages are gone, the highest among them."""
    sets = ["*", "9:*", "4:*", "*:3", "5:*", "1:*", "*:*", "3,*", "3:4", "*:9", "4:9", "1:2,*"]
    look = [("ask", 1, "f UID FETCH %s (FLAGS) (CHANGEDSINCE 1 VANISHED)" % s) for s in sets]
    steps = [("login", 1, "ann"), ("ask", 1, "e ENABLE QRESYNC")] + [("append", 1, "INBOX", MAIL)] * 5 + [("ask", 1, "s SELECT INBOX")]
    for uids in "3:4", "5":
        steps += [("ask", 1, "t UID STORE %s +FLAGS (\\Deleted)" % uids), ("ask", 1, "u EXPUNGE")] + look
    # what messages have from before there were modseqs is each server's own
    return {"name": "vanished", "conf": "", "aside": r"MODSEQ \(\d+\)", "steps": steps + [("ask", 1, "x LOGOUT"), ("wait_log", "Logged out")]}


def binary_nuls():
    """BINARY is a literal8 for a part that has a NUL anywhere, in its header or its body."""
    mails = ["A: b\r\n\0", "A: b\0c\r\n\r\nbody\r\n", "A: b\r\n\r\nbo\0dy\r\n", "A: b\0\r\n\r\n", "A: b\r\n\0\r\nxx",
             "A: \0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\n\r\ntw\0o\r\n--x\r\nX: \0\r\n\r\nthree\r\n--x--\r\n"]
    steps = [("login", 1, "ann")] + [("ask", 1, "a APPEND INBOX ~{%d+}" % len(m), m + "\r\n") for m in mails]
    steps += [("ask", 1, "s EXAMINE INBOX")] + [("ask", 1, "f UID FETCH %d (BINARY.PEEK[%s])" % (n, s)) for n in range(1, len(mails) + 1)
                                                for s in ("", "1", "2", "3")]
    return {"name": "binary_nuls", "conf": "", "steps": steps + [("ask", 1, "g FETCH 1:* BINARY.PEEK[1]<0.2>"), ("ask", 1, "x LOGOUT"),
                                                                 ("wait_log", "Logged out")]}


def binary_sizes():
    """BINARY.SIZE of what lies before an encoded part counts in what decoding changes there, where the lines in between are many enough."""
    encoded = "Content-Transfer-Encoding: base64\r\n\r\n" + "eHh4eHh4eHh4\r\n" * 6
    quoted = "Content-Transfer-Encoding: quoted-printable\r\n\r\na=20b=\r\nc\r\n"
    mails = []
    for lines in (1, 4, 5, 6, 7, 40):
        text = "Content-Type: text/plain\r\n\r\n" + "this is a line\r\n" * lines
        inner = "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n%s\r\n--y\r\n%s\r\n--y--\r\n" % (text, encoded)
        for parts in ([text, encoded], [text, quoted, encoded, text], [text * 2, inner, encoded], [inner, text, encoded], [encoded, encoded]):
            mails.append("A: b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" + "\r\n--x\r\n".join(parts) + "\r\n--x--\r\n")
    steps = [("login", 1, "ann")] + [("append", 1, "INBOX", m) for m in mails] + [("ask", 1, "s EXAMINE INBOX")]
    steps += [("ask", 1, "f FETCH 1:* BINARY.SIZE[%s]" % s) for s in ("", "1", "2", "3", "4", "1.1", "1.2", "2.1", "2.2")]
    return {"name": "binary_sizes", "conf": "", "steps": steps + [("ask", 1, "x LOGOUT"), ("wait_log", "Logged out")]}


def keywords_twice():
    """Keywords behind one that is named twice are not taken."""
    lists = ("(a A b c d)", "(b a B c)", "(a a)", "(a b c A)", "(\\Seen d D \\Flagged a b)")
    steps = [("login", 1, "ann"), ("append", 1, "INBOX", MAIL), ("ask", 1, "s SELECT INBOX"), ("ask", 1, "k STORE 1 FLAGS (a b c d)")]
    steps += [("ask", 1, "a APPEND INBOX %s {%d+}" % (flags, len(MAIL)), MAIL + "\r\n") for flags in lists]
    steps += [("ask", 1, "f%s STORE 1 %sFLAGS %s" % (n, how, flags)) for n, flags in enumerate(lists) for how in ("", "-", "+")]
    return {"name": "keywords_twice", "conf": "", "steps": steps + [("ask", 1, "x LOGOUT"), ("wait_log", "Logged out")]}


def acl_modseqs():
    """A changed list is told in the mailbox's log, so that its modseq rises."""
    lists = ["box Bob lr", "box -Bob lr", "box $grp +l", "box Bob -r", "box owner lrwstipekxa", "INBOX Bob lr", "none Bob l"]
    steps = [("login", 1, "ann"), ("ask", 1, "c CREATE box")]
    for n, words in enumerate(lists):
        steps += [("ask", 1, "a%d SETACL %s" % (n, words)), ("ask", 1, "b%d STATUS %s (HIGHESTMODSEQ)" % (n, words.split()[0]))]
    for n, who in enumerate(("Bob", "-Bob", "nobody")):
        steps += [("ask", 1, "d%d DELETEACL box %s" % (n, who)), ("ask", 1, "e%d STATUS box (HIGHESTMODSEQ)" % n)]
    steps += [("append", 1, "box", MAIL), ("ask", 1, "s SELECT box (CONDSTORE)"), ("ask", 1, "h FETCH 1 MODSEQ")]
    for n, words in enumerate(lists[:-1]):
        steps += [("ask", 1, "f%d SETACL %s" % (n, words)), ("ask", 1, "g%d STATUS box (HIGHESTMODSEQ)" % n), ("ask", 1, "n%d NOOP" % n)]
    steps += [("ask", 1, "x LOGOUT"), ("wait_log", "Logged out")]
    return {"name": "acl_modseqs", "steps": steps, "conf": "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\nplugin {\n  acl = vfile\n}\n"}


def second_gone(homes):
    """Another program removes the second message, and no server is told."""
    for path in glob.glob(homes + "/*/Maildir/cur/*") + glob.glob(homes + "/*/Maildir/new/*"):
        with open(path) as f:
            if "closed" in f.read():
                os.unlink(path)


def copy_gone():
    """COPY and MOVE of messages of which one is gone: all of them fail."""
    steps = three()[:-1] + [("ask", 1, "c CREATE to"), ("run", second_gone), ("ask", 1, "d COPY 1:3 to"), ("ask", 1, "t STATUS to (MESSAGES)")]
    return {"name": "copy_gone", "conf": "maildir_very_dirty_syncs = yes\n", "steps": steps + [("ask", 1, "x LOGOUT"), ("wait_log", "Logged out")]}


def workaround(name, value):
    steps = [("login", 1, "ann"), ("ask", 1, "c CREATE box"), ("ask", 1, "c2 CREATE box2/"), ("ask", 1, "c3 CREATE box2/x/"), ("append", 1, "INBOX", MAIL),
             ("ask", 1, "s SELECT INBOX"), ("append", 1, "INBOX", MAIL), ("login", 2, "ann"), ("append", 2, "INBOX", MAIL), ("ask", 1, "n1 STATUS INBOX (MESSAGES)"),
             ("append", 2, "INBOX", MAIL), ("ask", 1, "n3 NOOP"),
             ("ask", 1, "x1 SELECT \"box2/\""), ("ask", 1, "x2 EXAMINE box/"), ("ask", 1, "x3 STATUS box/ (MESSAGES)"), ("ask", 1, "x4 SUBSCRIBE box/"),
             ("ask", 1, "x5 SUBSCRIBE box2/x/"), ("ask", 1, "x6 LSUB \"\" *"), ("ask", 1, "x7 UNSUBSCRIBE box/"), ("ask", 1, "x8 LIST \"\" box*"),
             ("ask", 1, "x9 LSUB \"\" %"), ("ask", 1, "xa LIST \"\" %"), ("ask", 1, "xb LSUB \"\" box%"), ("ask", 1, "xc RENAME box/ other/"),
             ("ask", 1, "xd DELETE other/"), ("ask", 1, "xe UID FETCH 9 UID"), ("append", 1, "box2/", MAIL), ("ask", 1, "xf GETMETADATA box2/ /private/comment"),
             ("ask", 1, "xg LOGOUT"), ("ask", 2, "xh LOGOUT"), ("wait_log", "Logged out", 2)]
    return {"name": name, "conf": "imap_client_workarounds = %s\n" % value, "steps": steps}


def with_id(name, conf, userdb=""):
    return {"name": name, "conf": conf, "userdb": userdb, "steps": [
        ("open", 1), ("ask", 1, 'a ID ("name" "client" "version" "1.0" "os" NIL "vendor" "a\\"b\\\\c" "support-url" "")'), ("ask", 1, "b LOGIN ann pass"),
        ("ask", 1, 'c ID ("name" "again" "vendor" "v")'), ("ask", 1, "d ID NIL"), ("ask", 1, "e ID (\"odd\")"), ("ask", 1, "f ID ()"), ("ask", 1, "g LOGOUT"),
        ("open", 2), ("ask", 2, "a ID (%s \"name\" \"proxy\")" % FORWARD), ("ask", 2, "b LOGIN bob pass"), ("ask", 2, "c ID (%s)" % FORWARD), ("ask", 2, "d LOGOUT"),
        ("open", 3), ("ask", 3, "a ID NIL"), ("ask", 3, "a2 ID (\"odd\")"), ("ask", 3, "a3 ID"), ("ask", 3, "a4 ID ()"), ("ask", 3, "a5 ID (\"name\" {3+}", "abc)\r\n"),
        ("ask", 3, "a6 ID (\"name\" \"%s\" \"%s\" \"v\")" % ("n" * 1100, "k" * 40)), ("ask", 3, "b AUTHENTICATE PLAIN AGNhcgBwYXNz"), ("ask", 3, "c LOGOUT"),
        ("open", 4), ("ask", 4, "a ID (\"x-originating-ip\" \"nonsense\" \"x-originating-port\" \"99999\" \"x-session-id\" \"a b\")"), ("ask", 4, "b LOGIN dan pass"),
        ("ask", 4, "c LOGOUT"), ("wait_log", "Logged out", 3)]}


def short_id(name, value):
    return {"name": name, "conf": "imap_id_send = %s\n" % value, "steps": [
        ("open", 1), ("ask", 1, "a ID NIL"), ("ask", 1, "b LOGIN ann pass"), ("ask", 1, "c ID NIL"), ("ask", 1, "d LOGOUT"), ("wait_log", "Logged out")]}


KEY = bytes(range(64))  # of each mailbox that has an attribute, so that both servers make the same tokens


def give_key(homes):
    """Puts KEY beside the attributes of mailboxes, in the dictionary's file."""
    for path in glob.glob(homes + "/*/attributes"):
        with open(path) as f:
            lines = f.read().split("\n")
        names = [line for line in lines if line.startswith("priv/") and line.endswith("/comment")]
        with open(path + ".new", "w") as f:
            f.write("\n".join(lines[:-1] + [text for name in names for text in (name[:-len("comment")] + "vendor/vendor.dovecot/imap-urlauth", KEY.hex())]) + "\n")
        os.chown(path + ".new", os.stat(path).st_uid, os.stat(path).st_gid)
        os.rename(path + ".new", path)


def url(rest, access, host="mail.example.com", user="ann", mechanism="internal", key=KEY):
    """A URL with its token."""
    rump = "imap://%s@%s/%s;urlauth=%s" % (user, host, rest, access)
    return "%s:%s:01%s" % (rump, mechanism, hmac.new(key, rump.encode(), hashlib.sha1).hexdigest())


def rump(rest="INBOX/;uid=1", access="anonymous", host="mail.example.com", user="ann"):
    return "imap://%s@%s/%s;urlauth=%s" % (user, host, rest, access)


def urlauth(name, conf, hosts, more=()):
    """ann's INBOX has two messages and KEY. GENURLAUTH and URLFETCH with these hosts, then what else there is."""
    steps = [("login", 1, "ann"), ("append", 1, "INBOX", PARTS), ("append", 1, "INBOX", MAIL), ("ask", 1, 'm SETMETADATA INBOX (/private/comment "x")'), ("run", give_key)]
    for n, host in enumerate(hosts):
        steps += [("ask", 1, 'g%d GENURLAUTH "%s" INTERNAL' % (n, rump(host=host))), ("ask", 1, 'f%d URLFETCH "%s"' % (n, url("INBOX/;uid=1", "anonymous", host)))]
    return {"name": name, "conf": "mail_attribute_dict = file:%%h/attributes\nimap_metadata = yes\n%s" % conf,
            "steps": steps + list(more) + [("ask", 1, "z LOGOUT"), ("wait_log", "Logged out")]}


def urlauth_own():
    """All that one's own session fetches: access words, sections, ranges, tokens that are none, keys that are gone."""
    accesses = ["anonymous", "authuser", "user+ann", "user+bob", "submit+ann", "stream", "user", "bogus", "bogus+ann", "submit", "ANONYMOUS", "User+ann"]
    good = url("INBOX/;uid=1", "anonymous")
    odd = [good[:-4] + "0000", good.replace(":internal:01", ":internal:02"), good.replace("internal", "INTERNAL"), good.replace("internal", "other"), good[:-2], good + "00", good[:-1] + "g",
           good.replace(";uid=1", ";UID=1"), good.replace("imap://", "IMAP://"), good.replace("imap://", "imaps://"), good.replace(";uid=1;", ";uid=1;expire=2000-01-01T00:00:00Z;"), rump(),
           url("INBOX/;uid=1;expire=2000-01-01T00:00:00Z", "anonymous"), url("INBOX/;uid=1;expire=2999-01-01T00:00:00Z", "anonymous"), url("INBOX/;uid=9", "anonymous"), url("other/;uid=1", "anonymous"),
           url("none/;uid=1", "anonymous"), url("INBOX;uidvalidity=1/;uid=1", "anonymous"), url("INBOX", "anonymous"), url("INBOX/;uid=1", "anonymous", key=KEY[:63] + b"x"),
           url("INBOX/;uid=1", "anonymous", user="ann;auth=*"), url("INBOX/;uid=1", "anonymous", "mail.example.com:143"), url("INBOX/;uid=1", "anonymous", "mail.example.com:144")]
    parts = ["", "/;section=1", "/;section=2", "/;section=TEXT", "/;section=HEADER", "/;section=1.MIME", "/;section=HEADER.FIELDS%20(Subject)", "/;partial=3.9", "/;partial=3", "/;partial=9999", "/;section=2/;partial=1.1"]
    words = ["BODY", "BINARY", "BODYPARTSTRUCTURE", "BODY BODYPARTSTRUCTURE"]
    steps = [("ask", 1, 'a%d URLFETCH "%s"' % (n, url("INBOX/;uid=1/;section=1", access))) for n, access in enumerate(accesses)]
    steps += [("ask", 1, 'b%d GENURLAUTH "%s" INTERNAL' % (n, rump(access=access))) for n, access in enumerate(accesses)]
    steps += [("ask", 1, 'c%d URLFETCH "%s"' % (n, text)) for n, text in enumerate(odd)]
    steps += [("ask", 1, 'd%d URLFETCH "%s"' % (n, url("INBOX/;uid=1" + part, "anonymous"))) for n, part in enumerate(parts)]
    steps += [("ask", 1, 'e%d URLFETCH ("%s" %s)' % (n, url("INBOX/;uid=1/;section=2", "anonymous"), word)) for n, word in enumerate(words)]
    steps += [("ask", 1, 'h1 URLFETCH "%s" ("%s" BODY) "%s"' % (good, url("INBOX/;uid=2", "authuser"), odd[0])),
              ("ask", 1, 'h2 GENURLAUTH "%s" INTERNAL "%s" internal' % (rump(), rump("INBOX/;uid=2", "authuser"))),
              ("ask", 1, "h3 SELECT INBOX"), ("ask", 1, 'h4 URLFETCH "%s"' % good), ("ask", 1, "i1 RESETKEY other"), ("ask", 1, 'i2 URLFETCH "%s"' % good), ("ask", 1, "i3 RESETKEY INBOX XBOGUS"),
              ("ask", 1, "i4 RESETKEY INBOX INTERNAL"), ("ask", 1, 'i5 URLFETCH "%s"' % good), ("run", give_key), ("ask", 1, 'i6 URLFETCH "%s"' % good), ("ask", 1, "i7 RESETKEY"), ("ask", 1, 'i8 URLFETCH "%s"' % good)]
    return urlauth("urlauth_own", "imap_urlauth_host = mail.example.com\nimap_urlauth_submit_user = ann\nimap_urlauth_stream_user = bob\n", [], steps)


COUNTERS = ("in=%i out=%o t=%{input} d=%{deleted} e=%{expunged} tr=%{trashed} a=%{autoexpunged} hc=%{fetch_hdr_count} hb=%{fetch_hdr_bytes} "
            "bc=%{fetch_body_count} bb=%{fetch_body_bytes} ap=%{append_count} us=%{user} s=%{session} n=%{nonsense} %% %u %n %d %h %x")
CASES = [
    believed(), selected(), vanished(), binary_nuls(), binary_sizes(), keywords_twice(), acl_modseqs(), copy_gone(),
    failing("disconnect-immediately"), failing("disconnect-after"), failing("no-after"), failing_items(),
    workaround("no_workaround", ""), workaround("delay_newmail", "delay-newmail"), workaround("extra_sep", "tb-extra-mailbox-sep"),
    workaround("lsub_flags", "tb-lsub-flags"), workaround("workarounds", "delay-newmail tb-extra-mailbox-sep tb-lsub-flags"),
    with_id("id_default", ""), with_id("id_log", "imap_id_log = *\n"), with_id("id_log_some", "imap_id_log = name x-originating-ip\n"),
    with_id("id_trusted", "imap_id_log = *\nlogin_trusted_networks = 127.0.0.0/8\n"),
    with_id("id_retain", "imap_id_retain = yes\nlogin_trusted_networks = 127.0.0.0/8\n",
            " mail_log_prefix=%s(%u)<%{client_id}>:_"),
    with_id("id_send", "imap_id_send = name * version * os * os-version * vendor \"a b\" support-url http://x\n"),
    with_id("id_send_empty", "imap_id_send = \n"),
    short_id("id_send_odd", "name * vendor"), short_id("id_send_nil", "name NIL os \"*\" x \"a\\\"b\\\\c\""), short_id("id_send_open", 'name "x y'),
    short_id("id_send_list", "name (a b) c d"), short_id("id_send_star", "nonsense * * name"),
    {"name": "literal_minus", "conf": "imap_literal_minus = yes\n", "steps": [
        ("open", 1), ("ask", 1, "a LOGIN {3+}", "ann {4+}\r\npass\r\n"), ("ask", 1, "b CAPABILITY"), ("append", 1, "INBOX", "x" * 4096), ("append", 1, "INBOX", "x" * 4097),
        ("ask", 1, "c NOOP"), ("ask", 1, "d CREATE {5000+}", "y" * 5000 + "\r\n"), ("ask", 1, "e NOOP"), ("ask", 1, "f LOGOUT"), ("wait_log", "imap.*(Disconnected|Logged out)")]},
    {"name": "capability_plus", "conf": "imap_capability = +XONE XTWO\n", "steps": [
        ("open", 1), ("ask", 1, "a CAPABILITY"), ("ask", 1, "b LOGIN ann pass"), ("ask", 1, "c CAPABILITY"), ("ask", 1, "d LOGOUT"), ("wait_log", "Logged out")]},
    {"name": "capability_whole", "conf": "imap_capability = IMAP4rev1 XONLY\n", "steps": [
        ("open", 1), ("ask", 1, "a CAPABILITY"), ("ask", 1, "b LOGIN ann pass"), ("ask", 1, "c CAPABILITY"), ("ask", 1, "c2 ENABLE QRESYNC"), ("ask", 1, "d LOGOUT"),
        ("wait_log", "Logged out")]},
    {"name": "line_length", "conf": "imap_max_line_length = 1 k\n", "steps": [
        ("login", 1, "ann"), ("ask", 1, "a NOOP"), ("ask", 1, "b CREATE \"%s\"" % ("x" * 900)), ("ask", 1, "c LIST \"\" (%s)" % ("y " * 600)),
        ("ask", 1, "d NOOP"), ("ask", 1, "d2 LIST \"\" (%s)" % ("y " * 480)),
        ("ask", 1, "d4 LIST \"\" (%s)" % ("y " * 511)), ("ask", 1, "d5 LIST \"\" (%s)" % ("y " * 514)), ("ask", 1, "e CREATE {2000+}", "z" * 2000 + "\r\n"), ("ask", 1, "f NOOP"), ("wait_log", "Disconnected|Logged out"),
        ("login", 2, "ann"), ("raw", 2, "q" * 3000), ("read", 2), ("raw", 2, "\r\n"), ("ask", 2, "f NOOP"), ("raw", 2, "f %s" % ("q" * 3000)), ("read", 2),
        ("raw", 2, "\r\n"), ("ask", 2, "f NOOP"), ("login", 3, "ann"),
        ("ask", 3, "d LIST {600+}", "x" * 600 + " {600+}\r\n" + "y" * 600 + "\r\n"), ("wait_log", "Literal size too large", 2)]},
    {"name": "idle_interval", "conf": "imap_idle_notify_interval = 1 s\n", "steps": [
        ("login", 1, "ann"), ("ask", 1, "s SELECT INBOX"), ("ask", 1, "i IDLE"), ("read", 1, 2), ("ask", 1, "DONE"), ("ask", 1, "l LOGOUT"), ("wait_log", "Logged out")]},
    {"name": "logout_format", "conf": "imap_logout_format = %s\nprotocol imap {\n  mail_plugins =\n}\n" % COUNTERS, "steps": [
        ("login", 1, "ann@example.org"), ("ask", 1, "c CREATE Trash"), ("append", 1, "INBOX", MAIL), ("append", 1, "INBOX", MAIL), ("append", 1, "INBOX", "Subject: three\r\n\r\nlonger body\r\n"),
        ("ask", 1, "s SELECT INBOX"), ("ask", 1, "f1 FETCH 1:* BODY.PEEK[HEADER]"), ("ask", 1, "f2 FETCH 1:* BODY.PEEK[HEADER.FIELDS (Subject)]"), ("ask", 1, "f3 FETCH 1:* BODY[]"),
        ("ask", 1, "f4 FETCH 1 BODY[TEXT]"), ("ask", 1, "f5 FETCH 1 RFC822"), ("ask", 1, "f6 FETCH 1:2 RFC822.HEADER"), ("ask", 1, "f7 FETCH 1 BODY[]<3.4>"), ("ask", 1, "f8 FETCH 1 BODY[1]"),
        ("ask", 1, "f9 FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE)"), ("ask", 1, "fa FETCH 1 BODY[1.MIME]"), ("ask", 1, "fb FETCH 1 BINARY[1]"), ("ask", 1, "fc FETCH 2 BODY.PEEK[HEADER]<2.5>"),
        ("ask", 1, "fd FETCH 1 PREVIEW"), ("ask", 1, "g COPY 1 Trash"), ("ask", 1, "h STORE 1:2 +FLAGS (\\Deleted)"), ("ask", 1, "h2 STORE 1 -FLAGS (\\Deleted)"),
        ("ask", 1, "h3 STORE 1 +FLAGS (\\Deleted)"), ("ask", 1, "i EXPUNGE"), ("ask", 1, "j MOVE 1 Trash"), ("ask", 1, "j2 SELECT Trash"), ("ask", 1, "j3 STORE 1 +FLAGS.SILENT \\Deleted"),
        ("ask", 1, "j4 CLOSE"), ("ask", 1, "k LOGOUT"), ("wait_log", "Logged out"), ("login", 2, "bob"), ("close", 2), ("wait_log", r"imap\(.*Connection closed"),
        ("login", 3, "bob"), ("ask", 3, "a SELECT INBOX"), ("ask", 3, "i IDLE"), ("close", 3), ("wait_log", r"imap\(.*Connection closed", 2),
        ("login", 4, "bob"), ("raw", 4, "a APPEND INBOX {10}\r\n"), ("read", 4), ("close", 4), ("wait_log", r"imap\(.*Connection closed", 3),
        ("open", 5), ("raw", 5, "a LOGIN bob pass\r\nb NOOP\r\nc IDLE\r\nDONE\r\nd LOGOUT\r\n"), ("eof", 5), ("wait_log", "Logged out", 2)]},
    {"name": "userip", "conf": "mail_max_userip_connections = 2\n", "steps": [
        ("login", 1, "ann"), ("login", 2, "ann"), ("login", 3, "ann"), ("ask", 3, "a NOOP"), ("login", 4, "bob"), ("ask", 2, "o LOGOUT"), ("wait_log", "Logged out"),
        ("login", 5, "ann"), ("login", 6, "ann"), ("login", 7, "ann", "127.0.0.9"), ("login", 8, "ANN"), ("ask", 1, "z NOOP"), ("close", 1), ("close", 5), ("close", 7),
        ("wait_log", r"imap\(.*Connection closed", 3), ("close", 4), ("wait_log", r"imap\(.*Connection closed", 4)]},
    {"name": "rawlog", "conf": "rawlog_dir = %h/rawlog\n", "steps": [
        ("run", lambda homes: [os.mkdir(homes + "/ann"), os.mkdir(homes + "/ann/rawlog"), os.chown(homes + "/ann", 8, 8), os.chown(homes + "/ann/rawlog", 8, 8)]),
        ("login", 1, "ann"), ("append", 1, "INBOX", MAIL), ("ask", 1, "s SELECT INBOX"), ("ask", 1, "f FETCH 1 BODY[]"), ("raw", 1, "a NO"), ("raw", 1, "OP\r\n"), ("read", 1),
        ("ask", 1, "l LOGOUT"), ("wait_log", "Logged out"), ("files", "home/ann/rawlog/*"), ("login", 2, "bob"), ("ask", 2, "l LOGOUT"), ("wait_log", "Logged out", 2)]},
    urlauth("urlauth_off", "", ["mail.example.com"], [("ask", 1, "c CAPABILITY"), ("ask", 1, "r RESETKEY")]),
    urlauth("urlauth_no_dict", "imap_urlauth_host = mail.example.com\nmail_attribute_dict =\n", ["mail.example.com"], [("ask", 1, "c CAPABILITY"), ("ask", 1, "r RESETKEY")]),
    urlauth("urlauth_star", "imap_urlauth_host = *\n", ["mail.example.com", "other", "*", "[::1]", "127.0.0.1", "a%20b", "b%20", "x%65", "x%2e", "x%2e.", "x%2d", "x%41b", "x%5f",
                                                                "%41", "x.%65", "x-", "-x", "x..y", "x.-y", "x.", "."], [("ask", 1, "c CAPABILITY")]),
    urlauth("urlauth_host", "imap_urlauth_host = mail.example.com\n", ["mail.example.com", "MAIL.example.com", "other", "mail.example.com.", "mail.example.com:143", "mail.example.com:993"]),
    urlauth("urlauth_ip", "imap_urlauth_host = 127.0.0.1\n", ["127.0.0.1", "127.1", "localhost"]),
    urlauth("urlauth_port", "imap_urlauth_host = mail.example.com\nimap_urlauth_port = 993\n",
            ["mail.example.com", "mail.example.com:143", "mail.example.com:993", "mail.example.com:0993", "mail.example.com:", "mail.example.com:99999", "mail.example.com:x"]),
    urlauth_own(),
]

"""What real clients leave behind, as sums: clientsums.py COMMAND ...

    fill HOST PORT USER          makes folders and messages of all shapes on the server, with flags
    imap HOST PORT USER          prints folder, flags and sum of each message on the server, sorted
    bodies HOST PORT USER        prints the sums of INBOX alone
    state HOST PORT USER         prints what any change on the server would move (UIDNEXT, HIGHESTMODSEQ, ...)
    maildir PATH                 as `imap`, of a tree of local Maildirs
    files PATH ...               as `bodies`, of files that hold one message each (a folder: those in it)
    change-imap HOST PORT USER   flags, deletes, appends in each folder of the server
    change-maildir PATH          the same kind of things in a tree of local Maildirs
    python HOST PORT USER        a session of imaplib with everything it offers, that checks what it gets

A sum is of the message with line ends of LF and without the header lines that clients add. Flags are those a Maildir knows.
"""
import base64, hashlib, imaplib, os, random, re, socket, sys

FLAGS = {"D": "\\Draft", "F": "\\Flagged", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
FOLDERS = ["INBOX", "Work", "Work/Deep", "Entw\u00fcrfe & mehr"]
OWN = re.compile(rb"(?im)^(?:X-TUID|X-OfflineIMAP|Return-Path|Delivered-To|Received|Status|X-Status|Lines|Content-Length|X-Getmail[^:]*):.*\n(?:[ \t].*\n)*")


def to_mutf7(name):
    def shift(m):
        return "&" + base64.b64encode(m.group().encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"
    return re.sub("[^\x20-\x7e]+", shift, name.replace("&", "&-"))


def from_mutf7(name):
    def shift(m):
        text = m.group(1).replace(",", "/")
        return base64.b64decode(text + "=" * (-len(text) % 4)).decode("utf-16-be") if text else "&"
    return re.sub("&([A-Za-z0-9+,]*)-", shift, name)


def messages(seed, count):
    """Messages of all shapes that each of the clients can carry: no NUL, no bare CR, a line end at the end."""
    rnd = random.Random(seed)
    for n in range(count):
        head = ["From: Ann <ann@example.org>", "To: bob@example.org", "Date: Mon, 2 Nov 2026 10:%02d:00 +0100" % (n % 60),
                "Message-ID: <%s.%d@example.org>" % (seed, n), "Subject: %s number %d" % (seed, n)]
        words = [rnd.choice(["mail", "From", "the", "server", "a" * 70, "."]) for _ in range(rnd.randrange(5, 200))]
        body = [" ".join(words[i:i + 9]) for i in range(0, len(words), 9)]
        kind = n % 8
        if kind == 1:
            head += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"]
            body += ["Gr\u00fc\u00dfe aus M\u00fcnchen", "\u0416 \u2603"]
        elif kind == 2:
            head += ["MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="b%d"' % n]
            data = base64.encodebytes(rnd.randbytes(20000)).decode().splitlines()
            body = ["--b%d" % n, "Content-Type: text/plain", ""] + body + ["--b%d" % n, "Content-Type: application/octet-stream",
                    "Content-Transfer-Encoding: base64", ""] + data + ["--b%d--" % n]
        elif kind == 3:
            body = [".", "..", "From here on", ">From there", "", "* 1 FETCH", "a OK done", ")"]
        elif kind == 4:
            head += ["X-Folded: one", "\ttwo", "  three"]
            body = []
        elif kind == 5:
            head[4] = "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_%d?=" % n
        elif kind == 6:
            body = ["x" * 900] * 60 + ["", "", ""]
        yield ("\r\n".join(head + [""] + body) + "\r\n").encode()


def digest(message):
    message = message.replace(b"\r\n", b"\n")
    if message.startswith(b"From "):
        message = message.split(b"\n", 1)[1]
    head, blank, body = message.partition(b"\n\n")
    return hashlib.sha256(OWN.sub(b"", head + b"\n") + blank + body).hexdigest()


def connect(host, port, user):
    session = imaplib.IMAP4(host, int(port), timeout=60)
    session.login(user, "pass")
    return session


def ask(answer, wanted="OK"):
    assert answer[0] == wanted, answer
    return answer[1]


def quoted(name):
    return '"%s"' % to_mutf7(name)


def folders(session):
    names = [re.search(r'"/" "?([^"]*)"?$', line.decode()).group(1) for line in ask(session.list())]
    return sorted(from_mutf7(name) for name in names)


def fill(host, port, user):
    session = connect(host, port, user)
    rnd = random.Random(user)
    for name in FOLDERS:
        if name != "INBOX":
            ask(session.create(quoted(name)))
            ask(session.subscribe(quoted(name)))
        for message in messages(name.encode("ascii", "replace").decode().split()[0], 24 if name == "INBOX" else 9):
            flags = " ".join(f for f in ("\\Seen", "\\Flagged", "\\Answered", "\\Draft") if rnd.random() < 0.3)
            ask(session.append(quoted(name), flags, None, message))
    session.logout()


def fetched(session):
    """(uid, flags, message) of what is in the selected mailbox."""
    for part in ask(session.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])")):
        if isinstance(part, tuple):
            flags = imaplib.ParseFlags(part[0])
            yield int(re.search(rb"UID (\d+)", part[0]).group(1)), {f.decode() for f in flags} & set(FLAGS.values()), part[1]


def server_sums(host, port, user, only=None):
    session = connect(host, port, user)
    for name in [only] if only else folders(session):
        if int(ask(session.select(quoted(name), readonly=True))[0]):
            for _, flags, message in fetched(session):
                yield name, " ".join(sorted(flags)), digest(message)
    session.logout()


def state(host, port, user):
    session = connect(host, port, user)
    for name in folders(session):
        print(ask(session.status(quoted(name), "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"))[0].decode())
    session.logout()


def local_mails(path):
    """(folder, path, flag letters) of a tree of Maildirs."""
    for folder, dirs, _ in sorted(os.walk(path)):
        if "cur" in dirs:
            name = from_mutf7(os.path.relpath(folder, path))
            for kind in ("cur", "new"):
                for file in sorted(os.listdir(os.path.join(folder, kind))):
                    letters = file.partition(":2,")[2].partition(",")[0]
                    yield name, os.path.join(folder, kind, file), letters


def local_sums(path):
    for name, file, letters in local_mails(path):
        with open(file, "rb") as f:
            yield name, " ".join(sorted(FLAGS[c] for c in letters if c in FLAGS)), digest(f.read())


def change_imap(host, port, user):
    session = connect(host, port, user)
    for name in folders(session):
        ask(session.select(quoted(name)))
        uids = ask(session.uid("SEARCH", "ALL"))[0].split()
        ask(session.uid("STORE", b",".join(uids[0:4]), "+FLAGS", "(\\Flagged \\Seen)"))
        ask(session.uid("STORE", b",".join(uids[2:5]), "-FLAGS", "(\\Answered \\Flagged)"))
        ask(session.uid("STORE", b",".join(uids[5:7]), "+FLAGS", "(\\Deleted)"))
        ask(session.expunge())
        for message in messages("server." + str(len(uids)), 3):
            ask(session.append(quoted(name), "\\Seen", None, message))
    session.logout()


def change_maildir(path):
    seen = {}
    for name, file, letters in list(local_mails(path)):
        n = seen[name] = seen.get(name, -1) + 1
        folder = os.path.dirname(os.path.dirname(file))
        base = os.path.basename(file).partition(":2,")[0]
        if n in (0, 3):
            os.unlink(file)
        elif n in (1, 4):
            wanted = "".join(sorted(set(letters) ^ set("FS")))
            os.rename(file, os.path.join(folder, "cur", base + ":2," + wanted))
    for number, name in enumerate(sorted(seen)):
        for n, message in enumerate(messages("client." + str(number), 3)):
            folder = os.path.join(path, to_mutf7(name))
            folder = folder if os.path.isdir(folder) else os.path.join(path, name)
            with open(os.path.join(folder, "cur", "%d.%d.%s:2,S" % (1790000000 + n, number, socket.gethostname())), "wb") as f:
                f.write(message.replace(b"\r\n", b"\n"))


def files(paths):
    for path in paths:
        for file in [os.path.join(path, f) for f in os.listdir(path)] if os.path.isdir(path) else [path]:
            with open(file, "rb") as f:
                yield (digest(f.read()),)


def python(host, port, user):
    session = connect(host, port, user)
    ask(session.enable("CONDSTORE"))
    sent = list(messages("python", 12))
    ask(session.create("Lib"))
    for n, message in enumerate(sent):
        ask(session.append("Lib", "\\Seen" if n % 2 else "", imaplib.Time2Internaldate(1790000000 + n), message))
    assert ask(session.select("Lib")) == [b"12"]
    assert [m for _, _, m in fetched(session)] == sent
    assert ask(session.search(None, "UNSEEN"))[0].split() == [b"1", b"3", b"5", b"7", b"9", b"11"]
    assert ask(session.sort("(REVERSE DATE)", "UTF-8", "ALL"))[0].split()[0] == b"12"
    assert len(re.findall(rb"\d+", ask(session.thread("REFERENCES", "UTF-8", "ALL"))[0])) == 12
    session.literal = "Gr\u00fc\u00dfe".encode()
    assert ask(session.search("UTF-8", "SUBJECT"))[0].split() == [b"6"]
    ask(session.store("1:3", "+FLAGS", "($Mine \\Deleted)"))
    ask(session.copy("2", "INBOX"))
    assert ask(session.expunge()) == [b"3", b"2", b"1"]
    assert ask(session.uid("FETCH", "4:*", "(FLAGS) (CHANGEDSINCE 999999)")) == [None]
    ask(session.noop())
    ask(session.unselect())
    ask(session.rename("Lib", "Moved"))
    got = [s for _, _, s in server_sums(host, port, user, "Moved")]
    assert got == [digest(m) for m in sent[3:]]
    assert [s for _, _, s in server_sums(host, port, user, "INBOX")] == [digest(sent[1])]
    ask(session.delete("Moved"))
    ask(session.select("Moved"), "NO")
    session.logout()


def main(command, *args):
    if command in ("fill", "state", "python"):
        globals()[command](*args)
    elif command in ("change-imap", "change-maildir"):
        globals()[command.replace("-", "_")](*args)
    else:
        rows = {"imap": lambda: server_sums(*args), "maildir": lambda: local_sums(*args), "files": lambda: files(args),
                "bodies": lambda: (row[2:] for row in server_sums(*args, "INBOX"))}[command]()
        for row in sorted(rows):
            print(*row, sep="\t")


main(*sys.argv[1:])

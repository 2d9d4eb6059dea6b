"""IMAP arguments: how a line, of a script or of a server, is cut (specification: imaptest 3.1).

An atom may hold everything but blanks, parentheses, quotes and literals, so `[READ-WRITE]` and `BODY[TEXT]<0>` are atoms, while
`[PERMANENTFLAGS (a b)]` is an atom, a list and the atom `]`. Human text of a server that is no argument (a lone quote or
parenthesis) is taken as an atom: reading never fails.
"""


class Arg:
    """kind: atom, string, literal, nil, list. text: bytes of the first three (of nil: as it was written). items: of a list."""
    __slots__ = ("kind", "text", "items")

    def __init__(self, kind, text=b"", items=None):
        self.kind, self.text, self.items = kind, text, items

    def __repr__(self):
        return show([self])


class Literal(bytes):
    """A piece of a line that came as a literal."""


def show(args):
    """For people: the arguments as one line."""
    out = []
    for arg in args:
        if arg.kind == "list":
            out.append("(" + show(arg.items) + ")")
        elif arg.kind == "string":
            out.append('"' + arg.text.decode("utf-8", "backslashreplace") + '"')
        elif arg.kind == "literal":
            out.append("{%d}" % len(arg.text) + repr(arg.text[:200].decode("latin-1")))
        else:
            out.append(arg.text.decode("utf-8", "backslashreplace"))
    return " ".join(out)


class _Reader:
    """Over pieces: bytes, and Literals between them."""

    def __init__(self, pieces):
        self.pieces, self.piece, self.at = pieces, 0, 0

    def peek(self):
        while self.piece < len(self.pieces):
            piece = self.pieces[self.piece]
            if isinstance(piece, Literal):
                return piece
            if self.at < len(piece):
                return piece[self.at:self.at + 1]
            self.piece, self.at = self.piece + 1, 0
        return None

    def take(self):
        got = self.peek()
        if isinstance(got, Literal):
            self.piece, self.at = self.piece + 1, 0
        else:
            self.at += 1
        return got

    def rest(self):
        return self.pieces[self.piece][self.at:]


def _quoted(reader):
    """A quoted string, or None when it does not end in this piece."""
    text, out, at = reader.rest(), bytearray(), 1
    while at < len(text):
        c = text[at:at + 1]
        if c == b"\\" and at + 1 < len(text):
            out += text[at + 1:at + 2]
            at += 2
        elif c == b'"':
            reader.at += at + 1
            return bytes(out)
        else:
            out += c
            at += 1
    return None


def _cut(reader, inside):
    found = []
    while True:
        c = reader.peek()
        if c is None:
            return found
        if isinstance(c, Literal):
            found.append(Arg("literal", bytes(reader.take())))
        elif c == b" ":
            reader.take()
        elif c == b"(":
            reader.take()
            found.append(Arg("list", items=_cut(reader, True)))
        elif c == b")" and inside:
            reader.take()
            return found
        else:
            text = _quoted(reader) if c == b'"' else None
            if text is not None:
                found.append(Arg("string", text))
                continue
            atom = bytearray(reader.take())
            while True:
                c = reader.peek()
                if c is None or isinstance(c, Literal) or c in (b" ", b"(", b")"):
                    break
                atom += reader.take()
            found.append(Arg("nil" if atom.upper() == b"NIL" else "atom", bytes(atom)))


def cut(pieces):
    """-> [Arg]. `pieces`: the line as bytes without its end, or a list of bytes and Literals."""
    return _cut(_Reader([pieces] if isinstance(pieces, bytes) else pieces), False)

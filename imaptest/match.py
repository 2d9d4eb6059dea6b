"""Does a reply match a line of a script? Text with variables, lists with directives (specification: imaptest 3)."""
import re

from args import Arg, show

ANY_TEXT = (b"ok", b"no", b"bad", b"bye")
VARIABLE = re.compile(rb"\$\$|\$\{([^}]*)\}|\$([A-Za-z0-9_]*)")


class Uninitialized(Exception):
    """A command uses a variable that nothing has set."""


class Variables:
    """What a script knows. Values are bytes. `numbers`: what message n of the start of the group is now, per connection."""

    def __init__(self, known):
        self.known = dict(known)
        self.modseq_n, self.modseq = 0, 0
        self.numbers = {}

    def get(self, name):
        if name.isdigit():
            return self.sequence(int(name))
        return self.known.get(name)

    def sequence(self, n):
        if n == 0:
            return b"<zero seq>"
        now = self.numbers.get(n)
        return b"<out of range>" if now is None else b"<expunged>" if now == 0 else b"%d" % now

    def expand(self, text):
        def value(match):
            if match[0] == b"$$":
                return b"$"
            name = match[1] if match[1] is not None else match[2]
            got = self.get(name)
            if got is None:
                raise Uninitialized("Uninitialized variable: %s" % name.decode())
            return got
        return VARIABLE.sub(value, text)

    def start_group(self, count):
        self.numbers = {n: n for n in range(1, count + 1)}

    def expunged(self, seq):
        for n, now in self.numbers.items():
            if now == seq:
                self.numbers[n] = 0
            elif now > seq:
                self.numbers[n] = now - 1

    def appeared(self, count):
        """Messages that came during the group keep the number they came with (which is above all others)."""
        for n in range(len(self.numbers) + 1, count + 1):
            self.numbers.setdefault(n, n)


class Attempt:
    """One comparison: what it would set is kept apart until it has succeeded."""

    def __init__(self, variables):
        self.variables, self.set, self.depth = variables, {}, 0

    def get(self, name):
        return self.set[name] if name in self.set else self.variables.get(name)

    def keep(self):
        self.variables.known.update(self.set)

    def modseq(self, name, value):
        """$modseqN: at least as far from the last one as N is. Returns False when it is not; not undone."""
        v = self.variables
        n = int(name[6:])
        if n < v.modseq_n:
            raise ValueError("Modseqs defined in wrong order: %s" % name.decode())
        least = v.modseq + (n - v.modseq_n)
        if not value.isdigit() or int(value) < least:
            v.known[name] = b"$modseq-at-least-%d" % least
            return False
        v.known[name], v.modseq_n, v.modseq = value, n, int(value)
        return True

    # ---- text ----

    def text(self, pattern, value, prefix=False):
        parts, at, exact = [], 0, False
        for match in VARIABLE.finditer(pattern):
            if match.start() > at:
                parts.append(("text", pattern[at:match.start()]))
            at = match.end()
            name = match[1] if match[1] is not None else match[2]
            if match[0] == b"$$":
                parts.append(("text", b"$"))
            elif name is not None and name.startswith(b"case:"):
                parts.append(("text", name[5:]))
                exact = True
            else:
                parts.append(("var", name or b""))
        if at < len(pattern):
            parts.append(("text", pattern[at:]))
        return self._parts(parts, value, exact, prefix)

    def _parts(self, parts, value, exact, prefix):
        at = 0
        for i, (kind, what) in enumerate(parts):
            if kind == "text":
                got = value[at:at + len(what)]
                if got != what and (exact or got.lower() != what.lower()):
                    return False
                at += len(what)
                continue
            known = self.get(what) if what else None
            if known is not None:
                if value[at:at + len(known)] != known:
                    return False
                at += len(known)
                continue
            end = len(value)
            following = parts[i + 1] if i + 1 < len(parts) else None
            if following is not None:
                stop = following[1] if following[0] == "text" else self.get(following[1]) or b""
                if stop:
                    end = value.lower().find(stop[:1].lower(), at)
                    if end < 0:
                        return False
            if what.startswith(b"modseq") and what[6:].isdigit():
                if not self.modseq(what, value[at:end]):
                    return False
            elif what:
                self.set[what] = value[at:end]
            at = end
        return prefix or at == len(value)

    # ---- arguments ----

    def one(self, pattern, value, context, prefix=False):
        if pattern.kind == "atom" and pattern.text in (b"$", b"${}"):
            return True
        if pattern.kind == "list":
            return value.kind == "list" and self.list(pattern.items, value.items, context)
        if pattern.kind == "nil":
            return value.kind == "nil"
        if value.kind == "list":
            return False
        if value.kind == "nil" and b"$" not in pattern.text:
            return False
        return self.text(pattern.text, value.text, prefix)

    def args(self, patterns, values, context, prefix=False):
        at = 0
        for i, pattern in enumerate(patterns):
            if pattern.kind == "atom" and pattern.text == b"$]":
                while at < len(values) and values[at].kind == "atom" and b"]" not in values[at].text:
                    at += 1
                if at == len(values) or values[at].kind != "atom":
                    return False
                at += 1
                continue
            if at == len(values):
                return False
            last = prefix and i + 1 == len(patterns)
            if not self.one(pattern, values[at], context.of(i), last):
                return False
            self.depth += 1
            at += 1
        return prefix or at == len(values)

    def list(self, patterns, values, context):
        rules = Rules(patterns, context)
        patterns = rules.items
        if not rules.unordered:
            return self.args(patterns, values, context.inside(patterns))
        size = rules.chain
        if len(values) % size:
            return False
        inner = context.inside(patterns)
        chains = [values[i:i + size] for i in range(0, len(values), size)]
        met = [False] * len(chains)
        for i in range(0, len(patterns), size):
            chain, found = patterns[i:i + size], False
            for k, got in enumerate(chains):
                before = dict(self.set)
                if len(chain) == len(got) and all(self.one(p, v, inner.pair(chain)) for p, v in zip(chain, got)):
                    met[k] = found = True
                    break
                self.set = before
            if not found:
                return False
            self.depth += 1
        for k, got in enumerate(chains):
            word = got[0].text.lower() if got[0].kind != "list" else None
            if met[k] or word is None:
                continue
            if not rules.extra and word not in rules.ignore:
                return False
            if rules.extra and word in rules.ban:
                return False
        return True


class Rules:
    """The directives at the head of a list, or the defaults of its place."""

    def __init__(self, patterns, context):
        at = 0
        while at < len(patterns) and patterns[at].kind == "atom" and patterns[at].text.startswith(b"$!"):
            at += 1
        words, self.items = [p.text[2:] for p in patterns[:at]] or context.defaults, patterns[at:]
        self.unordered, self.chain, self.extra, self.ignore, self.ban = False, 1, True, set(), set()
        for word in words:
            key, _, value = word.partition(b"=")
            if key == b"unordered":
                self.unordered, self.chain = True, int(value or 1)
            elif key == b"ordered":
                self.unordered = False
            elif key == b"noextra":
                self.extra = False
            elif key == b"extra":
                self.extra = True
            elif key == b"ignore":
                self.ignore.add(value.lower())
            elif key == b"ban":
                self.ban.add(value.lower())
            else:
                raise ValueError("Unknown list directive: $!%s" % word.decode())


FLAGS_DEFAULTS = [b"unordered", b"noextra", b"ignore=\\recent", b"ignore=$HasAttachment", b"ignore=$HasNoAttachment"]


class Context:
    """Where in a reply a list stands, which decides its defaults."""
    defaults = []

    def __init__(self, words=()):
        self.words = words

    def of(self, index):
        words = self.words
        if len(words) > 2 and index == 2 and words[1] == b"fetch":
            return FetchList()
        if len(words) > 1 and index == 1 and words[0] in (b"list", b"lsub"):
            return Unordered()
        if len(words) > 2 and index == 2 and words[0] == b"status":
            return Pairs()
        return Context()

    def inside(self, _patterns):
        return Context()

    def pair(self, _chain):
        return Context()


class Unordered(Context):
    defaults = [b"unordered"]


class Pairs(Context):
    defaults = [b"unordered=2"]


class FlagsList(Context):
    defaults = FLAGS_DEFAULTS


class FetchList(Pairs):
    def inside(self, _patterns):
        return self

    def pair(self, chain):
        return FlagsList() if chain[0].kind != "list" and chain[0].text.lower() == b"flags" else Context()


def untagged(variables, patterns, values):
    """-> (matches, how far it got). Variables that the line sets are kept when it matches."""
    attempt = Attempt(variables)
    words = [p.text.lower() if p.kind != "list" else b"" for p in patterns]
    prefix = bool(words) and words[0] in ANY_TEXT
    if attempt.args(patterns, values, Context(words), prefix):
        attempt.keep()
        return True, attempt.depth
    return False, attempt.depth


def tagged(variables, word, patterns, values, tag):
    """values: of the tagged line, without the tag. -> None, or why not."""
    got = values[0].text.decode("latin-1").lower() if values else ""
    if word != '""' and got != word:
        return "Expected tagged reply '%s', got '%s'" % (word, show(values))
    if not patterns:
        return None
    variables.known[b"tag"] = tag
    attempt = Attempt(variables)
    if not attempt.args(patterns, values[1:], Context(), True):
        return "Expected tagged reply '%s %s', got '%s'" % (word, show(patterns), show(values))
    attempt.keep()
    return None


def expand(variables, args):
    """A line of the script with what is known put in, for reports."""
    def one(arg):
        if arg.kind == "list":
            return Arg("list", items=[one(a) for a in arg.items])
        text = VARIABLE.sub(lambda m: variables.get(m[1] if m[1] is not None else m[2]) or m[0], arg.text)
        return Arg(arg.kind, text)
    return show([one(a) for a in args])

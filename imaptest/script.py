"""The language of scripts: a header, an empty line, groups of commands with their replies (specification: imaptest 2)."""
import os
import re

from args import Literal, cut

HEADER_KEYS = {"capabilities", "connections", "messages", "state", "ignore_extra_untagged"}
STATES = ("nonauth", "auth", "created", "appended", "selected")
RESULTS = {"ok", "no", "bad", '""'}


class ScriptError(Exception):
    """Unreadable script: file, line, why."""


class Line:
    """One logical line: its first line's number, and pieces: text, and the contents of {{{ literals in between."""

    def __init__(self, number, pieces, literal8):
        self.number, self.pieces, self.literal8 = number, pieces, literal8

    def source(self):
        return "".join(p.decode("utf-8", "backslashreplace") if not isinstance(p, Literal) else "{{{...}}}"
                       for p in self.pieces)


class Reply:
    """An untagged line. sign: * (must come), ! (must not), ? (may)."""

    def __init__(self, sign, line):
        self.sign, self.line, self.args = sign, line, cut(line.pieces)


class Command:
    """tag: number of a pipelined command, or None. pieces: text with variables, Literals. result: (word, [Arg], line)."""

    def __init__(self, tag, line):
        self.tag, self.line, self.pieces, self.result = tag, line, line.pieces, None

    def name(self):
        words = self.pieces[0].decode("latin-1").split()
        return (words[1] if len(words) > 1 and words[0].lower() == "uid" else words[0]).lower() if words else ""


class Group:
    def __init__(self, connection, line):
        self.connection, self.line = connection, line
        self.commands, self.replies, self.after = [], [], []
        self.idle = None    # "!idle": seconds at most that an IDLE waits for its replies before DONE

    def complete(self):
        return all(c.result is not None for c in self.commands)


class Script:
    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)
        self.capabilities, self.connections, self.messages = [], 1, 0
        self.state, self.ignore_extra, self.users = "selected", True, {}
        self.greeting, self.groups = [], []

    def fail(self, number, text):
        raise ScriptError("%s line %d: %s" % (self.path, number, text))


def _environment(script, lines):
    """!ifenv, !ifnenv, !else, !endif."""
    stack, kept = [], []
    for number, text in lines:
        words = text.split()
        if words and words[0] in (b"!ifenv", b"!ifnenv"):
            on = (words[1].decode() in os.environ) == (words[0] == b"!ifenv") if len(words) == 2 else False
            stack.append(on)
        elif words and words[0] == b"!else":
            if not stack:
                script.fail(number, "!else without !ifenv")
            stack[-1] = not stack[-1]
        elif words and words[0] == b"!endif":
            if not stack:
                script.fail(number, "!endif without !ifenv")
            stack.pop()
        elif all(stack):
            kept.append((number, text))
    if stack:
        script.fail(lines[-1][0] if lines else 0, "!endif is missing")
    return kept


def _logical_lines(script, lines):
    """Joins {{{ literals, drops comments and empty lines."""
    at = 0
    while at < len(lines):
        number, text = lines[at]
        at += 1
        if text.startswith(b"#") or not text.strip():
            continue
        pieces, eights = [], []
        while text.endswith(b"{{{"):
            eight = text.endswith(b"~{{{")
            pieces.append(text[:-4] if eight else text[:-3])
            content = []
            while at < len(lines) and not lines[at][1].startswith(b"}}}"):
                content.append(lines[at][1])
                at += 1
            if at == len(lines):
                script.fail(number, "}}} is missing")
            pieces.append(Literal((b"\n" if eight else b"\r\n").join(content)))
            eights.append(eight)
            text = lines[at][1][3:]
            at += 1
        pieces.append(text)
        yield Line(number, pieces, eights)


def _strip(line, size):
    """The line without the first `size` bytes."""
    return Line(line.number, [line.pieces[0][size:]] + line.pieces[1:], line.literal8)


class _Body:
    def __init__(self, script):
        self.script, self.group = script, None

    def special(self, line, text):
        words = text.split()
        if words[0] == b"!sleep":
            match = re.fullmatch(rb"\s*(\d+)\s*(ms|msecs?|s|secs?|seconds?|m|mins?|minutes?)?\s*", text[6:])
            if not match:
                self.script.fail(line.number, "Invalid !sleep time")
            unit = (match[2] or b"s").decode()
            seconds = int(match[1]) * (0.001 if unit.startswith("ms") else 60 if unit.startswith("m") else 1)
            action = ("sleep", seconds)
        elif words[0] == b"!output":
            action = ("output", text[7:].strip().decode())
        elif words[0] == b"!idle":
            if self.group is None:
                self.script.fail(line.number, "!idle before the first command")
            self.group.idle = float(words[1]) if len(words) > 1 else 10.0
            return True
        else:
            return False
        if self.group is None:
            self.script.fail(line.number, "%s before the first command" % words[0].decode())
        self.group.after.append(action)
        return True

    def reply(self, line, sign):
        reply = Reply(sign, _strip(line, 2 if line.pieces[0][1:2] == b" " else 1))
        if sign == "?" and reply.args and reply.args[0].text.lower() == b"bye":
            self.script.fail(line.number, "? bye is not possible")
        (self.script.greeting if self.group is None else self.group.replies).append(reply)

    def connection(self, line):
        """-> (number, line without it)"""
        match = re.match(rb"\s*(\d+)\s+", line.pieces[0])
        if self.script.connections > 1 or (match and match[1].isdigit()):
            if not match:
                self.script.fail(line.number, "Missing connection number")
            number = int(match[1])
            if not 1 <= number <= 100:
                self.script.fail(line.number, "Invalid connection number")
            self.script.connections = max(self.script.connections, number)
            return number, _strip(line, match.end())
        return 1, line

    def add(self, line):
        number, line = self.connection(line)
        match = re.match(rb"(?:tag(\d+)\s+)?(\S+)\s*", line.pieces[0], re.I)
        if not match:
            self.script.fail(line.number, "No command")
        tag, word = int(match[1]) if match[1] else None, match[2].decode("latin-1").lower()
        rest = _strip(line, match.end())
        empty = len(rest.pieces) == 1 and not rest.pieces[0].strip()
        if word in RESULTS and self.waiting(tag) is not None:
            self.result(line, number, self.waiting(tag), word, rest)
            return
        if self.group is not None and not self.group.complete():
            if tag is None or any(c.tag is None for c in self.group.commands):
                self.script.fail(line.number, "Missing reply from previous command at line %d" % self.group.line.number)
            if number != self.group.connection:
                self.script.fail(line.number, "Pipelined commands on different connections")
            if any(c.tag == tag for c in self.group.commands):
                self.script.fail(line.number, "Duplicate tag%d" % tag)
        else:
            self.group = Group(number, line)
            self.script.groups.append(self.group)
        if word in RESULTS:
            if empty:
                self.script.fail(line.number, "Result without a command")
            command = Command(tag, rest)
            command.result = (word, [], rest)
        else:
            command = Command(tag, _strip(line, match.start(2)))
        self.group.commands.append(command)

    def waiting(self, tag):
        if self.group is None:
            return None
        for command in self.group.commands:
            if command.result is None and command.tag == tag:
                return command
        return None

    def result(self, line, number, command, word, rest):
        if number != self.group.connection:
            self.script.fail(line.number, "Reply for wrong connection")
        command.result = (word, cut(rest.pieces), rest)


def _header(script, number, text):
    key, colon, value = text.partition(b":")
    if not colon:
        script.fail(number, "Missing ':'")
    key, value = key.strip().decode().lower(), value.strip().decode()
    if re.fullmatch(r"user\s+\d+", key):
        script.users[int(key.split()[1])] = value
        return
    if key not in HEADER_KEYS:
        script.fail(number, "Unknown header: %s" % key)
    if key == "capabilities":
        script.capabilities = value.split()
    elif key == "connections":
        script.connections = 2 if value.lower() == "n" else int(value) if value.isdigit() else 0
        if not 1 <= script.connections <= 100:
            script.fail(number, "Invalid connections")
    elif key == "messages":
        if value.lower() != "all" and not value.isdigit():
            script.fail(number, "Invalid messages")
        script.messages = None if value.lower() == "all" else int(value)
    elif key == "state":
        script.state = value.lower()
        if script.state not in STATES:
            script.fail(number, "Invalid state")
    else:
        script.ignore_extra = value[:1].lower() == "y"


def read(path):
    """-> Script, or ScriptError."""
    script = Script(path)
    with open(path, "rb") as src:
        data = src.read()
    if data and not data.endswith(b"\n"):
        script.fail(data.count(b"\n") + 1, "Last line doesn't end with LF")
    lines = list(enumerate((text.rstrip(b"\r") for text in data.split(b"\n")[:-1]), 1))
    at = 0
    while at < len(lines) and lines[at][1]:
        if not lines[at][1].startswith(b"#"):
            _header(script, *lines[at])
        at += 1
    if at == len(lines):
        script.fail(at, "Missing ':'" if not script.groups else "No commands in file")
    body = _Body(script)
    for line in _logical_lines(script, _environment(script, lines[at + 1:])):
        text = line.pieces[0]
        if text.startswith(b"!") and text[1:2].isalpha() and body.special(line, text):
            continue
        if text[:1] in (b"*", b"!", b"?"):
            body.reply(line, text[:1].decode())
        else:
            body.add(line)
    if not script.groups:
        script.fail(len(lines), "No commands in file")
    for group in script.groups:
        if not group.complete():
            script.fail(group.line.number, "Missing reply from previous command at line %d" % group.line.number)
    return script

"""Runs one script against a server: preparation, groups, what failed (specification: imaptest 2.2, 3.3, 5)."""
import re
import time
import urllib.parse

import match
from args import Literal, show
from client import Client, Disconnected, Timeout

MESSAGE = b"From: user%d <user%d@example.org>\r\nSubject: message %d\r\nDate: Sat, 24 Mar 2007 %02d:%02d:00 +0200\r\n" \
          b"Message-ID: <msg%d@example.org>\r\n\r\nText of message %d.\r\n"


class Failed(Exception):
    """The script cannot go on."""


class Mailbag:
    """Messages for APPEND: of an mbox, or made here."""

    def __init__(self, path):
        self.messages, self.at = [], 0
        if path is None:
            for n in range(1, 101):
                self.messages.append((b"24-Mar-2007 %02d:%02d:00 +0200" % (n // 60, n % 60),
                                      MESSAGE % (n, n, n, n // 60, n % 60, n, n)))
            return
        with open(path, "rb") as src:
            parts = re.split(rb"(?m)^(From [^\n]*)\n", src.read())
        for n in range(1, len(parts), 2):
            text = re.sub(rb"\r?\n", b"\r\n", parts[n + 1])
            self.messages.append((self.date(parts[n]), text))
        if not self.messages:
            raise Failed("%s: no messages" % path)

    @staticmethod
    def date(line):
        found = re.search(rb"(\w{3}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})(?: ([+-]\d{4}))?\s*$", line)
        if not found:
            found = re.search(rb"(\w{3}) +(\d{1,2}) (\d\d:\d\d:\d\d)(?: ([+-]\d{4}))? (\d{4})", line)
            if not found:
                return None
            return b"%02d-%s-%s %s %s" % (int(found[2]), found[1], found[5], found[3], found[4] or b"+0000")
        return b"%02d-%s-%s %s %s" % (int(found[2]), found[1], found[4], found[3], found[5] or b"+0000")

    def next(self):
        got = self.messages[self.at % len(self.messages)]
        self.at += 1
        return got


class Run:
    """One script, one go. failures: [text]; skipped: why, or None; groups: how many were finished."""

    def __init__(self, script, options, user):
        self.script, self.options, self.user = script, options, user
        self.failures, self.violations, self.skipped = [], [], None
        self.groups, self.failed_groups, self.clients = 0, 0, []
        self.box = options.box.encode()
        self.variables, self.output = None, []

    # ---- preparation ----

    def user_of(self, n):
        name = self.script.users.get(n)
        if name is None:
            return self.user
        found = re.fullmatch(r"\$\{?user2\}?", name)
        return self.options.user2_for(self.user) if found else name

    def known(self):
        known = {b"mailbox": self.box,
                 b"mailbox_url": urllib.parse.quote(self.box.decode()).encode()}
        for n in range(1, self.script.connections + 1):
            suffix = b"" if n == 1 else b"%d" % n
            user = self.user_of(n) or ""
            name, _, domain = user.partition("@")
            known[b"user" + suffix] = user.encode()
            known[b"username" + suffix] = name.encode()
            known[b"domain" + suffix] = (domain or self.options.host).encode()
            known[b"password" + suffix] = self.options.password.encode()
        if self.options.user2 and b"user2" not in known:
            known[b"user2"] = self.options.user2_for(self.user).encode()
        return known

    def violation(self, client, kind, text):
        self.violations.append("%s[%d]: %s" % (client.user, client.id, text))

    def must(self, client, text, pieces=None):
        word, tagged, replies = client.command(text, pieces)
        if word != "ok":
            raise Failed("%s: %s" % (text.decode("latin-1"), show(tagged)))
        return replies

    def clean(self, client):
        names = set()
        for command in (b"LIST", b"LSUB"):
            for reply in self.must(client, b'%s "" "%s*"' % (command, self.box)):
                if len(reply) > 4 and reply[1].text.upper() == command and reply[4].kind != "list":
                    names.add((command, reply[4].text, any(f.text.lower() in (b"\\noselect", b"\\nonexistent")
                                                           for f in reply[2].items or [])))
        for command, name, _ in sorted(names, key=lambda x: x[1].lower(), reverse=True):
            quoted = name.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            client.command(b'%s "%s"' % (b"DELETE" if command == b"LIST" else b"UNSUBSCRIBE", quoted))

    def prepare(self, bag):
        script = self.script
        if any("user2" in u for u in script.users.values()) and not self.options.user2:
            self.skipped = "no --user2"
            return False
        self.variables = match.Variables(self.known())
        for n in range(1, script.connections + 1):
            self.clients.append(Client(self.options, self.user_of(n), self.options.password, self.violation))
        first = self.clients[0]
        if script.greeting:
            self.check_greeting(first)
        for client in self.clients:
            if not client.capabilities:
                self.must(client, b"CAPABILITY")
        if script.state == "nonauth":
            return self.capable(first)
        for client in self.clients:
            self.must(client, b'LOGIN "%s" "%s"' % (client.user.encode(), client.password.encode()))
            if not client.capabilities:
                self.must(client, b"CAPABILITY")
        if not self.capable(first):
            return False
        self.clean(first)
        if script.state == "auth":
            return True
        if self.box.upper() != b"INBOX":
            self.must(first, b'CREATE "%s"' % self.box)
        if script.state == "created":
            return True
        for _ in range(len(bag.messages) if script.messages is None else script.messages):
            date, text = bag.next()
            stamp = b' "%s"' % date if date is not None else b""
            self.must(first, b"APPEND", [b'APPEND "%s"%s ' % (self.box, stamp), Literal(text), b""])
        if script.state == "appended":
            return True
        for client in self.clients:
            self.must(client, b'SELECT "%s"' % self.box)
        return True

    def capable(self, client):
        missing = [c for c in self.script.capabilities if not client.has(c)]
        if missing:
            self.skipped = "no " + " ".join(missing)
        return not missing

    def check_greeting(self, client):
        for line in self.script.greeting:
            met, _ = match.untagged(self.variables, line.args, client.greeting[1:])
            if met != (line.sign == "*") and line.sign != "?":
                self.failures.append("*** Test %s greeting (line %d)\n - %s: %s" % (
                    self.script.name, line.line.number,
                    "Missing" if line.sign == "*" else "Unexpected untagged match", show(client.greeting)))

    # ---- groups ----

    def pieces_of(self, command, bag):
        """What is sent: variables expanded, and the next message of the mailbag for a bare append."""
        pieces = [Literal(self.variables.expand(p)) if isinstance(p, Literal) else self.variables.expand(p)
                  for p in command.pieces]
        words = pieces[0].split()
        name = [w.lower() for w in words[:2]]
        appends = name[:1] in ([b"append"], [b"replace"]) or name == [b"uid", b"replace"]
        if not appends or len(pieces) > 1 or any(w.lower() == b"catenate" for w in words) or \
           re.search(rb"\{\d+\+?\}$", pieces[0]):
            return pieces
        date, text = bag.next()
        if len(words) == 1 and name[0] == b"append":
            head = b'%s "%s"%s ' % (words[0], self.box, b' "%s"' % date if date is not None else b"")
        else:
            head = pieces[0].rstrip() + b" "
        return [head, Literal(text), b""]

    def group(self, number, group, bag):
        """-> False when the connection is lost."""
        client, problems = self.clients[group.connection - 1], []
        waiting, state = {}, GroupState(self.variables, group)
        mark = len(client.dialogue)
        self.variables.start_group(len(client.tracker.messages))
        self.variables.known.pop(b"tag", None)
        client.logging_out = client.logging_out or any(
            r.args and r.args[0].kind != "list" and r.args[0].text.lower() == b"bye" for r in group.replies)
        lost = None
        try:
            for command in group.commands:
                tag = client.new_tag()
                waiting[tag] = command
                self.variables.known.setdefault(b"tag", tag)
                try:
                    pieces = self.pieces_of(command, bag)
                except match.Uninitialized as err:
                    problems.append(str(err))
                    pieces = [match.VARIABLE.sub(lambda m: self.variables.get(m[1] or m[2] or b"") or m[0],
                                                 command.pieces[0])]
                client.logging_out = client.logging_out or command.name() == "logout"
                client.tracker.sent(tag, pieces)
                refused = client.send_pieces(tag, pieces, command.line.literal8)
                if refused is not None:
                    self.tagged(client, refused, waiting, problems)
            self.collect(client, group, waiting, state, problems)
        except (Disconnected, Timeout) as err:
            if not (client.logging_out and isinstance(err, Disconnected) and
                    all(c.result[0] == '""' for c in waiting.values())):
                problems.append(str(err))
                lost = err
            elif waiting:
                lost = err
        problems += state.end(self.script.ignore_extra)
        self.groups += 1
        if problems:
            self.report(number, group, client, problems, mark)
        for kind, value in group.after:
            if kind == "sleep":
                time.sleep(value)
            else:
                self.say(value)
        return lost is None

    def collect(self, client, group, waiting, state, problems):
        first = next(iter(waiting.values()), None)
        idling = first is not None and first.name() == "idle"
        done = False
        while waiting:
            if idling and group.idle is not None and not done and state.met():
                client.send(b"DONE\r\n")
                done = True
            try:
                reply = client.read(group.idle if idling and group.idle is not None and not done else None)
            except Timeout:
                if not idling or group.idle is None or done:
                    raise
                client.send(b"DONE\r\n")
                done = True
                continue
            if not reply:
                continue
            if reply[0].text == b"+":
                if idling and group.idle is None and not done:
                    client.send(b"DONE\r\n")
                    done = True
                elif not idling:
                    problems.append("Unexpected command continuation: %s" % show(reply))
            elif reply[0].text == b"*":
                found = state.untagged(reply[1:])
                if found is not None:
                    problems.append(found)
                client.untagged(reply)
                if len(reply) > 2 and reply[2].kind == "atom" and reply[1].text.isdigit():
                    if reply[2].text.upper() == b"EXPUNGE":
                        self.variables.expunged(int(reply[1].text))
                self.variables.appeared(len(client.tracker.messages))
            else:
                self.tagged(client, reply, waiting, problems)

    def tagged(self, client, reply, waiting, problems):
        command = waiting.pop(reply[0].text, None)
        if command is None:
            problems.append("Unexpected tagged reply: %s" % show(reply))
            return
        client.learn_capabilities(reply)
        client.tracker.tagged(reply[0].text, reply)
        word, patterns, _ = command.result
        why = match.tagged(self.variables, word, patterns, reply[1:], reply[0].text)
        if why is not None:
            problems.append(why)
            if len(reply) > 1 and reply[1].text.upper() == b"BAD" and word != "bad":
                raise Disconnected("BAD reply for command: %s" % show(reply))

    def say(self, text):
        try:
            self.output.append(self.variables.expand(text.encode()).decode("utf-8", "backslashreplace"))
        except match.Uninitialized as err:
            self.output.append(str(err))

    def report(self, number, group, client, problems, mark):
        self.failed_groups += 1
        lines = ["*** Test %s command %d/%d (line %d)" % (self.script.name, number, len(self.script.groups),
                                                          group.line.number)]
        lines += [" - failed: " + p for p in problems]
        lines.append(" - Command: %s" % group.commands[0].line.source())
        for who, data in client.dialogue[mark:][-60:]:
            text = data.decode("utf-8", "backslashreplace").rstrip()
            lines += ["   %s: %s" % (who, part) for part in text[:2000].splitlines() or [""]]
        self.failures.append("\n".join(lines))

    def run(self, bag):
        try:
            if self.prepare(bag):
                self.body(bag)
        except (Failed, Disconnected, Timeout) as err:
            self.failures.append("*** Test %s initialization failed: %s" % (self.script.name, err))
        except (ValueError, re.error) as err:
            self.failures.append("*** Test %s: %s" % (self.script.name, err))
        for client in self.clients:
            client.close()
        return self

    def body(self, bag):
        for number, group in enumerate(self.script.groups, 1):
            while group.connection > len(self.clients):
                raise Failed("connection %d was not opened" % group.connection)
            if not self.group(number, group, bag):
                return
        first = self.clients[0]
        if not first.logging_out and not any(self.says_bye(g) for g in self.script.groups):
            first.logging_out = True
            if first.command(b"LOGOUT")[0] != "ok":
                self.failures.append("*** Test %s: LOGOUT failed" % self.script.name)

    @staticmethod
    def says_bye(group):
        return any(c.name() == "logout" for c in group.commands) or \
            any(r.sign == "*" and r.args and r.args[0].text.lower() == b"bye" for r in group.replies)


class GroupState:
    """The untagged lines of a group, and what has come for them."""

    def __init__(self, variables, group):
        self.variables, self.group = variables, group
        self.open = [r for r in group.replies if r.sign != "!"]
        self.never = [r for r in group.replies if r.sign == "!"]
        self.mismatches, self.best, self.extra = 0, None, []

    def met(self):
        return not any(r.sign == "*" for r in self.open)

    def untagged(self, args):
        met = False
        for line in list(self.open):
            ok, depth = match.untagged(self.variables, line.args, args)
            if ok:
                met = True
                if line.sign == "*":
                    self.open.remove(line)
            else:
                self.mismatches += 1
                if line.sign == "*" and (self.best is None or depth > self.best[0]):
                    self.best = (depth, args)
        for line in self.never:
            if match.untagged(self.variables, line.args, args)[0]:
                return "Unexpected untagged match: %s" % show(args)
        if not met:
            self.extra.append(args)
        return None

    def end(self, ignore_extra):
        problems = []
        missing = [r for r in self.open if r.sign == "*"]
        if missing:
            text = "Missing %d untagged replies (%d mismatches)\n - first unexpanded: %s\n - first expanded: %s" % (
                len(missing), self.mismatches, missing[0].line.source(), match.expand(self.variables, missing[0].args))
            if self.best is not None:
                text += "\n - best match: %s" % show(self.best[1])
            problems.append(text)
        if not ignore_extra and self.extra:
            problems.append("%d unexpected untagged replies received, first: %s" % (len(self.extra), show(self.extra[0])))
        return problems



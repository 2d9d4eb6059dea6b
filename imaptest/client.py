"""One IMAP connection: sends commands, reads replies as arguments. Every reply goes to the tracker (track.py) as well."""
import re
import socket
import ssl
import time
import zlib

from args import Literal, cut, show
from track import Tracker


class Disconnected(Exception):
    pass


class Timeout(Exception):
    pass


class Client:
    """options: host, port, ssl, timeout. `violation(client, class, text)` hears of what the server does wrong."""
    count = 0

    def __init__(self, options, user, password, violation):
        Client.count += 1
        self.id, self.user, self.password = Client.count, user, password
        self.capabilities, self.dialogue = [], []
        self.tracker = Tracker(lambda kind, text: violation(self, kind, text))
        self.logging_out, self.tags, self.buffer, self.inflater = False, 0, b"", None
        self.deflater = None
        try:
            self.sock = socket.create_connection((options.host, options.port), timeout=options.timeout)
        except OSError as err:
            raise Disconnected(str(err)) from err
        if options.ssl:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=options.host)
        self.timeout = options.timeout
        self.greeting = self.read()
        word = self.greeting[1].text.upper() if len(self.greeting) > 1 else b""
        if self.greeting[0].text != b"*" or word not in (b"OK", b"PREAUTH"):
            raise Disconnected("Malformed banner: %s" % show(self.greeting))
        self.learn_capabilities(self.greeting)

    # ---- bytes ----

    def send(self, data):
        self.dialogue.append(("C", data))
        if self.deflater is not None:
            data = self.deflater.compress(data) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
        try:
            self.sock.sendall(data)
        except OSError as err:
            raise Disconnected(str(err)) from err

    def _more(self, until):
        left = until - time.monotonic()
        if left <= 0:
            raise Timeout("Timeout while waiting for server response")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            raise Timeout("Timeout while waiting for server response") from None
        except OSError as err:
            raise Disconnected(str(err)) from err
        if not data:
            raise Disconnected("Unexpected disconnection")
        self.buffer += self.inflater.decompress(data) if self.inflater is not None else data

    def _line(self, until):
        while b"\n" not in self.buffer:
            self._more(until)
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def _bytes(self, size, until):
        while len(self.buffer) < size:
            self._more(until)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read(self, timeout=None):
        """-> [Arg] of one reply, its tag or * or + first."""
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        pieces, line = [], self._line(until)
        while True:
            literal = re.search(rb"~?\{(\d+)\}$", line)
            if not literal:
                pieces.append(line)
                break
            until = max(until, time.monotonic() + self.timeout) # it has begun
            pieces += [line[:literal.start()], Literal(self._bytes(int(literal[1]), until))]
            line = self._line(until)
        self.dialogue.append(("S", b"".join(b"{%d}\r\n" % len(p) + p if isinstance(p, Literal) else p for p in pieces)))
        return cut(pieces)

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    # ---- commands ----

    def new_tag(self):
        self.tags += 1
        return b"%d.%d" % (self.id, self.tags)

    def learn_capabilities(self, reply):
        words = [a.text.decode("latin-1").upper() for a in reply if a.kind == "atom"]
        if len(words) > 1 and words[1] == "CAPABILITY":
            self.capabilities = words[2:]
        elif "[CAPABILITY" in words:
            at = words.index("[CAPABILITY") + 1
            self.capabilities = []
            for word in words[at:]:
                self.capabilities.append(word.rstrip("]"))
                if word.endswith("]"):
                    break

    def has(self, capability):
        return capability.upper() in self.capabilities

    def send_pieces(self, tag, pieces, literal8=()):
        """pieces: bytes and Literals by turns, the first and last are text."""
        plus = self.has("LITERAL+") or self.has("LITERAL-")
        data, eights = tag + b" ", iter(literal8)
        for piece in pieces:
            if not isinstance(piece, Literal):
                data += piece
                continue
            small = self.has("LITERAL+") or (plus and len(piece) <= 4096)
            data += (b"~" if next(eights, False) else b"") + (b"{%d+}\r\n" if small else b"{%d}\r\n") % len(piece)
            if not small:
                self.send(data)
                data = b""
                while True:
                    reply = self.read()
                    if reply and reply[0].text == b"+":
                        break
                    if reply and reply[0].text == tag:
                        return reply   # refused: nothing more is sent
                    self.untagged(reply)
            data += bytes(piece)
        self.send(data + b"\r\n")
        return None

    def untagged(self, reply):
        self.learn_capabilities(reply)
        self.tracker.untagged(reply, self)

    def command(self, text, pieces=None, literal8=()):
        """A command of our own, not of a script. -> (word, tagged reply, untagged replies)"""
        tag, replies = self.new_tag(), []
        data = [text] if pieces is None else pieces
        self.tracker.sent(tag, data)
        tagged = self.send_pieces(tag, data, literal8)
        while tagged is None:
            reply = self.read()
            if reply and reply[0].text == tag:
                tagged = reply
                break
            self.untagged(reply)
            replies.append(reply)
        self.learn_capabilities(tagged)
        self.tracker.tagged(tag, tagged)
        return tagged[1].text.decode("latin-1").lower() if len(tagged) > 1 else "", tagged, replies

    def compress(self):
        if self.command(b"COMPRESS DEFLATE")[0] == "ok":
            self.inflater, self.deflater = zlib.decompressobj(-15), zlib.compressobj(6, zlib.DEFLATED, -15)

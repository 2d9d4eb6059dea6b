"""remote.py IP PORT: the line protocol of doveadm-server by hand; what it answers is printed, so that two servers can be compared.

What differs from run to run (GUIDs, pids, sessions) is replaced; packets are joined by channel.
"""
import re
import socket
import sys

ip, port = sys.argv[1], int(sys.argv[2])
VERSION, LOGIN = b"VERSION\tdoveadm-server\t1\t2\n", b"PLAIN\tAGRvdmVhZG0Ac2VjcmV0\n"


def until(read, done):
    data = b""
    while not done(data):
        more = read(65536)
        if not more:
            return data, True
        data += more
    return data, False


def packets(data):
    out = {0: b"", 0x4C: b""}
    while len(data) >= 5:
        size = int.from_bytes(data[1:5], "big")
        if len(data) < 5 + size:
            break
        out[data[0]] += data[5:5 + size]
        data = data[5 + size:]
    return out


def show(name, *parts):
    text = repr(parts)
    text = re.sub(r"[0-9a-f]{32}", "GUID", text)
    text = re.sub(r"<\d+><[^>]*>", "<PID><SESSION>", text)
    print(name, text.replace(ip, "IP"))


def greeting(name, *lines):
    """Before commands: what the server says until it waits or ends."""
    s = socket.create_connection((ip, port), timeout=30)
    said = []
    for line in lines:
        s.sendall(line)
        data, end = until(s.recv, lambda d: d.endswith((b"-\n", b"+\n")))
        said += [data, end]
        if end:
            break
    if not said[-1] and lines[-1] is not LOGIN and len(lines) > 1:
        said.append(until(s.recv, lambda d: False))  # refused: it ends
    show(name, said)


def command(name, line, minor=2):
    s = socket.create_connection((ip, port), timeout=30)
    s.sendall(b"VERSION\tdoveadm-server\t1\t%d\n" % minor)
    until(s.recv, lambda d: d.endswith(b"-\n"))
    s.sendall(LOGIN)
    assert until(s.recv, lambda d: d.endswith(b"+\n"))[0] == b"+\n"
    s.sendall(line)
    status = re.compile(rb"\n[-+][A-Z]*\n\Z")
    if minor == 0:
        data, end = until(s.recv, status.search)
        show(name, data, end)
    else:
        data, end = until(s.recv, lambda d: status.search(packets(d)[0]))
        got = packets(data)
        show(name, got[0], got[0x4C], end)


greeting("wrong name", b"VERSION\tnosuch\t1\t2\n")
greeting("wrong major", b"VERSION\tdoveadm-server\t2\t0\n")
greeting("login", VERSION, LOGIN)
greeting("old client", b"VERSION\tdoveadm-server\t1\t0\n", LOGIN)
greeting("wrong password", VERSION, b"PLAIN\tAGRvdmVhZG0AeA==\n")
greeting("other name", VERSION, b"PLAIN\tAGZvbwBzZWNyZXQ=\n")
greeting("bad base64", VERSION, b"PLAIN\tbad\n")
greeting("no login", VERSION, b"\tone\tsearch\tall\n")
greeting("no TLS", VERSION, b"STARTTLS\n")
command("save", b"\tone\tsave\nSubject: x\r\n\r\n..dot\r\n.x\r\n\n.\n")
command("fetch", b"\tone\tfetch\tuid text flags\tall\n")
command("save blank lines", b"\ttwo\tsave\nSubject: y\n\n" + 200000 * b"\n" + b"last\n.\n")
command("blank lines", b"\ttwo\tfetch\tsize.physical\tall\n")
command("without channels", b"\tone\tsearch\tmailbox\tnosuch\n", 0)
command("missing", b"\tone\tsearch\tmailbox\tnosuch\n")
command("exists", b"\tone\tmailbox create\tINBOX\n")
command("words", b"\tone\tmailbox\tlist\t-u\t*\n")
command("nobody", b"\tnobody\tsearch\tall\n")
command("no user", b"\t\tsearch\t-u\tone\tall\n")
command("user", b"\t\tuser\t*\n")
command("quiet", b"\t\tlog find\n")
command("unknown", b"\tone\tnosuch\n")
command("local only", b"\tone\tpw\t-p\tx\n")
command("bad option", b"\tone\tsearch\t--nosuch\tall\n")
command("bad query", b"\tone\tsearch\tnosuch\n")
command("no query", b"\tone\tsearch\n")
command("short", b"short\n")
command("bad flag", b"x\tone\tsearch\tall\n")

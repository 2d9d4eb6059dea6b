"""Sums of sizes that are left to the indexer. Usage: indexer_vsize.py IP PORT FOLDER doveadm ARGUMENT ...

FOLDER is the server's base_dir; what follows begins a doveadm command. The socket indexer is taken over: what is asked of the indexer is
printed behind each command. At the end the indexer has its socket back and does the work. Users: u has 100 mails, v 20.
"""
import os
import re
import socket
import subprocess
import sys
import threading

ip, port, folder, doveadm = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
path = os.path.join(folder, "indexer")


class Recorder:
    def __init__(self):
        os.rename(path, path + ".real")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(100)

    def heard(self):
        """What was asked since the last time, how often does not matter: whoever has asked has closed his connection, or will."""
        self.listener.setblocking(False)
        asked = set()
        while True:
            try:
                connection = self.listener.accept()[0]
            except BlockingIOError:
                break
            connection.settimeout(30)
            with connection.makefile() as lines:
                asked.add(lines.read())
        for text in sorted(asked):
            print("    asked:", text.replace("\t", " ").replace("\n", " / "))

    def give_back(self):
        self.listener.close()
        os.rename(path + ".real", path)


recorder = Recorder()


def plain(line):
    line = re.sub(r" \(\d[\d. +]* secs\)", "", line)
    return re.sub(r"APPENDUID \d+|COPYUID \d+", "UID N", line)


class Session:
    def __init__(self, user):
        self.connection = socket.create_connection((ip, port), timeout=30)
        self.lines = self.connection.makefile("rb")
        self.lines.readline()
        self.run(f"login {user} pass", False)

    def run(self, command, show=True):
        if show:
            print(command.split("\n")[0])
        self.connection.sendall(b"a " + command.replace("\n", "\r\n").encode() + b"\r\n")
        while True:
            line = self.lines.readline().decode().rstrip()
            if show and not line.startswith(("* FLAGS", "* OK [", "+")):
                print("   ", plain(line))
            if line.startswith("a "):
                break
        recorder.heard()

    def ask(self, command):
        self.connection.sendall(b"a " + command.encode() + b"\r\n")
        while not (line := self.lines.readline().decode()).startswith("a "):
            assert line, "the server has closed the connection"
        return line


def admin(*words):
    print("doveadm", *words)
    done = subprocess.run(doveadm + list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60)
    for line in done.stdout.decode().splitlines():
        print("   ", line)
    print("    exit", done.returncode)
    recorder.heard()


u = Session("u")
u.run("status INBOX (messages)")
u.run("status INBOX (size)")
u.run("status INBOX (messages size)")
u.run('list "" % return (status (size))')
u.run('getquota "User quota"')
u.run("getquotaroot INBOX")
u.run("append INBOX {5+}\nhello")
u.run("create foo")
u.run("append foo {5+}\nhello")
u.run("status foo (size)")
admin("mailbox", "status", "-u", "u", "vsize", "INBOX")
admin("mailbox", "status", "-u", "u", "messages", "INBOX")
admin("quota", "get", "-u", "u")
admin("quota", "recalc", "-u", "u")
# Sizes that are in the cache cost nothing: only what is not there counts.
v = Session("v")
v.run("select INBOX")
v.run("fetch 1:12 (rfc822.size)", False)
v.run("unselect")
v.run("status INBOX (size)")
v.run("status INBOX (size)")
# Nobody is there to ask.
recorder.listener.close()
os.unlink(path)


class Nobody:
    def heard(self):
        pass


taken, recorder = recorder, Nobody()
u.run("status INBOX (size)", False)
print("the same again, with an indexer")
taken.give_back()
for user in ("u", "v"):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    s.sendall(f"VERSION\tindexer\t1\t0\nAPPEND\t1\t{user}\tINBOX\n".encode())
    answers = s.makefile()
    while (line := answers.readline()) not in ("1\t100\n", "1\t-1\n"):
        assert line, "the indexer has closed the connection"
    print(user, line.rstrip())
# The real workers may leave the sum as it is; each question adds some more then. How often was it asked for?
rounds = 1
while u.ask("status INBOX (size)").startswith("a NO [INUSE]"):
    rounds += 1
with open("rounds", "w", encoding="ascii") as file:
    print(rounds, file=file)
u.run("status INBOX (size)")
u.run('getquota "User quota"')
v.run("status INBOX (size)")
admin("mailbox", "status", "-u", "u", "vsize", "INBOX")

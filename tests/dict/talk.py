#!/usr/bin/env python3
"""A conversation with a dict service: lines of standard input ('~' is a TAB) are sent, what comes back is printed.

usage: talk.py SOCKET     an empty line begins a new connection; times of replies are left out.
"""
import re
import socket
import sys

ANSWERED = "LICD"


def end_of(command, line):
    """Is the request answered with this line?"""
    reply = line.split("\t", 1)[1] if line.startswith("+") else line
    if line.startswith("*"):
        return False
    return command != "I" or not reply.startswith("O")


def main(path):
    conn = stream = None
    for line in sys.stdin.read().split("\n"):
        if line == "":
            conn = None
            continue
        if conn is None:
            conn = socket.socket(socket.AF_UNIX)
            conn.settimeout(60)
            conn.connect(path)
            stream = conn.makefile("rb")
        line = line.replace("~", "\t")
        ends = line.endswith("!")   # the server ends the connection at this line
        line = line.rstrip("!")
        print("C:", line)
        conn.sendall(line.encode() + b"\n")
        while ends or line[0] in ANSWERED:
            got = stream.readline()
            if got == b"":
                print("S: <end>")
                conn = None
                break
            text = got.decode().rstrip("\n")
            print("S:", re.sub(r"(\t\d+){4}$", "", text))
            if not ends and end_of(line[0], text):
                break


main(sys.argv[1])

#!/usr/bin/env python3
"""Asks a policy server of Postfix. usage: policy_talk.py HOST PORT     each line of standard input is a request, NAME=VALUE ...

All requests go over one connection, each after the answer to the one before; the last two are sent at once.
"""
import socket
import sys

requests = [line.split() for line in sys.stdin]
texts = ["".join(word.replace("%20", " ") + "\n" for word in words) + "\n" for words in requests]
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
stream = connection.makefile("rb")


def answer(words):
    lines = []
    while not lines or lines[-1] != "\n":
        lines.append(stream.readline().decode())
        if lines[-1] == "":
            sys.exit("closed after %s" % " ".join(words))
    print("%s -> %s" % (" ".join(words), "".join(lines).strip()))


for words, text in zip(requests[:-2], texts[:-2]):
    connection.sendall(text.encode())
    answer(words)
connection.sendall("".join(texts[-2:]).encode())
for words in requests[-2:]:
    answer(words)

#!/usr/bin/env python3
"""Asks a config socket (ipc 4) and prints the replies, sorted, since the order of settings is nobody's business.

usage: ask.py SOCKET REQUEST...     a request is the text after VERSION, with \\t for TAB
"""
import socket
import sys

for request in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(sys.argv[1])
        sock.sendall(b"VERSION\tconfig\t2\t0\n" + request.encode().decode("unicode_escape").encode() + b"\n")
        reply = b""
        filters = request.startswith("FILTERS")
        # Flags, settings, an empty line; the flags line may be empty too.
        while not reply.endswith(b"\n\n") or (not filters and reply.count(b"\n") < 2):
            data = sock.recv(65536)
            if not data:
                break
            reply += data
    head, *rest = reply.decode().split("\n")
    print("==", request)
    print(head)
    print("\n".join(sorted(rest)))

#!/usr/bin/env python3
"""Stands for a script service: notes the arguments of whoever connects. usage: script_listener.py SOCKET OUTPUT [ANSWER [COMMAND]]

One connection after the other, each a line of the output; ends when one has sent "end" as its only line. ANSWER: what the
script's end is told with, where that is asked for ("+" or "-"; "none": the connection is just closed). COMMAND: runs before the
answer, with the arguments that were sent.
"""
import os
import socket
import subprocess
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
os.chmod(sys.argv[1] + ".new", 0o666)
listener.listen(64)
os.rename(sys.argv[1] + ".new", sys.argv[1])
with open(sys.argv[2], "a", buffering=1) as out:
    while True:
        connection = listener.accept()[0]
        text = b""
        while not text.endswith(b"\n\n"):
            part = connection.recv(4096)
            if not part:
                break
            text += part
        lines = text.decode().split("\n\n", 1)[0].split("\n")
        if len(sys.argv) > 4:
            subprocess.run([sys.argv[4]] + [line for line in lines[2:] if line], check=False)
        if len(sys.argv) > 3 and sys.argv[3] != "none" and lines[1:2] == ["-"]:
            connection.sendall(sys.argv[3].encode() + b"\n")
        connection.close()
        if lines[0] == "end":
            break
        out.write(" ".join(line for line in lines[1:] if line not in ("noreply", "-")) + "\n")

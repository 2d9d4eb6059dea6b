#!/usr/bin/env python3
"""Stands for a dict service. usage: fake_dict.py FOLDER OUTPUT KIND ...

Listens on FOLDER/KIND for each kind, which says how commits are answered:

  ok, fail, unsure, missing, junk   with that reply
  close                             the connection is closed
  hang                              never

What clients send is noted in OUTPUT, a line each behind the kind; the lines of a transaction together when it is committed. FOLDER/ready appears when all sockets are there.
"""
import os
import socket
import sys
import threading

REPLIES = {"ok": "O1", "fail": "F1\toh no", "unsure": "W1\tnot sure", "missing": "N1", "junk": "X1"}
folder, output, kinds = sys.argv[1], open(sys.argv[2], "a"), sys.argv[3:]
writing = threading.Lock()


def serve(kind, conn):
    answered, heard = 0, ""
    for line in conn.makefile("r"):
        heard += "%s %s" % (kind, line)
        if line[0] not in "BSUA":
            with writing:
                output.write(heard)
                output.flush()
            heard = ""
        if line[0] not in "CD" or kind == "hang":
            continue
        if kind == "close":
            conn.shutdown(socket.SHUT_RDWR)
            return
        answered += 1
        conn.sendall(("*%d\n+%d\t%s%s\t1\t1\t1\t1\n" % (answered, answered, "A" if line[0] == "D" else "", REPLIES[kind])).encode())


def accept(kind, listener):
    while True:
        threading.Thread(target=serve, args=(kind, listener.accept()[0]), daemon=True).start()


for kind in kinds:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(folder + "/" + kind)
    os.chmod(folder + "/" + kind, 0o666)
    listener.listen(64)
    threading.Thread(target=accept, args=(kind, listener), daemon=True).start()
open(folder + "/ready", "w").close()
threading.Event().wait()

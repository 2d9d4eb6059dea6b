#!/usr/bin/env python3
"""A server for what others send by HTTP. usage: http_hears.py ADDRESS PORT OUTPUT [CERT KEY]
                                                 http_hears.py --wait OUTPUT COUNT [TEXT]

Each request is noted in OUTPUT: its line, its headers in order of their names, its body; what is different in each run (Date) is left out.
OUTPUT.ready appears when the server listens. The path says how it is answered:

  .../status/N   with that status       .../wait/MS    later
  .../hang       never                  .../close      the connection is closed
  .../bad        with what is no HTTP   .../else       200

--wait returns when OUTPUT holds as many requests, or that text as often.
"""
import re
import select
import socket
import ssl
import sys
import threading
import time

MARK = b"--- "


def wait(path, count, mark):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with open(path, "rb") as file:
                if file.read().count(mark) >= count:
                    return 0
        except FileNotFoundError:
            pass
        select.select([], [], [], 0.02)
    return 1


def note(request, headers, body):
    kept = sorted(line for line in headers if not line.lower().startswith(b"date:"))
    with writing:
        output.write(MARK + b"\n".join([request] + kept) + b"\n" + body + b"\n")
        output.flush()


def answer(conn, path):
    status = re.search(rb"/status/(\d+)", path)
    later = re.search(rb"/wait/(\d+)", path)
    if b"/hang" in path:
        return True
    if b"/close" in path:
        return False
    if later:
        time.sleep(int(later[1]) / 1000)
    if b"/bad" in path:
        conn.sendall(b"garbage\r\n\r\n")
        return False
    conn.sendall(b"HTTP/1.1 %s Some Reason\r\nContent-Length: 2\r\n\r\n{}" % (status[1] if status else b"200"))
    return True


def serve(conn):
    lines = conn.makefile("rb")
    for request in lines:
        headers = [line.rstrip(b"\r\n") for line in iter(lines.readline, b"\r\n")]
        sizes = [int(line.split(b":")[1]) for line in headers if line.lower().startswith(b"content-length:")]
        note(request.rstrip(b"\r\n"), headers, lines.read(sizes[0] if sizes else 0))
        if not answer(conn, request.split()[1]):
            break
    lines.close()
    conn.close()


def take(conn):
    try:
        serve(conn if context is None else context.wrap_socket(conn, server_side=True))
    except OSError: # the client is gone, or does not believe the certificate
        pass


if sys.argv[1] == "--wait":
    sys.exit(wait(sys.argv[2], int(sys.argv[3]), sys.argv[4].encode() if len(sys.argv) > 4 else MARK))
output, writing, context = open(sys.argv[3], "ab"), threading.Lock(), None
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
open(sys.argv[3] + ".ready", "w").close()
while True:
    threading.Thread(target=take, args=(listener.accept()[0],), daemon=True).start()

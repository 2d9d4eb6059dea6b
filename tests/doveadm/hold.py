#!/usr/bin/env python3
"""hold.py HOST PORT USER...: logs each user in, prints "ready", waits for the end of standard input, then says what each
session answers to NOOP, or its last words."""
import socket, sys

held = []
for user in sys.argv[3:]:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
    f = s.makefile('rwb')
    f.readline()
    f.write(b'a LOGIN %s pass\r\n' % user.encode())
    f.flush()
    while not (line := f.readline()).startswith(b'a '):
        if not line:
            sys.exit('%s: no login' % user)
    held.append((user, f))
print('ready', flush=True)
sys.stdin.read()
for user, f in held:
    try:
        f.write(b'b NOOP\r\n')
        f.flush()
    except OSError:
        pass
    try:
        line = f.readline()
        while line and not line.startswith((b'* BYE', b'b ')):
            line = f.readline()
    except OSError as e:
        line = b'(%s)' % str(e).encode()
    print('%s: %s' % (user, line.decode().strip()), flush=True)

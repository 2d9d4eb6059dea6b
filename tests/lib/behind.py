#!/usr/bin/env python3
"""Logins whose request lies unread in the socket of a process that is held.

    behind.py killed HOST PORT MASTER NAME    the child of that name is held, and killed: the login succeeds all the same
    behind.py ended HOST PORT MASTER          login processes are told to end when they have not read yet that the worker has the client
    behind.py given HOST PORT MASTER          they end when the client is on its way: what else there is to say is not theirs to say
"""
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys

PIDFD_GETFD = 438
syscall = ctypes.CDLL(None).syscall


def children(master, name, *options):
    return [int(pid) for pid in subprocess.check_output(["pgrep", *options, "-P", master, "-f", name]).split()]


def hold(pid):
    os.kill(pid, signal.SIGSTOP)
    while open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0] != "T":
        os.sched_yield()


def waiting(pid):
    """Descriptors of a process at which something waits: bytes, or a connection."""
    pidfd, found = os.pidfd_open(pid), set()
    for name in os.listdir("/proc/%d/fd" % pid):
        fd = syscall(PIDFD_GETFD, pidfd, int(name), 0)
        if fd < 0:
            continue
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if os.readlink("/proc/%d/fd/%s" % (pid, name)).startswith("socket:") and poll.poll(0):
            found.add(name)
        os.close(fd)
    os.close(pidfd)
    return found


def connect(host, port):
    s = socket.create_connection((host, int(port)), timeout=60)
    f = s.makefile("rb")
    assert f.readline().startswith(b"* OK")
    return s, f


def send_behind(s, line, pids):
    """The line, and waits until what comes of it lies before one of the held processes."""
    before = [waiting(pid) for pid in pids]
    s.sendall(line + b"\r\n")
    while all(waiting(pid) <= had for pid, had in zip(pids, before)):
        os.sched_yield()


def logged_in(s, f):
    line = f.readline()
    while line.startswith(b"* "):
        line = f.readline()
    assert line.startswith(b"a OK"), line


def killed(host, port, master, name):
    for lines in ([b"a LOGIN u pass"], [b"a AUTHENTICATE PLAIN AHUAcGFzcw=="], [b"a AUTHENTICATE PLAIN", b"AHUAcGFzcw=="]):
        s, f = connect(host, port)
        for line in lines[:-1]:
            s.sendall(line + b"\r\n")
            assert f.readline() == b"+ \r\n"
        pid = children(master, name, "-o")[0]
        hold(pid)
        send_behind(s, lines[-1], [pid])
        os.kill(pid, signal.SIGKILL)
        logged_in(s, f)
        s.sendall(b"b LOGOUT\r\n")
        assert b"\r\nb OK" in f.read()


def login_lies_before_dispatcher(host, port, master):
    """All processes of both kinds are held."""
    s, f = connect(host, port)
    dispatchers, logins = children(master, "^dovecot/imap( |$)"), children(master, "^dovecot/imap-login")
    ends = [os.pidfd_open(pid) for pid in logins]
    for pid in dispatchers:
        hold(pid)
    send_behind(s, b"a LOGIN u pass", dispatchers)
    for pid in logins:
        hold(pid)
    return s, f, dispatchers, logins, ends


def go_on(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def end(logins, ends):
    for pid in logins:
        os.kill(pid, signal.SIGTERM)
    go_on(logins)
    for fd in ends:
        select.select([fd], [], [])


def ended(host, port, master):
    s, f, dispatchers, logins, ends = login_lies_before_dispatcher(host, port, master)
    go_on(dispatchers)
    logged_in(s, f)
    end(logins, ends)
    s.sendall(b"b LOGOUT\r\n")
    assert b"\r\nb OK" in f.read()


def given(host, port, master):
    s, f, dispatchers, logins, ends = login_lies_before_dispatcher(host, port, master)
    end(logins, ends)
    said = select.select([s], [], [], 0)[0]
    go_on(dispatchers)
    assert not said, f.readline()


{"killed": killed, "ended": ended, "given": given}[sys.argv[1]](*sys.argv[2:])

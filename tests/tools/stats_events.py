"""stats_events.py RUN: events of a made-up service for the stats service whose sockets lie in the folder RUN.

stats_events.py RUN LINE ...: sends the lines to stats-reader instead ("\\t" in them is a TAB), prints what is answered.
stats_events.py RUN -: sends the lines of standard input to stats-writer, as they are; returns when the service has read them.
"""
import socket
import sys

run = sys.argv[1]
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
f = s.makefile("rb")


def send(*words):
    s.sendall(("\t".join(words) + "\n").encode())


def write():
    s.connect(run + "/stats-writer")
    send("VERSION", "stats-client", "4", "0")
    f.readline()
    f.readline()


if sys.argv[2:] == ["-"]:
    write()
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    f.read()
    sys.exit(0)
if len(sys.argv) > 2:
    s.connect(run + "/stats-reader")
    send("VERSION", "stats-reader-client", "2", "0")
    for line in sys.argv[2:]:
        send(line.replace("\\t", "\t"))
    s.shutdown(socket.SHUT_WR)
    print(f.read().decode())
    sys.exit(0)
write()


def event(parent, name, took, *fields):
    end = 100 + took
    send("EVENT", "0", parent, "1", "1795480000", "100", "stest.c", "10", "l%d" % (1795480000 + end // 1000000),
         str(end % 1000000), "n" + name, *fields)


send("CATEGORY", "service:test")
send("CATEGORY", "child", "service:test")
send("BEGIN", "7", "0", "1", "1795480000", "5", "smain.c", "1", "cservice:test", "Suser", "alice")
for i, took in enumerate([100, 250, 1000, 20000, 3]):
    event("7", "cmd", took, "Scmd_name", ["FETCH", "SELECT", "FETCH", "a b/c\"d", "UID FETCH"][i], "Ibytes", str(10 * i * i),
          "Sreply", "OK" if i % 2 else "NO", "Twhen", "5", str(i))
event("0", "cmd", 7, "Scmd_name", "NOPARENT")
event("0", "other", 9, "Ibytes", "77", "cchild")
event("7", "other", 9, "Ibytes", "-5", "Ssize", "12", "Lreasons", "2", "x:a", "y:b")
send("UPDATE", "7", "0", "1795480000", "5", "smain.c", "1", "cservice:test", "Suser", "bob")
event("7", "cmd", 1, "Scmd_name", "LATE")
for i in [0, 1, 2, 5, 10, 11, 99, 100, 101, 1000, 5000, 100000, 10000000]:
    event("0", "hist", i, "Ibytes", str(i))
send("END", "7")
s.shutdown(socket.SHUT_WR)
f.read()  # until the service has read all and closes

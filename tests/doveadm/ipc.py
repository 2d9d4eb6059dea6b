"""ipc.py DOVEADM CONF: what doveadm proxy prints and sends for the answers of an ipc service that is played here."""
import os
import socket
import subprocess
import sys
import threading

PATH = os.path.join(os.getcwd(), "ipc.sock")
LIST = b":username\tuser_x\tservice\tsrc-ip\tdest-ip\tdest-port\n:al\x01tice\tx1\timap\t10.0.0.1\t10.0.0.2\t143\n" \
    b":bob\tx\tpop3\t::1\t10.0.0.3\t110\n+\n"


def serve(listener, reply, got):
    while True:
        try:
            c = listener.accept()[0]
        except OSError:
            return
        got.append(c.makefile("rb").readline())
        c.sendall(reply)
        c.close()


def run(reply, *words):
    if os.path.exists(PATH):
        os.unlink(PATH)
    got, listener = [], socket.socket(socket.AF_UNIX)
    listener.bind(PATH)
    os.chmod(PATH, 0o777)
    listener.listen()
    thread = threading.Thread(target=serve, args=(listener, reply, got))
    thread.start()
    done = subprocess.run([sys.argv[1], "-c", sys.argv[2], *words, "-a", PATH], capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    print(words, got, done.returncode, done.stdout, done.stderr)


for reply in (LIST, b"+\n", b"-oops\n", b":usern", b""):
    run(reply, "proxy", "list")
run(LIST, "-f", "json", "proxy", "list")
run(LIST, "-f", "tab", "proxy", "list")
for words in (["alice", "bo\tb"], ["alice"], ["-f", "x", "alice"], ["-h", "1.2.3.4"], ["-h", "1.2.3.4", "5.6.7.8"],
              ["-h", "1.2.3.4", "-f", "x"]):
    run(b"+3\n", "proxy", "kick", *words)
for reply in (b"+\n", b"-Unknown command\n", b"+x", b""):
    run(reply, "proxy", "kick", "alice")
run(b"+2\n", "-f", "json", "proxy", "kick", "alice")
done = subprocess.run([sys.argv[1], "-c", sys.argv[2], "proxy", "list", "-a", "/nonexistent/ipc"], capture_output=True)
print(done.returncode, done.stdout, done.stderr)
done = subprocess.run([sys.argv[1], "-c", sys.argv[2], "proxy", "kick"], capture_output=True)
print(done.returncode, done.stdout, done.stderr)

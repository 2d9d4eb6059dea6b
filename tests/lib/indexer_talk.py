"""A conversation with an indexer service, whose workers are played here. Usage: indexer_talk.py FOLDER < SCENE

FOLDER is the server's base_dir. The socket indexer-worker is taken over: the indexer's connections to its workers come here. Each line
of the scene does one thing; what is heard is printed, TABs as spaces.

    limit N         how many workers there may be, as the next worker tells it
    X> words        client X (one letter) sends a line; it connects first if it has not yet ("X>" alone: it connects)
    X< [N]          prints N lines that come to client X
    X.              closes client X
    X<.             the indexer closes client X
    W               the indexer wants a worker: prints what for, as Wn
    Wn> words       that worker says so
    Wn<.            the indexer closes that connection
    Wn.             the worker dies
Nothing waits for a time; what does not come within 20 seconds ends the scene.
"""
import os
import socket
import sys


class Line:
    """A connection that is read line by line."""

    def __init__(self, connection):
        connection.settimeout(float(os.environ.get("TALK_SECS", 20)))
        self.connection = connection
        self.rest = b""

    def send(self, text):
        self.connection.sendall(text.encode("utf-8", "surrogateescape"))

    def line(self):
        while b"\n" not in self.rest:
            more = self.connection.recv(65536)
            if not more:
                return None
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode("utf-8", "surrogateescape")


def main(folder):
    path = os.path.join(folder, "indexer-worker")
    os.rename(path, path + ".real")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(20)
    listener.settimeout(float(os.environ.get("TALK_SECS", 20)))
    clients, workers, limit = {}, {}, 2

    def client(name):
        if name not in clients:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(os.path.join(folder, "indexer"))
            clients[name] = Line(connection)
            clients[name].send("VERSION\tindexer\t1\t0\n")
            assert clients[name].line() == "VERSION\tindexer\t1\t0"
        return clients[name]

    def show(who, text):
        print(f"{who}: {'(end)' if text is None else text.replace(chr(9), ' ')}", flush=True)

    def new_worker():
        worker = Line(listener.accept()[0])
        worker.send(f"VERSION\tindexer-worker-master\t1\t0\n{limit}\n")
        assert worker.line() == "VERSION\tindexer-master-worker\t1\t0"
        name = f"W{len(workers) + 1}"
        workers[name] = worker
        show(name, worker.line())

    for text in sys.stdin:
        words = text.split()
        if not words or words[0].startswith("#"):
            continue
        what = words[0]
        if what == "limit":
            limit = int(words[1])
        elif what == "W":
            new_worker()
        else:
            who = what.rstrip("<>.")
            peer = workers[who] if who in workers else client(who)
            action = what[len(who):]
            if action == ">" and len(words) > 1:
                peer.send("\t".join(words[1:]) + "\n")
            elif action == "<":
                for _ in range(int(words[1]) if len(words) > 1 else 1):
                    show(who, peer.line())
            elif action == "<.":
                show(who, peer.line())
            elif action == ".":
                peer.connection.close()
                clients.pop(who, None)


main(sys.argv[1])

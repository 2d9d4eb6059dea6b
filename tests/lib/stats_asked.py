"""stats_asked.py HOST PORT RUN STATS_EVENTS: who is connected to the stats service in the folder RUN, and when."""
import os, select, signal, socket, subprocess, sys, time

host, port, run, tool = sys.argv[1:5]
END = time.monotonic() + 120


def writers():
    """Sockets that the service has accepted, as the kernel lists them."""
    with open("/proc/net/unix") as f:
        rows = [line.split() for line in f][1:]
    return sum(row[5] == "03" and row[-1] == run + "/stats-writer" for row in rows)


def ask(line):
    return subprocess.run([sys.executable, "-B", tool, run, line], check=True, capture_output=True, text=True).stdout


def login(user):
    s = socket.create_connection((host, int(port)), timeout=30)
    f = s.makefile("rwb")
    f.readline()
    talk(f, b"LOGIN %s pass" % user)
    return f


def talk(f, command):
    f.write(b"x " + command + b"\r\n")
    f.flush()
    while not (line := f.readline()).startswith(b"x "):
        assert line, command


def counted(sessions, metric):
    """NOOPs of every session until each is counted."""
    while True:
        for f in sessions:
            talk(f, b"NOOP")
        rows = dict(row.split("\t")[:2] for row in ask("DUMP\\tcount").splitlines() if row.startswith(metric + "_"))
        if len(rows) == len(sessions):
            return
        assert time.monotonic() < END, rows


def service_pid():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                cmdline = f.read()
            with open("/proc/%s/environ" % pid, "rb") as f:
                environ = f.read().split(b"\0")
        except OSError:
            continue
        if b"stats" in cmdline and b"SERVICE_NAME=stats" in environ and b"CONFIG_FILE=%s/config" % run.encode() in environ:
            return int(pid)
    raise SystemExit("no stats service")


# The first login may come before the dispatcher has heard that nothing is asked for; the dispatcher has when that worker's is known.
talk(login(b"u0"), b"LOGOUT")
sessions = [login(b"u%d" % i) for i in range(1, 5)]
few = writers()
assert few <= 3, few
ask("METRICS-ADD\\tm\\t\\t\\tuser\\tevent=imap_command_finished AND cmd_name=NOOP\\t\\t")
counted(sessions, "m")
assert writers() >= few + 3, (writers(), few)
sessions.append(login(b"u5"))
counted(sessions, "m")
# A service that has died is connected again, and has no metric then.
old = service_pid()
gone = os.pidfd_open(old)
os.kill(old, signal.SIGKILL)
select.select([gone], [], [], 60)
while writers() == 0:  # the dispatcher waits for some seconds first: each look is a question to the new service, which takes its time
    ask("DUMP\\tcount")
    assert time.monotonic() < END, "nobody connects again"
assert writers() == 1, writers()
ask("METRICS-ADD\\tagain\\t\\t\\tuser\\tevent=imap_command_finished\\t\\t")
counted(sessions, "again")

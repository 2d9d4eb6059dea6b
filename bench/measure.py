"""What a run cost the server: time, CPU, system calls, syncs, memory."""
import os
import re
import signal
import statistics
import subprocess
import threading
import time

from clients import Imap, Lmtp

TICK = os.sysconf("SC_CLK_TCK")


def own_seconds(pid, ticks):
    """CPU of a process, from the scheduler's nanoseconds. It keeps none of threads that have ended: then `ticks`, hundredths of a second."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, task)) as src:
            total += int(src.read().split()[0])
    return max(total / 1e9, (ticks - 2) / TICK)


def cpu_seconds(server):
    """CPU of the server's processes, of those too that have ended and were waited for."""
    total = 0
    for pid in server.pids():
        try:
            with open("/proc/%d/stat" % pid) as src:
                own, system, children, theirs = map(int, src.read().rsplit(")", 1)[1].split()[11:15])
            total += own_seconds(pid, own + system) + (children + theirs) / TICK
        except OSError:
            continue
    return total


def memory_kib(server):
    """Proportional set size of all processes of the server."""
    total = 0
    for pid in server.pids():
        try:
            with open("/proc/%d/smaps_rollup" % pid) as src:
                total += int(re.search(r"^Pss:\s+(\d+)", src.read(), re.M).group(1))
        except OSError:
            continue
    return total


def prepare(bench, server, workload):
    state = workload.setup(bench, server) if workload.setup else None
    if workload.cold:
        server.drop_indexes(state)
    return state


def run_timed(bench, server, workload):
    """-> operations/s, CPU ms an operation, checksum"""
    state = prepare(bench, server, workload)
    cpu = cpu_seconds(server)
    ops, check = workload.run(bench, server, state)
    cpu = cpu_seconds(server) - cpu
    return ops / bench.seconds, cpu * 1000 / ops, check() if check else ""


def run_counted(bench, server, workload):
    """-> system calls an operation, fsync and fdatasync calls an operation; by strace, so times mean nothing."""
    state = prepare(bench, server, workload)
    out = os.path.join(server.dir, "strace")
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", out]
                              + [word for pid in server.pids() for word in ("-p", str(pid))], stderr=subprocess.DEVNULL)
    while not any("TracerPid:\t%d\n" % tracer.pid in status(pid) for pid in server.pids()):
        if tracer.poll() is not None:
            raise OSError("strace cannot attach")
        time.sleep(0.05)
    time.sleep(0.5)  # it attaches one process after the other
    try:
        ops, _ = workload.run(bench, server, state)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    calls = {}
    with open(out) as src:
        for line in src:
            words = line.split()
            if len(words) == 2 and words[0].isdigit():
                calls[words[1]] = int(words[0])
    total = sum(n for name, n in calls.items() if name != "total")
    return total / ops, sum(calls.get(name, 0) for name in ("fsync", "fdatasync")) / ops


def status(pid):
    try:
        with open("/proc/%d/status" % pid) as src:
            return src.read()
    except OSError:
        return ""


def idle_sessions(bench, server, count, tls):
    """Memory of an idle session in KiB: `count` sessions of up to 100 users, each with 20 messages selected, in IDLE."""
    users = [bench.fill(server, 20) for _ in range(max(1, min(100, count // 10)))]
    for user in users:  # whatever is made at the first use of an account is not part of a session
        conn = Imap(server, user, tls)
        conn.select()
        conn.close()
    before, conns = memory_kib(server), []
    for number in range(count):
        conn = Imap(server, users[number % len(users)], tls)
        conn.select()
        conn.send(b"i IDLE\r\n")
        conn.line()
        conns.append(conn)
    time.sleep(30 if count >= 1000 else 3)
    grown = memory_kib(server) - before
    for conn in conns:
        conn.close()
    return grown / count


def notice_times(bench, server, count):
    """-> p50, p99 in ms from LMTP's 250 to the EXISTS that an idling client reads."""
    user, times = bench.fill(server, 1), []
    conn, exists = Imap(server, user), 0
    exists = conn.select()
    conn.send(b"i IDLE\r\n")
    conn.line()
    sender = Lmtp(server)
    raw = b"Subject: news\r\n\r\nnews\r\n"
    for number in range(count):
        seen = []

        def wait():
            while True:
                line = conn.line()
                if line.endswith(b" EXISTS\r\n") and int(line.split()[1]) > exists + number:
                    seen.append(time.monotonic())
                    return
        reader = threading.Thread(target=wait)
        reader.start()
        sender.deliver([user], raw)
        sent = time.monotonic()
        reader.join()
        times.append(max(0.0, (seen[0] - sent) * 1000))
    sender.close()
    conn.close()
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]

"""Stops a server that was started in the background, and waits until it has gone."""
import os
import signal
import subprocess
import time

POLL = 0.05


def stop(doveadm, conf, folder):
    try:
        with open(os.path.join(folder, "run", "master.pid")) as src:
            pid = int(src.read())
    except (OSError, ValueError):
        return
    try:
        subprocess.run([doveadm, "-c", conf, "stop"], stderr=subprocess.DEVNULL)
    except OSError:
        pass
    end = time.monotonic() + 20
    while os.path.exists("/proc/%d" % pid):
        left = end - time.monotonic()
        if left < 10:
            os.kill(pid, signal.SIGKILL if left < 0 else signal.SIGTERM)
        time.sleep(POLL)


if __name__ == "__main__":  # stop.py DOVEADM FOLDER ...
    import sys
    for one in sys.argv[2:]:
        stop(sys.argv[1], os.path.join(one, "dovecot.conf"), one)

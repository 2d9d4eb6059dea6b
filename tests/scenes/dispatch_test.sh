# The dispatcher: which worker a session gets, as whom it runs, kicks, post-login scripts, deaths.

. "$TOP_SRC/tests/lib/scene.sh"

worker()
{
    printf 'service imap {\n  executable = dispatch -x %s imap %s\n}\n' "$TOP_BUILD/tests/dispatch/echo_worker" "$1"
}

# A small client for all cases: functions for the scripts below.
client()
{
    cat >client.py <<'END'
import os, re, socket, subprocess, sys
ip, port, scene = os.environ["IP"], int(os.environ["IMAP_PORT"]), os.environ["SCENE"]

class Session:
    def __init__(self, user):
        self.s = socket.create_connection((ip, port), timeout=30)
        self.f = self.s.makefile("rb")
        self.f.readline()
        self.s.sendall(b"a LOGIN %s pass\r\n" % user.encode())
        self.answer = self.f.readline().decode()

    def ask(self, what):
        self.s.sendall(what.encode() + b"\n")
        return self.f.readline().decode().strip()

    def send(self, what):
        self.s.sendall(what.encode() + b"\n")

    def end(self):
        return self.f.read().decode()

def anvil(*lines):
    s = socket.socket(socket.AF_UNIX)
    s.connect(scene + "/run/anvil")
    s.sendall(b"VERSION\tanvil\t1\t0\n")
    f = s.makefile("rb")
    answers = []
    for line in lines:
        s.sendall(line.encode() + b"\n")
        answer = b""
        while True:
            part = f.readline()
            answer += part
            if line != "CONNECT-DUMP" or part == b"\n":
                break
        answers.append(answer.decode())
    return answers

def anvil_until(wanted):
    """Lines of processes and of anvil come over different sockets: ask until both have arrived."""
    for i in range(100000):
        dump = anvil("CONNECT-DUMP")[0]
        if wanted(dump):
            return dump
    sys.exit("anvil says: " + dump)
END
    export IP IMAP_PORT SCENE
}

run()
{
    PYTHONPATH=. python3 -B - || { cat "$SCENE/log"; atf_fail "$1"; }
}

atf_test_case same_user_same_worker cleanup
same_user_same_worker_body()
{
    scene_start ours "$(worker)"
    client
    run "workers" <<'END'
from client import *
pids = {}
sessions = []
for i in range(40):
    user = "user%d" % (i % 10)
    s = Session(user)
    sessions.append(s)
    assert "user=%s " % user in s.answer, s.answer
    pids.setdefault(user, set()).add(s.ask("pid"))
assert all(len(p) == 1 for p in pids.values()), pids
workers = set().union(*pids.values())
cores = os.cpu_count()
assert len(workers) <= cores, workers
assert cores == 1 or len(workers) > 1, workers
dump = anvil_until(lambda d: d.count("\t4\n") == 10)
for s in sessions:
    s.send("bye")
    s.end()
anvil_until(lambda d: d == "\n")
END
    scene_stop
    scene_log_is_clean
}
same_user_same_worker_cleanup() { scene_end; }

# The user's ids and groups and the service's extra_groups (Dovecot's default), nothing of root's.
atf_test_case credentials cleanup
credentials_head() { atf_set require.user root; }
credentials_body()
{
    scene_start ours "$(worker)" 'mail_access_groups = mail,daemon'
    client
    export MAIL_UID MAIL_GID MAIL=$(id -g mail) DAEMON=$(getent group daemon | cut -d: -f3) \
        EXTRA=$(getent group dovecot | cut -d: -f3)
    run "credentials" <<'END'
from client import *
s = Session("u")
who = s.ask("who")
uid, gid = os.environ["MAIL_UID"], os.environ["MAIL_GID"]
assert who.startswith("uid=%s euid=%s gid=%s egid=%s groups=" % (uid, uid, gid, gid)), who
groups = set(who.split("groups=")[1].split(","))
assert groups == {gid, os.environ["MAIL"], os.environ["DAEMON"], os.environ["EXTRA"]}, groups
pid = s.ask("pid").split("=")[1]
status = open("/proc/%s/status" % pid).read()
assert re.search(r"NoNewPrivs:\s*1", status), status
assert re.search(r"CapEff:\s*0+\n", status), status
s.send("bye")
s.end()
END
    scene_stop
}
credentials_cleanup() { scene_end; }

# A chroot is entered by the worker itself, which then becomes the user.
atf_test_case chroot cleanup
chroot_head() { atf_set require.user root; }
chroot_body()
{
    scene_make
    scene_start ours "$(worker)" "mail_chroot = $SCENE/home"
    client
    export MAIL_UID
    run "chroot" <<'END'
from client import *
s = Session("u")
assert "uid=%s euid=%s " % (os.environ["MAIL_UID"], os.environ["MAIL_UID"]) in s.ask("who")
pid = s.ask("pid").split("=")[1]
assert os.readlink("/proc/%s/root" % pid) == scene + "/home"
assert re.search(r"CapEff:\s*0+\n", open("/proc/%s/status" % pid).read())
s.send("bye")
s.end()
END
    scene_stop
    scene_log_is_clean
}
chroot_cleanup() { scene_end; }

# root, and ids that first_valid_uid excludes: the client gets the text, the log the reason.
atf_test_case refused cleanup
refused_head() { atf_set require.user root; }
refused_body()
{
    scene_start ours "$(worker)" 'first_valid_uid = 60000'
    client
    run "refused" <<'END'
from client import *
s = Session("u")
assert s.answer == "a NO [UNAVAILABLE] Internal error occurred. Refer to server log for more information.\r\n", s.answer
END
    scene_stop
    atf_check -o match:"Mail access for users with UID $MAIL_UID not permitted \(see first_valid_uid in config file, uid from userdb lookup\)" \
        cat "$SCENE/log"
}
refused_cleanup() { scene_end; }

atf_test_case kick cleanup
kick_body()
{
    scene_start ours "$(worker)"
    client
    run "kick" <<'END'
from client import *
a, b, c = Session("one"), Session("one"), Session("two")
dump = anvil_until(lambda d: d.count("\n") == 3)
ident, pid = [line.split("\t")[:2] for line in dump.split("\n") if "/one\t" in line][0]
yes, no = anvil("KICK\t%s\t%s" % (ident, pid), "KICK\timap/%s/nobody\t%s" % (ip, pid))
assert yes == "+\n" and no == "-\n", (yes, no)
assert "BYE" in a.end() and "BYE" in b.end()
assert c.ask("hello") == "echo hello"
anvil_until(lambda d: "/one\t" not in d)
c.send("bye")
c.end()
END
    scene_stop
    scene_log_is_clean
}
kick_cleanup() { scene_end; }

# Input that the client sent together with its login is not lost.
atf_test_case pipelined cleanup
pipelined_body()
{
    scene_start ours "$(worker)"
    client
    run "pipelined" <<'END'
from client import *
s = socket.create_connection((ip, port), timeout=30)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN u pass\r\nfirst\r\nsecond\r\nbye\r\n")
assert f.read().decode().split("\n")[1:3] == ["echo first", "echo second"]
END
    scene_stop
    scene_log_is_clean
}
pipelined_cleanup() { scene_end; }

# The post-login stage: the script's answer replaces the fields; no answer refuses.
atf_test_case postlogin cleanup
postlogin_body()
{
    scene_start ours "$(worker script)"
    client
    run "postlogin" <<'END'
import array, threading
from client import *
server = socket.socket(socket.AF_UNIX)
server.bind(scene + "/run/script")
os.chmod(scene + "/run/script", 0o666)
server.listen()
seen = []

def take(answer):
    conn, _ = server.accept()
    conn.settimeout(30)
    data, ancillary, _, _ = conn.recvmsg(65536, socket.CMSG_SPACE(4))
    while data.count(b"\n") < 2:
        data += conn.recv(65536)
    fds = array.array("i", ancillary[0][2])
    seen.append(data.decode())
    if answer:
        fields = data.decode().split("\n")[1].split("\t")[2:]
        conn.sendmsg([("\t".join(fields + ["extra=1"]) + "\n").encode()],
                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    conn.close()
    os.close(fds[0])

t = threading.Thread(target=take, args=(True,))
t.start()
s = Session("u")
t.join()
assert seen[0].startswith("VERSION\tscript-login\t1\t0\n%s\t" % ip) and "\tu\t" in seen[0], seen
assert " extra=1" in s.answer and " home=" in s.answer, s.answer
assert s.ask("x") == "echo x"
s.send("bye")
s.end()
t = threading.Thread(target=take, args=(False,))
t.start()
s = Session("u")
t.join()
assert s.answer == "", s.answer
END
    scene_stop
    atf_check -o match:'imap\(u\).*: Error: Post-login script denied access to user u' cat "$SCENE/log"
}
postlogin_cleanup() { scene_end; }

# An idle worker goes; the next login gets a new one.
atf_test_case idle_worker cleanup
idle_worker_body()
{
    scene_start ours "$(worker)" 'default_idle_kill = 1 s'
    client
    run "idle worker" <<'END'
from client import *
s = Session("u")
first = s.ask("pid")
s.send("bye")
s.end()
pid = first.split("=")[1]
subprocess.run(["timeout", "60", "tail", "--pid=" + pid, "-f", "/dev/null"], check=True)
s = Session("u")
assert s.ask("pid") != first
s.send("bye")
s.end()
END
    scene_stop
    scene_log_is_clean
}
idle_worker_cleanup() { scene_end; }

# A build tree in root's home, which nobody else may enter: the worker runs all the same, as the user.
atf_test_case closed_folder cleanup
closed_folder_head() { atf_set require.user root; }
closed_folder_body()
{
    scene_make
    mkdir -m 700 "$SCENE/closed"
    cp "$TOP_BUILD/tests/dispatch/echo_worker" "$SCENE/closed/"
    scene_start ours "$(printf 'service imap {\n  executable = dispatch -x %s imap\n}\n' "$SCENE/closed/echo_worker")"
    client
    export MAIL_UID
    run "closed folder" <<'END'
from client import *
s = Session("u")
assert "uid=%s euid=%s " % (os.environ["MAIL_UID"], os.environ["MAIL_UID"]) in s.ask("who")
s.send("bye")
s.end()
END
    scene_stop
    scene_log_is_clean
}
closed_folder_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in same_user_same_worker credentials chroot refused closed_folder kick pipelined postlogin idle_worker; do
        atf_add_test_case $name
    done
}

# The contract between master and services, both ways: the real server's programs under our master, ours under its.

. "$TOP_SRC/tests/lib/scene.sh"

STOCK=/usr/lib/dovecot

# A program by hand, as a master starts it: pipes on 5 and 6, a listening socket on 7 (ipc 2.1, 2.2; 25, check 1).
cat_driver()
{
    cat <<'END'
import os, select, signal, socket, struct, sys
program, version, expect = sys.argv[1], sys.argv[2], sys.argv[3]
folder = os.getcwd()
path = os.path.join(folder, "contract.sock")
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
status_r, status_w = os.pipe()
dead_r, dead_w = os.pipe()
err_r, err_w = os.pipe()
pid = os.fork()
if pid == 0:
    # Out of the way of the wanted numbers first.
    wanted = {2: err_w, 5: status_w, 6: dead_r, 7: listener.fileno(), 3: os.open("/dev/null", os.O_WRONLY),
              4: os.open("/dev/null", os.O_RDWR)}
    high = {to: os.dup2(fd, 100 + to, inheritable=False) for to, fd in wanted.items()}
    for to, fd in high.items():
        os.dup2(fd, to, inheritable=True)
    os.closerange(8, 100)
    env = dict(DOVECOT_CHILD_PROCESS="1", SERVICE_NAME="dns-client", CLIENT_LIMIT="2", PROCESS_LIMIT="1",
               PROCESS_MIN_AVAIL="0", GENERATION="9", SOCKET_COUNT="1", SOCKET0_SETTINGS="dns-client", LOG_SERVICE="1",
               DOVECOT_VERSION=version, DOVECONF_ENV="1", VERSION_IGNORE="no", BASE_DIR=folder,
               ASAN_OPTIONS="detect_leaks=0", CONFIG_FILE=os.path.join(folder, "empty.conf"))
    os.execve(program, ["dovecot/dns-client"], env)
for fd in (status_w, dead_r, err_w):
    os.close(fd)

def status():
    if not select.select([status_r], [], [], 30)[0]:
        sys.exit("no status within 30 seconds")
    data = os.read(status_r, 12)
    got, number, available = struct.unpack("=iII", data)
    assert got == pid and number == 9, (got, pid, number)
    return available

if expect == "mismatch":
    text = b""
    while True:
        part = os.read(err_r, 65536)
        if not part:
            break
        text += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 89
    assert b"\x01\x05%d " % pid in text and b"version mismatch" in text, text
    sys.exit(0)
seen = [status()]
a = socket.socket(socket.AF_UNIX)
a.connect(path)
seen.append(status())
b = socket.socket(socket.AF_UNIX)
b.connect(path)
seen.append(status())
a.close()
seen.append(status())
b.close()
seen.append(status())
print(seen)
os.kill(pid, signal.SIGINT)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
END
}

atf_test_case by_hand
by_hand_body()
{
    cat_driver >driver.py
    echo 'ssl = no' >empty.conf
    atf_check -o inline:'[2, 1, 0, 1, 2]\n' python3 -B driver.py "$TOP_BUILD/libexec/stats" 2.3.19.1 counts
    atf_check -o inline:'[2, 1, 0, 1, 2]\n' python3 -B driver.py "$TOP_BUILD/libexec/stats" 2.3.21 counts
    atf_check python3 -B driver.py "$TOP_BUILD/libexec/stats" 2.2.36 mismatch
}

# The same driver sees the same of the real program.
atf_test_case by_hand_stock
by_hand_stock_head() { atf_set require.progs $STOCK/dns-client; }
by_hand_stock_body()
{
    cat_driver >driver.py
    version=$(dovecot --version | cut -d' ' -f1)
    atf_check -o inline:'[2, 1, 0, 1, 2]\n' python3 -B driver.py $STOCK/dns-client "$version" counts
    atf_check python3 -B driver.py $STOCK/dns-client 2.3.0 mismatch
}

atf_test_case stock_under_ours cleanup
stock_under_ours_head()
{
    atf_set require.user root
    atf_set require.progs $STOCK/imap
}
stock_under_ours_body()
{
    scene_start ours "service config {
  executable = $STOCK/config
}
service auth {
  executable = $STOCK/auth
}
service imap {
  executable = $STOCK/imap
}
service dns-client {
  executable = $STOCK/dns-client
}"
    scene_talk imap <<END >session
a LOGIN u pass
b SELECT INBOX
?^b OK
c LOGOUT
END
    atf_check -o match:'^b OK \[READ-WRITE\] Select completed' cat session
    atf_check -o match:'127.0.0.1' python3 -B -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1]); s.sendall(b"VERSION\tdns-client\t1\t0\nIP\tlocalhost\n")
data = b""
while data.count(b"\n") < 2: data += s.recv(1000)
print(data.decode())' "$SCENE/run/dns-client"
    scene_stop
    # The process that has served its client may still be ending when all is stopped.
    scene_log_is_clean 'imap(\([0-9]+\))?: Warning: Killed with signal 15 '
}
stock_under_ours_cleanup() { scene_end; }

atf_test_case ours_under_stock cleanup
ours_under_stock_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
ours_under_stock_body()
{
    scene_start dovecot 'default_vsz_limit = 0' "service anvil {
  executable = $TOP_BUILD/libexec/anvil
}
service stats {
  executable = $TOP_BUILD/libexec/stats
}
service imap-login {
  executable = $TOP_BUILD/libexec/imap-login
}"
    python3 -B - "$IP" "$IMAP_PORT" "$SCENE" <<'END' || { cat "$SCENE/log"; atf_fail "session"; }
import socket, subprocess, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN u pass\r\n")
while not f.readline().startswith(b"a OK"):
    pass
conf = sys.argv[3] + "/dovecot.conf"
who = subprocess.run(["doveadm", "-c", conf, "who"], capture_output=True, check=True).stdout
assert b"u " in who and b"imap" in who, who
subprocess.run(["dovecot", "-c", conf, "reload"], check=True)
s.sendall(b"b NOOP\r\n")
assert f.readline().startswith(b"b OK")
# anvil lives on, with its counts; its log goes to the new log process.
who = subprocess.run(["doveadm", "-c", conf, "who"], capture_output=True, check=True).stdout
assert b"u " in who, who
s.sendall(b"c LOGOUT\r\n")
f.read()
END
    scene_stop
    scene_log_is_clean 'SIGHUP received'
}
ours_under_stock_cleanup() { scene_end; }

# The same things happen to both servers: the same lines in both logs. Numbers, ids and sessions are made equal.
normalised_events()
{
    scene_run "$1"
    scene_talk imap <<END >session
a LOGIN u pass
b LOGOUT
END
    python3 -B - "$IP" "$IMAP_PORT" "$SCENE/log" <<'END' || { cat "$SCENE/log"; atf_fail "events"; }
import os, re, socket, subprocess, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN u2 pass\r\n")
while not f.readline().startswith(b"a OK"):
    pass
subprocess.run("timeout 60 tail -n +1 -F '%s' 2>/dev/null | grep -m 1 'user=<u2>' >mpid" % sys.argv[3], shell=True, check=True)
pid = int(re.search(r"mpid=(\d+)", open("mpid").read()).group(1))
os.kill(pid, 9)
assert f.read() == b""
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN nousr pass\r\n")
f.read()
subprocess.run("timeout 60 tail -n +1 -F '%s' 2>/dev/null | grep -m 1 'killed with signal 9' >/dev/null" % sys.argv[3], shell=True, check=True)
END
    scene_stop
    sed -E 's/^[A-Z][a-z]+ +[0-9]+ [0-9:]+ //; s/<[A-Za-z0-9+\/]{16,}>/<S>/g; s/[0-9]+/N/g; s/ \(core dumps disabled\)//' "$SCENE/log" |
        grep -v "no auth attempts\|^auth: Info: .*: unknown user" | sort
}

atf_test_case same_lines cleanup
same_lines_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
same_lines_body()
{
    scene_configure 'service imap {
  client_limit = 1
  service_count = 1
}'
    # A user who has a password and is nobody.
    printf 'u:::::%s/home/u:\nu2:::::%s/home/u2:\n' "$SCENE" "$SCENE" >"$SCENE/users"
    sed -i "/^userdb {/,/^}/ { s|driver = .*|driver = passwd-file|; s|args = .*|args = $SCENE/users| }" "$SCENE/dovecot.conf"
    printf 'mail_uid = %s\nmail_gid = %s\n' "$MAIL_UID" "$MAIL_GID" >>"$SCENE/dovecot.conf"
    normalised_events dovecot >theirs
    rm -rf "$SCENE/log" "$SCENE/run" "$SCENE"/home/*
    mkdir "$SCENE/run"
    normalised_events "$OURS/dovecot" >ours
    grep -q 'not found from userdb' theirs || atf_fail "$(cat theirs)"
    [ "$(grep -c . theirs)" -ge 8 ] || atf_fail "too little happened: $(cat theirs)"
    atf_check -o file:theirs cat ours
}
same_lines_cleanup() { scene_end; }

# The folder of sockets: the same names, kinds, modes and owners.
run_folder()
{
    (cd "$SCENE/run" && find . -printf '%P %y %m %u %g\n' | grep -vE '^auth-token-secret.dat |^dispatch-' | sort)
}

atf_test_case same_sockets cleanup
same_sockets_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
same_sockets_body()
{
    scene_configure 'service auth {
  unix_listener auth-client {
    mode = 0660
    user = mail
    group = daemon
  }
  unix_listener login/extra {
    mode = 0622
  }
  fifo_listener a-fifo {
    mode = 0620
    group = mail
  }
}
service indexer {
  unix_listener indexer {
    mode = 0
  }
}'
    scene_run dovecot
    run_folder >theirs
    scene_stop
    rm -rf "$SCENE/run"
    scene_run "$OURS/dovecot"
    run_folder >ours
    scene_stop
    [ "$(grep -c . theirs)" -gt 30 ] || atf_fail "too few: $(cat theirs)"
    atf_check -o file:theirs cat ours
}
same_sockets_cleanup() { scene_end; }

# What administrators' tools ask of a running server: the real doveadm, of ours.
atf_test_case stock_doveadm cleanup
stock_doveadm_head()
{
    atf_set require.user root
    atf_set require.progs doveadm
}
stock_doveadm_body()
{
    scene_start ours
    admin="/usr/bin/doveadm -c $SCENE/dovecot.conf"
    atf_check -o match:'^name: +imap-login' -o match:'^process_limit: +100' -o match:'^client_limit:' $admin service status imap-login
    atf_check -o match:"^anvil +$(pgrep -P "$SERVER" -f dovecot/anvil) " $admin -f table process status anvil
    atf_check -e match:'Unknown service: nosuch' -s not-exit:0 -o ignore $admin service stop nosuch
    atf_check -e match:"Service can't be stopped: log" -s not-exit:0 -o ignore $admin service stop log
    atf_check $admin service stop stats
    python3 -B -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"nonsense\n"); assert s.recv(1) == b""' "$SCENE/run/anvil"
    timeout 60 tail -n +1 -F "$SCENE/log" 2>/dev/null | grep -m 1 'anvil: Error: ' >/dev/null
    atf_check -o match:'Error: anvil: Anvil client not compatible with this server \(mixed old and new binaries\?\) nonsense' $admin log errors
    python3 -B - "$IP" "$IMAP_PORT" $admin <<'END' || { cat "$SCENE/log"; atf_fail "who"; }
import socket, subprocess, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN u pass\r\n")
while not f.readline().startswith(b"a OK"):
    pass
for i in range(1000):
    who = subprocess.run(sys.argv[3:] + ["who"], capture_output=True, check=True).stdout
    if b"u " in who:
        break
else:
    sys.exit(who)
END
    atf_check $admin reload
    atf_check $admin stop
    wait "$SERVER"
}
stock_doveadm_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in by_hand by_hand_stock stock_under_ours ours_under_stock same_lines same_sockets stock_doveadm; do
        atf_add_test_case $name
    done
}

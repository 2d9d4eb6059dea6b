# The supervisor: start, stop, reload, limits, throttling, ends of processes, beside the real one where texts matter.

. "$TOP_SRC/tests/lib/scene.sh"

WORKER="service imap {
  executable = dispatch -x $TOP_BUILD/tests/dispatch/echo_worker imap
}"

# Waits until the log has a line that matches. Ten thousand tries of a short read, no clock.
log_waits()
{
    timeout 60 tail -n +1 -F --pid="$SERVER" "$SCENE/log" 2>/dev/null | grep -E -m 1 "$1" >/dev/null ||
        { cat "$SCENE/log"; atf_fail "the log does not say: $1"; }
}

# The n-th column of a service in the master's own answer.
service_column()
{
    python3 -B - "$SCENE/run/master" "$1" "$2" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"VERSION\tmaster-client\t1\t0\nSERVICE-STATUS\n")
data = b""
while b"\n\n" not in data:
    data += s.recv(65536)
for line in data.decode().split("\n"):
    fields = line.split("\t")
    if fields[0] == sys.argv[2]:
        print(fields[int(sys.argv[3])])
END
}

atf_test_case start_and_stop cleanup
start_and_stop_body()
{
    scene_start ours "$WORKER"
    atf_check -o match:'^\* OK ' cat greeting
    log_waits 'master: Info: Dovecot v2\.3\.[0-9.]+ \([0-9a-f]+\) starting up for imap, lmtp'
    atf_check -o inline:"$SERVER\n" cat "$SCENE/run/master.pid"
    atf_check -o inline:"$SCENE/dovecot.conf\n" readlink -f "$SCENE/run/dovecot.conf"
    atf_check -o inline:'600\n' stat -c %a "$SCENE/run/master"
    atf_check -o inline:'666\n' stat -c %a "$SCENE/run/login/imap"
    # It stands in the list of instances, once, whatever others stand there.
    atf_check -o match:"^[0-9]+	dovecot	$SCENE/run	$SCENE/dovecot.conf\$" cat "$SCENE/state/instances"
    atf_check -o match:"^$SCENE/run +dovecot +[-0-9]+ [:0-9]+ yes" "$OURS/doveadm" -c "$SCENE/dovecot.conf" instance list
    # A second one refuses, on standard error and in the log.
    atf_check -s exit:89 -e match:"^Fatal: Dovecot is already running with PID $SERVER \(read from $SCENE/run/master.pid\)" \
        "$OURS/dovecot" -c "$SCENE/dovecot.conf"
    log_waits "master: Fatal: Dovecot is already running with PID $SERVER"
    atf_check "$OURS/dovecot" -c "$SCENE/dovecot.conf" stop
    wait "$SERVER"
    atf_check_equal 0 $?
    atf_check -o match:'master: Warning: Killed with signal 15 \(by pid=[0-9]+ uid=[0-9]+ code=kill\)' cat "$SCENE/log"
    atf_check -s exit:75 -e inline:"Fatal: Dovecot is not running (read from $SCENE/run/master.pid)\n" \
        "$OURS/dovecot" -c "$SCENE/dovecot.conf" stop
    atf_check -s exit:75 -e match:'not running' "$OURS/dovecot" -c "$SCENE/dovecot.conf" reload
    atf_check -s exit:1 test -e "$SCENE/run/master.pid"
}
start_and_stop_cleanup() { scene_end; }

atf_test_case background cleanup
background_body()
{
    scene_configure "$WORKER"
    # The caller gets its prompt back when the port answers.
    atf_check "$OURS/dovecot" -c "$SCENE/dovecot.conf"
    SERVER=$(cat "$SCENE/run/master.pid")
    echo "SERVER=$SERVER" >>scene.vars
    scene_talk imap <<END >session
a LOGOUT
END
    atf_check -o match:'^\* OK ' cat session
    atf_check "$OURS/dovecot" -c "$SCENE/dovecot.conf" stop
    # A port that is taken: the caller sees it.
    python3 -B -c '
import signal, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((sys.argv[1], int(sys.argv[2]))); s.listen()
print("ready", flush=True)
signal.pause()' "$IP" "$IMAP_PORT" >holder &
    holder=$!
    timeout 60 tail -n +1 -F holder 2>/dev/null | grep -m 1 ready >/dev/null
    atf_check -s exit:89 -e match:"service\(imap-login\): listen\($IP, $IMAP_PORT\) failed: Address already in use" \
        -e match:'Fatal: Failed to start listeners' "$OURS/dovecot" -c "$SCENE/dovecot.conf"
    kill $holder
}
background_cleanup() { scene_end; }

# What both print and return, for the same command line.
atf_test_case same_answers cleanup
same_answers_head() { atf_set require.progs /usr/sbin/dovecot; }
same_answers_body()
{
    scene_configure "$WORKER"
    for line in "-c $SCENE/none.conf" "-i nosuchinstance" --foo --help -x -c "-c $SCENE/dovecot.conf stop" "-c $SCENE/dovecot.conf reload" \
        --version --hostdomain; do
        status=0
        # getopt names the program as it was called.
        PATH=/usr/sbin:$PATH dovecot $line >their.out 2>their.err || status=$?
        PATH=$OURS:$PATH atf_check -s exit:$status -o file:their.out -e file:their.err dovecot $line
    done
    # Two lines that Pigeonhole's programs print about themselves are not settings (docs/compatibility.md).
    for line in -n -a; do
        /usr/sbin/dovecot $line -c "$SCENE/dovecot.conf" 2>/dev/null | grep -v '^#\|^managesieve_.*_capability' >theirs
        "$OURS/dovecot" $line -c "$SCENE/dovecot.conf" 2>/dev/null | grep -v '^#\|^managesieve_.*_capability' >ours
        [ -s theirs ] || atf_fail "nothing printed by dovecot $line"
        atf_check -o file:theirs cat ours
    done
}
same_answers_cleanup() { scene_end; }

# Faults of the configuration: text, status, nothing left running.
atf_test_case bad_services cleanup
bad_services_head() { atf_set require.user root; }
bad_services_body()
{
    fails()
    {
        scene_configure "$1"
        atf_check -s exit:89 -e match:"$2" "$OURS/dovecot" -c "$SCENE/dovecot.conf"
        atf_check -s exit:1 test -e "$SCENE/run/master.pid"
    }
    fails 'service imap {
  user = nosuchuser
}' 'Fatal: service\(imap\) User doesn.t exist: nosuchuser \(See service imap \{ user \} setting\)'
    fails 'service imap {
  group = nosuchgroup
}' 'Fatal: service\(imap\) Group doesn.t exist: nosuchgroup \(See service imap \{ group \} setting\)'
    fails 'default_login_user = nosuchuser' "default_login_user doesn.t exist: nosuchuser"
    fails 'service imap {
  executable = /nosuch/program
}' 'access\(/nosuch/program\) failed: No such file or directory'
    scene_configure 'log_path = /nosuch/folder/log'
    atf_check -s exit:80 -e inline:"Can't open log file /nosuch/folder/log: No such file or directory\n" \
        "$OURS/dovecot" -c "$SCENE/dovecot.conf"
    fails 'service lmtp {
  unix_listener nosuchfolder/lmtp {
    mode = 0600
  }
}' 'Failed to start listeners'
}
bad_services_cleanup() { scene_end; }

# Sessions live through a reload, in the process that has them; new ones find the new configuration; anvil's counts stay.
atf_test_case reload cleanup
reload_body()
{
    scene_start ours "$WORKER" 'login_greeting = before'
    python3 -B - "$IP" "$IMAP_PORT" "$SCENE" "$OURS/dovecot" <<'END' || { cat "$SCENE/log"; atf_fail "reload"; }
import os, re, socket, subprocess, sys
ip, port, scene, dovecot = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

def connect():
    s = socket.create_connection((ip, port), timeout=30)
    return s, s.makefile("rb").readline()

def login(user):
    s, greeting = connect()
    s.sendall(b"a LOGIN %s pass\r\n" % user)
    f = s.makefile("rb")
    answer = f.readline()
    assert b"OK user=" + user in answer, answer
    return s, f, greeting

def ask(s, f, what):
    s.sendall(what + b"\n")
    return f.readline()

def anvil():
    s = socket.socket(socket.AF_UNIX)
    s.connect(scene + "/run/anvil")
    s.sendall(b"VERSION\tanvil\t1\t0\nCONNECT-DUMP\n")
    data = b""
    while not data.endswith(b"\n\n") and data != b"\n":
        data += s.recv(65536)
    return data

s, f, greeting = login(b"one")
assert b"before" in greeting, greeting
pid = ask(s, f, b"pid")
waiting, greeting = connect()
conf = open(scene + "/dovecot.conf").read().replace("login_greeting = before", "login_greeting = after")
open(scene + "/dovecot.conf", "w").write(conf)
subprocess.run([dovecot, "-c", scene + "/dovecot.conf", "reload"], check=True)
for attempt in range(10000):
    t, greeting = connect()
    t.close()
    if b"after" in greeting:
        break
else:
    sys.exit("the new configuration does not come")
assert ask(s, f, b"pid") == pid
# Who was there before the reload may still log in.
waiting.sendall(b"a LOGIN two pass\r\n")
assert b"OK user=two" in waiting.makefile("rb").readline()
u, g, greeting = login(b"one")
assert ask(u, g, b"pid") != pid
counts = anvil()
assert counts.count(b"/one\t") == 2, counts
s.sendall(b"bye\n")
assert f.read() == b""
# A broken file changes nothing.
open(scene + "/dovecot.conf", "a").write("nonsense\n")
broken = subprocess.run([dovecot, "-c", scene + "/dovecot.conf", "reload"], capture_output=True)
assert broken.returncode == 89 and b"Error in configuration file" in broken.stderr, broken
os.kill(int(open(scene + "/run/master.pid").read()), 1)
END
    log_waits 'master: Error: Error reading configuration: .*Error in configuration file'
    scene_talk imap <<END >session
a LOGOUT
END
    atf_check -o match:after cat session
    scene_stop
    scene_log_is_clean 'SIGHUP received - reloading configuration' 'Error reading configuration'
}
reload_cleanup() { scene_end; }

# A session over TLS lives in its login process too: both go on.
atf_test_case reload_tls cleanup
reload_tls_body()
{
    scene_certificate
    scene_start ours "$WORKER" "$TLS"
    python3 -B - "$IP" "$IMAPS_PORT" "$SCENE" "$OURS/dovecot" <<'END' || { cat "$SCENE/log"; atf_fail "reload with TLS"; }
import socket, ssl, subprocess, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def login():
    s = context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30))
    f = s.makefile("rb")
    assert f.readline().startswith(b"* OK")
    s.sendall(b"a LOGIN one pass\r\n")
    assert b"a OK user=one" in f.readline()
    return s, f
def ask(s, f):
    s.sendall(b"pid\n")
    return f.readline()
s, f = login()
pid = ask(s, f)
for i in range(3):
    subprocess.run([sys.argv[4], "-c", sys.argv[3] + "/dovecot.conf", "reload"], check=True)
    t, g = login()
    ask(t, g)
    assert ask(s, f) == pid
    t.sendall(b"bye\n")
    assert g.read() == b""
subprocess.run([sys.argv[4], "-c", sys.argv[3] + "/dovecot.conf", "stop"], check=True)
assert f.read() == b""
END
    wait "$SERVER"
    scene_log_is_clean 'SIGHUP received' 'imap-login: Warning: Auth connection lost'
}
reload_tls_cleanup() { scene_end; }

# The log line about a killed child, behind what it called itself last, as the real server writes it.
atf_test_case ends cleanup
ends_body()
{
    scene_start ours "$WORKER"
    python3 -B - "$IP" "$IMAP_PORT" <<'END' || { cat "$SCENE/log"; atf_fail "crash"; }
import socket, sys
def login():
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    s.makefile("rb").readline()
    s.sendall(b"a LOGIN one pass\r\n")
    f = s.makefile("rb")
    assert b"OK user=one" in f.readline()
    return s, f
for i in range(2):
    s, f = login()
    s.sendall(b"crash\n")
    assert f.read() == b""
s, f = login()
t, g = login()
s.sendall(b"bye\n")
t.sendall(b"bye\n")
assert f.read() == b"" and g.read() == b""
END
    log_waits 'imap(\(one\)<[0-9]+><[^>]+>)?: Fatal: master: service\(imap\): child [0-9]+ killed with signal 9$'
    log_waits 'imap: Warning: Worker processes of user one died 2 times'
    anvil=$(pgrep -P "$SERVER" -f dovecot/anvil)
    kill -KILL "$anvil"
    log_waits "anvil: Fatal: master: service\(anvil\): child $anvil killed with signal 9\$"
    # It is there again, and asked for status.
    atf_check_equal 1 "$(service_column anvil 1)"
    scene_stop
}
ends_cleanup() { scene_end; }

# A program that cannot start is tried again after 2, 4, ... seconds.
atf_test_case throttling cleanup
throttling_body()
{
    printf '#!/bin/sh\nexit 3\n' >fails
    chmod 755 fails
    scene_start ours "$WORKER" "service broken {
  executable = $PWD/fails
  unix_listener broken {
    mode = 0600
  }
}"
    python3 -B -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1]); assert s.recv(1) == b""' "$SCENE/run/broken" ||
        atf_fail "the waiting connection was not closed"
    log_waits 'broken: Fatal: master: service\(broken\): child [0-9]+ returned error 3'
    log_waits 'master: Error: service\(broken\): command startup failed, throttling for 2\.000 secs'
    atf_check_equal 2 "$(service_column broken 5)"
    scene_stop
}
throttling_cleanup() { scene_end; }

# A program that does not exist in this version is said once when it is used; the start does not fail.
atf_test_case absent cleanup
absent_body()
{
    scene_start ours "$WORKER"
    python3 -B -c '
import socket, sys
for i in range(3):
    s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1]); assert s.recv(1) == b""' "$SCENE/run/ipc" ||
        atf_fail "the connection was not closed"
    log_waits 'master: Error: service\(ipc\): This version has no program .*/ipc: client connections are being dropped'
    scene_stop
    atf_check -o inline:'1\n' grep -c 'no program .*/ipc' "$SCENE/log"
}
absent_cleanup() { scene_end; }

# process_limit counts sessions; one session a process where client_limit or service_count is assigned.
# two_fit "!="|"==" LIMIT: two sessions, in two processes or one; the third waits for a place, and the log says which limit it is.
two_fit()
{
    python3 -B - "$IP" "$IMAP_PORT" "$SCENE/log" "$1" "$2" <<'END' || { cat "$SCENE/log"; atf_fail "limits"; }
import socket, subprocess, sys
def start(user):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
    f = s.makefile("rb")
    f.readline()
    s.sendall(b"a LOGIN %s pass\r\n" % user)
    return s, f
def pid(s, f):
    assert b"OK user=" in f.readline()
    s.sendall(b"pid\n")
    return f.readline()
a, af = start(b"one")
b, bf = start(b"one")
assert (pid(a, af) == pid(b, bf)) == (sys.argv[4] == "==")
c, cf = start(b"one")              # waits for a place
subprocess.run("timeout 60 tail -n +1 -F '%s' 2>/dev/null | grep -m 1 'process_limit (%s) reached'" % (sys.argv[3], sys.argv[5]),
               shell=True, check=True)
a.sendall(b"bye\n")
assert af.read() == b""
assert b"OK user=one" in cf.readline()
END
    log_waits "service\\(imap\\): process_limit \\($2\\) reached, client connections are being dropped"
    scene_stop
}

atf_test_case limits cleanup
limits_body()
{
    scene_start ours "service imap {
  executable = dispatch -x $TOP_BUILD/tests/dispatch/echo_worker imap
  process_limit = 2
  service_count = 1
}"
    two_fit != 2
}
limits_cleanup() { scene_end; }

# As many as the processes of the real server would take: process_limit times client_limit.
atf_test_case limits_shared cleanup
limits_shared_body()
{
    scene_start ours "service imap {
  executable = dispatch -x $TOP_BUILD/tests/dispatch/echo_worker imap
  process_limit = 1
  client_limit = 2
  service_count = 0
}"
    two_fit == 1
}
limits_shared_cleanup() { scene_end; }

# process_min_avail processes are there before anybody asks, and again when one is busy.
atf_test_case min_avail cleanup
min_avail_body()
{
    scene_start ours "$WORKER" 'service spare {
  executable = stats
  client_limit = 1
  process_min_avail = 3
  process_limit = 4
  unix_listener spare {
    mode = 0600
  }
}'
    python3 -B - "$SCENE/run" <<'END' || { cat "$SCENE/log"; atf_fail "min_avail"; }
import socket, sys
def status():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1] + "/master")
    s.sendall(b"VERSION\tmaster-client\t1\t0\nSERVICE-STATUS\n")
    data = b""
    while b"\n\n" not in data:
        data += s.recv(65536)
    line = [l for l in data.decode().split("\n") if l.startswith("spare\t")][0].split("\t")
    return int(line[1]), int(line[2])
def until(count, available):
    for i in range(100000):
        got = status()
        if got == (count, available):
            return
    sys.exit("processes, available: %s, wanted %s" % (got, (count, available)))
def client():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(sys.argv[1] + "/spare")
    assert b"VERSION" in s.recv(100)
    return s
until(3, 3)
a = client()
until(4, 3)
b, c, d = client(), client(), client()
until(4, 0)
e = socket.socket(socket.AF_UNIX)      # over process_limit: closed after a while
e.settimeout(60)
e.connect(sys.argv[1] + "/spare")
assert e.recv(10) == b""
a.close()
until(4, 1)
END
    log_waits 'service\(spare\): process_limit \(4\) reached, client connections are being dropped'
    scene_stop
}
min_avail_cleanup() { scene_end; }

# The isolating mode: each connection has a login process of its own, which ends with it.
atf_test_case isolated_logins cleanup
isolated_logins_body()
{
    scene_start ours "$WORKER" 'service imap-login {
  service_count = 1
}'
    python3 -B - "$IP" "$IMAP_PORT" "$SCENE/run" <<'END' || { cat "$SCENE/log"; atf_fail "isolated logins"; }
import socket, sys
def processes():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[3] + "/master")
    s.sendall(b"VERSION\tmaster-client\t1\t0\nPROCESS-STATUS\timap-login\n")
    data = b""
    while b"\n\n" not in data:
        data += s.recv(65536)
    return [l.split("\t")[1] for l in data.decode().split("\n") if l.startswith("imap-login\t")]
def until(count):
    for i in range(100000):
        got = processes()
        if len(set(got)) == count:
            return set(got)
    sys.exit("%s, wanted %d" % (got, count))
def connect():
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    assert s.makefile("rb").readline().startswith(b"* OK")
    return s
until(0)                               # the one of scene_start has gone
a, b, c = connect(), connect(), connect()
until(3)
b.sendall(b"a LOGIN one pass\r\n")
assert b"OK user=one" in b.makefile("rb").readline()
until(2)                               # a plain connection is given away
a.close()
c.close()
until(0)
END
    scene_stop
}
isolated_logins_cleanup() { scene_end; }

# No place for another login: the oldest client that has not logged in makes room.
atf_test_case login_queue_full cleanup
login_queue_full_body()
{
    scene_start ours "$WORKER" 'service imap-login {
  process_limit = 1
  client_limit = 2
  service_count = 0
}'
    python3 -B - "$IP" "$IMAP_PORT" <<'END' || { cat "$SCENE/log"; atf_fail "login queue"; }
import socket, sys
def connect():
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
    return s.makefile("rb")
first, second = connect(), connect()
assert first.readline().startswith(b"* OK") and second.readline().startswith(b"* OK")
third = connect()
assert third.readline().startswith(b"* OK")
assert b"BYE" in first.readline()
END
    log_waits 'service\(imap-login\): client_limit \(2\) reached, client connections are being dropped'
    log_waits 'imap-login: Info: Disconnected: Connection queue full'
    scene_stop
}
login_queue_full_cleanup() { scene_end; }

# A log process that dies is replaced, and what was said meanwhile is not lost.
atf_test_case log_dies cleanup
log_dies_body()
{
    scene_start ours "$WORKER"
    log=$(pgrep -P "$SERVER" -f dovecot/log)
    kill -STOP "$log"
    scene_talk imap <<END >session
a LOGIN one pass
-bye\n
eof
END
    kill -KILL "$log"
    log_waits 'imap-login: Info: Login: user=<one>'
    log_waits "master: Error: service\(log\): child $log killed with signal 9"
    scene_stop
}
log_dies_cleanup() { scene_end; }

# base_dir of a running master stays what it was, whatever a reload reads; a restart obeys.
atf_test_case reload_base_dir cleanup
reload_base_dir_body()
{
    scene_start ours
    sed -i "s|^base_dir = .*|base_dir = $SCENE/run3|" "$SCENE/dovecot.conf"
    old=$(pgrep -P "$SERVER" -f '^dovecot/imap-login')
    kill -HUP "$SERVER"
    for pid in $old; do
        timeout 60 tail --pid="$pid" -f /dev/null || atf_fail "an old login process goes on"
    done
    scene_talk imap <<END >session
a LOGIN one pass
b SELECT INBOX
c LOGOUT
END
    atf_check -o match:'^b OK' cat session
    atf_check -o inline:"$SERVER\n" cat "$SCENE/run/master.pid"
    [ ! -e "$SCENE/run3" ] || atf_fail "a reload has made the new base_dir"
    scene_stop
    scene_log_is_clean 'SIGHUP received' "base_dir can't be changed by a reload, it stays $SCENE/run\$"
    scene_run "$OURS/dovecot"
    atf_check -o inline:"$SERVER\n" cat "$SCENE/run3/master.pid"
    scene_stop
}
reload_base_dir_cleanup() { scene_end; }

# Many reloads at once end in one server that works, with as many descriptors as before.
atf_test_case reload_storm cleanup
reload_storm_body()
{
    scene_start ours "$WORKER"
    # The first reload makes what later ones replace.
    kill -HUP "$SERVER"
    log_waits 'SIGHUP received'
    scene_talk imap <<END >session
a LOGOUT
END
    before=$(ls "/proc/$SERVER/fd" | wc -l)
    for i in 1 2 3 4 5 6 7 8 9 10; do
        "$OURS/dovecot" -c "$SCENE/dovecot.conf" reload
    done
    # Old processes go one by one; when the last has gone the count is what it was, but for a few processes that had not started
    # then or are starting now. A descriptor that each of the ten reloads left would be seen.
    python3 -B - "$SERVER" "$before" <<'END' || atf_fail "descriptors are left open"
import os, subprocess, sys
for i in range(10000):
    n = len(os.listdir("/proc/%s/fd" % sys.argv[1]))
    if n < int(sys.argv[2]) + 10:
        break
    subprocess.run(["ls", "/proc/%s/task" % sys.argv[1]], stdout=subprocess.DEVNULL)  # its time is the pace
else:
    sys.exit("%d descriptors, %s before" % (n, sys.argv[2]))
END
    # Before, a login process could have asked an auth that the worker, of the next configuration, does not ask.
    scene_talk imap <<END >session
a LOGIN one pass
-bye\n
eof
END
    atf_check -o match:'a OK user=one' cat session
    scene_stop
    # A login process can lose an auth that was replaced before it came to itself.
    scene_log_is_clean 'SIGHUP received' 'imap-login: Warning: Auth connection lost'
}
reload_storm_cleanup() { scene_end; }

# When master is killed nobody is left behind: sessions end too, unless shutdown_clients=no.
# anvil lets its pipe rest after it has read from it; whoever asks is told all that was written before.
atf_test_case anvil_asked cleanup
anvil_asked_body()
{
    scene_start ours "$WORKER"
    python3 -B - "/proc/$(pgrep -o -P "$SERVER" -f "^dovecot/imap-login")/fd/3" "$SCENE/run/anvil" <<'END' || atf_fail "connections are not counted at once"
import socket, sys
pipe = open(sys.argv[1], "wb", buffering=0)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
s.sendall(b"VERSION\tanvil\t1\t0\n")
answers = s.makefile("rb")
for i in range(1, 20):
    pipe.write(b"CONNECT\t1\timap/192.0.2.1/u\n")
    s.sendall(b"LOOKUP\timap/192.0.2.1/u\n")
    n = int(answers.readline())
    assert n == i, (n, i)
for i in range(1, 20):
    pipe.write(b"DISCONNECT\t1\timap/192.0.2.1/u\n")
END
    scene_stop
    scene_log_is_clean
}
anvil_asked_cleanup() { scene_end; }

atf_test_case killed_master cleanup
killed_master_body()
{
    scene_start ours "$WORKER"
    python3 -B - "$IP" "$IMAP_PORT" "$SERVER" <<'END' || { cat "$SCENE/log"; atf_fail "killed master"; }
import os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN one pass\r\n")
assert b"OK user=one" in f.readline()
os.kill(int(sys.argv[3]), 9)
assert f.read() == b""
END
    # The next one starts over what is left: pid file, sockets.
    scene_run "$OURS/dovecot"
    scene_stop
    # A pid file with the pid of somebody else, who does not answer on master's socket.
    echo $$ >"$SCENE/run/master.pid"
    scene_run "$OURS/dovecot"
    scene_stop
}
killed_master_cleanup() { scene_end; }

atf_test_case idle_kill cleanup
idle_kill_body()
{
    scene_start ours "$WORKER" 'service spare {
  executable = stats
  idle_kill = 1 s
  unix_listener spare {
    mode = 0600
  }
}'
    python3 -B -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1]); assert b"VERSION" in s.recv(100)' \
        "$SCENE/run/spare" || atf_fail "the spare service does not answer"
    pid=$(pgrep -P "$SERVER" -f dovecot/spare)
    timeout 60 tail --pid="$pid" -f /dev/null || atf_fail "the idle process does not go"
    atf_check_equal 0 "$(service_column spare 1)"
    scene_stop
    scene_log_is_clean
}
idle_kill_cleanup() { scene_end; }

# log_path, info_log_path and debug_log_path; `kill -USR1` opens them again.
atf_test_case log_files cleanup
log_files_body()
{
    scene_make
    scene_start ours "$WORKER" "info_log_path = $SCENE/info" "log_timestamp = \"%Y \""
    timeout 60 tail -n +1 -F "$SCENE/info" 2>/dev/null | grep -m 1 '^20[0-9][0-9] master: Info: Dovecot v2' >/dev/null ||
        atf_fail "no info file"
    mv "$SCENE/info" "$SCENE/info.old"
    kill -USR1 "$SERVER"
    scene_talk imap <<END >session
a LOGIN one pass
-bye\n
eof
END
    timeout 60 tail -n +1 -F "$SCENE/info" 2>/dev/null | grep -m 1 'imap-login: Info: Login: user=<one>' >/dev/null ||
        { ls -l "$SCENE"; atf_fail "the file was not opened again"; }
    scene_stop
    atf_check -o match:'^20[0-9][0-9] master: Warning: Killed with signal 15' cat "$SCENE/log"
    atf_check -s exit:1 grep Info: "$SCENE/log"
}
log_files_cleanup() { scene_end; }

# systemd: readiness, and a socket that it opened.
atf_test_case systemd cleanup
systemd_body()
{
    scene_configure "$WORKER"
    atf_check -o match:READY=1 -o match:'\* OK ' -o match:STOPPING=1 python3 -B - "$OURS/dovecot" "$SCENE" "$IP" "$IMAP_PORT" <<'END'
import os, socket, sys
dovecot, scene, ip, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(scene + "/notify")
notify.settimeout(60)
listener = socket.socket()
listener.bind((ip, port))
listener.listen()
pid = os.fork()
if pid == 0:
    os.dup2(listener.fileno(), 3)
    env = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", NOTIFY_SOCKET=scene + "/notify")
    os.execve(dovecot, ["dovecot", "-F", "-c", scene + "/dovecot.conf"], env)
print(notify.recv(1000).decode())
client = socket.create_connection((ip, port), timeout=30)
print(client.recv(1000).decode())
os.kill(pid, 15)
print(notify.recv(1000).decode())
assert os.waitpid(pid, 0)[1] == 0
END
}
systemd_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in start_and_stop background same_answers bad_services reload reload_tls ends throttling absent limits limits_shared min_avail isolated_logins login_queue_full log_dies reload_base_dir reload_storm anvil_asked killed_master idle_kill log_files systemd; do
        atf_add_test_case $name
    done
}

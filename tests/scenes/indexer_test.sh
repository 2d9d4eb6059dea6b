# The services indexer and indexer-worker: the same lines as the real ones, on both sockets; the same caches; rights and ends.

. "$TOP_SRC/tests/lib/scene.sh"

LIB=$TOP_SRC/tests/lib

# Mails in the mailboxes of users, put there by hand: nothing is in an index yet. mails USER COUNT
mails()
{
    python3 -B - "$SCENE/home/$1/Maildir" "$2" "$MAIL_UID" "$MAIL_GID" <<'END'
import os, sys, time
box, count, uid, gid = sys.argv[1], *map(int, sys.argv[2:])
os.makedirs(box + "/new", exist_ok=True)
for path in (os.path.dirname(box), box, box + "/new"):
    if os.getuid() == 0:
        os.chown(path, uid, gid)
had = len(os.listdir(box + "/new")) + (len(os.listdir(box + "/cur")) if os.path.exists(box + "/cur") else 0)
for i in range(had, had + count):
    path = f"{box}/new/{1700000000 + i}.M{i}.host"
    with open(path, "w") as file:
        file.write(f"From: a{i}@x\nTo: b\nSubject: s{i}\nDate: Thu, 01 Jan 2026 00:00:00 +0000\n\nhello {i}\n" + "line of text\n" * 20)
    os.utime(path, (1700000000, 1700000000))
    if os.getuid() == 0:
        os.chown(path, uid, gid)
# A folder that was changed within this second would be looked at again (Maildir).
os.utime(box + "/new", (1700000000 + had, 1700000000 + had))
END
}

# ask LINE ...: lines to the indexer; what it answers, until all that want to hear of their end have
ask()
{
    python3 -B - "$SCENE/${RUN:-run}/indexer" "$@" <<'END' || { cat "$SCENE/log"; atf_fail "no answer of the indexer"; }
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
lines = sys.argv[2:]
s.sendall(("\n".join(["VERSION indexer 1 0"] + lines) + "\n").replace(" ", "\t").encode())
f = s.makefile()
assert f.readline() == "VERSION\tindexer\t1\t0\n"
waits = sum(line.split()[1] != "0" for line in lines)
said = 0
while waits or said < len(lines):
    line = f.readline()
    if not line:
        print("(end)")
        break
    words = line.split()
    said += words[1] == "OK"
    if words[1] in ("100", "-1"):
        waits -= 1
    if words[1] == "OK" or words[1] in ("100", "-1"):
        print(" ".join(words), flush=True)
END
}

# What differs by itself: pids, times, session ids.
log_lines()
{
    sed -E 's/^[A-Z][a-z]+ [0-9 ]+ [0-9:]+ //; s/pid=[0-9]+/pid=N/g; s/uid=[0-9]+/uid=N/g; s/<[0-9]+><[^>]*>/<N><S>/; s/\([0-9]+\)/(N)/' "$1"
}

# The queue, seen from both of its sides: clients and workers are played.
atf_test_case queue cleanup
queue_head()
{
    atf_set descr 'the indexer says the same to clients and workers as the real one'
    atf_set require.user root
    atf_set require.progs 'dovecot python3'
}
queue_body()
{
    scene_make
    cat >scene <<'END'
# order, what merges, and what comes while it is at work
A> APPEND 1 u INBOX
A<
W
A> APPEND 2 u box2
A> APPEND 3 u box3
A> APPEND 4 u box4
A> APPEND 5 u box3 9
A> PREPEND 6 u box4
A> APPEND 7 u box4 3 sess
A> OPTIMIZE 8 u box2
A> PREPEND 9 u box5
A> OPTIMIZE 10 u box6
A> APPEND 11 u box7 5 s1
A> APPEND 12 u box7 3 s2
A> PREPEND 13 u INBOX
A> OPTIMIZE 0 u INBOX
A< 13
W1> 10
W1> 7
A< 2
W1> 100
W1<.
A<
W
W2> 100
A<
W
W3> -1
A< 3
W
W4> 55
A< 2
W4> 100
A< 2
W
W5> 100
A< 2
W
W6> 100
A<
W
W7> 100
A< 2
W
W8> 99
W8> 100
A< 2
# no two of one user, two at a time
A> APPEND 20 v INBOX
A<
W
A> APPEND 21 v box2
A<
A> APPEND 22 w INBOX
A<
W
B> APPEND 1 x INBOX
B<
W10> 100
A<
W
W11> 100
B<
W9> 100
A<
W
# who asks and goes; a worker that dies, one that speaks nonsense
C> APPEND 0 x INBOX
C<
C.
W12> 100
A<
W
W13.
A> APPEND 30 x INBOX
A<
W
W14> nonsense
W14<.
A<
A> APPEND 31 x INBOX
A<
W
W15> -2
W15<.
A<
A> APPEND 32 x INBOX
A<
W
W16> 101
W16<.
A<
# names are escaped
A> APPEND 33 we\001tird b\001nox
A<
W
W17> 100
A<
# what is no request ends the connection of its client alone
D> FOO 3 u INBOX
D<.
E> APPEND 3 u
E<.
F> APPEND x u INBOX
F<.
G> APPEND 3 u INBOX x
G<.
H> OPTIMIZE 3 u INBOX 3
H<.
I> append 3 u INBOX
I<.
J> APPEND 4294967296 u INBOX
J<.
A> APPEND 34 u INBOX
A<
W
W18> 100
A<
END
    sed -i 's/\\001/\x01/g' scene
    for who in dovecot ours; do
        SERVER=
        rm -rf "$SCENE/run" "$SCENE/log"
        mkdir "$SCENE/run"
        scene_start $who
        python3 -B "$LIB/indexer_talk.py" "$SCENE/run" <scene >$who.said || { cat $who.said "$SCENE/log"; atf_fail "$who: the scene ended early"; }
        scene_stop
        log_lines "$SCENE/log" | grep 'indexer: Error: Client input' >$who.log
    done
    atf_check_equal 7 "$(grep -c . dovecot.log)"
    atf_check diff -u dovecot.said ours.said
    atf_check diff -u dovecot.log ours.log
    atf_check_equal 3 "$(grep -c "Worker sent invalid progress '" "$SCENE/log")"
}
queue_cleanup() { scene_end; }

# The worker's side: its lines, its log, and what is in the caches afterwards.
atf_test_case worker cleanup
worker_head()
{
    atf_set descr 'indexer-worker says the same and writes the same caches as the real one'
    atf_set require.user root
    atf_set require.progs 'dovecot doveadm python3'
}
worker_body()
{
    scene_make
    for who in dovecot ours; do
        SERVER=
        rm -rf "$SCENE/run" "$SCENE/log" "$SCENE"/home/*
        mkdir "$SCENE/run"
        scene_start $who 'mail_debug = yes' 'mail_always_cache_fields = imap.envelope hdr.subject' 'metric idx {' \
            '  filter = event=indexer_worker_indexing_finished AND category=maildir AND mailbox=INBOX' \
            '  fields = message_count first_uid last_uid' '  group_by = user' '}'
        mails u 7
        mails v 250
        {
            ask 'APPEND 1 u INBOX'
            ask 'APPEND 2 v INBOX'
            mails u 3
            ask 'APPEND 3 u INBOX 1'
            ask 'OPTIMIZE 4 u INBOX'
            ask 'APPEND 5 u INBOX 100 sess'
            ask 'APPEND 6 u INBOX'
            ask 'APPEND 7 nosuch INBOX'
            ask 'APPEND 8 u nobox' 'APPEND 9 u ../x'
        } >$who.said
        # u is indexed three times, v once, nosuch once; the service hears of it beside.
        wait_for 'five events' sh -c "doveadm stats dump -s '$SCENE/run/stats-reader' -f count | grep -q '^idx[^_]*5\$'"
        doveadm stats dump -s "$SCENE/run/stats-reader" -f 'count sum min max' | grep -E '_uid|message_count' | sort >$who.stats
        scene_stop
        log_lines "$SCENE/log" | grep -a '^indexer-worker' | grep -a 'Indexed\|Error: ' >$who.log
        for user in u v; do
            doveadm -c "$SCENE/dovecot.conf" dump "$SCENE/home/$user/Maildir" 2>/dev/null |
                sed -n '/^RECORD/,$p' | grep -aE '^    - |^RECORD' | sed 's/\(date.save:\).*/\1/' >$who.$user.cache
        done
    done
    atf_check diff -u dovecot.said ours.said
    atf_check diff -u dovecot.log ours.log
    atf_check diff -u dovecot.stats ours.stats
    atf_check_equal 12 "$(grep -c . ours.stats)"
    grep -q 'Indexed 3 messages (UIDs 8..10)' ours.log || atf_fail "$(cat ours.log)"
    for user in u v; do
        [ "$(grep -ac hdr.subject dovecot.$user.cache)" -ge 10 ] || atf_fail "nothing was cached for $user"
        atf_check diff -u dovecot.$user.cache ours.$user.cache
    done
}
worker_cleanup() { scene_end; }

# mail_vsize_bg_after_count: sums that would take long are left to the indexer, and who has asked is told so.
atf_test_case vsize cleanup
vsize_head()
{
    atf_set descr 'sums of sizes are left to the indexer as the real server does'
    atf_set require.user root
    atf_set require.progs 'dovecot doveadm python3'
}
vsize_body()
{
    scene_make
    for who in dovecot ours; do
        SERVER=
        rm -rf "$SCENE/run" "$SCENE/log" "$SCENE"/home/*
        mkdir "$SCENE/run"
        scene_start $who 'mail_vsize_bg_after_count = 3' 'mail_plugins = quota' 'protocol imap {' '  mail_plugins = quota imap_quota' '}' \
            'plugin {' '  quota = count:User quota' '  quota_rule = *:storage=1M' '  quota_vsizes = yes' '}'
        mails u 100
        mails v 20
        program=doveadm
        [ $who = dovecot ] || program=$OURS/doveadm
        python3 -B "$LIB/indexer_vsize.py" "$IP" $IMAP_PORT "$SCENE/run" $program -c "$SCENE/dovecot.conf" >$who.said 2>&1 ||
            { cat $who.said "$SCENE/log"; atf_fail "$who"; }
        scene_stop
        log_lines "$SCENE/log" | grep -E '^imap.*(Warning|Error): ' | sed -E 's/quota resource STORAGE_BYTES for [a-z]+/quota resource/i' >$who.log
    done
    grep -q 'NO .INUSE. Finishing vsize calculation on background' dovecot.said || atf_fail "the real server has not left anything"
    atf_check_equal 3 "$(grep -c . dovecot.log)"
    atf_check diff -u dovecot.said ours.said
    atf_check diff -u dovecot.log ours.log
    atf_check_equal 1 "$(cat rounds)" # our worker has finished the sum
}
vsize_cleanup() { scene_end; }

# wait_for WHAT COMMAND ...: until the command succeeds; the server's work is what it waits for.
wait_for()
{
    what=$1
    shift
    timeout 60 sh -c 'until "$@"; do :; done' - "$@" >/dev/null 2>&1 || { cat "$SCENE/log"; atf_fail "never: $what"; }
}

# The pid of a worker that has this user's Maildir open; pids FOLDER
worker_in()
{
    for pid in $(pgrep -f '^dovecot/indexer-worker$'); do
        ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF "$1" && echo "$pid"
    done
    return 0
}

# Workers have the rights of the users they work for, and no others; users with the same rights share a process.
atf_test_case rights cleanup
rights_head()
{
    atf_set descr 'a worker runs as the user whose mailbox it indexes'
    atf_set require.user root
    atf_set require.progs python3
}
rights_body()
{
    scene_make
    printf 'a::%s:%s::%s/home/a::\nb::%s:%s::%s/home/b::\nc::%s:%s::%s/home/c::\n' "$MAIL_UID" "$MAIL_GID" "$SCENE" \
        "$MAIL_UID" "$MAIL_GID" "$SCENE" "$(id -u nobody)" "$(id -g nobody)" "$SCENE" >"$SCENE/users"
    echo "r::3:3::$SCENE/home/r::" >>"$SCENE/users"
    scene_configure
    sed -i '/^userdb/,$d' "$SCENE/dovecot.conf"
    printf '%s\n' 'userdb {' '  driver = passwd-file' "  args = $SCENE/users" '}' 'service imap-login {' '  inet_listener imap {' \
        "    port = $IMAP_PORT" '  }' '}' 'protocols = imap' 'service indexer {' '  idle_kill = 1 h' '}' 'first_valid_uid = 5' 'verbose_proctitle = yes' >>"$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    for user in a b c; do mails $user 3; done
    chown -R nobody "$SCENE/home/c"
    chmod 700 "$SCENE"/home/[abc]
    ask 'APPEND 1 a INBOX' 'APPEND 2 b INBOX' 'APPEND 3 c INBOX' | sort >said
    printf '1 100\n1 OK\n2 100\n2 OK\n3 100\n3 OK\n' >expected
    atf_check -o file:expected cat said
    for user in a b; do atf_check_equal "$MAIL_UID" "$(stat -c %u "$SCENE/home/$user/Maildir/dovecot.index.cache")"; done
    atf_check_equal "$(id -u nobody)" "$(stat -c %u "$SCENE/home/c/Maildir/dovecot.index.cache")"
    wait_for 'the titles' sh -c "ps ax -o args | grep -qFx 'dovecot/indexer [0 clients, 0 requests]' &&
        [ \"\$(ps ax -o args | grep -cFx 'dovecot/indexer-worker [idling]')\" -ge 2 ]"
    # What is root of them opens no mailbox, and the queue is nobody's.
    for pid in $(pgrep -P "$SERVER" -f 'dovecot/indexer'); do
        case $(tr '\0' ' ' <"/proc/$pid/cmdline") in
        *'indexer-worker '*) expect=0 ;;
        *) expect=$(id -u dovecot) ;;
        esac
        atf_check_equal "$expect" "$(awk '/^Uid:/ {print $2}' "/proc/$pid/status")"
        ! ls -l "/proc/$pid/fd" | grep -qF "$SCENE/home" || atf_fail "$pid has a mailbox open"
    done
    # A user who may not be one.
    atf_check_equal '1 -1' "$(ask 'APPEND 1 r INBOX' | tail -n 1)"
    grep -q 'indexer-worker(r).*Error: ' "$SCENE/log" || { cat "$SCENE/log"; atf_fail "nothing was logged"; }
    scene_stop
}
rights_cleanup() { scene_end; }

# A worker that dies has failed its task, and the next one goes on; so it is when the service is asked for in the middle of a reload.
# Nobody gets at the list of user u: the lock's holder lives. (An empty lock would be taken for a dead one's after five seconds.)
hold_list()
{
    printf '%s:%s' "$SERVER" "$(uname -n)" >"$SCENE/home/u/Maildir/dovecot-uidlist.lock"
    chown "$MAIL_UID" "$SCENE/home/u/Maildir/dovecot-uidlist.lock"
}

atf_test_case death cleanup
death_head()
{
    atf_set descr 'a task whose worker is killed has failed; a reload loses none, a stop ends with all'
    atf_set require.progs python3
}
death_body()
{
    scene_start ours
    mails u 3
    atf_check_equal '1 100' "$(ask 'APPEND 1 u INBOX' | tail -n 1)"
    mails u 3
    hold_list
    ask 'APPEND 1 u INBOX' 'APPEND 2 v INBOX' >said &
    asked=$!
    wait_for 'a worker at work' sh -c "grep -qx '2 100' said && ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q '$SCENE/home/u/Maildir'"
    kill -9 $(worker_in "$SCENE/home/u/Maildir")
    wait $asked
    grep -qx '1 -1' said || { cat said; atf_fail "the task has not failed"; }
    grep -q 'Fatal: master: service(indexer-worker): child [0-9]* killed with signal 9' "$SCENE/log" ||
        { cat "$SCENE/log"; atf_fail "the end is not in the log"; }
    rm "$SCENE/home/u/Maildir/dovecot-uidlist.lock"
    atf_check_equal '1 100' "$(ask 'APPEND 1 u INBOX' | tail -n 1)"
    # A reload in the middle: what was asked before is answered, and so is what comes after.
    mails u 3
    hold_list
    ask 'APPEND 1 u INBOX' 'APPEND 2 w INBOX' 'APPEND 3 u box' >said &
    asked=$!
    wait_for 'a worker at work' sh -c "grep -qx '2 100' said"
    kill -HUP "$SERVER"
    wait_for 'the reload' grep -q 'SIGHUP received' "$SCENE/log"
    wait_for 'the new indexer' sh -c "[ \"\$(pgrep -P $SERVER -fx dovecot/indexer | wc -l)\" -ge 1 ]"
    atf_check_equal '1 100' "$(ask 'APPEND 1 x INBOX' | tail -n 1)"
    rm "$SCENE/home/u/Maildir/dovecot-uidlist.lock"
    wait $asked
    grep -qx '1 100' said && grep -qx '3 -1' said || { cat said; atf_fail "the reload has lost something"; }
    # A stop ends with everything, whatever is at work.
    hold_list
    mails u 1
    ask 'APPEND 1 u INBOX' >said &
    asked=$!
    wait_for 'an answer' grep -qx '1 OK' said
    left=$(pgrep -P "$SERVER" -f dovecot/indexer; for pid in $(pgrep -P "$SERVER" -f 'dovecot/indexer-worker '); do pgrep -P "$pid"; done)
    [ "$(echo "$left" | grep -c .)" -ge 2 ] || atf_fail "too few processes: $left"
    scene_stop
    wait $asked
    for pid in $left; do
        ! grep -aqs '^dovecot/indexer' "/proc/$pid/cmdline" || atf_fail "$pid is still there"
    done
}
death_cleanup() { scene_end; }

# Either side may be the real server's program.
atf_test_case mixed cleanup
mixed_head()
{
    atf_set descr 'our indexer with the real workers, the real indexer with ours'
    atf_set require.user root
    atf_set require.progs 'dovecot python3'
}
mixed_body()
{
    scene_make
    real=$(doveconf -d -h libexec_dir)
    [ -x "$real/indexer" ] || atf_fail "$real/indexer is not there"
    for service in indexer indexer-worker; do
        SERVER=
        rm -rf "$SCENE/run" "$SCENE/log" "$SCENE"/home/*
        mkdir "$SCENE/run"
        scene_start ours "service $service {" "  executable = $real/$service" '}'
        mails u 5
        atf_check_equal '1 100' "$(ask 'APPEND 1 u INBOX' | tail -n 1)"
        [ -s "$SCENE/home/u/Maildir/dovecot.index.cache" ] || atf_fail "nothing was cached"
        atf_check_equal '1 -1' "$(ask 'APPEND 1 u nobox' | tail -n 1)"
        pid=$(pgrep -P "$SERVER" -f "dovecot/$service\$" | head -n 1)
        atf_check -o match:"^$real/$service\$" readlink "/proc/$pid/exe"
        scene_stop
        scene_log_is_clean
    done
}
mixed_cleanup() { scene_end; }

# Whatever anybody writes to the socket: the indexer stays, and others are served.
atf_test_case hostile cleanup
hostile_head()
{
    atf_set descr 'lines without end, without sense, clients that do not read'
    atf_set require.progs python3
}
hostile_body()
{
    scene_start ours
    mails u 3
    cat >attack.py <<'END'
import os, random, socket, sys
path = sys.argv[1] + "/indexer"
random.seed(1)

def client():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    return s

def ends(data):
    """The connection is closed by the indexer, whatever of it arrives."""
    s = client()
    try:
        s.sendall(data)
        while s.recv(65536):
            pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    s.close()

version = b"VERSION\tindexer\t1\t0\n"
ends(b"\n")
ends(b"VERSION\tindexer\t2\t0\n")
ends(b"APPEND\t1\tu\tINBOX\n")
ends(version + b"\n")
ends(version + b"x" * 70000)
ends(b"y" * 3000000)
ends(version + b"APPEND\t1\tu\t" + b"\x01" * 65000 + b"\n" + b"APPEND\n")
ends(version + b"APPEND\t1\tu\x010\tINBOX\n")
for i in range(200):
    ends(version + bytes(random.randrange(256) for _ in range(random.randrange(400))) + b"\nAPPEND\n")

# A client that never reads, with more tags than it may have: its input stops, nobody else's does.
deaf = client()
deaf.settimeout(0)
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
sent = 0
try:
    deaf.sendall(version)
    while sent < 20000:
        deaf.sendall(b"APPEND\t7\tnosuch%d\tINBOX\n" % sent)
        sent += 1
except BlockingIOError:
    pass
# Half a line, and silence.
half = client()
half.sendall(version + b"APPEND\t1\tu\tIN")

s = client()
s.sendall(version + b"PREPEND\t9\tu\tINBOX\n")
f = s.makefile()
for line in f:
    if line == "9\t100\n":
        break
else:
    sys.exit("no answer: the indexer has closed the connection")
print("served")
END
    pid=$(pgrep -P "$SERVER" -fx dovecot/indexer)
    atf_check -o inline:'served\n' python3 -B attack.py "$SCENE/run"
    [ -z "$pid" ] || atf_check_equal "$pid" "$(pgrep -P "$SERVER" -fx dovecot/indexer)"
    scene_stop
    ! grep 'Panic\|killed with\|AddressSanitizer\|runtime error' "$SCENE/log" || atf_fail "see above"
}
hostile_cleanup() { scene_end; }

# Who waits for as many answers as a client may is not read from until some have come; others are.
atf_test_case patience cleanup
patience_head()
{
    atf_set descr 'a client waits for a thousand answers at most'
    atf_set require.progs 'python3 pgrep'
}
patience_body()
{
    scene_start ours
    mails u 1
    ask 'APPEND 1 u INBOX' >/dev/null # from now on there is a dispatcher
    cat >patience.py <<'END'
import os, signal, socket, sys

MOST = 1000
run, dispatcher = sys.argv[1], int(sys.argv[2])

def client():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(run + "/indexer")
    s.sendall(b"VERSION\tindexer\t1\t0\n")
    f = s.makefile()
    assert f.readline() == "VERSION\tindexer\t1\t0\n"
    return s, f

os.kill(dispatcher, signal.SIGSTOP)  # nothing comes to an end
s, f = client()
lines = b"".join(b"APPEND\t%d\tnosuch\tbox%d\n" % (i, i) for i in range(1, MOST + 501))
s.sendall(lines)
for i in range(1, MOST + 1):
    assert f.readline() == "%d\tOK\n" % i, i
other, g = client()
other.sendall(b"APPEND\t7\tu\tINBOX\n")
assert g.readline() == "7\tOK\n"  # the indexer has been round: what it had to say to the first one it has said
s.settimeout(0)
try:
    sys.exit("too many are taken: %r" % s.recv(100))
except BlockingIOError:
    pass
s.settimeout(60)
os.kill(dispatcher, signal.SIGCONT)
ended, taken = 0, MOST
for line in f:
    ended += line.endswith("\t-1\n")
    taken += line.endswith("\tOK\n")
    if ended == MOST + 500:
        break
print(taken, ended)
END
    atf_check -o inline:'1500 1500\n' python3 -B patience.py "$SCENE/run" "$(pgrep -P "$SERVER" -f '^dovecot/indexer-worker' | head -n 1)"
    scene_stop
}
patience_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in queue worker vsize rights death mixed hostile patience; do
        atf_add_test_case $name
    done
}

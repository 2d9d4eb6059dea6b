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
        print(" ".join(words))
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
        scene_start $who 'mail_debug = yes' 'mail_always_cache_fields = imap.envelope hdr.subject'
        mails u 7
        mails v 250
        {
            ask 'APPEND 1 u INBOX' 'APPEND 2 v INBOX'
            mails u 3
            ask 'APPEND 3 u INBOX 1'
            ask 'OPTIMIZE 4 u INBOX'
            ask 'APPEND 5 u INBOX 100 sess'
            ask 'APPEND 6 u INBOX'
            ask 'APPEND 7 nosuch INBOX' 'APPEND 8 u nobox' 'APPEND 9 u ../x'
        } >$who.said
        scene_stop
        log_lines "$SCENE/log" | grep -a '^indexer-worker' | grep -a 'Indexed\|Error: ' >$who.log
        for user in u v; do
            doveadm -c "$SCENE/dovecot.conf" dump "$SCENE/home/$user/Maildir" 2>/dev/null |
                sed -n '/^RECORD/,$p' | grep -aE '^    - |^RECORD' | sed 's/\(date.save:\).*/\1/' >$who.$user.cache
        done
    done
    atf_check diff -u dovecot.said ours.said
    atf_check diff -u dovecot.log ours.log
    grep -q 'Indexed 3 messages (UIDs 8..10)' ours.log || atf_fail "$(cat ours.log)"
    for user in u v; do
        [ "$(grep -ac hdr.subject dovecot.$user.cache)" -ge 10 ] || atf_fail "nothing was cached for $user"
        atf_check diff -u dovecot.$user.cache ours.$user.cache
    done
}
worker_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in queue worker; do
        atf_add_test_case $name
    done
}

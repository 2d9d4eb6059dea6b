# mbox files of all kinds, whole and damaged, read and changed in turn by our store and a real Dovecot.

atf_test_case both cleanup
both_head()
{
    atf_set descr "both servers see the same in every mbox, whoever comes first"
    atf_set require.progs "dovecot doveadm python3"
    atf_set timeout 600
}
both_body()
{
    dir=$(mktemp -d /tmp/yarilo-mbox.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/tests/tools/storetool" "$dir/storetool" # readable for the user that both run as
    python3 "$TOP_SRC/tests/tools/mbox_both.py" "$dir/storetool" "$dir/m" || atf_fail "see above"
}
both_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

# save ours|real OPTION...: one mail into the mbox; what is said stands in "said".
save()
{
    who=$1
    shift
    if [ $who = ours ]; then
        "$TOP_BUILD/tests/tools/storetool" -u u -h "$PWD" -l mbox:~/m:INBOX=~/inbox "$@" save INBOX - mail >said 2>&1
    else
        env USER=u HOME="$PWD" doveadm -c dovecot.conf "$@" save <mail >said 2>&1
    fi
}

# Other programs hold the file: both servers wait as long as they may, say the same, and change nothing; a dotlock that nobody
# has touched for long is taken away.
atf_test_case locks cleanup
locks_head()
{
    atf_set descr "locks of other programs are waited for, stale ones are not"
    atf_set require.user unprivileged
    atf_set require.progs "doveadm python3"
}
locks_body()
{
    mkdir m
    printf 'Subject: a\n\nx\n' >mail
    printf 'From a@b Thu Nov 26 10:00:00 2026\nSubject: first\n\nbody\n\n' >inbox
    printf 'base_dir = %s\nmail_location = mbox:~/m:INBOX=~/inbox\nstats_writer_socket_path =\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n' \
        "$PWD" >dovecot.conf
    printf 'namespace inbox {\n  inbox = yes\n}\n' >>dovecot.conf
    for who in ours real; do
        save $who || atf_fail "$who does not save: $(cat said)"
    done
    mkfifo holds
    python3 -c 'import fcntl, sys
file = open("inbox", "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()' <holds >held &
    holder=$!
    echo $holder >holder
    exec 3>holds
    while [ ! -s held ]; do kill -0 $holder || atf_fail "nobody holds the lock"; done
    cp inbox before
    for who in ours real; do
        ! save $who -o mbox_lock_timeout=1s || atf_fail "$who saved though somebody has locked the file"
        grep -q 'Timeout while waiting for lock' said || atf_fail "$who: $(cat said)"
        cmp before inbox || atf_fail "$who has changed a locked file"
    done
    exec 3>&-
    wait $holder
    for who in ours real; do
        save $who || atf_fail "$who does not save when the lock is free: $(cat said)"
        [ ! -e inbox.lock ] || atf_fail "$who leaves its dotlock"
        # Of a process of another machine, which never touches it again.
        echo 1:elsewhere >inbox.lock
        ! save $who -o mbox_lock_timeout=1s || atf_fail "$who takes a fresh dotlock away"
        save $who -o mbox_dotlock_change_timeout=2s -o mbox_lock_timeout=20s || atf_fail "$who does not take a stale dotlock away: $(cat said)"
        [ ! -e inbox.lock ] || atf_fail "$who leaves a dotlock"
    done
    [ "$(grep -c '^From ' inbox)" = 7 ] || atf_fail "not all mails are there: $(cat inbox)"
}
locks_cleanup()
{
    [ ! -f holder ] || kill "$(cat holder)" 2>/dev/null || true
}

atf_init_test_cases()
{
    atf_add_test_case both
    atf_add_test_case locks
}

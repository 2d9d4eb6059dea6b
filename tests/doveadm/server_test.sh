# doveadm with a running server of ours: users, authentication, who is there, kick, logs, the end.

ours()
{
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" "$@"
}

# want STATUS TEXT COMMAND...: exit status and standard output.
want()
{
    status=$1 text=$2
    shift 2
    ours "$@" >got 2>err </dev/null
    rc=$?
    printf "$text" >wanted
    if [ $rc != "$status" ] || ! cmp -s got wanted; then
        echo "doveadm $*: status $rc, wanted $status"
        diff wanted got
        cat err
        atf_fail "doveadm $*"
    fi
}

start()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_configure
    for user in one two; do
        echo "$user:{PLAIN}pass:$MAIL_UID:$MAIL_GID::$SCENE/home/$user::"
    done >"$SCENE/users"
    printf '%s\n' "$@" >>"$SCENE/users"
    sed -i "s|driver = static|driver = passwd-file|; s|args = password=pass|args = $SCENE/users|; s|args = uid=.*|args = $SCENE/users|" \
        "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
}

atf_test_case users cleanup
users_head() { atf_set descr 'user, auth, mailbox list -A'; }
users_body()
{
    start
    want 0 "field\tvalue\nuid\t$MAIL_UID\ngid\t$MAIL_GID\nhome\t$SCENE/home/one\nmail\tmaildir:~/Maildir\n" user one
    want 0 'one\ntwo\n' user '*'
    want 0 '[]one\ntwo\n' -f json user '*'
    want 67 "userdb lookup: user nobody doesn't exist\n" user -u nobody
    want 67 "field\tvalue\n\nuserdb lookup: user nobody doesn't exist\n" user nobody
    want 0 'passdb: one auth succeeded\nextra fields:\n  user=one\n' auth test one pass
    want 77 'passdb: one auth failed\nextra fields:\n  user=one\n' auth test one wrong
    want 67 "passdb lookup: user nobody doesn't exist\n" auth lookup nobody
    ours auth login one pass >got || atf_fail "auth login"
    grep -q '^  auth_mech=PLAIN$' got || { cat got; atf_fail "auth login shows no mechanism"; }
    want 0 'one INBOX\ntwo INBOX\n' mailbox list -A
    want 0 '' mailbox create -u one Work
    want 67 '' mailbox list -u nobody
    printf 'two\none\n' >names
    want 0 'two Work\none Work\n' mailbox list -F names Work
    scene_stop
}
users_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# A reply without fields ends in an empty one, and one whose fields are all hidden too; that is shown.
atf_test_case empty_fields cleanup
empty_fields_head() { atf_set descr 'user and auth show an empty field of the reply'; }
empty_fields_body()
{
    start bare:{PLAIN}pass::::: hidden:{PLAIN}pass::::::userdb_x=1
    want 0 "field\tvalue\nmail\tmaildir:~/Maildir\n\t\n" user bare
    want 67 "field\tvalue\nmail\tmaildir:~/Maildir\n\t\nmail\tmaildir:~/Maildir\nx\t1\n\n\nuserdb lookup: user nobody doesn't exist\n\n" \
        user bare nobody hidden
    want 0 "userdb: bare\n  user      : bare\n            \n" user -u bare
    want 0 "field\tvalue\nmail\tmaildir:~/Maildir\nx\t1\n" user hidden
    want 0 "passdb: bare\n  user      : bare\n" auth lookup bare
    want 0 "passdb: hidden\n  user      : hidden\n            \n" auth lookup hidden
    want 0 'passdb: hidden auth succeeded\nextra fields:\n  user=hidden\n  \n' auth test hidden pass
    want 0 'passdb: bare auth succeeded\nextra fields:\n  user=bare\nuserdb extra fields:\n  bare\n  \n  auth_mech=PLAIN\n' \
        auth login bare pass
    printf 'gone\none\n' >names
    want 0 'one INBOX\n' mailbox list -F names
    grep -q '^doveadm(gone): Info: User no longer exists, skipping$' err || { cat err; atf_fail "a user that is gone"; }
    scene_stop
}
empty_fields_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# Sessions of one and two are open until kick_one.
hold()
{
    mkfifo in
    python3 -B "$TOP_SRC/tests/doveadm/hold.py" "$IP" $IMAP_PORT one two <in >held &
    exec 3>in
    until grep -q ready held; do
        kill -0 $! || atf_fail "no sessions"
        read -t 0.1 -r line <>in || true
    done
}

kick_one()
{
    want 68 'no users kicked\n' kick nobody
    want 0 'one kicked connections from the following users:\n\n' kick one
    exec 3>&-
    wait $!
    grep -q '^one: \* BYE' held && grep -q '^two: . OK' held || { cat held; atf_fail "kicked sessions"; }
}

# A session is kicked, another user's goes on.
atf_test_case kick cleanup
kick_head() { atf_set descr 'who, kick, penalty'; }
kick_body()
{
    start
    hold
    ours -f tab who | cut -f 1-3,5 | sort >got
    printf 'one\t1\timap\t(127.0.0.1)\ntwo\t1\timap\t(127.0.0.1)\nusername\tconnections\tservice\tips\n' >wanted
    sed -i 's/(127[0-9.]*)/(127.0.0.1)/; s/#/connections/; s/proto/service/; s/(ips)/ips/' got
    cmp got wanted || { cat got; atf_fail "who"; }
    kick_one
    want 64 '' penalty x
    ours penalty >got || atf_fail "penalty"
    scene_stop
}
kick_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# Dovecot's anvil cannot end a session: the process is, as Dovecot's doveadm does it.
atf_test_case kick_stock cleanup
kick_stock_head()
{
    atf_set descr 'kick with a server of Dovecot'
    atf_set require.progs 'dovecot'
}
kick_stock_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_start dovecot
    hold
    kick_one
    scene_stop
}
kick_stock_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case master cleanup
master_head() { atf_set descr 'log find, log test, log errors, reload, stop'; }
master_body()
{
    start
    want 0 "Debug: $SCENE/log\nInfo: $SCENE/log\nWarning: $SCENE/log\nError: $SCENE/log\nFatal: $SCENE/log\n" log find
    want 0 '' log test
    [ "$(grep -c "This is Dovecot's" "$SCENE/log")" = 5 ] || atf_fail "log test"
    want 0 '' log errors -s 4000000000
    want 0 '' reload
    want 0 '' stop
    wait $SERVER
    want 75 '' stop
    want 75 '' log errors
    want 75 '' who
}
master_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_init_test_cases()
{
    atf_add_test_case users
    atf_add_test_case empty_fields
    atf_add_test_case kick
    atf_add_test_case kick_stock
    atf_add_test_case master
}

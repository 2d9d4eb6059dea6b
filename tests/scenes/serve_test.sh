# ./serve: what it prints can be done at once, and a second start serves the same account.

. "$TOP_SRC/tests/lib/scene.sh"

# serve [COMMAND ...]: starts ./serve, with a command in front that changes the user; waits until it answers.
serve()
{
    YARILO_DATA=$SCENE/data YARILO_BUILD=$TOP_BUILD "$@" "$TOP_SRC/serve" >serve.out 2>&1 &
    SERVER=$!
    echo "SERVER=$SERVER" >>scene.vars
    python3 -B "$TOP_SRC/tests/lib/grows.py" serve.out 8 || { cat serve.out; atf_fail "serve says nothing"; }
    imap=$(sed -n 's/^  imap: .*port: \([0-9]*\).*/\1/p' "$SCENE/data/yarilo.yaml")
    imaps=$(sed -n 's/^  imaps: .*port: \([0-9]*\).*/\1/p' "$SCENE/data/yarilo.yaml")
    for port in $imap $imaps; do
        tls=
        [ "$port" = "$imap" ] || tls=--tls
        python3 -B "$TOP_SRC/tests/lib/talk.py" $tls --wait 30 --while-runs $SERVER 127.0.0.1 "$port" </dev/null >greeting || {
            cat serve.out
            atf_fail "no greeting on port $port"
        }
    done
}

tried()
{
    # The commands that it prints, as somebody would paste them.
    grep -E '^  (printf|curl)' serve.out >commands
    atf_check -o inline:'2\n' grep -c . commands
    atf_check -o save:first -e ignore sh -c "$(sed -n 1p commands)"
    atf_check -o match:'^Subject: hello' -o match:'^It works' sh -c "$(sed -n 2p commands)"
    password=$(sed -n 's/.*, its password \([0-9a-f]*\)$/\1/p' serve.out)
    printf 'a LOGIN me@example.org %s\n?^a OK\nb SELECT INBOX\n?1 EXISTS\nc LOGOUT\n' "$password" |
        python3 -B "$TOP_SRC/tests/lib/talk.py" --tls 127.0.0.1 "$imaps" || { cat serve.out; atf_fail "login over TLS"; }
    scene_stop

    serve "$@"
    grep -q 'its password' serve.out && atf_fail "a second start made a new password"
    printf 'a LOGIN me@example.org %s\n?^a OK\nb SELECT INBOX\n?1 EXISTS\nc LOGOUT\n' "$password" |
        python3 -B "$TOP_SRC/tests/lib/talk.py" 127.0.0.1 "$imap" || { cat serve.out; atf_fail "login at the second start"; }
    scene_stop
    if grep -E '(Warning|Error|Fatal|Panic): ' serve.out | grep -v 'Killed with signal 15'; then
        cat serve.out
        atf_fail "the log is not clean"
    fi
}

atf_test_case caller cleanup
caller_head()
{
    atf_set descr "as whoever runs the tests"
    atf_set require.progs "curl openssl sqlite3 python3"
}
caller_body()
{
    scene_make
    serve
    tried
}
caller_cleanup()
{
    scene_end
}

atf_test_case nobody cleanup
nobody_head()
{
    atf_set descr "as a user without any rights"
    atf_set require.user root
    atf_set require.progs "curl openssl sqlite3 python3 setpriv"
}
nobody_body()
{
    nobody="setpriv --reuid=nobody --regid=nogroup --clear-groups"
    $nobody test -x "$TOP_BUILD/compat/bin/dovecot" || atf_skip "machine: nobody cannot reach $TOP_BUILD"
    scene_make
    mkdir "$SCENE/data"
    chown nobody:nogroup "$SCENE/data"
    serve $nobody
    tried $nobody
}
nobody_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case caller
    atf_add_test_case nobody
}

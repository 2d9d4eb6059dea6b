# kill -9 of the processes under load, round after round: what was acknowledged is there afterwards, for both servers.

. "$TOP_SRC/tests/lib/scene.sh"

load()
{
    python3 -B "$TOP_SRC/tests/lib/load.py" "$@"
}

# All processes of the server below the master whose name matches.
workers()
{
    for pid in $(pgrep -P "$SERVER") $(pgrep -P "$(pgrep -d, -P "$SERVER")"); do
        case $(cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ') in
        '' | *imap-login* | *anvil* | *config* | */log\ * | *auth*) ;;
        *imap* | *lmtp* | *dispatch*) echo "$pid" ;;
        esac
    done
}

# $1 rounds; a round is two seconds of load in the middle of which every worker dies.
rounds()
{
    round=0
    : >acknowledged
    while [ $round -lt "$1" ]; do
        round=$((round + 1))
        load run "$IP" $IMAP_PORT $LMTP_PORT 2 acknowledged >"run.$round" &
        run=$!
        # The kill comes when the round has acknowledged something, each round a little later.
        lines=$(wc -l <acknowledged)
        python3 -B "$TOP_SRC/tests/lib/grows.py" acknowledged $((lines + round * 3)) || break
        # shellcheck disable=SC2046
        kill -9 $(workers) 2>/dev/null
        wait $run || { cat "run.$round"; atf_fail "round $round"; }
    done
    cat run.*
}

atf_test_case workers_die cleanup
workers_die_head()
{
    atf_set descr "workers die under load: every acknowledged message is there, for us and for Dovecot"
    atf_set require.user root
    atf_set require.progs "dovecot doveadm python3 pgrep"
    atf_set timeout 900
}
workers_die_body()
{
    n=10
    [ -z "$YARILO_LONG" ] || n=100
    scene_start ours
    rounds $n
    load check "$IP" $IMAP_PORT acknowledged || atf_fail "mail is missing"
    scene_stop

    # Dovecot finds no fault in what is left.
    scene_run dovecot
    for user in u1 u2 u3 u4; do
        doveadm -c "$SCENE/dovecot.conf" fetch -u $user 'uid flags size.physical' mailbox INBOX ALL >/dev/null 2>found ||
            { cat found; atf_fail "doveadm fetch of $user"; }
        [ ! -s found ] || { cat found; atf_fail "Dovecot complains about the mail of $user"; }
    done
    load check "$IP" $IMAP_PORT acknowledged || atf_fail "mail is missing, says Dovecot"
    scene_stop
}
workers_die_cleanup()
{
    scene_end
}

atf_test_case oracle_dies cleanup
oracle_dies_head()
{
    atf_set descr "the same with the real server: the test's own measure"
    atf_set require.user root
    atf_set require.progs "dovecot python3 pgrep"
    atf_set timeout 600
}
oracle_dies_body()
{
    scene_start dovecot
    rounds 2
    load check "$IP" $IMAP_PORT acknowledged || atf_fail "mail is missing"
    scene_stop
}
oracle_dies_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case workers_die
    atf_add_test_case oracle_dies
}

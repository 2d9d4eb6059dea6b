# Many random clients of several users on each format: no contradiction in what the server says, and no answer that takes long.

. "$TOP_SRC/tests/lib/scene.sh"

stress()
{
    set -- "$1" --clients 12 --users 4 --secs 2
    [ -z "$YARILO_LONG" ] || set -- "$1" --clients 100 --users 20 --secs 180 --stall 3
    scene_start ours "mail_location = $1:~/$1" 'mail_max_userip_connections = 200' 'protocol imap {' '  mail_plugins = zlib imap_zlib' '}'
    shift
    "$TOP_SRC/imaptest/run" stress --host "$IP" --port $IMAP_PORT --user 's%d' "$@" >out 2>&1 ||
        { grep -v '^Totals' out | head -40; atf_fail "$*"; }
    scene_stop
    scene_log_is_clean
}

scene_each_format stress

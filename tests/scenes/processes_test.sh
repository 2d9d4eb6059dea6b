# Each session is a process of its own, and all of them work on one mailbox: its index cache is extended and written anew all the time.

. "$TOP_SRC/tests/lib/scene.sh"

EAGER='mail_cache_purge_min_size = 1k
mail_cache_purge_header_continue_count = 2
mail_cache_purge_delete_percentage = 5
mail_cache_purge_continued_percentage = 20
mail_max_userip_connections = 100
service imap {
  client_limit = 1
  process_limit = 64
}'

cache()
{
    secs=4
    [ -z "$YARILO_LONG" ] || secs=120
    scene_start ours "mail_location = $1:~/mail" "$EAGER"
    "$TOP_SRC/imaptest/run" stress --host "$IP" --port $IMAP_PORT --user u --clients 8 --secs $secs >out 2>&1 ||
        { grep -v '^Totals' out | head -40; tail -n 20 "$SCENE/log"; atf_fail "see above"; }
    scene_stop
    scene_log_is_clean
}

scene_each_format cache

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
    python3 -B "$TOP_SRC/tests/lib/cache_load.py" "$IP" $IMAP_PORT $secs 8 1 >said 2>&1 || { cat said "$SCENE/log" | tail -n 40; atf_fail "see above"; }
    scene_stop
    scene_log_is_clean
}

for format in maildir sdbox mdbox; do
    atf_test_case $format cleanup
    eval "${format}_head() { atf_set require.progs python3; atf_set timeout 600; }"
    eval "${format}_body() { cache $format; }"
    eval "${format}_cleanup() { scene_end; }"
done

atf_init_test_cases()
{
    for format in maildir sdbox mdbox; do
        atf_add_test_case $format
    done
}

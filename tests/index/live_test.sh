# Our writer and a real Dovecot on one mailbox at the same moment (live.py says how).

atf_test_case sdbox cleanup

sdbox_head()
{
    atf_set descr "flags, expunge requests, cache, syncs and rotations beside IMAP sessions of Dovecot"
    atf_set require.progs "python3 dovecot doveadm"
    atf_set timeout 120
}
sdbox_body()
{
    dir=$(mktemp -d /tmp/yarilo-live.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/tests/index/index_tool" "$dir/tool" # readable for the user that the server runs as
    python3 "$TOP_SRC/tests/index/live.py" "$dir/tool" "$TOP_SRC/tests/tools/dovecot-index-dump.py" "$dir/store" \
        "${YARILO_LIVE_SECONDS:-5}" || atf_fail "see above"
}
sdbox_cleanup()
{
    [ -f dir ] && rm -rf "$(cat dir)"
    true
}

atf_init_test_cases()
{
    atf_add_test_case sdbox
}

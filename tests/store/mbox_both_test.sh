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

atf_init_test_cases()
{
    atf_add_test_case both
}

# Damaged files, one by one: the lines that the real doveadm logs, and at least what it still shows (faults.py says how).

atf_test_case texts cleanup
texts_head()
{
    atf_set descr "texts and remains of damaged indexes and logs are the real server's, or better"
    atf_set require.progs "python3 doveadm"
    atf_set timeout 900
}
texts_body()
{
    dir=$(mktemp -d /tmp/yarilo-faults.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/tests/index/index_tool" "$dir/tool" # readable for the user that doveadm becomes
    python3 "$TOP_SRC/tests/index/faults.py" "$dir/tool" "$dir/store" || atf_fail "see above"
}
texts_cleanup()
{
    [ -f dir ] && rm -rf "$(cat dir)"
    true
}

atf_init_test_cases()
{
    atf_add_test_case texts
}

# What the library prints of logs and indexes is what the real doveadm prints.

tool="$TOP_BUILD/tests/index/index_tool"
golden="$TOP_SRC/tests/index/golden"

atf_test_case logs
logs_head()
{
    atf_set descr "doveadm dump of transaction logs"
    atf_set require.progs doveadm
}
logs_body()
{
    n=0
    for log in "$golden"/*/*.log "$golden"/*/*.log.2; do
        doveadm dump -t log "$log" >theirs || atf_fail "$log: doveadm"
        "$tool" dumplog "$log" >ours || atf_fail "$log: library"
        cmp ours theirs || atf_fail "$log differs: $(diff theirs ours | head -3 | tr '\n' '|')"
        n=$((n + 1))
    done
    [ $n -ge 10 ] || atf_fail "only $n logs"
    # cut short
    head -c 1000 "$golden/maildir-inbox/dovecot.index.log" >cut
    doveadm dump -t log cut >theirs 2>theirs.err
    "$tool" dumplog cut >ours 2>ours.err
    cmp ours theirs && cmp ours.err theirs.err || atf_fail "a cut log differs"
}

atf_test_case indexes
indexes_head()
{
    atf_set descr "doveadm dump of indexes with their caches"
    atf_set require.progs doveadm
}
indexes_body()
{
    cp -r "$golden" copy
    chmod -R u+w copy
    n=0
    for log in copy/*/*.log; do
        dir=$(dirname "$log") prefix=$(basename "$log" .log)
        "$tool" -r -p "$prefix" "$dir" dump "$dir/$prefix" >ours || atf_fail "$log: library"
        doveadm dump -t index "$dir/$prefix" >theirs || atf_fail "$log: doveadm"
        cmp ours theirs || atf_fail "$log differs: $(diff theirs ours | head -3 | tr '\n' '|')"
        n=$((n + 1))
    done
    [ $n -ge 8 ] || atf_fail "only $n indexes"
}

atf_init_test_cases()
{
    atf_add_test_case logs
    atf_add_test_case indexes
}

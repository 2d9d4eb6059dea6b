# What the library makes of files that Dovecot wrote equals what the independent decoder makes of them, byte for byte.

tool="$TOP_BUILD/tests/index/index_tool"
dump="$TOP_SRC/tests/tools/dovecot-index-dump.py"
golden="$TOP_SRC/tests/index/golden"

families()
{
    (cd "$golden" && find . -name '*.index*.log' | sort)
}

atf_test_case state
state_head()
{
    atf_set descr "base index and logs make the same state"
    atf_set require.progs python3
}
state_body()
{
    families >list
    [ $(wc -l <list) -ge 8 ] || atf_fail "the recordings are missing"
    while read -r log; do
        family=$(dirname "$log") prefix=$(basename "$log" .log)
        echo "$family $prefix"
        "$tool" -r -p "$prefix" "$golden/$family" emit >ours || atf_fail "$log: the library fails"
        python3 "$dump" --state --emit-index theirs "$golden/$family/$prefix" >/dev/null || atf_fail "$log: decoder"
        cmp ours theirs || atf_fail "$log: states differ"
    done <list
}

atf_test_case log_only
log_only_head()
{
    atf_set descr "without the base index a log that begins at nothing makes the same state"
}
log_only_body()
{
    cp "$golden"/maildir-keywords/* .
    chmod u+w *
    "$tool" -r . emit >with
    rm -f dovecot.index
    "$tool" -r . emit >without
    cmp with without || atf_fail "states differ"
}

atf_test_case rewrite
rewrite_head()
{
    atf_set descr "a rewritten base index is what the decoder computes; it and the log are read again as the same state"
    atf_set require.progs python3
}
rewrite_body()
{
    families >list
    while read -r log; do
        family=$(dirname "$log") prefix=$(basename "$log" .log)
        mkdir -p "copy/$family"
        cp "$golden/$family"/* "copy/$family/"
        chmod -R u+w copy
        python3 "$dump" --state --emit-index theirs "copy/$family/$prefix" >/dev/null
        "$tool" -p "$prefix" "copy/$family" rewrite >/dev/null || atf_fail "$log: rewrite"
        cmp "copy/$family/$prefix" theirs || atf_fail "$log: rewrite differs"
        "$tool" -p "$prefix" "copy/$family" rotate >/dev/null || atf_fail "$log: rotate"
        "$tool" -r -p "$prefix" "copy/$family" list >ours
        "$tool" -r -p "$prefix" "$golden/$family" list >before
        cmp ours before || atf_fail "$log: rotation lost something"
        python3 "$dump" --state "copy/$family/$prefix" >/dev/null || atf_fail "$log: decoder after rotation"
    done <list
}

atf_init_test_cases()
{
    atf_add_test_case state
    atf_add_test_case log_only
    atf_add_test_case rewrite
}

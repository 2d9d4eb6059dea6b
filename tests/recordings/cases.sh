# The test cases of a door: one a session.

here=$TOP_SRC/tests/recordings

play()
{
    # Ten ports below those that the kernel gives out, by pid, so that tests side by side do not meet.
    "$here/$door/record" --workdir "$PWD/work" --port $((10200 + $$ % 2000 * 10)) --check \
        --dovecot "$TOP_BUILD/compat/bin/dovecot" --doveadm "$TOP_BUILD/compat/bin/doveadm" "$1" >out 2>&1 && return
    cat out
    tail -n 20 work/*/log 2>/dev/null
    atf_fail "$1 is not the same"
}

define_case()
{
    case_name=$(echo "$1" | tr - _)
    atf_test_case "$case_name" cleanup
    eval "${case_name}_head() { atf_set require.user root; atf_set require.progs 'python3 openssl'; }"
    eval "${case_name}_body() { play '$1'; }"
    eval "${case_name}_cleanup() { python3 -B '$here/stop.py' '$TOP_BUILD/compat/bin/doveadm' work/*; }"
    atf_add_test_case "$case_name"
}

# The list names sessions that exist, each once.
atf_test_case list
list_body()
{
    for file in "$here/$door"/*.json; do
        basename "$file" .json
    done | sort >all
    sort "$here/$door.same" >same
    atf_check comm -13 all same
    atf_check uniq -d same
}

atf_init_test_cases()
{
    atf_add_test_case list
    while read -r session; do
        define_case "$session"
    done <"$here/$door.same"
}

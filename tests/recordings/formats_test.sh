# All IMAP recordings over sdbox and mdbox: what the real server answers there.

here=$TOP_SRC/tests/recordings

play()
{
    # Ten ports below those that the kernel gives out, by pid, so that tests side by side do not meet.
    "$here/imap/record" --workdir "$PWD/work" --port $((10200 + $$ % 2000 * 10)) --check --format "$1" \
        --dovecot "$TOP_BUILD/compat/bin/dovecot" --doveadm "$TOP_BUILD/compat/bin/doveadm" >out 2>&1 && return
    cat out
    grep -hE '(Warning|Error|Fatal|Panic): ' work/*/log 2>/dev/null | tail -n 20
    atf_fail "not the same"
}

define_case()
{
    atf_test_case "$1" cleanup
    eval "$1_head() { atf_set require.user root; atf_set require.progs 'python3 openssl'; atf_set timeout 900; }"
    eval "$1_body() { play '$1'; }"
    eval "$1_cleanup() { python3 -B '$here/stop.py' '$TOP_BUILD/compat/bin/doveadm' work/*; }"
    atf_add_test_case "$1"
}

atf_init_test_cases()
{
    define_case sdbox
    define_case mdbox
}

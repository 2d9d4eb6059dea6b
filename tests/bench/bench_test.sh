# The benchmark runs, on few messages: ours beside the real Dovecot, and their answers agree.

ours=$TOP_BUILD/compat/bin/dovecot

atf_test_case versus
versus_head()
{
    atf_set descr "bench/versus-dovecot from one end to the other"
    atf_set require.user root
    atf_set require.progs "dovecot openssl python3"
}
versus_body()
{
    [ -x "$ours" ] || atf_skip "machine: $ours is not built yet"
    atf_check -o save:out -e ignore python3 -B "$TOP_SRC/bench/versus-dovecot" --ours "$ours" --against default \
        --rounds 1 --scale 0.01 --idle 4 --no-calls --only login_logout,append,lmtp,fetch_envelope,memory,notice
    cat out
    atf_check -o not-match:"DIFFERS" cat out
    [ "$(grep -c '^  yarilo .* op/s' out)" = 4 ] || atf_fail "rows are missing"
}

atf_init_test_cases()
{
    atf_add_test_case versus
}

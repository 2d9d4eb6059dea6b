# The configuration corpus: doveconf prints 203 configurations, and answers further command lines, as Dovecot does.
atf_test_case corpus
corpus_head() {
    atf_set descr "doveconf prints every case of the corpus as Dovecot's does"
    atf_set timeout 600
}
corpus_body() {
    [ -x "$TOP_BUILD/compat/bin/doveconf" ] || atf_fail "compat/bin/doveconf is not built"
    getent passwd dovecot >/dev/null || atf_skip "Dovecot's users are not there"
    "$TOP_SRC/tests/conf/corpus/check" "$TOP_BUILD/compat/bin/doveconf" >out 2>&1 || { cat out; atf_fail "$(tail -1 out)"; }
    atf_check -o inline:'263 comparisons, 0 failed\n' tail -1 out
}

# The running programs see what doveconf -x shows: compile, and look into the snapshot.
atf_test_case compile
compile_head() {
    atf_set descr "config compiles a file, refuses a broken one with its line, and keeps overrides"
}
compile_body() {
    printf 'mail_debug = yes\nhostname = a\nprotocol imap {\n  hostname = b\n}\n' >good.conf
    atf_check sh -c "'$TOP_BUILD/libexec/config' --compile -o hostname=c -- good.conf 3>snapshot 4>reason"
    atf_check test ! -s reason
    atf_check -o match:"^S	mail_debug	yes$" -o not-match:"hostname	[ab]" cat snapshot
    printf 'mail_debug = maybe\n' >bad.conf
    atf_check -s exit:89 sh -c "'$TOP_BUILD/libexec/config' --compile -- bad.conf 3>snapshot 4>reason"
    atf_check -o inline:'Error in configuration file bad.conf line 1: Invalid boolean value: maybe (use yes or no)' cat reason
}

atf_init_test_cases() {
    atf_add_test_case corpus
    atf_add_test_case compile
}

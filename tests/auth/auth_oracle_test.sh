# The same conversations with our auth service and the real one: every line of the client, login and master protocols must
# be the same (tests/auth/compare.py).

compare()
{
    atf_check -o empty python3 -B "$TOP_SRC/tests/auth/compare.py" "$TOP_BUILD/compat/bin/dovecot" "$1"
}

for scenario in fields protocol master rules sql names static domains system passwords; do
    eval "
    atf_test_case $scenario
    ${scenario}_head()
    {
        atf_set require.user root
        atf_set require.progs dovecot
        atf_set timeout 900
    }
    ${scenario}_body()
    {
        compare $scenario
    }"
done

# The real imap-login and imap, with our auth.
atf_test_case stock_login
stock_login_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
stock_login_body()
{
    atf_check -o empty python3 -B "$TOP_SRC/tests/auth/stock_login.py" "$TOP_BUILD/compat/bin/dovecot"
}

atf_init_test_cases()
{
    atf_add_test_case stock_login
    for scenario in fields protocol master rules sql names static domains system passwords; do
        atf_add_test_case "$scenario"
    done
}

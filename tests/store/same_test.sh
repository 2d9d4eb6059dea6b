# Scripts of IMAP commands played to the real server and to ours, each on a store of its own: names, namespaces, layouts.
# A case per script of tests/store/same (see tests/tools/same_imap.py).

# The mail user must be able to reach the folder.
play()
{
    work=$(mktemp -d "${TMPDIR:-/tmp}/same.XXXXXX")
    echo "$work" >work
    chmod 755 "$work"
    atf_check python3 -B "$TOP_SRC/tests/tools/same_imap.py" "$TOP_BUILD/compat/bin" "$work" "$TOP_SRC/tests/store/same/$1.txt"
}

define_case()
{
    atf_test_case "$1" cleanup
    eval "$1_head() { atf_set require.user root; atf_set require.progs 'python3 dovecot'; }"
    eval "$1_body() { play '$1'; }"
    eval "$1_cleanup() { [ ! -f work ] || rm -rf \"\$(cat work)\"; }"
    atf_add_test_case "$1"
}

atf_init_test_cases()
{
    for script in "$TOP_SRC"/tests/store/same/*.txt; do
        define_case "$(basename "$script" .txt)"
    done
}

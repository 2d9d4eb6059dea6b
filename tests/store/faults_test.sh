# Every operation of the store, in every format, with a fault at its N-th mutating call (tests/tools/crash_store.py says how,
# store_formats.py which formats): a sample here, all of them with ./check --long.

formats=$(cd "$TOP_SRC/tests/tools" && python3 -c 'from store_formats import FORMATS; print(*FORMATS)')

for format in $formats; do
    name=$(echo "$format" | tr - _)
    atf_test_case "$name" cleanup # defines empty parts, which the next lines replace
    eval "${name}_head()
    {
        atf_set descr 'faults at each call of each operation: $format'
        atf_set require.progs 'dovecot doveadm python3'
        atf_set timeout 14400
    }
    ${name}_body() { faults $format; }
    ${name}_cleanup() { [ ! -f dir ] || rm -rf \"\$(cat dir)\"; }"
done

faults()
{
    grep -q 'define FAULTS 1' "$TOP_BUILD/config.h" || atf_skip "machine: built without --enable-faults"
    dir=$(mktemp -d /tmp/yarilo-faults.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/tests/tools/storetool" "$dir/storetool" # readable for the user that both run as
    cp "$TOP_BUILD/compat/bin/yarilo-migrate" "$dir/"
    case $1 in maildir | sdbox | mdbox | mbox) sample="--runs 30" ;; *) sample="--runs 12" ;; esac
    [ -z "$YARILO_LONG" ] || sample=
    python3 "$TOP_SRC/tests/tools/crash_store.py" "$dir/storetool" "$dir/c" "$1" $sample || atf_fail "see above"
}

atf_init_test_cases()
{
    for format in $formats; do
        atf_add_test_case "$(echo "$format" | tr - _)"
    done
}

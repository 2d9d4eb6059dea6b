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

# A mailbox in several folders is renamed with all of them, or none.
atf_test_case rename_places cleanup
rename_places_head()
{
    atf_set descr 'each folder of a mailbox cannot be renamed'
    atf_set require.progs 'dovecot doveadm python3'
}
rename_places_body()
{
    faults maildir-split --only rename --how EIO
}
rename_places_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

# faults FORMAT [OPTION ...]: a sample, where no options choose.
faults()
{
    grep -q 'define FAULTS 1' "$TOP_BUILD/config.h" || atf_skip "machine: built without --enable-faults"
    dir=$(mktemp -d /tmp/yarilo-faults.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/tests/tools/storetool" "$dir/storetool" # readable for the user that both run as
    cp "$TOP_BUILD/compat/bin/yarilo-migrate" "$dir/"
    case $1 in maildir | sdbox | mdbox | mbox) sample="--runs 20" ;; *) sample="--runs 8" ;; esac
    [ -z "$YARILO_LONG" ] && [ $# = 1 ] || sample=
    python3 "$TOP_SRC/tests/tools/crash_store.py" "$dir/storetool" "$dir/c" "$@" $sample || atf_fail "see above"
}

atf_init_test_cases()
{
    atf_add_test_case rename_places
    for format in $formats; do
        atf_add_test_case "$(echo "$format" | tr - _)"
    done
}

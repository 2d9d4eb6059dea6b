# yarilo-migrate ends at each of many mutating calls (builds with --enable-faults) and is killed, and runs again: a sample here,
# all calls with ./check --long.

begin()
{
    dir=$(mktemp -d /tmp/yarilo-migrate.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/compat/bin/yarilo-migrate" "$dir/" # readable for the owner of the mail
}

interrupted()
{
    grep -q 'define FAULTS 1' "$TOP_BUILD/config.h" || atf_skip "machine: built without --enable-faults"
    begin
    python3 "$TOP_SRC/tests/migrate/migrate_pairs.py" "$dir/yarilo-migrate" "$dir/x" "$1" "$2" --interrupt $3 || atf_fail "see above"
}

for format in maildir sdbox mdbox; do
    name=to_$format
    source=sdbox
    [ $format != sdbox ] || source=maildir
    atf_test_case $name cleanup
    eval "${name}_head() { atf_set require.progs 'doveadm python3'; atf_set timeout 600; }
          ${name}_body() { interrupted $source $format; }
          ${name}_cleanup() { [ ! -f dir ] || rm -rf \"\$(cat dir)\"; }"
done

# In between Dovecot rebuilds the target, and gives what it finds in the files of an mdbox other UIDs.
atf_test_case rebuilt cleanup
rebuilt_head() { atf_set require.progs 'doveadm python3'; atf_set timeout 900; }
rebuilt_body() { interrupted sdbox mdbox --rebuilt; }
rebuilt_cleanup() { [ ! -f dir ] || rm -rf "$(cat dir)"; }

atf_init_test_cases()
{
    atf_add_test_case rebuilt
    atf_add_test_case to_maildir
    atf_add_test_case to_sdbox
    atf_add_test_case to_mdbox
}

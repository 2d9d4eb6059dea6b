# yarilo-migrate between every two formats; the real server makes the source and judges the target.

begin()
{
    dir=$(mktemp -d /tmp/yarilo-migrate.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/compat/bin/yarilo-migrate" "$dir/" # readable for the owner of the mail
}

from()
{
    source=$1
    shift
    for to in "$@"; do
        [ $to = "$source" ] || python3 "$TOP_SRC/tests/migrate/migrate_pairs.py" "$dir/yarilo-migrate" "$dir/$source-$to" "$source" $to ||
            atf_fail "$source -> $to: see above"
    done
}

for format in maildir maildir-fs sdbox mdbox mdbox-index; do
    name=from_$(echo $format | tr - _)
    atf_test_case $name cleanup
    eval "${name}_head() { atf_set require.progs 'doveadm python3'; atf_set timeout 300; }
          ${name}_body() { begin; from $format maildir maildir-fs sdbox mdbox mdbox-index; }
          ${name}_cleanup() { [ ! -f dir ] || rm -rf \"\$(cat dir)\"; }"
done
atf_test_case mbox cleanup
mbox_head()
{
    atf_set descr "from mbox, and to mbox more than once, though it keeps no GUIDs"
    atf_set require.progs "doveadm python3"
    atf_set timeout 300
}
mbox_body()
{
    begin
    from mbox maildir
    from mdbox mbox
}
mbox_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

atf_test_case documented cleanup
documented_head()
{
    atf_set descr "the commands of docs/migration.md do what it says"
    atf_set require.progs "doveadm python3"
    atf_set timeout 120
}
documented_body()
{
    begin
    python3 "$TOP_SRC/tests/migrate/migrate_docs.py" "$dir/yarilo-migrate" "$dir/x" "$TOP_SRC/docs/migration.md" || atf_fail "see above"
}
documented_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

atf_test_case usage
usage_head() { atf_set descr "wrong use is status 64"; }
usage_body()
{
    atf_check -s exit:64 -e match:usage "$TOP_BUILD/compat/bin/yarilo-migrate" --from maildir:~/Maildir
}

atf_init_test_cases()
{
    atf_add_test_case from_maildir
    atf_add_test_case from_maildir_fs
    atf_add_test_case from_sdbox
    atf_add_test_case from_mdbox
    atf_add_test_case from_mdbox_index
    atf_add_test_case mbox
    atf_add_test_case documented
    atf_add_test_case usage
}

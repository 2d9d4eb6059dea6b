# Our store and a real Dovecot on one Maildir at the same moment (tests/tools say how).

tool()
{
    dir=$(mktemp -d /tmp/yarilo-store.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/tests/tools/storetool" "$dir/storetool" # readable for the user that both run as
}

atf_test_case mixed cleanup
mixed_head()
{
    atf_set descr "saves, flags, expunges by both servers: nothing lost, nothing doubled, nothing logged"
    atf_set require.progs "dovecot doveadm python3"
    atf_set timeout 300
}
mixed_body()
{
    tool
    seconds=5
    [ -z "$YARILO_LONG" ] || seconds=60
    for location in maildir:~/Maildir sdbox:~/sdbox mdbox:~/mdbox mbox:~/mail; do
        python3 "$TOP_SRC/tests/tools/mixed_load.py" "$dir/storetool" "$dir/m" $seconds $location || atf_fail "see above"
    done
}
mixed_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

atf_test_case lists cleanup
lists_head()
{
    atf_set descr "mailboxes made, renamed, deleted, subscribed by both servers"
    atf_set require.progs "dovecot doveadm python3"
    atf_set timeout 300
}
lists_body()
{
    tool
    seconds=4
    [ -z "$YARILO_LONG" ] || seconds=60
    python3 "$TOP_SRC/tests/tools/mixed_lists.py" "$dir/storetool" "$dir/m" $seconds || atf_fail "see above"
    python3 "$TOP_SRC/tests/tools/mixed_lists.py" "$dir/storetool" "$dir/m" $seconds maildir:~/M:LAYOUT=fs || atf_fail "see above"
    python3 "$TOP_SRC/tests/tools/mixed_lists.py" "$dir/storetool" "$dir/m" $seconds sdbox:~/sdbox || atf_fail "see above"
    python3 "$TOP_SRC/tests/tools/mixed_lists.py" "$dir/storetool" "$dir/m" $seconds mdbox:~/mdbox || atf_fail "see above"
}
lists_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

atf_test_case damaged cleanup
damaged_head()
{
    atf_set descr "damaged mdbox stores come out of both servers the same"
    atf_set require.progs "doveadm python3"
    atf_set timeout 300
}
damaged_body()
{
    tool
    python3 "$TOP_SRC/tests/tools/mdbox_damage.py" "$dir/storetool" "$dir/m" || atf_fail "see above"
}
damaged_cleanup()
{
    [ ! -f dir ] || rm -rf "$(cat dir)"
}

# What both servers show and log when a message, a file, the map or an index is damaged in each of some fifty ways.
repair()
{
    dir=$(mktemp -d /tmp/yarilo-store.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    cp "$TOP_BUILD/compat/bin/doveadm" "$dir/doveadm" # readable for the user that both run as
    python3 "$TOP_SRC/tests/tools/repair_dbox.py" $1 "$dir/doveadm" "$dir/r" || atf_fail "see above"
}

for format in sdbox mdbox; do
    atf_test_case repair_$format cleanup
    eval "repair_${format}_head()
    {
        atf_set descr 'damaged $format mailboxes: both servers show and say the same after force-resync, or ours more'
        atf_set require.progs 'doveadm python3'
        atf_set timeout 600
    }
    repair_${format}_body() { repair $format; }
    repair_${format}_cleanup() { [ ! -f dir ] || rm -rf \"\$(cat dir)\"; }"
done

atf_init_test_cases()
{
    atf_add_test_case repair_sdbox
    atf_add_test_case repair_mdbox
    atf_add_test_case mixed
    atf_add_test_case lists
    atf_add_test_case damaged
}

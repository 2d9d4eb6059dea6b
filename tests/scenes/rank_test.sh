# Ranks of sorted texts in the index, shared with the real server; and what cannot be written.

. "$TOP_SRC/tests/lib/scene.sh"

atf_test_case both cleanup
both_head()
{
    atf_set descr "either server sorts by the ranks that the other one has written, also after damage"
    atf_set require.user root
    atf_set require.progs "dovecot doveadm python3"
}
ranks_of_both()
{
    scene_start ours
    scene_second dovecot
    python3 -B "$TOP_SRC/tests/lib/ranks.py" "$IP" "$IP2" $IMAP_PORT "$SCENE/home/u/Maildir" "$TOP_BUILD/tests/index/index_tool" \
        "$(command -v doveadm)" "$SCENE/log" || { cat "$SCENE"/log*; atf_fail "see above"; }
    scene_stop
    grep -c 'Error: Mailbox INBOX: Broken sort-s indexes' "$SCENE/log" >broken
    atf_check -o inline:'3\n' cat broken
    scene_log_is_clean 'Error: Mailbox INBOX: Broken sort-s indexes, resetting: '
}
both_body()
{
    ranks_of_both
}
both_cleanup()
{
    scene_end
}

atf_test_case short_slices cleanup
short_slices_head()
{
    atf_set descr "the same in slices of three units: between two of them others change what there is"
    atf_set require.user root
    atf_set require.progs "dovecot doveadm python3"
}
short_slices_body()
{
    YARILO_SLICE_UNITS=3
    export YARILO_SLICE_UNITS
    ranks_of_both
}
short_slices_cleanup()
{
    scene_end
}

# append FIRST LAST: messages whose subjects go down, every third one an answer to the one before it.
append()
{
    {
        printf 'a LOGIN u pass\n'
        for n in $(seq "$1" "$2"); do
            printf 'b APPEND INBOX {22+}\\r\\nSubject: %s%02d\\r\\n\\r\\nx\n' "$([ $((n % 3)) = 0 ] && echo 'Re: x ' || echo 'x     ')" $((90 - n + n % 3))
        done
        printf 'z LOGOUT\n'
    } | scene_talk imap >appended
}

# What SORT says of the mailbox.
sorted_subjects()
{
    printf 'a LOGIN u pass\nb SELECT INBOX\nc SORT (SUBJECT) UTF-8 ALL\nd SORT (SUBJECT FROM) UTF-8 2,5,9\nz LOGOUT\n' | scene_talk imap |
        tr -d '\r' | grep '^\* SORT'
}

atf_test_case read_only cleanup
read_only_head()
{
    atf_set descr "an index that cannot be written: the order is the same, and nothing is written"
    atf_set require.user root
}
read_only_body()
{
    scene_start ours
    append 1 66
    sorted_subjects >first
    "$OURS/doveadm" dump -t index "$SCENE/home/u/Maildir" >dumped
    atf_check -o ignore grep ' sort-s ' dumped
    append 67 70
    scene_stop
    # Somebody else's files in somebody else's folder, for everybody to read.
    chown -R root "$SCENE/home/u/Maildir"
    chmod -R a+rX,go-w "$SCENE/home/u/Maildir"
    (cd "$SCENE/home/u/Maildir" && sha1sum dovecot.index*) >before
    scene_run "$OURS/dovecot"
    sorted_subjects >locked
    scene_stop
    (cd "$SCENE/home/u/Maildir" && sha1sum dovecot.index*) >after
    atf_check diff -u before after
    chown -R "$MAIL_UID" "$SCENE/home/u/Maildir"
    scene_run "$OURS/dovecot"
    sorted_subjects >free
    scene_stop
    atf_check diff -u free locked
    atf_check -o inline:'* SORT 69 70 66 67 68 63\n' sh -c 'head -n 1 locked | cut -d" " -f 1-8'
    scene_log_is_clean
}
read_only_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case both
    atf_add_test_case short_slices
    atf_add_test_case read_only
}

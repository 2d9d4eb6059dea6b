# The sum of virtual sizes that an index remembers (hdr-vsize): each server believes the other's, and adds what is new.

atf_test_case both
both_head()
{
    atf_set descr "STATUS SIZE is read from hdr-vsize, and written there, by both servers"
    atf_set require.user unprivileged
    atf_set require.progs "doveadm"
}

# ask ours|real SIZE: what it says of mailbox Box.
ask()
{
    prog=doveadm
    [ "$1" = real ] || prog=$TOP_BUILD/compat/bin/doveadm
    env USER=u HOME="$PWD" "$prog" -c dovecot.conf mailbox status vsize Box >said 2>&1 && [ "$(cat said)" = "Box vsize=$2" ] ||
        atf_fail "$1: $(cat said), not $2"
}

save()
{
    printf 'Subject: x\n\n%s\n' "$1" | env USER=u HOME="$PWD" doveadm -c dovecot.conf save -m Box || atf_fail "not saved"
}

# Nobody can count any more: the sum alone tells.
hide()
{
    mkdir hidden
    mv "$box"/u.* "$box"/dovecot.index.cache hidden/
}

back()
{
    mv hidden/* "$box"/
    rmdir hidden
}

both_body()
{
    printf 'base_dir = %s\nmail_location = sdbox:~/m\nstats_writer_socket_path =\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n' "$PWD" >dovecot.conf
    printf 'namespace inbox {\n  inbox = yes\n}\n' >>dovecot.conf
    box=m/mailboxes/Box/dbox-Mails
    env USER=u HOME="$PWD" doveadm -c dovecot.conf mailbox create Box || atf_fail "not created"
    for text in a bb ccc; do save $text; done
    ask real 54
    hide
    ask ours 54
    back
    save dddd
    ask ours 74
    hide
    ask real 74
    back
    env USER=u HOME="$PWD" "$TOP_BUILD/compat/bin/doveadm" -c dovecot.conf expunge mailbox Box uid 2 || atf_fail "not expunged"
    ask ours 56
    hide
    ask real 56
    ask ours 56
    back
    env USER=u HOME="$PWD" doveadm -c dovecot.conf expunge mailbox Box uid 4 || atf_fail "not expunged"
    ask real 36
    hide
    ask ours 36
    back
    save e
    ask ours 53
    # The list index has a copy.
    env USER=u HOME="$PWD" "$TOP_BUILD/compat/bin/doveadm" -c dovecot.conf dump -t log m/mailboxes/dovecot.list.index.log >said 2>&1 ||
        env USER=u HOME="$PWD" "$TOP_BUILD/compat/bin/doveadm" -c dovecot.conf dump -t log m/dovecot.list.index.log >said 2>&1
    grep -q 35000000000000000500000003000000 said || atf_fail "no copy in the list index: $(cat said)"
}

atf_init_test_cases()
{
    atf_add_test_case both
}

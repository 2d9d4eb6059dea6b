# sdbox: what was expunged stays away, though its file cannot be removed (dbox-format 2.4).

prepare()
{
    location=$1
    cat >store <<END
#!/bin/sh
exec timeout 60 "$TOP_BUILD/tests/tools/storetool" -u u -h "$PWD" -l "$location" "\$@"
END
    chmod 755 store
    for i in 1 2 3; do printf 'From: a@example.org\nSubject: %s\n\nbody\n' $i >m$i; done
    ./store save INBOX - m1 m2 m3 >/dev/null || atf_fail "cannot save"
    box=$PWD/s/mailboxes/INBOX/dbox-Mails
    in_alt=$PWD/alt/mailboxes/INBOX/dbox-Mails
}

uids()
{
    "$@" dump INBOX 2>/dev/null | sed -n 's/^{"uid": \([0-9]*\),.*/\1/p' | tr '\n' ' '
}

# The same, but nothing can be unlinked.
stuck()
{
    YARILO_FAULT=at=1,calls=unlink,how=fail,err=EIO,stays ./store "$@"
}

need_faults()
{
    grep -q 'define FAULTS 1' "$TOP_BUILD/config.h" || atf_skip "machine: built without --enable-faults"
}

atf_test_case cannot_unlink
cannot_unlink_head() { atf_set descr "the one who expunges is told, rebuilds keep it away, a later sync removes the file"; }
cannot_unlink_body()
{
    need_faults
    prepare sdbox:~/s
    atf_check -s exit:1 -e match:'Mailbox INBOX: unlink\(.*/INBOX/dbox-Mails/u.1\) failed: Input/output error' env YARILO_FAULT=at=1,calls=unlink,how=fail,err=EIO,stays ./store expunge INBOX 1
    atf_check_equal '2 3 ' "$(uids stuck)"
    stuck resync INBOX >/dev/null 2>log
    atf_check -o ignore grep 'u.1.*Input/output error' log
    atf_check_equal '2 3 ' "$(uids stuck)"
    stuck resync INBOX >/dev/null 2>&1
    atf_check_equal '2 3 ' "$(uids stuck)"
    [ -f "$box/u.1" ] || atf_fail "the file is gone"
    atf_check -o ignore -e ignore ./store sync INBOX
    [ ! -f "$box/u.1" ] || atf_fail "the file is still there"
    atf_check -o ignore -e ignore ./store resync INBOX
    atf_check_equal '2 3 ' "$(uids ./store)"
}

atf_test_case log_goes_on
log_goes_on_head() { atf_set descr "a file that stays does not keep the log from being rotated"; }
log_goes_on_body()
{
    need_faults
    prepare sdbox:~/s
    stuck expunge INBOX 1 2>/dev/null
    set --
    for i in $(seq 400); do set -- "$@" -- flags INBOX 2,3 +keyword-with-a-longer-name-$i; done
    shift
    stuck -o mail_index_log_rotate_max_size=1 "$@" >/dev/null 2>log || atf_fail "$(cat log)"
    [ "$(grep -c 'u.1' log)" -le 1 ] || atf_fail "told again and again: $(head -n 3 log)"
    [ -f "$box/dovecot.index.log.2" ] || atf_fail "no rotation"
    stuck resync INBOX >/dev/null 2>&1
    atf_check_equal '2 3 ' "$(uids stuck)"
    [ -f "$box/u.1" ] || atf_fail "the file is gone"
    atf_check -o ignore -e ignore ./store sync INBOX
    [ ! -f "$box/u.1" ] || atf_fail "the file is still there"
}

atf_test_case alt_not_mounted
alt_not_mounted_head() { atf_set descr "a file in an ALT that is away goes when it comes"; }
alt_not_mounted_body()
{
    prepare sdbox:~/s:ALT=~/alt
    atf_check -o ignore ./store altmove INBOX 1 there
    [ -f "$in_alt/u.1" ] || atf_fail "not moved"
    mv alt away
    atf_check -s exit:1 -e match:'Alt storage not mounted' ./store expunge INBOX 1
    mv away alt
    atf_check -o ignore -e ignore ./store sync INBOX
    [ ! -f "$in_alt/u.1" ] || atf_fail "the file is still there"
    atf_check_equal '2 3 ' "$(uids ./store)"
    # A move that failed at its last step has left it in both places.
    cp -p "$box/u.2" "$in_alt/"
    atf_check ./store expunge INBOX 2
    [ ! -f "$box/u.2" ] && [ ! -f "$in_alt/u.2" ] || atf_fail "one is left"
    atf_check -o ignore -e ignore ./store resync INBOX
    atf_check_equal '3 ' "$(uids ./store)"
}

atf_init_test_cases()
{
    atf_add_test_case cannot_unlink
    atf_add_test_case log_goes_on
    atf_add_test_case alt_not_mounted
}

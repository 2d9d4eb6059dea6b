# A Maildir that may be read and not written: with what is there its mail is shown, never an empty mailbox, and nothing is written.

case_body()
{
    dir=$(mktemp -d /tmp/yarilo-ro.XXXXXX)
    echo "$dir" >dir
    chmod 755 "$dir"
    box=$dir/Maildir
    mkdir -p "$box/cur" "$box/new" "$box/tmp" "$box/.Sub/cur" "$box/.Sub/new" "$box/.Sub/tmp"
    printf 'Subject: a\n\nx\n' >"$box/cur/1000000001.a.h:2,S"
    printf 'Subject: b\n\nx\n' >"$box/.Sub/cur/1000000002.b.h:2,F"
    printf 'mail_location = maildir:%s%s\nlog_path = /dev/stderr\nssl = no\nfirst_valid_uid = 0\nfirst_valid_gid = 0\nstats_writer_socket_path =\n' \
        "$box" "$1" >"$dir/conf"
    user=
    if [ "$(id -u)" = 0 ]; then
        chown -R mail "$dir"
        user="setpriv --reuid=mail --regid=mail --clear-groups"
    fi
    admin=$PWD/admin
    # LeakSanitizer cannot look at a process that has changed its user.
    printf '#!/bin/sh\nHOME=%s USER=u ASAN_OPTIONS=detect_leaks=0 exec %s %s -c %s "$@"\n' "$dir" "$user" "$TOP_BUILD/compat/bin/doveadm" \
        "$dir/conf" >"$admin"
    chmod 755 "$admin"
}

state()
{
    (cd "$dir" && find Maildir | sort && cat Maildir/dovecot-uidlist) >"$1"
}

define_case()
{
    atf_test_case "$1" cleanup
    eval "$1_cleanup() { [ ! -f dir ] || { chmod -R u+w \"\$(cat dir)\"; rm -rf \"\$(cat dir)\"; }; }"
}

define_case no_index
no_index_body()
{
    case_body
    "$admin" mailbox status messages INBOX Sub >/dev/null
    rm "$box"/dovecot.index* "$box"/.Sub/dovecot.index*
    printf 'Subject: late\n\nx\n' >"$box/new/1000000003.c.h" # has no UID, and cannot get one
    chmod -R a-w "$box"
    state before
    atf_check -o inline:'Sub messages=1 uidnext=2\nINBOX messages=1 uidnext=2\n' -e empty "$admin" mailbox status 'messages uidnext' INBOX Sub
    atf_check -o inline:'uid: 1\nflags: \\Seen\nhdr.subject: a\n' -e empty "$admin" fetch 'uid flags hdr.subject' mailbox INBOX
    atf_check -o inline:'uid: 1\nflags: \\Flagged\nhdr.subject: b\n' -e empty "$admin" fetch 'uid flags hdr.subject' mailbox Sub
    atf_check -s not-exit:0 -e not-empty "$admin" expunge mailbox INBOX all
    printf 'Subject: x\n\nx\n' | atf_check -s not-exit:0 -e not-empty "$admin" save
    state after
    atf_check cmp before after
}

# An index in a folder of its own may be written all the same.
define_case index_elsewhere
index_elsewhere_body()
{
    case_body ":INDEX=$PWD/unused"
    sed -i "s|INDEX=.*|INDEX=$dir/index|" "$dir/conf"
    "$admin" mailbox status messages INBOX >/dev/null
    rm -r "$dir/index"
    chmod -R a-w "$box"
    state before
    atf_check -o inline:'uid: 1\nflags: \\Seen\nhdr.subject: a\n' -e empty "$admin" fetch 'uid flags hdr.subject' mailbox INBOX
    atf_check test -s "$dir/index/.INBOX/dovecot.index.log"
    state after
    atf_check cmp before after
}

# The index may not be written, the mail may: everything is done, and the log says what is missing.
define_case index_unwritable
index_unwritable_body()
{
    case_body ":INDEX=$PWD/unused"
    sed -i "s|INDEX=.*|INDEX=$dir/index|" "$dir/conf"
    mkdir -m 0500 "$dir/index"
    [ -z "$user" ] || chown mail "$dir/index"
    atf_check -e match:'Permission denied: the index is kept in memory' "$admin" flags add '\Flagged' mailbox INBOX all
    atf_check test -f "$box/cur/1000000001.a.h:2,FS"
    atf_check -o match:'flags: .Flagged .Seen' -e match:'in memory' "$admin" fetch flags mailbox INBOX
}

# Without a uidlist the messages have no UIDs: an error, not an empty mailbox.
define_case no_uidlist
no_uidlist_body()
{
    case_body
    chmod -R a-w "$box"
    atf_check -s not-exit:0 -e match:'Permission denied|no UIDs' "$admin" mailbox status messages INBOX
    atf_check -s not-exit:0 -e not-empty "$admin" fetch uid mailbox INBOX
}

# The dbox formats have all in their index.
define_case dbox
dbox_body()
{
    for format in sdbox mdbox; do
        case_body
        sed -i "s|maildir:.*|$format:$dir/box|" "$dir/conf"
        printf 'Subject: x\n\nx\n' | "$admin" save
        find "$dir/box" -name 'dovecot.index*' -delete
        chmod -R a-w "$dir/box"
        atf_check -s not-exit:0 -e match:'Permission denied|no index' "$admin" mailbox status messages INBOX
        chmod -R u+w "$dir"
        rm -r "$dir"
    done
}

atf_init_test_cases()
{
    for name in no_index index_elsewhere index_unwritable no_uidlist dbox; do
        atf_add_test_case $name
    done
}

# A mailbox of a million messages: opening it, changing a flag, saving a message do not cost what all its messages cost.

. "$TOP_SRC/tests/lib/scene.sh"

MILLION=$TOP_SRC/tests/lib/million.py

# field LINE NAME: the number behind the name in a line of the talk.
field()
{
    sed -n "s/^$1.* $2 \\([0-9]*\\).*/\\1/p" said
}

# million FORMAT LOCATION INDEX_FOLDER COUNT [append]
million()
{
    scene_start ours "mail_location = $1:~/$2" 'mail_index_rewrite_max_log_bytes = 1'
    python3 -B "$MILLION" fill "$IP" $IMAP_PORT
    if [ -d "$SCENE/home/u1/$3/cur" ]; then # a folder that changed just now is always read
        touch -d '1 hour ago' "$SCENE/home/u1/$3/cur" "$SCENE/home/u1/$3/new"
        printf 'a1 LOGIN u1 pass\na2 SELECT INBOX\na3 LOGOUT\n' | scene_talk imap >/dev/null
    fi
    scene_stop
    sed -i '/^mail_index_rewrite/d' "$SCENE/dovecot.conf"
    folder=$SCENE/home/u1/$3
    [ -f "$folder/dovecot.index" ] || { ls -l "$folder"; atf_fail "there is no base index"; }
    python3 -B "$MILLION" grow "$folder/dovecot.index" "$4"
    scene_run $OURS/dovecot
    SCENE=$SCENE python3 -B "$MILLION" talk "$IP" $IMAP_PORT INBOX "$folder/dovecot.index" "$folder/dovecot.index.log" $5 >said || { cat said "$SCENE/log"; atf_fail "the conversation failed"; }
    cat said
    atf_check -o ignore grep "^SELECT $(($4 + 3))," said
    log=$(field SELECT 'log of')
    pages=$(field SELECT pages)
    [ $(($(field SELECT read) + ${pages:-0})) -le $((1048576 + log)) ] || atf_fail "SELECT reads too much"
    for what in STORE ${5:+APPEND}; do
        grep -q "^$what: OK" said || atf_fail "$what failed"
        [ $(field $what written) -le 8192 ] || atf_fail "$what writes too much"
    done
    scene_stop
    scene_log_is_clean
    [ -n "$pages" ] || atf_skip "machine: what was read cannot be told, pages of a file do not leave the memory"
}

for format in sdbox maildir; do
    atf_test_case $format cleanup
    eval "${format}_head() { atf_set require.user root; atf_set require.progs python3; }"
    eval "${format}_cleanup() { scene_end; }"
done
sdbox_body()
{
    million sdbox sdbox sdbox/mailboxes/INBOX/dbox-Mails 1000000 append
}
# Its files are not there: a save would find that out.
maildir_body()
{
    million maildir Maildir Maildir 1000000
}

atf_init_test_cases()
{
    atf_add_test_case sdbox
    atf_add_test_case maildir
}

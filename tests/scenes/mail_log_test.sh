# The mail_log plugin: the same session, deliveries and commands at the real server and at ours leave the same lines in the log.

. "$TOP_SRC/tests/lib/scene.sh"
. "$TOP_SRC/tests/lib/told.sh"

ALL='mail_log_events = delete undelete expunge save copy mailbox_create mailbox_delete mailbox_rename flag_change
  mail_log_fields = uid box msgid size vsize flags from subject'

# play LOCATION PLUGIN: lines of the one go to lines.ours, of the other to lines.dovecot.
play()
{
    for who in dovecot ours; do
        told_clear
        scene_start $who "mail_location = $1" 'mail_plugins = notify mail_log' "$BOXES" "plugin {
  $2
}"
        told_session >talk.$who
        admin=doveadm
        [ $who != ours ] || admin=$OURS/doveadm
        for command in 'mailbox create -u w box' 'mailbox create -u w b/c' 'mailbox rename -u w box xob' 'copy -u v xob mailbox INBOX all' \
            'flags add -u v \Flagged mailbox INBOX uid 1' 'move -u v Auto mailbox INBOX uid 1' 'expunge -u v mailbox INBOX all' \
            'mailbox delete -u w xob' 'mailbox delete -u u Auto'; do
            "$admin" -c "$SCENE/dovecot.conf" $command 2>&1 | sed 's/^/  /'
        done >admin.$who
        scene_stop
        # Autoexpunge goes on when the client has been told good-bye; the real one makes a mailbox at the end of a delivery only to
        # find nothing in it that is old.
        sed -n 's/^... .. ..:..:.. //; s/<[0-9]*>\(<[^>]*>\)*//; /^imap(\|^lmtp([a-z]/p' "$SCENE/log" |
            grep -v ' Disconnected: \|^lmtp(v): Info: Mailbox created: Old' >lines.$who
    done
    diff -u talk.dovecot talk.ours || atf_fail "the conversations are not the same"
    diff -u lines.dovecot lines.ours || atf_fail "the lines are not the same"
    diff -u admin.dovecot admin.ours || atf_fail "the lines of doveadm are not the same"
    [ "$(wc -l <lines.ours)" -gt 5 ] || atf_fail "there are no lines"
}

atf_test_case maildir cleanup
maildir_body()
{
    play 'maildir:~/Maildir' "$ALL"
}
maildir_cleanup() { scene_end; }

atf_test_case sdbox cleanup
sdbox_body()
{
    play 'sdbox:~/sdbox' "$ALL"
}
sdbox_cleanup() { scene_end; }

atf_test_case mdbox cleanup
mdbox_body()
{
    play 'mdbox:~/mdbox' "$ALL"
}
mdbox_cleanup() { scene_end; }

# What is told of what when nothing is said; and the old name of save.
atf_test_case defaults cleanup
defaults_body()
{
    play 'maildir:~/Maildir' ''
    play 'maildir:~/Maildir' 'mail_log_events = expunge'
    play 'maildir:~/Maildir' 'mail_log_events = append mailbox_rename
  mail_log_fields = flags box'
}
defaults_cleanup() { scene_end; }

atf_test_case wrong_words cleanup
wrong_words_body()
{
    scene_start ours 'mail_plugins = notify mail_log'
    for word in event field; do
        atf_check -s exit:75 -o empty -e match:"Unknown $word in mail_log_${word}s: 'nope'" \
            "$OURS/doveadm" -c "$SCENE/dovecot.conf" -o "plugin/mail_log_${word}s=nope" mailbox list -u u
    done
}
wrong_words_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in maildir sdbox mdbox defaults wrong_words; do
        atf_add_test_case $name
    done
}

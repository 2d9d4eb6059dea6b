# The plugins notify_status and push_notification: the same session, deliveries and commands at the real server and at ours tell the same.

. "$TOP_SRC/tests/lib/scene.sh"
. "$TOP_SRC/tests/lib/told.sh"


real_or_ours()
{
    if [ "$1" = ours ]; then shift; "$OURS/doveadm" -c "$SCENE/dovecot.conf" "$@"; else shift; doveadm -c "$SCENE/dovecot.conf" "$@"; fi
}

# act SERVER [OPTION]: everything that is told of, at a server that runs.
act()
{
    told_session >talk.$1
    for command in 'mailbox create -u w box' 'mailbox rename -u w box xob' 'mailbox create -u w one' 'mailbox rename -u w one two' 'copy -u v Auto mailbox INBOX all' \
        'flags add -u v \Seen mailbox INBOX uid 1' 'move -u v Auto mailbox INBOX uid 1' 'expunge -u v mailbox INBOX all' \
        'mailbox subscribe -u w INBOX' 'mailbox unsubscribe -u w INBOX' 'mailbox delete -u w xob' 'mailbox delete -u u Auto'; do
        echo "$command"
        real_or_ours $1 $2 $command 2>&1 | sed -n 's/.*Debug: \(M[a-z]* data: .*\|M[a-zA-Z]*: [MK].*\|Flags.*\)/  \1/p' | grep -v 'Mailbox [^ ]*: '
    done >admin.$1
}

# ---- push_notification, dlog ----

# Events in the order of the log. When a MOVE's transaction begins is not compared, nor when a user is let go; the real lmtp makes a
# mailbox at the end of a delivery only to find nothing in it that is old.
dlog()
{
    for who in dovecot ours; do
        told_clear
        scene_start $who "mail_location = $1" 'mail_plugins = notify push_notification' "$BOXES" 'plugin {' '  push_notification_driver = dlog' '}'
        act $who -D
        scene_stop
        sed -n 's/^... .. ..:..:.. //; s/<[0-9]*>\(<[^>]*>\)*//; s/UIDVALIDITY .*//; /^\(imap\|lmtp\)([a-z]*): Debug/p' "$SCENE/log" >all.$who
        grep -v 'Called ' all.$who | awk '/^lmtp.v.*\[Old\]$/ {getline; next} {print}' >events.$who
        grep '^imap.*Called [bep]' all.$who | sort | uniq -c >hooks.$who
        sed 's/UIDVALIDITY .*//' admin.$who >admin && mv admin admin.$who
    done
    atf_check diff -u talk.dovecot talk.ours
    atf_check diff -u events.dovecot events.ours
    atf_check diff -u hooks.dovecot hooks.ours
    atf_check diff -u admin.dovecot admin.ours
    for event in FlagsSet FlagsClear MessageRead MessageTrash MessageExpunge MailboxCreate MailboxRename MailboxDelete MailboxSubscribe; do
        grep -q ": $event" events.ours || atf_fail "no $event"
    done
    grep -q 'MailboxUnsubscribe' admin.ours || atf_fail "doveadm tells nothing"
}

atf_test_case dlog_maildir cleanup
dlog_maildir_body() { dlog 'maildir:~/Maildir'; }
dlog_maildir_cleanup() { scene_end; }

atf_test_case dlog_sdbox cleanup
dlog_sdbox_body() { dlog 'sdbox:~/sdbox'; }
dlog_sdbox_cleanup() { scene_end; }

atf_test_case dlog_mdbox cleanup
dlog_mdbox_body() { dlog 'mdbox:~/mdbox'; }
dlog_mdbox_cleanup() { scene_end; }

# Which drivers there are, and what is said of those that are none.
atf_test_case drivers cleanup
drivers_body()
{
    for who in dovecot ours; do
        for lines in 'push_notification_driver = nosuch' 'push_notification_backend = dlog' 'push_notification_driver = dlog:foo=bar x' \
            'x = y' 'push_notification_backend = nosuch
  push_notification_driver = dlog' 'push_notification_driver2 = dlog' 'push_notification_driver = dlog
  push_notification_driver2 = nosuch' 'push_notification_driver = nosuch
  push_notification_driver2 = dlog'; do
            told_clear
            scene_start $who 'mail_plugins = notify push_notification' 'plugin {' "  $lines" '}'
            printf 'a LOGIN u pass\nb CREATE box\nc SUBSCRIBE box\nd SUBSCRIBE box\ne UNSUBSCRIBE box\nf UNSUBSCRIBE box\ng LOGOUT\n' | scene_talk imap >/dev/null
            scene_stop
            echo "--- $lines" >>drivers.$who
            sed -n 's/^... .. ..:..:.. //; s/<[0-9]*>\(<[^>]*>\)*//; /^imap([a-z]*): \(Debug\|Error\)/p' "$SCENE/log" | grep -v 'deinit\|cleanup' >>drivers.$who
        done
    done
    atf_check diff -u drivers.dovecot drivers.ours
    grep -q 'Unknown push notification driver' drivers.ours || atf_fail "nothing is said"
}
drivers_cleanup() { scene_end; }

# ---- notify_status ----

# status LOCATION: what the dictionary holds at the end, but for what became of the mailboxes below one that was renamed: the real server
# leaves what it had written of them, and so does ours, which may not have written yet. Old is left out: imap and lmtp both expunge in it
# when they have told their clients good-bye, and whoever writes last has not always looked last.
status()
{
    for who in dovecot ours; do
        told_clear
        rm -rf "$SCENE/dicts" "$SCENE/heard"
        mkdir "$SCENE/dicts"
        python3 -B "$TOP_SRC/tests/lib/fake_dict.py" "$SCENE/dicts" "$SCENE/heard" ok &
        FAKE=$!
        while [ ! -e "$SCENE/dicts/ready" ]; do
            kill -0 $FAKE || atf_fail "the fake dict service has ended"
        done
        scene_start $who "mail_location = $1" 'mail_plugins = notify notify_status' "$BOXES" 'plugin {' "  notify_status_dict = proxy:$SCENE/dicts/ok:x" '}'
        act $who
        scene_stop
        kill $FAKE
        python3 -B "$TOP_SRC/tests/lib/dict_state.py" "$SCENE/heard" | grep -v '/Old \|/[xq]\.y\.z ' >status.$who
    done
    atf_check diff -u status.dovecot status.ours
    atf_check -o match:'^u priv/status/INBOX ..messages":1,"unseen":1' -o match:'^v priv/status/INBOX ..messages":0' -o match:'^w priv/status/two ' -o not-match:'/xob' cat status.ours
}

atf_test_case status_maildir cleanup
status_maildir_body() { status 'maildir:~/Maildir'; }
status_maildir_cleanup() { scene_end; }

atf_test_case status_sdbox cleanup
status_sdbox_body() { status 'sdbox:~/sdbox'; }
status_sdbox_cleanup() { scene_end; }

atf_test_case status_mdbox cleanup
status_mdbox_body() { status 'mdbox:~/mdbox'; }
status_mdbox_cleanup() { scene_end; }

# Which mailboxes, which values; what is wrong with the settings.
atf_test_case values cleanup
values_body()
{
    for who in dovecot ours; do
        for lines in 'notify_status_value = %%{username} %%{mailbox} %%{messages} %%{unseen} %%{recent} %%{uidnext} %%{first_recent_uid} %%{highest_modseq} %%{highest_pvt_modseq}' \
            'notify_status_mailbox = x/%%
  notify_status_mailbox2 = INB*
  notify_status_mailbox4 = *' 'notify_status_value = %%{foo} %%{messages}' 'notify_status_dict = nosuch:x' 'notify_status_dict ='; do
            told_clear
            scene_start $who 'mail_location = sdbox:~/mail' 'mail_plugins = notify notify_status' 'namespace inbox {' '  separator = /' '}' \
                'plugin {' '  notify_status_dict = file:~/status' "  $lines" '}'
            printf 'a LOGIN u pass\nb CREATE "a\\\\\\\\c\\\\"d"\nb CREATE x/y\nb CREATE x/y/z\nc APPEND x/y (\\Seen) {3+}\nabc\n/^c OK\nd APPEND x/y {3+}\nabc\n/^d OK\ne APPEND INBOX {3+}\nabc\n/^e OK\nf LOGOUT\n' |
                scene_talk imap >/dev/null
            scene_stop
            echo "--- $lines" >>values.$who
            [ ! -e "$SCENE/home/u/status" ] || paste -d' ' - - <"$SCENE/home/u/status" | sort >>values.$who
            sed -n 's/.*imap(.*: \(Error: .*\)/\1/p' "$SCENE/log" | sort -u >>values.$who
        done
    done
    cat values.ours
    atf_check diff -u values.dovecot values.ours
    [ "$(grep -c x/y values.ours)" -gt 2 ] || atf_fail "nothing is written"
}
values_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in dlog_maildir dlog_sdbox dlog_mdbox drivers status_maildir status_sdbox status_mdbox values; do
        atf_add_test_case $name
    done
}

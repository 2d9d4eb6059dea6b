# What the scenes of mail_log, notify_status and push_notification have in common: mailboxes, users, and the session that they tell of.

BOXES='namespace inbox {
  mailbox Auto {
    auto = subscribe
  }
  mailbox Old {
    auto = create
    autoexpunge_max_mails = 1
  }
}'

# A scene without mail, log and state; its server is another one than before.
told_clear()
{
    scene_make
    SERVER=
    rm -rf "$SCENE/home" "$SCENE/log" "$SCENE/run" "$SCENE/state"
    mkdir "$SCENE/home" "$SCENE/run" "$SCENE/state"
    [ "$(id -u)" != 0 ] || chown "$MAIL_USER" "$SCENE/home"
    as_user mkdir "$SCENE/home/u" "$SCENE/home/v" "$SCENE/home/w"
}

# Everything that may be told of, by IMAP and LMTP; what was answered.
told_session()
{
    python3 -B "$TOP_SRC/tests/lib/mail_log.py" "$IP" $IMAP_PORT $LMTP_PORT || { cat "$SCENE/log" >&2; atf_fail "no session"; }
}

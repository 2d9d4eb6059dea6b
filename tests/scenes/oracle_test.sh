# The scenes' own tools, tried on the real Dovecot: what they say about it, they can say about ours.

. "$TOP_SRC/tests/lib/scene.sh"

atf_test_case talks cleanup
talks_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
talks_body()
{
    scene_start dovecot
    atf_check -o match:'^\* OK .*ready' cat greeting
    scene_talk lmtp <<END >delivery
LHLO tests
/^250 
MAIL FROM:<a@example.org>
/^250
RCPT TO:<u@example.org>
/^250
DATA
/^354
Subject: one

text
.
/^250 2.0.0 .*Saved
QUIT
END
    scene_talk imap <<END >session
a LOGIN u pass
b SELECT INBOX
?^\* 1 EXISTS
!^\* 2 EXISTS
c FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)])
d IDLE
/^\+
DONE
/^d OK
e LOGOUT
END
    atf_check -o match:'^Subject: one' -o match:'^\* 1 EXISTS' -o match:'^e OK' cat session
    scene_stop
    scene_log_is_clean
}
talks_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case talks
}

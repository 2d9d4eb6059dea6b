# The config socket answers as Dovecot's does, asked with the same words about the same file.
. "$TOP_SRC/tests/lib/scene.sh"

extra='plugin {
  quota = maildir:User quota
}
protocol imap {
  mail_plugins =
  imap_idle_notify_interval = 1 min
}
protocol lda {
  mail_max_keyword_length = 99
}
remote 10.0.0.0/8 {
  mail_debug = yes
}
local 127.0.0.0/8 {
  protocol imap {
    imap_max_line_length = 1 M
  }
}
local_name mail.example.com {
  login_greeting = named
}'

ask_all()
{
    python3 "$TOP_SRC/tests/conf/ask.py" "$SCENE/run/config" 'REQ\tmodule=imap\tservice=imap' \
        'REQ\tmodule=imap\tservice=imap\trip=10.1.1.1\tlip=127.0.0.1' 'REQ\tmodule=imap' 'REQ\tmodule=auth' \
        'REQ\tmodule=imap-login\tservice=imap\tlname=MAIL.example.com' 'REQ\tmodule=anvil\tservice=anvil' \
        'REQ\tmodule=mail\tservice=lda\tlip=nonsense' 'REQ\tmodule=master' 'REQ\tmodule=nosuch' 'FILTERS'
}

atf_test_case replies cleanup
replies_head()
{
    atf_set descr "REQ and FILTERS give what the real config service gives"
    atf_set require.user root
    atf_set require.progs dovecot
}
replies_body()
{
    scene_start dovecot "$extra"
    ask_all >real
    scene_stop
    scene_start ours "$extra"
    ask_all >ours
    diff -u real ours || atf_fail "other replies"
}
replies_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case replies
}

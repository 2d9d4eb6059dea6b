# The scripts of imaptest/scripts against our server and the real one: what a script says holds for both, so a script that one
# of them fails is wrong, or that server is.

. "$TOP_SRC/tests/lib/scene.sh"

# run ours|dovecot
run_scripts()
{
    more='#'
    [ "$1" != ours ] || more='imap_capability = +MULTISEARCH LIST-MYRIGHTS LIST-METADATA CREATE-SPECIAL-USE'
    scene_start "$1" 'mail_max_userip_connections = 100' 'mail_attribute_dict = file:%h/attributes' 'imap_urlauth_host = *' "$more" \
        'mail_plugins = acl quota' 'plugin {' '  acl = vfile' '  quota = maildir:User quota' '  quota_rule = *:storage=1G' '}' \
        'protocol imap {' '  mail_plugins = $mail_plugins zlib imap_zlib imap_acl imap_quota' '  imap_metadata = yes' '}'
    for folder in "$TOP_SRC"/imaptest/scripts/*; do
        echo "== ${folder##*/}"
        "$TOP_SRC/imaptest/run" --host "$IP" --port $IMAP_PORT --user 'u%d' --user2 'v%d' --jobs 4 "$folder" >out 2>&1 ||
            echo "${folder##*/}" >>failed
        cat out
    done >all
    [ ! -s failed ] || { grep -v "^imaptest" all; atf_fail "$(tr '\n' ' ' <failed)"; }
    [ "$(ls "$TOP_SRC"/imaptest/scripts/* | grep -c '^[a-z]')" -ge 150 ] || atf_fail "fewer than 150 scripts"
    scene_stop
}

atf_test_case ours cleanup
ours_head()
{
    atf_set descr "all scripts pass on our server"
    atf_set require.user root
    atf_set require.progs python3
    atf_set timeout 600
}
ours_body()
{
    run_scripts ours
    scene_log_is_clean
}
ours_cleanup()
{
    scene_end
}

atf_test_case dovecot cleanup
dovecot_head()
{
    atf_set descr "all scripts pass on the real server"
    atf_set require.user root
    atf_set require.progs "python3 dovecot"
    atf_set timeout 600
}
dovecot_body()
{
    run_scripts dovecot
}
dovecot_cleanup()
{
    scene_end
}

atf_test_case fails cleanup
fails_head()
{
    atf_set descr "what is not so fails: every script of must-fail is refused, and unreadable ones end with 89"
    atf_set require.user root
    atf_set require.progs python3
    atf_set timeout 300
}
fails_body()
{
    scene_start ours 'mail_max_userip_connections = 100'
    for script in "$TOP_SRC"/imaptest/must-fail/*; do
        "$TOP_SRC/imaptest/run" --host "$IP" --port $IMAP_PORT --user u "$script" >out 2>&1
        [ $? = 2 ] || { cat out; atf_fail "${script##*/} did not fail"; }
    done
    for text in 'ok noop' 'nosuch: 1\n\nok noop\n' 'messages: 1\n\nnoop\n' 'state: x\n\nok noop\n' '\nok append x {{{\n'; do
        printf "$text" >broken
        atf_check -s exit:89 -e ignore "$TOP_SRC/imaptest/run" --host "$IP" --port $IMAP_PORT broken
    done
}
fails_cleanup()
{
    scene_end
}

atf_test_case stress cleanup
stress_head()
{
    atf_set descr "random clients on one mailbox: nothing that the server says contradicts what it said before"
    atf_set require.user root
    atf_set require.progs python3
    atf_set timeout 900
}
stress_body()
{
    secs=6
    [ -z "$YARILO_LONG" ] || secs=60
    scene_start ours 'mail_max_userip_connections = 100' 'protocol imap {' '  mail_plugins = zlib imap_zlib' '}'
    for how in '--checkpoint 1 --copybox X' '--own-flags --compress' '--qresync --checkpoint 1'; do
        "$TOP_SRC/imaptest/run" stress --host "$IP" --port $IMAP_PORT --user "s${#how}" --clients 8 --secs $secs $how >out 2>&1 ||
            { grep -v '^Totals' out | head -40; atf_fail "$how"; }
    done
    scene_log_is_clean
}
stress_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case ours
    atf_add_test_case dovecot
    atf_add_test_case fails
    atf_add_test_case stress
}

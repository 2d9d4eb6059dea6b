# URLs of other users: imap-urlauth-login, imap-urlauth, imap-urlauth-worker.

. "$TOP_SRC/tests/lib/scene.sh"

# urlauth_conf: what both servers need. "nobody" is in no database.
urlauth_conf()
{
    printf '%s\n' 'imap_urlauth_host = mail.example.com' 'mail_attribute_dict = file:%h/attributes' 'imap_urlauth_submit_user = submit'
}

urlauth_users()
{
    for user in owner other submit; do
        echo "$user:{PLAIN}pass:$MAIL_UID:$MAIL_GID::$SCENE/home/$user::"
    done >"$SCENE/users"
    # the scene's static databases know everybody
    sed -i "s|^  driver = static|  driver = passwd-file|; s|^  args = .*|  args = $SCENE/users|" "$SCENE/dovecot.conf"
}

atf_test_case fetch cleanup
fetch_head()
{
    atf_set descr "users fetch each other's URLs as their access words say; forged, foreign and unknown ones are refused"
    atf_set require.user root
}
fetch_body()
{
    scene_configure "$(urlauth_conf)" 'imap_urlauth_logout_format = i=%i o=%o in=%{input} out=%{output} %%'
    urlauth_users
    scene_run "$OURS/dovecot"
    python3 -B "$TOP_SRC/tests/lib/urlauth.py" fetch "$IP" $IMAP_PORT || { cat "$SCENE/log"; atf_fail "fetch"; }
    scene_stop
    grep -q 'imap-urlauth-login: Info: Login: user=<other>, method=DOVECOT-TOKEN' "$SCENE/log" || { cat "$SCENE/log"; atf_fail "no line of the login"; }
    grep -qE 'imap-urlauth\(other\)<[0-9]+>: Info: Disconnected: .* i=([0-9]+) o=([0-9]+) in=\1 out=\2 %$' "$SCENE/log" || { cat "$SCENE/log"; atf_fail "no line of the end"; }
    scene_log_is_clean
}
fetch_cleanup()
{
    scene_end
}

atf_test_case token cleanup
token_head()
{
    atf_set descr "imap-urlauth-login believes no pid but the connection's, no token but auth's, and no long line"
    atf_set require.user root
}
token_body()
{
    scene_configure "$(urlauth_conf)"
    urlauth_users
    scene_run "$OURS/dovecot"
    cat >knock.py <<'END'
import os, socket, sys
def knock(text):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(sys.argv[1])
    s.sendall(text)
    data = b""
    while True:
        try:
            got = s.recv(100)
        except ConnectionResetError:
            break
        if not got:
            break
        data += got
    return data
v, pid = b"VERSION\timap-urlauth\t2\t0\n", b"%d" % os.getpid()
for text in (v + b"AUTH\timap\t" + pid + b"\towner\tsession\t" + b"0" * 40 + b"\n", v + b"AUTH\timap\t1\towner\tsession\t" + b"0" * 40 + b"\n",
             b"VERSION\timap-urlauth\t1\t0\n", b"AUTH\timap\n", v + b"AUTH\tpop3\t" + pid + b"\towner\ts\tt\n", v + b"AUTH\timap\n",
             v + b"x" * 5000 + b"\n"):
    if knock(text) != b"NO\n":
        sys.exit("%r was not refused" % text)
END
    python3 -B knock.py "$SCENE/run/imap-urlauth" || { cat "$SCENE/log"; atf_fail "knock"; }
    scene_stop
    scene_log_is_clean
}
token_cleanup()
{
    scene_end
}

atf_test_case worker cleanup
worker_head()
{
    atf_set descr "imap-urlauth-worker answers as the real one"
    atf_set require.user root
    atf_set require.progs "dovecot"
}
worker_body()
{
    scene_configure "$(urlauth_conf)"
    urlauth_users
    scene_run "$OURS/dovecot"
    scene_second dovecot
    python3 -B "$TOP_SRC/tests/lib/urlauth.py" worker "$IP" $IMAP_PORT "$SCENE/run/imap-urlauth-worker" >ours || { cat ours "$SCENE/log"; atf_fail "ours"; }
    rm -rf "$SCENE/home/owner"
    python3 -B "$TOP_SRC/tests/lib/urlauth.py" worker "$IP2" $IMAP_PORT "$SCENE/run2/imap-urlauth-worker" >theirs || { cat theirs "$SCENE/log2"; atf_fail "theirs"; }
    diff -u theirs ours || atf_fail "the answers differ"
    scene_stop
}
worker_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case fetch
    atf_add_test_case token
    atf_add_test_case worker
}

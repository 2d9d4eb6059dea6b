# Faults that other mail servers have had, by docs/known-faults.md: those that need a running server and have no other place.

. "$TOP_SRC/tests/lib/scene.sh"

faults()
{
    kind=$1
    shift
    python3 -B "$TOP_SRC/tests/lib/faults.py" "$kind" "$IP" $IMAP_PORT "$@" || { cat "$SCENE/log"; atf_fail "$kind"; }
}

# simple NAME [CONFIGURATION ...]: the scene of faults.py, and nothing that crashed or complained.
simple()
{
    kind=$1
    shift
    scene_start ours "$@"
    faults "$kind"
    scene_stop
    scene_log_is_clean
}

atf_test_case names cleanup
names_head()
{
    atf_set descr "odd user names before login are refused, and kill no process"
    atf_set require.user root
}
names_body()
{
    # no pauses between the attempts
    simple names 'auth_failure_delay = 0' 'service anvil {' '  unix_listener anvil-auth-penalty {' '    mode = 0' '  }' '}'
}
names_cleanup()
{
    scene_end
}

atf_test_case broken cleanup
broken_head()
{
    atf_set descr "broken base64 of one client is nothing to another of the same process"
    atf_set require.user root
}
broken_body()
{
    simple broken 'service imap-login {' '  service_count = 0' '  process_limit = 1' '}'
}
broken_cleanup()
{
    scene_end
}

atf_test_case aborted cleanup
aborted_head()
{
    atf_set descr "logins that are begun and aborted leave nothing behind"
    atf_set require.user root
    atf_set require.progs pgrep
}
aborted_body()
{
    # what the sanitizer keeps of freed memory is not the server's
    export ASAN_OPTIONS="quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    scene_start ours 'import_environment = $import_environment ASAN_OPTIONS' 'service imap-login {' '  service_count = 0' '  process_limit = 1' '}'
    scene_talk imap <<'END' >session
a LOGIN u pass
b LOGOUT
END
    faults aborted $(pgrep -P "$SERVER" -f '^dovecot/(imap-login|auth)')
    scene_stop
    scene_log_is_clean
}
aborted_cleanup()
{
    scene_end
}

atf_test_case session cleanup
session_head()
{
    atf_set descr "NUL in names, numbers beyond 32 bits, commands behind a literal that was cut"
    atf_set require.user root
}
session_body()
{
    simple session 'imap_metadata = yes' 'mail_attribute_dict = file:%h/attributes'
}
session_cleanup()
{
    scene_end
}

atf_test_case thread cleanup
thread_head()
{
    atf_set descr "THREAD of long, shuffled and circular references ends"
    atf_set require.user root
}
thread_body()
{
    simple thread
}
thread_cleanup()
{
    scene_end
}

atf_test_case compress cleanup
compress_head()
{
    atf_set descr "COMPRESS: unknown algorithms, a million empty blocks, no window shared between answers"
    atf_set require.user root
}
compress_body()
{
    simple compress 'imap_capability = +COMPRESS=DEFLATE' 'mail_plugins = zlib' 'protocol imap {' '  mail_plugins = zlib imap_zlib' '}'
}
compress_cleanup()
{
    scene_end
}

atf_test_case restore cleanup
restore_head()
{
    atf_set descr "who may connect to imap-master still gets no session of his own making"
    atf_set require.user root
}
restore_body()
{
    scene_configure
    printf 'u:{PLAIN}pass:%s:%s::%s::\n' $MAIL_UID $MAIL_GID "$SCENE/home/u" >"$SCENE/users"
    sed -i "s|^  driver = static|  driver = passwd-file|; s|^  args = .*|  args = $SCENE/users|" "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    faults restore "$SCENE/run/imap-master"
    scene_stop
    atf_check -o match:'imap\(ghost\)<[0-9]+><forged>: Error: auth-master: request \[1\]: user not found' cat "$SCENE/log"
}
restore_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    for name in names broken aborted session thread compress restore; do
        atf_add_test_case $name
    done
}

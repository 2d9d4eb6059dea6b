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

atf_test_case server_names cleanup
server_names_head()
{
    atf_set descr "names of servers in TLS handshakes cost nothing"
    atf_set require.user root
    atf_set require.progs 'openssl pgrep'
}
server_names_body()
{
    export ASAN_OPTIONS="quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    scene_certificate
    scene_start ours "$TLS" \
        'import_environment = $import_environment ASAN_OPTIONS' 'service imap-login {' '  service_count = 0' '  process_limit = 1' '}'
    IMAP_PORT=$IMAPS_PORT
    faults server_names $(pgrep -P "$SERVER" -f '^dovecot/imap-login')
    scene_stop
    scene_log_is_clean
}
server_names_cleanup()
{
    scene_end
}

atf_test_case certificates cleanup
certificates_head()
{
    atf_set descr "a client certificate without the wanted name logs in as nobody"
    atf_set require.user root
    atf_set require.progs openssl
}
certificates_body()
{
    scene_certificate
    new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $new -days 30 -subj /CN=ca -keyout "$SCENE/ca.key" -out "$SCENE/ca.crt" 2>/dev/null
    for name in named:/CN=u unnamed:/O=victim; do
        openssl req $new -subj "${name#*:}" -keyout "$SCENE/${name%:*}.key" -out request 2>/dev/null
        openssl x509 -req -in request -CA "$SCENE/ca.crt" -CAkey "$SCENE/ca.key" -CAcreateserial -days 30 \
            -out "$SCENE/${name%:*}.crt" 2>/dev/null
    done
    scene_start ours "$TLS" "ssl_ca = <$SCENE/ca.crt" 'ssl_require_crl = no' \
        'ssl_verify_client_cert = yes' 'auth_ssl_username_from_cert = yes' 'auth_failure_delay = 0' \
        'service anvil {' '  unix_listener anvil-auth-penalty {' '    mode = 0' '  }' '}'
    IMAP_PORT=$IMAPS_PORT
    faults certificates "$SCENE"
    scene_stop
    atf_check -o match:'Login: user=<u>' -o not-match:'Login: user=<victim>' -o match:"SSL certificate didn't contain username" cat "$SCENE/log"
}
certificates_cleanup()
{
    scene_end
}

atf_test_case passdbs cleanup
passdbs_head()
{
    atf_set descr "what a front forwards, proxies without a host, filters of passdbs alike"
    atf_set require.user root
    atf_set require.progs pgrep
}
passdbs_body()
{
    scene_configure 'login_trusted_networks = 127.0.0.1' 'auth_failure_delay = 0' \
        'service anvil {' '  unix_listener anvil-auth-penalty {' '    mode = 0' '  }' '}' \
        'passdb {' '  driver = static' '  args = password=one' '  username_filter = a*' '}' \
        'passdb {' '  driver = static' '  args = password=one' '  username_filter = b*' '}' \
        'service imap-login {' '  service_count = 0' '  process_limit = 1' '}'
    printf 'nohost:{PLAIN}pass::::::proxy\nloop:{PLAIN}pass::::::proxy host=%s port=%s\nf:{PLAIN}pass\n' "$IP" $IMAP_PORT >"$SCENE/users"
    sed -i "s|^  args = password=pass|  args = $SCENE/users|; 0,/driver = static/s/driver = static/driver = passwd-file/" "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    faults filters
    faults proxies $(pgrep -P "$SERVER" -f '^dovecot/(imap-login|auth)')
    faults forwarded 127.0.0.1 127.0.0.2
    scene_stop
    atf_check -o match:'Login: user=<f>.* rip=10\.11\.12\.13, .*session=<127\.0\.0\.1>' -o match:'Login: user=<f>.* rip=127\.0\.0\.2,' \
        -o not-match:'rip=10\.11\.12\.13,.*session=<127\.0\.0\.2>' cat "$SCENE/log"
    scene_log_is_clean 'passdb returned proxy'
}
passdbs_cleanup()
{
    scene_end
}

atf_test_case counts cleanup
counts_head()
{
    atf_set descr "the limit of connections holds again after anvil was killed"
    atf_set require.user root
    atf_set require.progs pgrep
}
counts_body()
{
    scene_start ours 'mail_max_userip_connections = 1'
    faults counts "$SCENE/run/anvil" $(pgrep -P "$SERVER" -f '^dovecot/anvil') $(pgrep -P "$SERVER" -f '^dovecot/imap-login')
    scene_stop
    scene_log_is_clean 'service\(anvil\): child [0-9]+ killed with signal 9' 'auth client [0-9]+ disconnected with 1 pending'
}
counts_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    for name in names broken aborted session thread compress restore server_names certificates passdbs counts; do
        atf_add_test_case $name
    done
}

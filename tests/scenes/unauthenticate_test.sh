# UNAUTHENTICATE (RFC 8437): one connection, one user after the other, and nothing of the one is left for the next.

. "$TOP_SRC/tests/lib/scene.sh"

unauthenticate()
{
    what=$1
    shift
    python3 -B "$TOP_SRC/tests/lib/unauthenticate.py" "$what" "$IP" ${PORT:-$IMAP_PORT} "$SCENE/run" "$@" || { cat "$SCENE/log"; atf_fail "$what"; }
}

atf_test_case plain cleanup
plain_body()
{
    scene_start ours 'imap_capability = +UNAUTHENTICATE'
    unauthenticate plain
    scene_stop
    atf_check -o match:'imap\(u\)<.*Info: Disconnected: Unauthenticated in=' cat "$SCENE/log"
    sed -i '/AUTHENTICATIONFAILED\|auth failed/d' "$SCENE/log"
    scene_log_is_clean
}
plain_cleanup()
{
    scene_end
}

# Each worker serves one session: it ends with it.
atf_test_case alone cleanup
alone_body()
{
    scene_start ours 'imap_capability = +UNAUTHENTICATE' 'service imap {' '  service_count = 1' '  client_limit = 1' '}'
    unauthenticate plain
    scene_stop
    scene_log_is_clean
}
alone_cleanup()
{
    scene_end
}

atf_test_case tls cleanup
tls_body()
{
    scene_certificate
    scene_start ours 'imap_capability = +UNAUTHENTICATE' "$TLS" \
        'protocol imap {' '  mail_plugins = $mail_plugins imap_zlib' '}'
    PORT=$IMAPS_PORT unauthenticate tls
    scene_stop
    scene_log_is_clean
}
tls_cleanup()
{
    scene_end
}

atf_test_case limit cleanup
limit_body()
{
    scene_start ours 'imap_capability = +UNAUTHENTICATE' 'mail_max_userip_connections = 1'
    unauthenticate limit
    scene_stop
}
limit_cleanup()
{
    scene_end
}

atf_test_case rested cleanup
rested_body()
{
    scene_start ours 'imap_capability = +UNAUTHENTICATE' 'imap_hibernate_timeout = 1s' 'service imap {
      extra_groups = $default_internal_group
      unix_listener imap-master {
        user = $default_internal_user
      }
    }
    service imap-hibernate {
      unix_listener imap-hibernate {
        mode = 0660
        group = $default_internal_group
      }
    }'
    unauthenticate rested
    scene_stop
    scene_log_is_clean
}
rested_cleanup()
{
    scene_end
}

atf_test_case reload cleanup
reload_body()
{
    scene_start ours 'imap_capability = +UNAUTHENTICATE' 'login_greeting = V1 here'
    sed -i 's/V1 here/V2 here/' "$SCENE/dovecot.conf"
    unauthenticate reload $SERVER
    scene_stop
}
reload_cleanup()
{
    scene_end
}

# Not announced, not there; nor for a user whose userdb names it, while the login process does not know of it.
atf_test_case off cleanup
off_body()
{
    scene_start ours
    unauthenticate off
    scene_stop
    sed -i "s/args = uid=.*/& imap_capability=+UNAUTHENTICATE/" "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    unauthenticate off
    scene_stop
    scene_log_is_clean
}
off_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    for name in plain alone tls limit rested reload off; do
        atf_add_test_case $name
    done
}

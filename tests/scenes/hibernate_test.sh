# Sessions at rest (imap 13, ipc 14): they go, come back, and nobody is lost on the way.

. "$TOP_SRC/tests/lib/scene.sh"

SOCKETS='service imap {
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

start()
{
    server=$1
    shift
    scene_start $server 'imap_hibernate_timeout = 1s' "$@"
}

hibernate()
{
    what=$1
    shift
    python3 -B "$TOP_SRC/tests/lib/hibernate.py" "$what" "$IP" ${PORT:-$IMAP_PORT} "$SCENE/run" "$@" || { cat "$SCENE/log"; atf_fail "$what"; }
}

# What clients hear is the same.
atf_test_case same cleanup
same_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
    atf_set timeout 600
}
same_body()
{
    start dovecot "$SOCKETS"
    hibernate same >real
    scene_stop
    rm -rf "$SCENE/home/u" "$SCENE/home/v"
    scene_run "$OURS/dovecot"
    hibernate same >ours
    scene_stop
    atf_check -o save:diff diff -u real ours
    scene_log_is_clean
}
same_cleanup()
{
    scene_end
}

atf_test_case count cleanup
count_body()
{
    start ours "$SOCKETS" 'imap_logout_format = in=%i out=%o body_count=%{fetch_body_count} deleted=%{deleted} appended=%{appended}'
    hibernate count "$SCENE/log"
    scene_stop
}
count_cleanup()
{
    scene_end
}

atf_test_case reload cleanup
reload_body()
{
    start ours "$SOCKETS"
    hibernate reload $SERVER
    wait $SERVER
    atf_check -o match:'imap-hibernate\(v\)<.*: Info: Disconnected: Shutting down in=' cat "$SCENE/log"
}
reload_cleanup()
{
    scene_end
}

# Nobody may connect to imap-hibernate; imap-hibernate may not connect to imap-master; the program is not there.
atf_test_case stays cleanup
stays_head()
{
    atf_set require.user root
}
stays_body()
{
    start ours 'service imap-hibernate {
      unix_listener imap-hibernate {
        mode = 0600
      }
    }'
    hibernate stays "$SCENE/log" "Error: Couldn't hibernate imap client: net_connect_unix\\(.*/imap-hibernate\\) failed: Permission denied"
    scene_stop
    rm -rf "$SCENE/home/u" "$SCENE/log"
    scene_configure 'imap_hibernate_timeout = 1s' "$SOCKETS" 'service imap {
      unix_listener imap-master {
        user = root
      }
    }'
    scene_run "$OURS/dovecot"
    hibernate stays "$SCENE/log" "Error: Couldn't hibernate imap client: net_connect_unix\\(.*/imap-master\\) failed: Permission denied"
    scene_stop
}
stays_cleanup()
{
    scene_end
}

atf_test_case kills cleanup
kills_body()
{
    start ours "$SOCKETS"
    hibernate kills
    scene_stop
}
kills_cleanup()
{
    scene_end
}

atf_test_case compress cleanup
compress_body()
{
    start ours "$SOCKETS" 'imap_idle_notify_interval = 2s' 'protocol imap {
      mail_plugins = $mail_plugins imap_zlib
    }'
    hibernate compress "$OURS/doveadm" -c "$SCENE/dovecot.conf" kick u
    scene_stop
    scene_log_is_clean
}
compress_cleanup()
{
    scene_end
}

# What imap-hibernate writes has the prefix of the real one's, but for its pid and the session.
atf_test_case prefix cleanup
prefix_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
prefix_body()
{
    start dovecot "$SOCKETS" 'mail_log_prefix = "<%s|%u|%n|%Ud|%h|%p|%{pid}|%{session}|%{auth_user}|%i|%r|%{gid}|%{hostname}|%{nonsense}> "'
    hibernate leaves Ann@Example.org "$SCENE/log" >real
    scene_stop
    rm "$SCENE/log"
    scene_run "$OURS/dovecot"
    hibernate leaves Ann@Example.org "$SCENE/log" >ours
    scene_stop
    atf_check -o match:'<imap-hibernate.ann@example.org.ann.EXAMPLE.ORG' cat ours
    atf_check diff -u real ours
}
prefix_cleanup()
{
    scene_end
}

atf_test_case urlauth cleanup
urlauth_body()
{
    start ours "$SOCKETS" 'imap_urlauth_host = mail.example.com' 'mail_attribute_dict = file:%h/attributes'
    hibernate urlauth
    scene_stop
    scene_log_is_clean
}
urlauth_cleanup()
{
    scene_end
}

atf_test_case kick cleanup
kick_body()
{
    start ours "$SOCKETS"
    hibernate kick "$OURS/doveadm" -c "$SCENE/dovecot.conf" kick u
    scene_stop
    atf_check -o match:'imap-hibernate\(u\)<.*: Info: Disconnected: Disconnected by an administrator in=' cat "$SCENE/log"
}
kick_cleanup()
{
    scene_end
}

atf_test_case tls cleanup
tls_body()
{
    scene_certificate
    start ours "$SOCKETS" "$TLS"
    PORT=$IMAPS_PORT hibernate tls
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
    start ours "$SOCKETS" 'service imap-hibernate {
      client_limit = 1
      process_limit = 1
    }'
    hibernate limit
    scene_stop
}
limit_cleanup()
{
    scene_end
}

atf_test_case gaps cleanup
gaps_body()
{
    start ours "$SOCKETS"
    hibernate gaps "$SCENE/home"
    scene_stop
    scene_log_is_clean
}
gaps_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    for name in same count reload stays kills compress urlauth prefix kick tls limit gaps; do
        atf_add_test_case $name
    done
}

# What scenes share: a server in a folder of its own, on a loopback address of its own. Use:
#
#     . "$TOP_SRC/tests/lib/scene.sh"
#     atf_test_case name cleanup
#     name_body()    { scene_start ours 'imap_idle_notify_interval = 1 min'; scene_talk imap <<END ... END }
#     name_cleanup() { scene_end; }
#
# Nothing here sleeps for a time: it waits until a port answers or a process has ended. No port is shared, since the address
# is made from the pid of the test (all of 127/8 is this machine).

OURS=$TOP_BUILD/compat/bin
IMAP_PORT=10143 IMAPS_PORT=10993 LMTP_PORT=10024 POP3_PORT=10110 STATS_PORT=10990

# Sets SCENE (the folder) and IP; keeps both for the cleanup part, which is a process of its own.
scene_make()
{
    [ -z "$SCENE" ] || return 0
    SCENE=$(mktemp -d "${TMPDIR:-/tmp}/scene.XXXXXX")
    chmod 755 "$SCENE"
    IP=127.$((1 + ($$ >> 16) % 100)).$((($$ >> 8) & 255)).$(($$ & 255))
    IP2=127.$((101 + ($$ >> 16) % 100)).$((($$ >> 8) & 255)).$(($$ & 255))
    printf 'SCENE=%s IP=%s\n' "$SCENE" "$IP" >scene.vars
    mkdir "$SCENE/home" "$SCENE/run" "$SCENE/state"
    if [ "$(id -u)" = 0 ]; then
        MAIL_USER=mail
        chown $MAIL_USER "$SCENE/home"
    else
        MAIL_USER=$(id -un)
    fi
    MAIL_UID=$(id -u $MAIL_USER) MAIL_GID=$(id -g $MAIL_USER)
}

# as_user COMMAND ...: as the user whom mail belongs to.
as_user()
{
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$MAIL_UID" --regid="$MAIL_GID" --clear-groups "$@"
    else
        "$@"
    fi
}

# scene_doveadm real|ours COMMAND ...: a doveadm without a server, for alice with the home $store, as $SCENE/c.conf and $options say.
scene_doveadm()
{
    case $1 in real) program=doveadm ;; *) program=$OURS/doveadm ;; esac
    shift
    as_user env USER=alice HOME="$store" TZ=UTC ASAN_OPTIONS=detect_leaks=0${PRELOAD:+:verify_asan_link_order=0} \
        ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "$program" -c "$SCENE/c.conf" $options "$@"
}

# scene_each_format FUNCTION: the cases of a program, one for each format of mail: FUNCTION with its name.
scene_each_format()
{
    for format in maildir sdbox mdbox; do
        atf_test_case $format cleanup # defines empty parts, which the next lines replace
        eval "${format}_head() { atf_set require.progs python3; atf_set timeout 600; }
              ${format}_body() { $1 $format; }
              ${format}_cleanup() { scene_end; }"
    done
    atf_init_test_cases()
    {
        for format in maildir sdbox mdbox; do
            atf_add_test_case $format
        done
    }
}

# A certificate: $SCENE/cert.pem, $SCENE/key.pem.
scene_certificate()
{
    scene_make
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -keyout "$SCENE/key.pem" -out "$SCENE/cert.pem" 2>/dev/null
    TLS="ssl = yes
ssl_cert = <$SCENE/cert.pem
ssl_key = <$SCENE/key.pem"
}

# $SCENE/dovecot.conf: what a scene needs, then the lines given. Any user name may log in with the password "pass".
scene_configure()
{
    scene_make
    cat >"$SCENE/dovecot.conf" <<EOT
base_dir = $SCENE/run
state_dir = $SCENE/state
log_path = $SCENE/log
protocols = imap lmtp
listen = $IP
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
auth_verbose = yes
namespace inbox {
  inbox = yes
}
passdb {
  driver = static
  args = password=pass
}
userdb {
  driver = static
  args = uid=$MAIL_UID gid=$MAIL_GID home=$SCENE/home/%n
}
service imap-login {
  inet_listener imap {
    port = $IMAP_PORT
  }
  inet_listener imaps {
    port = $IMAPS_PORT
    ssl = yes
  }
}
service lmtp {
  inet_listener lmtp {
    port = $LMTP_PORT
  }
}
EOT
    if [ "$(id -u)" != 0 ]; then
        cat >>"$SCENE/dovecot.conf" <<EOT
default_internal_user = $(id -un)
default_internal_group = $(id -gn)
default_login_user = $(id -un)
EOT
    fi
    printf '%s\n' "$@" >>"$SCENE/dovecot.conf"
}

# scene_start ours|dovecot [configuration line ...]: configures, starts, waits for the greeting.
scene_start()
{
    program=dovecot
    [ "$1" != ours ] || program=$OURS/dovecot
    shift
    scene_configure "$@"
    scene_run "$program"
}

# Starts a program with the configuration that is there.
scene_run()
{
    "$1" -F -c "$SCENE/dovecot.conf" >>"$SCENE/out" 2>&1 &
    SERVER=$!
    echo "SERVER=$SERVER" >>scene.vars
    if ! python3 -B "$TOP_SRC/tests/lib/talk.py" --wait 30 --while-runs $SERVER "$IP" $IMAP_PORT </dev/null >greeting; then
        cat "$SCENE/out" "$SCENE/log" 2>/dev/null
        atf_fail "the server does not answer"
    fi
}

# scene_second PROGRAM: another server on the same mail, at $IP2, with the configuration of the first; $SECOND is its pid.
scene_second()
{
    mkdir "$SCENE/run2" "$SCENE/state2"
    sed "s|^listen = .*|listen = $IP2|; s|$SCENE/run$|&2|; s|$SCENE/state$|&2|; s|$SCENE/log$|&2|" \
        "$SCENE/dovecot.conf" >"$SCENE/second.conf"
    program=dovecot
    [ "$1" != ours ] || program=$OURS/dovecot
    "$program" -F -c "$SCENE/second.conf" >>"$SCENE/out2" 2>&1 &
    SECOND=$!
    echo "SERVER=$SECOND" >>scene.vars
    if ! python3 -B "$TOP_SRC/tests/lib/talk.py" --wait 30 --while-runs $SECOND "$IP2" $IMAP_PORT </dev/null >greeting2; then
        cat "$SCENE/out2" "$SCENE/log2" 2>/dev/null
        atf_fail "the second server does not answer"
    fi
}

# scene_stop: asks the server to end and waits until it has, and until all that its processes said stands in the log.
scene_stop()
{
    end_server "$SERVER"
    [ -z "$SECOND" ] || end_server "$SECOND"
}

end_server()
{
    writer=$(pgrep -P "$1" -x log)
    kill "$1" && wait "$1"
    [ -z "$writer" ] || timeout 20 tail -s 0.02 --pid="$writer" -f /dev/null
}

# scene_talk imap|imaps|lmtp|PORT: a conversation from standard input (see talk.py); what was said is printed.
scene_talk()
{
    tls=
    case $1 in
    imap) port=$IMAP_PORT ;;
    imaps) port=$IMAPS_PORT tls=--tls ;;
    lmtp) port=$LMTP_PORT ;;
    *) port=$1 ;;
    esac
    python3 -B "$TOP_SRC/tests/lib/talk.py" $tls "$IP" "$port" || { cat "$SCENE/log"; atf_fail "the conversation failed"; }
}

# The log must hold nothing of these levels, but for scene_stop's signal and what the patterns given allow.
scene_log_is_clean()
{
    if grep -hE '(Warning|Error|Fatal|Panic): ' "$SCENE"/log* >unclean; then
        for pattern in 'master: Warning: Killed with signal 15 ' "$@"; do
            grep -vE "$pattern" unclean >rest
            mv rest unclean
        done
        [ ! -s unclean ] || { cat unclean; atf_fail "the log is not clean"; }
    fi
}

# For the cleanup part: nothing stays, whatever happened.
scene_end()
{
    [ -f scene.vars ] || return 0
    SERVER=
    while read -r line; do
        eval "$line"
        if [ -n "$SERVER" ] && grep -qs "$SCENE" "/proc/$SERVER/cmdline"; then
            kill "$SERVER"
            timeout 20 tail --pid="$SERVER" -f /dev/null || kill -9 "$SERVER"
        fi
    done <scene.vars
    rm -rf "$SCENE"
}

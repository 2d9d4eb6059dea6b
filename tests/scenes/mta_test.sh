# Mail servers of other houses beside ours, as they come: Postfix or Exim asks our auth socket who may send, and delivers into our
# LMTP service. Their packages would take the place of the mail server that a machine has, and of each other, so ./check does not
# install them (tools/install mta does for Postfix, tools/install exim for Exim), and without them their cases are skipped. They run with
# folders and a configuration of their own on a loopback address, next to the installed one.

mta_auth='auth_mechanisms = plain login
service auth {
  unix_listener auth-client {
    mode = 0666
  }
}
service lmtp {
  unix_listener lmtp {
    mode = 0666
  }
}'

# A client that logs in and sends; then the mail is in the mailbox.
mta_talk()
{
    cat >mta.py <<'END'
import base64, re, smtplib, socket, sys
host, smtp_port, imap_port, mailer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

class Imap:
    def __init__(self, user):
        self.file = socket.create_connection((host, imap_port), timeout=60).makefile("rwb")
        self.until(rb"\* OK")
        self.ask("a login %s pass" % user)
        self.ask("b select INBOX")
    def send(self, line):
        self.file.write(line.encode() + b"\r\n")
        self.file.flush()
    def until(self, pattern):
        got = b""
        while True:
            line = self.file.readline()
            assert line, "the connection ended: %r" % got
            got += line
            if re.match(pattern, line):
                return got
    def ask(self, line):
        self.send(line)
        got = self.until(line.split()[0].encode() + b" ")
        assert b" OK " in got.split(b"\r\n")[-2] + b" ", got
        return got

def connect():
    s = smtplib.SMTP(host, smtp_port, timeout=60)
    s.ehlo("client.example")
    return s

s = connect()
assert re.search(r"\bPLAIN\b", s.esmtp_features["auth"]) and re.search(r"\bLOGIN\b", s.esmtp_features["auth"]), s.esmtp_features
plain = lambda password: base64.b64encode(b"\0ann\0" + password).decode()
code, text = s.docmd("AUTH PLAIN " + plain(b"wrong"))
assert code == 535, (code, text)
code, text = s.docmd("MAIL FROM:<ann@example.org>")
code, text = s.docmd("RCPT TO:<bob@example.org>")
assert code >= 500, ("somebody unknown may send", code, text)
s.quit()
s = connect()
assert s.docmd("AUTH PLAIN " + plain(b"pass"))[0] == 235
s.quit()
s = connect()
assert s.docmd("AUTH LOGIN")[0] == 334
assert s.docmd(base64.b64encode(b"ann").decode())[0] == 334
assert s.docmd(base64.b64encode(b"wrong").decode())[0] == 535
s.quit()
s = connect()
assert s.docmd("AUTH LOGIN")[0] == 334
assert s.docmd(base64.b64encode(b"ann").decode())[0] == 334
assert s.docmd(base64.b64encode(b"pass").decode())[0] == 235
watchers = []
for user in ("bob", "cat"):
    box = Imap(user)
    box.send("c idle")
    box.until(rb"\+")
    watchers.append(box)
s.sendmail("ann@example.org", ["bob@example.org", "cat@example.org"],
           "Subject: through %s\r\n\r\nfirst\r\n.dot\r\nlast\r\n" % mailer)
s.quit()
for box in watchers:
    box.until(rb"\* 1 EXISTS")
    box.send("done")
    box.until(rb"c OK")
    got = box.ask("d fetch 1 (body.peek[header.fields (subject)] body.peek[text])")
    assert b"Subject: through " + mailer.encode() in got and b"first\r\n.dot\r\nlast\r\n" in got, got
END
    python3 -B mta.py "$@"
}

# ---- as they do it ----------------------------------------------------------------------------------------------------------

# Exim closes its side once everything is said, and waits for the answers; whoever takes that for the end makes it send again.
atf_test_case half_closed cleanup
half_closed_head() { atf_set descr 'LMTP: all commands at once, then the client closes its side'; }
half_closed_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_start ours
    scene_second dovecot
    for ip in "$IP" "$IP2"; do
        for data in DATA BDAT; do
            python3 -B - "$ip" "$LMTP_PORT" $data <<'END' >codes || atf_fail "no conversation"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
message = b"Subject: x\r\n\r\nbody\r\n"
data = b"BDAT %d LAST\r\n" % len(message) + message if sys.argv[3] == "BDAT" else b"DATA\r\n" + message + b".\r\n"
s.sendall(b"LHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<one>\r\nRCPT TO:<two>\r\n" + data + b"QUIT\r\n")
s.shutdown(socket.SHUT_WR)
print(*[line[:3].decode() for line in s.makefile("rb") if line[3:4] != b"-"])
END
            case $data in
            DATA) echo '220 250 250 250 250 354 250 250 221' ;;
            BDAT) echo '220 250 250 250 250 250 250 221' ;;
            esac >wanted
            cmp -s codes wanted || { cat codes; atf_fail "$data at $ip"; }
        done
    done
    scene_stop
    scene_log_is_clean
}
half_closed_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# ---- Postfix --------------------------------------------------------------------------------------------------------------

# postfix_start TRANSPORT: $SCENE/postfix, SMTP at port 10025.
postfix_start()
{
    etc=$SCENE/postfix/etc
    mkdir -p "$etc" "$SCENE/postfix/queue" "$SCENE/postfix/data"
    chown postfix "$SCENE/postfix/data"
    cat >"$etc/main.cf" <<END
compatibility_level = 3.6
config_directory = $etc
queue_directory = $SCENE/postfix/queue
data_directory = $SCENE/postfix/data
maillog_file = $SCENE/postfix/log
maillog_file_prefixes = $SCENE
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
myhostname = mx.example.org
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 192.0.2.1/32
biff = no
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = $SCENE/run/auth-client
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:yes
virtual_transport = $1
lmtp_destination_recipient_limit = 10
END
    cat >"$etc/master.cf" <<END
$IP:10025 inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
END
    postfix -c "$etc" start >postfix.out 2>&1 || { cat postfix.out "$SCENE/postfix/log"; atf_fail "Postfix does not start"; }
    python3 -B "$TOP_SRC/tests/lib/talk.py" --wait 30 "$IP" 10025 </dev/null >/dev/null || atf_fail "Postfix does not answer"
}

# By the pid that it wrote itself, in a folder of ours.
postfix_stop()
{
    pid=$(tr -d ' ' <"$1/postfix/queue/pid/master.pid" 2>/dev/null) || return 0
    [ -n "$pid" ] && kill "$pid" && timeout 20 tail --pid="$pid" -f /dev/null
    return 0
}

postfix_here()
{
    [ -x /usr/lib/postfix/sbin/master ] || atf_skip "machine: Postfix is not installed"
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_start ours "$mta_auth"
    postfix_start "$(eval echo "$1")"
    mta_talk "$IP" 10025 "$IMAP_PORT" postfix || { cat "$SCENE/postfix/log" "$SCENE/log"; atf_fail "the conversation failed"; }
    postfix_stop "$SCENE"
    scene_stop
    scene_log_is_clean
}

postfix_end()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    [ ! -f scene.vars ] || { eval "$(head -n 1 scene.vars)"; postfix_stop "$SCENE"; }
    scene_end
}

atf_test_case postfix_unix cleanup
postfix_unix_head()
{
    atf_set descr 'Postfix: SASL over our auth socket, delivery over the LMTP socket'
    atf_set require.user root
}
postfix_unix_body() { postfix_here 'lmtp:unix:$SCENE/run/lmtp'; }
postfix_unix_cleanup() { postfix_end; }

atf_test_case postfix_inet cleanup
postfix_inet_head()
{
    atf_set descr 'Postfix: the same, delivery over TCP'
    atf_set require.user root
}
postfix_inet_body() { postfix_here 'lmtp:inet:$IP:$LMTP_PORT'; }
postfix_inet_cleanup() { postfix_end; }

# ---- Exim -----------------------------------------------------------------------------------------------------------------

# exim_start TRANSPORT_LINES: $SCENE/exim, SMTP at port 10025.
exim_start()
{
    mkdir -p "$SCENE/exim/spool"
    chown -R Debian-exim:Debian-exim "$SCENE/exim"
    cat >exim.conf <<END
primary_hostname = mx.example.org
spool_directory = $SCENE/exim/spool
log_file_path = $SCENE/exim/%slog
pid_file_path = $SCENE/exim/pid
local_interfaces = $IP.10025
daemon_smtp_ports = 10025
domainlist local_domains = example.org
acl_smtp_rcpt = check_recipient
queue_run_max = 5
keep_environment =
tls_advertise_hosts =
begin acl
check_recipient:
  accept authenticated = *
  deny message = relay not permitted
begin routers
store:
  driver = accept
  domains = +local_domains
  transport = store
begin transports
store:
$1
begin retry
* * F,1h,1m
begin authenticators
plain:
  driver = dovecot
  public_name = PLAIN
  server_socket = $SCENE/run/auth-client
  server_set_id = \$auth1
login:
  driver = dovecot
  public_name = LOGIN
  server_socket = $SCENE/run/auth-client
  server_set_id = \$auth1
END
    chmod 644 exim.conf
    "$exim" -C "$PWD/exim.conf" -bd >exim.out 2>&1 || { cat exim.out "$SCENE"/exim/*log; atf_fail "Exim does not start"; }
    python3 -B "$TOP_SRC/tests/lib/talk.py" --wait 30 "$IP" 10025 </dev/null >/dev/null || atf_fail "Exim does not answer"
}

exim_stop()
{
    pid=$(cat "$1/exim/pid" 2>/dev/null) || return 0
    [ -n "$pid" ] && kill "$pid" && timeout 20 tail --pid="$pid" -f /dev/null
    return 0
}

exim_here()
{
    exim=$(command -v exim4) || atf_skip "machine: Exim is not installed"
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_start ours "$mta_auth"
    exim_start "$(eval echo "\"$1\"")"
    mta_talk "$IP" 10025 "$IMAP_PORT" exim || { cat "$SCENE"/exim/*log "$SCENE/log"; atf_fail "the conversation failed"; }
    exim_stop "$SCENE"
    scene_stop
    scene_log_is_clean
}

exim_end()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    [ ! -f scene.vars ] || { eval "$(head -n 1 scene.vars)"; exim_stop "$SCENE"; }
    scene_end
}

atf_test_case exim_unix cleanup
exim_unix_head()
{
    atf_set descr 'Exim: its dovecot authenticator at our auth socket, delivery over the LMTP socket'
    atf_set require.user root
}
exim_unix_body()
{
    exim_here '  driver = lmtp
  socket = $SCENE/run/lmtp
  batch_max = 10'
}
exim_unix_cleanup() { exim_end; }

atf_test_case exim_inet cleanup
exim_inet_head()
{
    atf_set descr 'Exim: the same, delivery over TCP'
    atf_set require.user root
}
exim_inet_body()
{
    exim_here '  driver = smtp
  protocol = lmtp
  hosts = $IP
  port = $LMTP_PORT
  hosts_override
  allow_localhost
  max_rcpt = 10'
}
exim_inet_cleanup() { exim_end; }

atf_init_test_cases()
{
    atf_add_test_case half_closed
    atf_add_test_case postfix_unix
    atf_add_test_case postfix_inet
    atf_add_test_case exim_unix
    atf_add_test_case exim_inet
}

# Before login: TLS, budgets, limits, the PROXY protocol, the sandbox.

. "$TOP_SRC/tests/lib/scene.sh"

with_tls()
{
    scene_certificate
    echo "$TLS"
}

atf_test_case starttls cleanup
starttls_body()
{
    scene_make
    scene_start ours "$(with_tls)"
    # What is sent together with STARTTLS is not executed behind it (CVE-2021-33515).
    scene_talk imap <<END >session
-a STARTTLS\\r\\nb LOGIN u pass\\r\\n
/^a OK Begin TLS negotiation now
tls
c CAPABILITY
!^b 
?^\* CAPABILITY IMAP4rev1 .* AUTH=PLAIN$
d STARTTLS
?^d BAD TLS is already active
e LOGIN u pass
?^e OK
f LOGOUT
END
    # All commands on TLS from the first byte; two clients of one process at a time.
    scene_talk imaps <<END >session
a LOGIN u pass
?^a OK \[CAPABILITY
b SELECT INBOX
c LOGOUT
END
    scene_stop
    atf_check -o match:'Login: user=<u>, method=PLAIN, rip=.*, lip=.*, mpid=[0-9]+, TLS, session=<' cat "$SCENE/log"
    scene_log_is_clean
}
starttls_cleanup()
{
    scene_end
}

# All commands in one write, then the client closes its side (nc -N): everything that was sent is answered. The real server does so as well,
# unless the end of the client reaches it in the same moment as the commands.
atf_test_case half_closed cleanup
half_closed_body()
{
    scene_start ours 'auth_failure_delay = 1 secs'
    python3 -B - "$IP" $IMAP_PORT <<'END' >codes || atf_fail "no conversation"
import socket, sys

def talk(*lines):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
    s.sendall(b"".join(line + b"\r\n" for line in lines))
    s.shutdown(socket.SHUT_WR)
    got = [line.decode().split(" ", 2) for line in s.makefile("rb")]
    print(*[" ".join(words[:2]) for words in got if words[0] not in ("*", "+")], sep=", ")

talk(b"a LOGIN u pass", b"b SELECT INBOX", b"c NOOP", b"d LOGOUT")
talk(b"a LOGIN u pass", b"b SELECT INBOX", b"c NOOP")
talk(b"a AUTHENTICATE PLAIN AHUAcGFzcw==", b"b LOGOUT")
talk(b"a AUTHENTICATE PLAIN", b"AHUAcGFzcw==", b"b LOGOUT")
talk(b"a LOGIN u {4+}", b"pass", b"b LOGOUT")
talk(b"a LOGIN u wrong")
END
    atf_check -o inline:'a OK, b OK, c OK, d OK\na OK, b OK, c OK\na OK, b OK\na OK, b OK\na OK, b OK\na NO\n' cat codes
    scene_stop
    atf_check -o match:'login: Info: Disconnected: Connection closed \(auth failed, 1 attempts in [0-9]+ secs\)' cat "$SCENE/log"
    scene_log_is_clean
}
half_closed_cleanup()
{
    scene_end
}

# A login is not lost with the auth process or the dispatcher that it has reached: it is put to the next one, once. Both are stopped first,
# so that the request lies unread in their socket when they are killed.
atf_test_case killed_behind cleanup
killed_behind_head()
{
    atf_set require.progs pgrep
}
killed_behind_body()
{
    scene_start ours
    for name in "^dovecot/auth$" "^dovecot/imap( |$)"; do
        python3 -B "$TOP_SRC/tests/lib/behind.py" killed "$IP" $IMAP_PORT "$SERVER" "$name" || atf_fail "$name was killed, and the login fails"
    done
    scene_stop
    scene_log_is_clean '(auth|imap): Fatal: master: service\((auth|imap)\): child [0-9]+ killed with signal 9' \
        'imap-login: Warning: Auth connection lost'
}
killed_behind_cleanup()
{
    scene_end
}

# A login process that is told to end has not read yet that the mail process has its client: the login counts.
atf_test_case ended_behind cleanup
ended_behind_head()
{
    atf_set require.progs pgrep
}
ended_behind_body()
{
    scene_start ours
    python3 -B "$TOP_SRC/tests/lib/behind.py" ended "$IP" $IMAP_PORT "$SERVER" || atf_fail "see above"
    scene_stop
    grep -q 'imap-login: Info: Login: user=<u>' "$SCENE/log" || atf_fail "$(cat "$SCENE/log")"
    scene_log_is_clean
}
ended_behind_cleanup()
{
    scene_end
}

# One that ends when the mail process has not taken the client yet says nothing into what may be another's conversation by then.
atf_test_case given_behind cleanup
given_behind_head()
{
    atf_set require.progs pgrep
}
given_behind_body()
{
    scene_start ours
    python3 -B "$TOP_SRC/tests/lib/behind.py" given "$IP" $IMAP_PORT "$SERVER" || atf_fail "see above"
    scene_stop
}
given_behind_cleanup()
{
    scene_end
}

# That an address had no penalty is remembered for a second, but not beyond its first failure.
atf_test_case penalty cleanup
penalty_body()
{
    scene_start ours 'auth_failure_delay = 0'
    scene_talk imap <<'END' >session
a LOGIN u pass
?^a OK
b LOGOUT
END
    for word in wrong bad; do
        scene_talk imap <<END >session
a LOGIN u $word
?^a NO
b LOGOUT
END
    done
    "$TOP_BUILD/compat/bin/doveadm" -c "$SCENE/dovecot.conf" penalty >got || atf_fail "penalty"
    [ "$(awk 'NR == 2 { print $2 }' got)" = 2 ] || { cat got; atf_fail "the second failure is not counted as one"; }
    scene_stop
}
penalty_cleanup()
{
    scene_end
}

atf_test_case plaintext cleanup
plaintext_body()
{
    scene_make
    scene_start ours "$(with_tls)" 'disable_plaintext_auth = yes' 'ssl = required'
    # The address of the client equals the server's: counted as secured, unless it comes from another one.
    python3 -B - "$IP" $IMAP_PORT <<'END' >session
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30, ("127.9.9.9", 0))
f = s.makefile("rwb", 0)
print(f.readline().decode(), end="")
for line in (b"a LOGIN u pass\r\n", b"b AUTHENTICATE PLAIN AHUAcGFzcw==\r\n"):
    f.write(line)
    while True:
        got = f.readline().decode()
        print(got, end="")
        if got.startswith(line[:2].decode()):
            break
END
    atf_check -o match:'STARTTLS LOGINDISABLED\]' -o match:'^\* BAD \[ALERT\] Plaintext authentication not allowed without SSL/TLS' \
        -o match:'^a NO \[PRIVACYREQUIRED\] Plaintext authentication disallowed on non-secure' \
        -o match:'^b NO \[PRIVACYREQUIRED\] Plaintext authentication disabled' cat session
}
plaintext_cleanup()
{
    scene_end
}

# A certificate by the name that the client asks for.
atf_test_case sni cleanup
sni_head()
{
    atf_set require.progs openssl
}
sni_body()
{
    scene_make
    for name in one.example two.example; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=$name \
            -keyout "$SCENE/$name.key" -out "$SCENE/$name.crt" 2>/dev/null
    done
    scene_start ours "ssl = yes" "ssl_cert = <$SCENE/one.example.crt" "ssl_key = <$SCENE/one.example.key" \
        "local_name two.example {" "  ssl_cert = <$SCENE/two.example.crt" "  ssl_key = <$SCENE/two.example.key" "}"
    for name in one.example two.example; do
        openssl s_client -connect "$IP:$IMAPS_PORT" -servername $name -alpn imap </dev/null >hello 2>/dev/null
        atf_check -o match:"CN = $name" -o match:'ALPN protocol: imap' cat hello
    done
    openssl s_client -connect "$IP:$IMAPS_PORT" -servername nobody.example </dev/null >hello 2>/dev/null
    atf_check -o match:'CN = one.example' cat hello
    # Old versions are refused, TLS 1.2 is not.
    openssl s_client -connect "$IP:$IMAPS_PORT" -tls1_2 </dev/null >hello 2>/dev/null
    atf_check -o match:'Protocol *: TLSv1.2' cat hello
    ! openssl s_client -connect "$IP:$IMAPS_PORT" -tls1_1 -cipher 'ALL:@SECLEVEL=0' </dev/null >hello 2>&1 ||
        atf_fail "TLS 1.1 was accepted"
}
sni_cleanup()
{
    scene_end
}

# Every byte before login has a budget.
atf_test_case budgets cleanup
budgets_body()
{
    scene_make
    scene_start ours
    python3 -B - "$IP" $IMAP_PORT <<'END' || atf_fail "see above"
import socket, sys

def talk(*pieces):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
    s.recv(4096)
    try:
        for piece in pieces:
            s.sendall(piece)
    except OSError:
        pass
    got = b""
    while True:
        try:
            more = s.recv(65536)
        except OSError:
            more = b""
        if not more:
            return got
        got += more

cases = [
    ([b"a LOGIN " + b"x" * 100000], b"* BYE Input buffer full, aborting"),
    ([b"x" * 100000], b"* BYE Input buffer full, aborting"),
    ([b"a LOGIN {8193}\r\n"], b"* BYE Literal size too large"),
    ([b"a LOGIN {99999999999999999999}\r\n"], b"* BYE Literal size too large"),
    ([b"a AUTHENTICATE PLAIN\r\n" + b"A" * 100000], b"+ "),
    ([b"a ID (" + b'"k" "v" ' * 30000 + b")\r\n"], b"* BYE Input buffer full, aborting"),
    ([b"a FROB\r\nb FROB\r\nc FROB\r\nd NOOP\r\n"], b"* BYE Too many invalid IMAP commands."),
    ([b"a ID ((((((((\r\n", b"b LOGOUT\r\n"], b"a BAD Invalid ID parameters"),
]
bad = 0
for pieces, want in cases:
    got = talk(*pieces)
    if want not in got:
        print(pieces[0][:60], "->", got)
        bad = 1
    if b"d OK" in got:
        print("executed behind the end", pieces[0][:60])
        bad = 1
sys.exit(bad)
END
    # And the process is still the one that serves.
    scene_talk imap <<END >session
a LOGIN u pass
?^a OK
b LOGOUT
END
    scene_stop
    scene_log_is_clean
}
budgets_cleanup()
{
    scene_end
}

atf_test_case limit cleanup
limit_body()
{
    scene_make
    scene_start ours 'mail_max_userip_connections = 2'
    python3 -B - "$IP" $IMAP_PORT <<'END' || atf_fail "see above"
import socket, sys

def login(user):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
    f = s.makefile("rwb", 0)
    f.readline()
    f.write(b"a LOGIN %s pass\r\n" % user)
    line = f.readline()
    while line and not line.startswith(b"a "):
        line = f.readline()
    return s, f, line

first, second = login(b"u"), login(b"u")
assert first[2].startswith(b"a OK") and second[2].startswith(b"a OK"), (first[2], second[2])
third = login(b"u")
assert third[2] == (b"a NO [LIMIT] Maximum number of connections from user+IP exceeded "
                    b"(mail_max_userip_connections=2)\r\n"), third[2]
assert third[1].readline() == b"", "the connection stays open"
assert login(b"v")[2].startswith(b"a OK"), "another user is not touched"
# A place becomes free when a session has ended.
second[1].write(b"b LOGOUT\r\n")
while second[1].readline():
    pass
for attempt in range(100):
    again = login(b"u")
    if again[2].startswith(b"a OK"):
        break
else:
    sys.exit("no place became free: %r" % again[2])
END
}
limit_cleanup()
{
    scene_end
}

atf_test_case haproxy cleanup
haproxy_body()
{
    scene_make
    scene_start ours "haproxy_trusted_networks = $IP" 'service imap-login {' '  inet_listener proxied {' '    port = 10145' \
        '    haproxy = yes' '  }' '}'
    python3 -B - "$IP" 10145 <<'END' || atf_fail "see above"
import socket, sys

def talk(header, source):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30, (source, 0))
    f = s.makefile("rwb", 0)
    try:
        f.write(header + b"a LOGIN u pass\r\nb LOGOUT\r\n")
        return f.read()
    except OSError:
        return b""

v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\2\1\x11\x5c\x00\x8f"
for header in (b"PROXY TCP4 198.51.100.7 192.0.2.1 4444 143\r\n", v2):
    got = talk(header, sys.argv[1])
    assert b"b OK" in got, (header, got)
got = talk(b"GET / HTTP/1.0\r\n\r\n", sys.argv[1])
assert got == b"", got
got = talk(b"PROXY TCP4 198.51.100.7 192.0.2.1 4444 143\r\n", "127.9.9.9")
assert got == b"", got
END
    scene_stop
    atf_check -o match:'Login: user=<u>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, ' \
        -o match:'haproxy: Client disconnected: Failed to read valid HAproxy data \(rip=127' \
        -o match:'Warning: haproxy: Client not trusted \(rip=127.9.9.9\)' cat "$SCENE/log"
}
haproxy_cleanup()
{
    scene_end
}

# The process that strangers talk to: own user, chroot, no new privileges, a filter. Of the plain build.
atf_test_case sandbox cleanup
sandbox_head()
{
    atf_set require.user root
    atf_set require.progs pgrep
}
sandbox_body()
{
    scene_make
    scene_start ours "$(with_tls)"
    scene_talk imaps <<END >session
a LOGIN u pass
b LOGOUT
END
    found=
    for pid in $(pgrep -f '^dovecot/imap-login'); do
        [ "$(ps -o ppid= -p "$pid" | tr -d ' ')" = "$SERVER" ] || continue
        found=1
        atf_check -o match:'^NoNewPrivs:.*1$' -o match:'^Seccomp:.*2$' -o match:'^CapEff:.*0000000000000000$' \
            cat "/proc/$pid/status"
        atf_check -o inline:"$SCENE/run/login\n" readlink "/proc/$pid/root"
        [ "$(stat -c %U "/proc/$pid")" = dovenull ] || atf_fail "imap-login runs as $(stat -c %U "/proc/$pid")"
    done
    [ -n "$found" ] || atf_fail "no imap-login was found"
    # The half of LMTP that reads from strangers is no root process either.
    scene_talk lmtp <<END >session
LHLO x
/^250 
QUIT
END
    pid=$(pgrep -P "$SERVER" -f '^dovecot/lmtp$') || atf_fail "no lmtp was found"
    [ "$(stat -c %U "/proc/$pid")" = dovecot ] || atf_fail "lmtp runs as $(stat -c %U "/proc/$pid")"
}
sandbox_cleanup()
{
    scene_end
}

# titles PROGRAM: what ps shows with verbose_proctitle.
titles()
{
    scene_make
    scene_start "$1" "$(with_tls)" 'verbose_proctitle = yes' 'mail_max_userip_connections = 0' 'service imap-login {' '  service_count = 0' \
        '  process_limit = 1' '}' 'service imap {' '  service_count = 0' '  client_limit = 20' '}'
    python3 -B "$TOP_SRC/tests/lib/titles.py" $SERVER "$IP" $IMAP_PORT $IMAPS_PORT || { cat "$SCENE/log"; atf_fail "$1"; }
    scene_stop
}

atf_test_case titles cleanup
titles_body()
{
    titles ours
    scene_log_is_clean
}
titles_cleanup()
{
    scene_end
}

atf_test_case titles_dovecot cleanup
titles_dovecot_head()
{
    atf_set require.user root
    atf_set require.progs dovecot
}
titles_dovecot_body()
{
    titles dovecot
}
titles_dovecot_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case starttls
    atf_add_test_case half_closed
    atf_add_test_case killed_behind
    atf_add_test_case ended_behind
    atf_add_test_case given_behind
    atf_add_test_case penalty
    atf_add_test_case plaintext
    atf_add_test_case sni
    atf_add_test_case budgets
    atf_add_test_case limit
    atf_add_test_case haproxy
    atf_add_test_case sandbox
    atf_add_test_case titles
    atf_add_test_case titles_dovecot
}

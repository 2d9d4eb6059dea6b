# yarilo -config with nothing but `mode: single`: the embedded default makes what it needs and serves.

atf_test_case single cleanup
single_head()
{
    atf_set descr "mode: single alone: a certificate, a database of users, a delivery, a login over TLS"
    atf_set require.progs sqlite3 openssl
    atf_set timeout 120
}
single_body()
{
    folder=$(mktemp -d "${TMPDIR:-/tmp}/single.XXXXXX")
    chmod 755 "$folder"
    echo "$folder" >folder
    # Other ports than the embedded ones, so that two runs can stand side by side.
    ip=127.$((1 + ($$ >> 16) % 100)).$((($$ >> 8) & 255)).$(($$ & 255))
    printf 'mode: single\nsettings:\n  service:\n    imap-login: {inet_listener: {imap: {address: %s}, imaps: {address: %s}}}\n    lmtp: {inet_listener: {lmtp: {address: %s}}}\n' \
        $ip $ip $ip >"$folder/yarilo.yaml"
    cd "$folder"
    "$TOP_BUILD/compat/bin/yarilo" -config yarilo.yaml >log 2>&1 &
    echo $! >pid
    python3 -B "$TOP_SRC/tests/lib/talk.py" --wait 60 --while-runs "$(cat pid)" $ip 10143 </dev/null >greeting ||
        { cat log; atf_fail "the server does not answer"; }
    python3 - $ip <<'END' || { cat log; atf_fail "no delivery or login"; }
import socket, sqlite3, ssl, sys
address = sys.argv[1]

def connect(port):
    return socket.create_connection((address, port), 30)

def talk(stream, text, until):
    if text:
        stream.write(text.encode() + b"\r\n")
        stream.flush()
    got = ""
    for line in iter(stream.readline, b""):
        got += line.decode()
        if line.decode().startswith(until):
            return got
    sys.exit("waited for %s, got %s" % (until, got))

context = ssl._create_unverified_context()
imap = context.wrap_socket(connect(10993)).makefile("rwb")
talk(imap, None, "* OK")
assert "AUTHENTICATIONFAILED" in talk(imap, "a LOGIN me@example.org pass", "a NO")
users = sqlite3.connect("yarilo-data/users.db")     # auth made it at that login
users.execute("INSERT INTO yarilo_users (username, password) VALUES ('me@example.org', '{PLAIN}pass')")
users.commit()
lmtp = connect(10024).makefile("rwb")
talk(lmtp, None, "220")
talk(lmtp, "LHLO here", "250 ")
talk(lmtp, "MAIL FROM:<a@example.org>", "250")
talk(lmtp, "RCPT TO:<me@example.org>", "250")
talk(lmtp, "DATA", "354")
talk(lmtp, "Subject: hello\r\n\r\ntext\r\n.", "250")
talk(imap, "b LOGIN me@example.org pass", "b OK")
assert "* 1 EXISTS" in talk(imap, "c SELECT INBOX", "c OK")
talk(imap, "d LOGOUT", "d OK")
END
    [ -f yarilo-data/cert.pem ] || atf_fail "no certificate"
    kill "$(cat pid)"
    wait
}
single_cleanup()
{
    folder=$(cat folder 2>/dev/null) || return 0
    [ ! -f "$folder/pid" ] || kill "$(cat "$folder/pid")" 2>/dev/null
    rm -rf "$folder"
}

atf_init_test_cases()
{
    atf_add_test_case single
}

# doveadm-server and its clients: ours and the real ones, in every pairing, on the same mail.

DOVEADM_PORT=10245 HTTP_PORT=10246

# start: our server at $IP, the real one at $IP2, users one and two, both with the service doveadm.
start()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_configure 'doveadm_password = secret' "service doveadm {" "  inet_listener {" "    port = $DOVEADM_PORT" "  }" \
        "  inet_listener http {" "    port = $HTTP_PORT" "  }" "}" 'doveadm_api_key = key'
    for user in one two; do
        echo "$user:{PLAIN}pass:$MAIL_UID:$MAIL_GID::$SCENE/home/$user::"
    done >"$SCENE/users"
    sed -i "s|driver = static|driver = passwd-file|; s|args = password=pass|args = $SCENE/users|; s|args = uid=.*|args = $SCENE/users|" \
        "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    scene_second dovecot
}

# What both clients say of both servers: client PROGRAM CONFIGURATION RUN ADDRESS. Of two workers at once the quicker one is first.
client()
{
    d="$1 -c $2" run=$3 s="-S $4:$DOVEADM_PORT"
    printf 'Subject: hi\n\nbody\n.dot\n' >"$SCENE/mail"
    while read -r words; do
        echo "--- $words"
        eval "$d $words" </dev/null 2>&1 || echo "status $?"
    done <<END
save $s -u one "$SCENE/mail"
fetch $s -u one 'uid text' all
search $s -A all
batch $s -u one : search all : mailbox status messages INBOX
-f json batch $s -u one : search all : fetch uid all
batch $s -u one : nosuch
-f json mailbox status $s -u '*' messages INBOX
search $s -u nobody all
search $s -u one nosuch
mailbox list -S $run/doveadm-server -u one
mailbox list -S $run/nosuch -u one
-o doveadm_worker_count=2 mailbox list -A </dev/null | sort
-o doveadm_password=x mailbox list $s -u one
-o doveadm_password= mailbox list $s -u one
END
}

atf_test_case pairs cleanup
pairs_head() { atf_set descr 'Both clients with both servers: the same rows, texts and statuses'; }
pairs_body()
{
    start
    for program in doveadm "$OURS/doveadm"; do
        for at in "dovecot.conf run $IP" "second.conf run2 $IP2"; do
            set -- $at
            rm -rf "$SCENE/home/one" "$SCENE/home/two"
            client "$program" "$SCENE/$1" "$SCENE/$2" "$3" |
                sed -E "s/[0-9a-f]{32}/GUID/g; s/<[0-9]+><[^>]*>/<P>/g; s|$SCENE/$2/|RUN/|g; s/$3/IP/g" >"got.$(basename "$(dirname "$program")").$1"
        done
    done
    set -- got.*
    [ $# = 4 ] || atf_fail "not four runs: $*"
    grep -q 'text: Subject: hi' "$1" || { cat "$1"; atf_fail "no message was read"; }
    for got in "$@"; do
        cmp -s "$1" "$got" || { diff "$1" "$got"; atf_fail "$1 and $got differ"; }
    done
    scene_stop
}
pairs_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# answers_alike SCRIPT PORT: what the script says of both servers, each of which finds no mail.
answers_alike()
{
    python3 -B "$TOP_SRC/tests/doveadm/$1" "$IP" $2 >ours || atf_fail "our server"
    as_user rm -rf "$SCENE/home/one" "$SCENE/home/two"
    python3 -B "$TOP_SRC/tests/doveadm/$1" "$IP2" $2 >real || atf_fail "the real server"
    cmp -s ours real || { diff real ours; atf_fail "our server answers otherwise"; }
}

atf_test_case protocol cleanup
protocol_head() { atf_set descr 'The line protocol: versions, login, commands, what ends the connection'; }
protocol_body()
{
    start
    answers_alike remote.py $DOVEADM_PORT
    scene_stop
}
protocol_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case http cleanup
http_head() { atf_set descr 'The HTTP API: the same answers as the real one, but where it dies or forgets a comma'; }
http_body()
{
    start
    answers_alike api.py $HTTP_PORT
    python3 -B "$TOP_SRC/tests/doveadm/api.py" "$IP" $HTTP_PORT better >better || atf_fail "where the real one fails"
    cat >wanted <<'END'
200 [["error",{"type":"exitCode", "exitCode":75},"a"],["error",{"type":"exitCode", "exitCode":64},"b"],["error",{"type":"exitCode", "exitCode":64},"c"]]
200 [["doveadmResponse",[],"a"],["error",{"type":"unknownMethod", "exitCode":0},"b"],["error",{"type":"invalidRequest", "exitCode":0},"c"],["doveadmResponse",[],"d"]]
413 Payload Too Large
END
    cmp -s better wanted || { cat better; atf_fail "where the real one fails"; }
    scene_stop
}
http_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# What reads the client's bytes has no rights, whoever is root; TLS from the first byte; commands may be few.
atf_test_case front cleanup
front_head() { atf_set descr 'The front is confined; TLS; doveadm_allowed_commands'; }
front_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_certificate
    scene_start ours "$TLS" 'doveadm_password = secret' \
        'doveadm_allowed_commands = search,mailbox list' \
        "service doveadm {" "  inet_listener {" "    port = $DOVEADM_PORT" "    ssl = yes" "  }" "}"
    python3 -B - "$IP" $DOVEADM_PORT "$SCENE" >got <<'END' || { cat got "$SCENE/log"; atf_fail "TLS client"; }
import os, socket, ssl, subprocess, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def login():
    s = context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30))
    f = s.makefile("rwb")
    f.write(b"VERSION\tdoveadm-server\t1\t0\n"); f.flush()
    assert f.readline() == b"-\n"
    f.write(b"PLAIN\tAGRvdmVhZG0Ac2VjcmV0\n"); f.flush()
    assert f.readline() == b"+\n"
    return s, f
s, f = login()
fronts = subprocess.check_output(["pgrep", "-f", "doveadm-front.*" + sys.argv[3]]).split()
assert len(fronts) == 1, fronts
status = dict(l.split(":\t", 1) for l in open("/proc/%d/status" % int(fronts[0])) if ":\t" in l)
assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"].strip() == "1", status
assert os.getuid() != 0 or status["Uid"].split()[0] != "0", status
f.write(b"\tone\tmailbox list\n"); f.flush()
print(f.readline(), f.readline())
f.write(b"\tone\tpurge\n"); f.flush()
print(f.readline())
END
    cat >wanted <<'END'
b'INBOX\t\n' b'+\n'
b''
END
    cmp got wanted || { cat got "$SCENE/log"; atf_fail "commands"; }
    grep -q "doveadm client ran command that wasn't allowed: purge" "$SCENE/log" || { cat "$SCENE/log"; atf_fail "nothing was logged"; }
    scene_stop
}
front_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_init_test_cases()
{
    atf_add_test_case pairs
    atf_add_test_case protocol
    atf_add_test_case http
    atf_add_test_case front
}

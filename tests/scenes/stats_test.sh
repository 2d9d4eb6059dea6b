# The stats service: what metrics count, who may add some, and their text for Prometheus.

. "$TOP_SRC/tests/lib/scene.sh"

PAGE='import sys, urllib.request
print(urllib.request.urlopen("http://%s:%s/metrics" % (sys.argv[1], sys.argv[2]), timeout=30).read().decode())'

# The same events, sent by hand to both.
atf_test_case same cleanup
same_head()
{
    atf_set descr 'metrics count, are shown and change as those of the real server'
    atf_set require.user root
    atf_set require.progs 'dovecot doveadm'
}
same_body()
{
    scene_make
    scene_start ours "service stats {
  inet_listener http {
    port = $STATS_PORT
  }
}
$(cat "$TOP_SRC/tests/scenes/stats_metrics.conf")"
    scene_second dovecot
    for run in run run2; do
        python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/$run" || atf_fail "no stats service in $run"
        {
            doveadm stats dump -s "$SCENE/$run/stats-reader" -f 'count sum min max avg median stddev %95 %10 %50'
            python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/$run" 'DUMP' 'DUMP-RESET\tcount' 'DUMP\tcount\tsum\tavg\t%x\tnosuch' \
                'METRICS-ADD\tx\td\tf\tg:linear:5:1:1\tevent=q\t\t' 'METRICS-ADD\tx\td\tf\t\tevent=\t\t' 'METRICS-ADD\tx\td\tf\t\t\t\t' \
                'METRICS-ADD\tm_cmd\td\tf\t\tevent=q\t\t' 'METRICS-ADD\tnew one\td\tbytes\tbytes:linear:0:25:10\tevent=cmd\t\t' \
                'METRICS-ADD\t\td\tf\t\tevent=q\t\t' 'METRICS-REMOVE\tm_cat' 'METRICS-REMOVE\tm_cat'
            python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/$run" 'METRICS-ADD\tx'
            python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/$run" 'NOSUCH'
            python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/$run"
            doveadm stats dump -s "$SCENE/$run/stats-reader"
        } >$run.out 2>&1
    done
    diff run2.out run.out || atf_fail "the dumps differ"
    grep -q 'new_one_bytes_26_inf' run.out || atf_fail "$(cat run.out)"
    # The real server repeats a histogram's lines in front of the next one's.
    python3 -c "$PAGE" "$IP2" $STATS_PORT | awk '!/^dovecot_m_lin_|^dovecot_m_exp_/ || !seen[$0]++' | grep -v '^process_start' >theirs
    python3 -c "$PAGE" "$IP" $STATS_PORT | grep -v '^process_start' >ours
    diff theirs ours || atf_fail "the pages differ"
    scene_stop
}
same_cleanup() { scene_end; }

# Events as texts in the log. Their end is when they were heard of. Unrelated categories of one event have no order there.
atf_test_case export cleanup
export_head()
{
    atf_set descr 'events are exported to the log as the real server does it'
    atf_set require.user root
    atf_set require.progs 'dovecot'
}
export_body()
{
    scene_make
    scene_start ours "$(cat "$TOP_SRC/tests/scenes/stats_exporters.conf")"
    scene_second dovecot
    cat >check.py <<'END'
import socket, sys
lines = [b"CATEGORY\tsvc", b"CATEGORY\tkid\tsvc", b"CATEGORY\tother",
         b"BEGIN\t7\t0\t1\t1795480000\t5\tsmain.c\t1\tcsvc\tSuser\tali\"ce\tSp\tpar",
         b"BEGIN\t8\t7\t1\t1795480000\t5\tsmain.c\t1\tcsvc\tSq\tkid\tSp\tnew",
         b"BEGIN\t9\t0\t1\t1795480000\t5\tsmain.c\t1\tcsvc\tSg\tglob\tSreply\tglob",
         b"UPDATE\t7\t0\t1795480000\t5\tSz\tupd",
         b"EVENT\t0\t8\t1\t1795480000\t100\tstest.c\t10\tl1795480001\t200\tncmd\tckid\tSreply\tO\001tK\xc3\xa9\001n\x7f\xff\xe2\x80\xa8\x01\x02/\\"
         b"\tIbytes\t-55\tTwhen\t1795480000\t7\tLreasons\t2\tx:1\ty\001t:2\tLempty\t0\tSnone\t\tSa\001tb\tc",
         b"EVENT\t9\t8\t1\t1795480000\t100\tstest.c\t10\tl1795480001\t200\tncmd\tckid",
         b"EVENT\t0\t0\t1\t1795480000\t100\tstest.c\t10\tl1795480001\t200\tncmd\tSduration\tx",
         b"EVENT\t0\t0\t1\t1795480001\t100\tstest.c\t10\tl1795480001\t200\tnother\tckid\tcsvc",
         b"EVENT\t0\t0\t1\t1795480001\t100\tstest.c\t10\tl1795480001\t200\tnother\tcother\tIbytes\t1"]
sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
END
    for run in run run2; do
        python3 -B check.py | python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/$run" - || atf_fail "no stats service in $run"
    done
    atf_check -o match:"Exporter 'nosuch' does not exist" python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/run" 'METRICS-ADD\tx\t\t\t\tevent=x\tnosuch\t'
    scene_stop
    for log in log log2; do
        # Our log has no control bytes in it. The real service gives categories in the order of a hash, another one in each run.
        grep -a 'stats: ' "$SCENE/$log" | tr '\001\002\177' '???' | sed -E 's/^.*stats: //; s/(end_time"?:"?)[0-9T:.Z-]*/\1END/' |
            sed 's/"svc","kid"/"kid","svc"/; s/category:svc\tcategory:kid/category:kid\tcategory:svc/' >$log
    done
    [ "$(grep -ac 'O.*K' log2)" -ge 4 ] || atf_fail "too little was exported: $(head -3 log2)"
    grep -q '"kid","svc"' log || atf_fail "a category above another one is not exported"
    cmp log2 log || { diff -a log2 log; atf_fail "the lines differ"; }
}
export_cleanup() { scene_end; }

# What is no event ends the connection of its writer alone; the filter is told again when metrics change.
atf_test_case writer cleanup
writer_body()
{
    scene_make
    scene_start ours 'metric a {
  filter = event=x
}'
    cat >check.py <<'END'
import socket, subprocess, sys
run, tool = sys.argv[1:3]

def writer(*lines):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(run + "/stats-writer")
    f = s.makefile("rb")
    s.sendall(b"VERSION\tstats-client\t4\t0\n")
    assert f.readline() == b"VERSION\tstats-server\t4\t0\n"
    assert f.readline() == b"FILTER\t(event=x)\n"
    for line in lines:
        s.sendall(line.encode() + b"\n")
    return s, f

stays, told = writer("EVENT\t0\t0\t1\t5\t6\tnx")
for bad in ["NOSUCH", "END\t9", "EVENT\t0\t7\t1\t5\t6", "EVENT\t8\t0\t1\t5\t6", "EVENT\t0", "BEGIN\t0\t0\t1\t5\t6", "UPDATE\t3\t0\t5\t6",
            "EVENT\t0\t0\t1\tx\t6", "EVENT\t0\t0\t1\t5\t6\tq", "EVENT\t0\t0\t1\t5\t6\tIa\tb", "EVENT\t0\t0\t1\t5\t6\tLa\t9\tb",
            "EVENT\t0\t0\t1\t5\t6\tcnosuch", "CATEGORY", "CATEGORY\ta\tnosuch", "EVENT\t0\t0\t1\t5\t1000000"]:
    s, f = writer("BEGIN\t1\t0\t1\t5\t6", bad)
    assert f.read() == b"", bad
stays.sendall(b"EVENT\t0\t0\t1\t5\t6\tnx\nEVENT\t0\t0\t1\t5\t6\tny\n")
subprocess.run([sys.executable, "-B", tool, run, "METRICS-ADD\\tb\\t\\t\\t\\tevent=y\\t\\t"], check=True)
assert told.readline() == b"FILTER\t(event=x) OR (event=y)\n"
stays.sendall(b"EVENT\t0\t0\t1\t5\t6\tny\n")
stays.shutdown(socket.SHUT_WR)
assert told.read() == b""
out = subprocess.run([sys.executable, "-B", tool, run, "DUMP\\tcount"], check=True, capture_output=True, text=True).stdout
assert "\na\t2\nb\t1\n" in out, out
END
    python3 -B check.py "$SCENE/run" "$TOP_SRC/tests/tools/stats_events.py" || { cat "$SCENE/log"; atf_fail "writers"; }
    scene_stop
    grep -q 'stats: Error: Client sent invalid input for END: Unknown event ID (input: END.*9)' "$SCENE/log" || { cat "$SCENE/log"; atf_fail "the log"; }
}
writer_cleanup() { scene_end; }

# Commands of IMAP sessions, of our server and the real one.
atf_test_case imap cleanup
imap_head()
{
    atf_set descr 'commands of IMAP sessions are counted as those of the real server'
    atf_set require.user root
    atf_set require.progs 'dovecot doveadm'
}
imap_body()
{
    scene_make
    mkfifo "$SCENE/fifo"
    scene_start ours 'metric all {
  filter = event=imap_command_finished
  fields = bytes_in nosuch
  group_by = user cmd_name tagged_reply_state
}
metric inbox {
  filter = event=imap_command_finished AND mailbox=INBOX AND category=imap AND remote_ip=127.*
  group_by = cmd_name
}
metric select {
  filter = event=imap_command_finished AND category=service:imap AND cmd_input_name=select AND NOT tagged_reply_state=BAD
  fields = bytes_in running_usecs
}
metric auth {
  filter = event=auth_request_finished AND category=auth
  group_by = service mechanism user success
}
metric failed {
  filter = event=auth_request_finished AND NOT success=yes AND category=service:auth AND remote_ip=127.*
  group_by = original_user transport
}'
    scene_second dovecot
    for at in "$IP run" "$IP2 run2"; do
        set -- $at
        python3 - "$1" $IMAP_PORT <<'END' || atf_fail "no session at $1"
import socket, sys
for user in (b"one", b"two"):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    f = s.makefile("rb")
    f.readline()
    for line in (b"LOGIN " + user + b" wrong", b"LOGIN " + user + b" pass", b"SELECT INBOX", b"uid search all", b"select \"nosuch\"", b"nosuch x", b"SELECT (a)",
                 b"EXAMINE INBOX", b"NOOP", b"LOGOUT"):
        s.sendall(b"x " + line + b"\r\n")
        while not (reply := f.readline()).startswith(b"x "):
            assert reply, line
    f.read()
END
        # The last events are on their way when the client hears of the end.
        for try in $(seq 100); do
            doveadm -f tab stats dump -s "$SCENE/$2/stats-reader" -f 'count' >$2.out
            grep -q '^all_two_LOGOUT_OK.duration.1' $2.out && break
            read -t 0.2 -r line <>"$SCENE/fifo" || true
        done
        doveadm -f tab stats dump -s "$SCENE/$2/stats-reader" -f 'sum' | grep '^select.bytes_in' >>$2.out
    done
    diff run2.out run.out || atf_fail "the counts differ"
    grep -q '^select.duration.4' run.out && grep -q '^auth_imap_PLAIN_one_yes.duration.1' run.out && grep -q '^failed_one.duration.1' run.out || atf_fail "$(cat run.out)"
    scene_stop
}
imap_cleanup() { scene_end; }

# Where nobody counts workers have no connection to the service; those that are there get one when a metric is added, and a new one
# when the service was started anew.
atf_test_case asked cleanup
asked_head() { atf_set descr 'workers are connected to the stats service while it asks for events'; }
asked_body()
{
    scene_make
    scene_start ours 'service imap {
  client_limit = 1
}'
    python3 -B "$TOP_SRC/tests/lib/stats_asked.py" "$IP" $IMAP_PORT "$SCENE/run" "$TOP_SRC/tests/tools/stats_events.py" || { cat "$SCENE/log"; atf_fail "see above"; }
    scene_stop
}
asked_cleanup() { scene_end; }

# Requests by HTTP, bad ones too.
atf_test_case http cleanup
http_body()
{
    scene_make
    scene_start ours "service stats {
  inet_listener http {
    port = $STATS_PORT
  }
}"
    cat >check.py <<'END'
import http.client, socket, sys
ip, port = sys.argv[1], int(sys.argv[2])
c = http.client.HTTPConnection(ip, port, timeout=30)
for method, path, status in [("GET", "/metrics", 200), ("GET", "/", 200), ("HEAD", "/metrics", 200), ("OPTIONS", "/metrics", 200),
                             ("GET", "/metrics?x", 200), ("POST", "/metrics", 405), ("GET", "/x", 404), ("PUT", "/x", 404)]:
    c.request(method, path)
    r = c.getresponse()
    body = r.read()
    assert r.status == status, (method, path, r.status)
    assert (b"# EOF" in body) == (method == "GET" and path.startswith("/metrics")), body
    assert r.getheader("Allow") == ("GET" if method == "OPTIONS" or status == 405 else None)
for raw in [b"GET /metrics\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x" * 9000, b"\x16\x03\x01" + b"\0" * 9000]:
    s = socket.create_connection((ip, port), timeout=30)
    s.sendall(raw)
    assert s.makefile("rb").read().startswith(b"HTTP/1.1 400 "), raw[:20]
END
    python3 -B check.py "$IP" $STATS_PORT || { cat "$SCENE/log"; atf_fail "http"; }
    scene_stop
    scene_log_is_clean
}
http_cleanup() { scene_end; }

atf_init_test_cases()
{
    atf_add_test_case same
    atf_add_test_case writer
    atf_add_test_case export
    atf_add_test_case asked
    atf_add_test_case http
    atf_add_test_case imap
}

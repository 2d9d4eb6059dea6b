# Requests by HTTP out of the services: events that are exported, notifications of the driver ox. A server of the scene's own hears them; those
# of the real server and of ours are the same.

. "$TOP_SRC/tests/lib/scene.sh"
. "$TOP_SRC/tests/lib/told.sh"

HTTP_PORT=10980 HTTPS_PORT=10981 DEAD_PORT=10982
HEARS=$TOP_SRC/tests/lib/http_hears.py

# hear NAME PORT [CERT KEY]: a server that notes requests in $SCENE/NAME; $HEARING is its pid.
hear()
{
    hear_name=$1 hear_port=$2
    shift 2
    rm -f "$SCENE/$hear_name" "$SCENE/$hear_name.ready"
    python3 -B "$HEARS" "$IP" "$hear_port" "$SCENE/$hear_name" "$@" &
    HEARING=$!
    echo "SERVER=$HEARING" >>scene.vars
    while [ ! -e "$SCENE/$hear_name.ready" ]; do
        kill -0 $HEARING || atf_fail "the HTTP server has ended"
    done
}

# heard NAME COUNT: waits until as many requests were heard.
heard()
{
    python3 -B "$HEARS" --wait "$SCENE/$1" "$2" || { cat "$SCENE/$1" "$SCENE/log"; atf_fail "fewer than $2 requests"; }
}

# said TEXT COUNT: waits until the log has it as often.
said()
{
    python3 -B "$HEARS" --wait "$SCENE/log" "$2" "$1" || { cat "$SCENE/log"; atf_fail "the log does not have $2 times: $1"; }
}

# ---- event_exporter, http-post ----

# exporter NAME URL [LINE ...]: an exporter, and a metric of events of that name.
exporter()
{
    name=$1 url=$2
    shift 2
    echo "event_exporter x_$name {"
    printf '  %s\n' 'transport = http-post' "transport_args = $url" "$@"
    printf '}\nmetric m_%s {\n  filter = event=%s\n  exporter = x_%s\n}\n' "$name" "$name" "$name"
}

# events NAME ...: told to the stats service, by one connection.
events()
{
    printf 'EVENT\t0\t0\t1\t1795480000\t100\tstest.c\t10\tl1795480001\t200\tn%s\tSuser\ta "b" \303\244\377\n' "$@" |
        python3 -B "$TOP_SRC/tests/tools/stats_events.py" "$SCENE/run" - || atf_fail "no stats service"
}

# Which complaint of the stats service comes next: waited for, so that each has a second of its own.
complaint()
{
    python3 -B - "$SCENE/log" "$1" <<'END' || { cat "$SCENE/log"; atf_fail "no complaint of $1"; }
import select, sys, time
end = time.monotonic() + 60
while time.monotonic() < end:
    with open(sys.argv[1], errors="replace") as log:
        if sum("Failed to export" in line for line in log) >= int(sys.argv[2]):
            then = int(time.time())
            while int(time.time()) == then:  # one line a second is logged
                select.select([], [], [], 0.02)
            sys.exit(0)
    select.select([], [], [], 0.02)
sys.exit(1)
END
}

JSON='format = json
  format_args = time-rfc3339
  transport_timeout = 10 secs'

atf_test_case export cleanup
export_head()
{
    atf_set descr 'events are posted as by the real server, and what goes wrong is logged as there'
    atf_set require.user root
}
export_body()
{
    scene_make
    for who in dovecot ours; do
        told_clear
        hear $who $HTTP_PORT
        scene_start $who "$(exporter json "http://$IP:$HTTP_PORT/json?a=b" "$JSON")" \
            "$(exporter tab "http://us%40er:pa%3Ass@$IP:$HTTP_PORT/tab" 'format = tab-text' 'format_args = time-unix' 'transport_timeout = 10 secs')" \
            "$(exporter none "http://$IP:$HTTP_PORT" 'format = none' 'transport_timeout = 10 secs')" \
            "$(exporter missing "http://$IP:$HTTP_PORT/status/404" "$JSON")" "$(exporter empty "http://$IP:$HTTP_PORT/status/503" "$JSON")" \
            "$(exporter bad "http://$IP:$HTTP_PORT/bad" "$JSON")" "$(exporter dead "http://$IP:$DEAD_PORT/" "$JSON")" \
            "$(exporter nohost "http://no.such.host.invalid/x" "$JSON")" "$(exporter lost "http://$IP:$HTTP_PORT/close" "$JSON")" \
            "$(exporter slow "http://$IP:$HTTP_PORT/hang" "format = json
  format_args = time-unix
  transport_timeout = 100 ms")"
        n=0
        for event in json json tab none; do     # the real server keeps no order among URLs
            events $event
            heard $who $((n += 1))
        done
        n=0
        for event in missing empty bad dead nohost lost slow; do
            events $event
            complaint $((n += 1))
        done
        scene_stop
        kill $HEARING
        # Details are not compared: the real one tells more of its connections. So is not how often a lost one is made again.
        sed 's/"end_time":"[^"]*"/"end_time":""/; s/end_time:[0-9.]*/end_time:/; s/hostname":"[^"]*"/hostname":""/' "$SCENE/$who" | awk '/^--- POST .close/ {exit} {print}' >heard.$who
        sed -n 's/.*stats: \(Error: .*\)/\1/p' "$SCENE/log" | sed 's/ (Request queued.*//; s/: read(.*//; s/\(9007\) .*/\1/; s/\(9005 Connection lost\).*/\1/' >log.$who
    done
    atf_check diff -u heard.dovecot heard.ours
    atf_check diff -u log.dovecot log.ours
    [ "$(grep -ac '^--- POST' heard.ours)" = 7 ] || atf_fail "$(grep -ac '^--- POST' heard.ours) requests"
    [ "$(wc -l <log.ours)" = 7 ] || atf_fail "$(wc -l <log.ours) complaints"
}
export_cleanup() { scene_end; }

# One line a second is logged; a server that hangs does not hold up another one; what is on its way is waited for at the end.
atf_test_case export_end cleanup
export_end_body()
{
    scene_make
    hear out $HTTP_PORT
    scene_start ours "$(exporter missing "http://$IP:$HTTP_PORT/status/404" "$JSON")" "$(exporter last "http://$IP:$HTTP_PORT/wait/300" "$JSON")" \
        "$(exporter url "nonsense" "$JSON")"
    events url
    complaint 1
    events $(for i in $(seq 60); do echo missing; done)
    heard out 60
    events last last last
    heard out 61
    scene_stop
    kill $HEARING
    [ "$(grep -ac '/wait/' "$SCENE/out")" = 3 ] || atf_fail "what was on its way is lost"
    [ "$(grep -c 'stats: Error: Failed to export event via HTTP POST: 404 Some Reason' "$SCENE/log")" -lt 40 ] || atf_fail "the log is flooded"
    atf_check -o match:'stats: Error: Failed to export event via HTTP POST: Relative HTTP URL not allowed' cat "$SCENE/log"
}
export_end_cleanup() { scene_end; }

# Certificates are verified as ssl_client_* say.
atf_test_case export_tls cleanup
export_tls_head() { atf_set require.user root; }
export_tls_body()
{
    scene_make
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$IP" -addext "subjectAltName=IP:$IP" \
        -keyout "$SCENE/key.pem" -out "$SCENE/cert.pem" 2>/dev/null
    for who in dovecot ours; do
        for line in '' "ssl_client_ca_file = $SCENE/cert.pem" 'ssl_client_require_valid_cert = no'; do
            told_clear
            hear $who $HTTPS_PORT "$SCENE/cert.pem" "$SCENE/key.pem"
            scene_start $who "$(exporter tls "https://$IP:$HTTPS_PORT/tls" "$JSON")" "$line"
            events tls
            if [ -z "$line" ]; then complaint 1; else heard $who 1; fi
            scene_stop
            kill $HEARING
            { echo "$line: "; grep -c '/tls' "$SCENE/$who"; grep -o 'Failed to export event via HTTP POST: 9003 SSL handshaking with [0-9.:]* failed' "$SCENE/log"; } >>tls.$who
        done
    done
    atf_check diff -u tls.dovecot tls.ours
    atf_check -o match:'9003 SSL' cat tls.ours
}
export_tls_cleanup() { scene_end; }

# ---- push_notification, ox ----

# register USER [VALUE]: through the server's METADATA.
register()
{
    printf 'a LOGIN %s pass\nb SETMETADATA "" (/private/vendor/vendor.dovecot/http-notify "%s")\nc LOGOUT\n' "$1" "$2" | scene_talk imap >/dev/null
}

# deliver USER: the messages, one after the other.
deliver()
{
    python3 -B - "$IP" $LMTP_PORT "$1" <<'END' || atf_fail "no delivery"
import smtplib, sys
MESSAGES = [
    b"From: =?utf-8?q?J=C3=B6rg?= \"Q\" <j@x>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= \\ /tab\tend\r\nMessage-ID: <1@x>\r\n\r\n"
    b"Hello  world\r\n\"quoted\" \\ text\r\n> not this\r\nrest\r\n",
    b"From: a\r\n b <c@d>\r\nSubject: two\r\n\tlines  here \r\n\r\n\xe9\xff body\r\n", b"Subject:\r\n\r\n", b"X: y\r\n\r\nno names\r\n",
    b"From: \xc3\xbc\xff\x7f\x01 raw\r\nSubject: \xe2\x80\xa8x\r\nContent-Type: text/html\r\n\r\n<p>Hi &amp; there</p>\x01\x7f\xe2\x80\xa8\r\n",
    b"From: long\r\nSubject: " + b"x" * 500 + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "wört ".encode() * 100 + b"\r\n"]
lmtp = smtplib.LMTP(sys.argv[1], int(sys.argv[2]))
for message in MESSAGES:
    lmtp.sendmail("s@x", sys.argv[3], message)
lmtp.quit()
END
}

OX='mail_plugins = $mail_plugins notify push_notification
mail_attribute_dict = file:%h/attributes
mail_debug = yes
recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
lda_mailbox_autocreate = yes
protocol imap {
  imap_metadata = yes
}'

# What the driver says in the log of lmtp. Of a mailbox that is skipped the real server tells once more when it is made; our log has no DEL.
ox_lines()
{
    sed -n 's/.*lmtp(.*: \([A-Z][a-z]*: \).*\(push-notification-ox: .*\)/\1\2/p; s/.*lmtp(.*: \(Error: ox: .*\)/\1/p' "$SCENE/log" |
        sed 's/uidvalidity":[0-9]*/uidvalidity":0/; s/ (Request queued.*//; s/: read(.*//; s/\(Connection lost\).*/\1/' | tr '\177' '?' | uniq
}

# Requests, byte for byte; who is registered; which mailboxes. When an answer comes is not compared with what else is said.
atf_test_case ox cleanup
ox_body()
{
    scene_make
    for who in dovecot ours; do
        told_clear
        hear $who $HTTP_PORT
        scene_start $who "$OX" 'plugin {' "  push_notification_driver = ox:url=http://a:b@$IP:$HTTP_PORT/one?x user_from_metadata cache_lifetime=2m" \
            "  push_notification_driver2 = ox:url=http://$IP:$HTTP_PORT/two other=x" \
            "  push_notification_driver3 = ox:url=http://$IP:$HTTP_PORT/status/500" '}'
        deliver u                                       # not registered
        register u 'user=id\"ent'
        deliver u
        heard $who 18                                   # three drivers, six messages; ours has them on their way when it answers
        deliver u+other
        register v 'nobody'
        deliver v
        register v 'x=y	user=first	user=last one	z'
        deliver v
        heard $who 36
        printf 'a LOGIN v pass\nb APPEND INBOX {3+}\nabc\n/^b OK\nc SELECT INBOX\nd COPY 1 INBOX\ne LOGOUT\n' | scene_talk imap >/dev/null
        scene_stop
        kill $HEARING
        sed 's/uidvalidity":[0-9]*/uidvalidity":0/; /^Content-Length/d' "$SCENE/$who" >heard.$who
        ox_lines | grep -av 'Notification sent\|Error when' >log.$who
        ox_lines | grep -a 'Notification sent\|Error when' | sort -u >answers.$who # when they come, and so what uniq leaves, is a matter of luck
    done
    atf_check diff -u heard.dovecot heard.ours
    atf_check diff -u log.dovecot log.ours
    atf_check diff -u answers.dovecot answers.ours
    [ "$(grep -ac '^--- PUT' heard.ours)" = 36 ] || atf_fail "$(grep -ac '^--- PUT' heard.ours) requests"
}
ox_cleanup() { scene_end; }

# What is wrong with the parameters, and with the server. Each driver of the real server obeys the numbers of the first one.
atf_test_case ox_errors cleanup
ox_errors_head() { atf_set timeout 900; }
ox_errors_body()
{
    scene_make
    for who in dovecot ours; do
        for driver in 'ox' 'ox:' 'ox:url=' 'ox:url=nonsense' 'ox:url=ftp://x/' "ox:url=http://$IP:99999/" "ox:url=http://$IP/#x" \
            "ox:url=http://$IP:$HTTP_PORT/x cache_lifetime=bogus" "ox:url=http://$IP:$DEAD_PORT/ max_retries=2" "ox:url=http://no.such.host.invalid/" \
            "ox:url=http://$IP:$HTTP_PORT/close max_retries=2" "ox:url=http://$IP:$HTTP_PORT/close max_retries=0" \
            "ox:url=http://$IP:$HTTP_PORT/hang max_retries=0 timeout_msecs=1500" "ox:url=http://$IP:$HTTP_PORT/status/503 max_retries=3"; do
            told_clear
            hear $who $HTTP_PORT
            # The second one is not looked at when the first one is no good.
            scene_start $who "$OX" 'plugin {' "  push_notification_driver = $driver" '  push_notification_driver2 = nosuch' '}'
            register u user=u
            printf 'LHLO x\nMAIL FROM:<>\nRCPT TO:<u>\nDATA\nFrom: x\n\nx\n.\n/^250 .*Saved\nQUIT\n' | scene_talk lmtp >/dev/null
            case $driver in
            *"$IP:$DEAD_PORT"* | *invalid* | */close* | */hang* | */status*) said 'Error when sending notification' 1 ;;
            esac
            scene_stop
            kill $HEARING
            { echo "$driver"; ox_lines; grep '^---' "$SCENE/$who"; grep -o 'Unknown push notification driver: nosuch' "$SCENE/log" | sort -u; } >>errors.$who
        done
    done
    atf_check diff -u errors.dovecot errors.ours
}
ox_errors_cleanup() { scene_end; }

# The library is heavy: no program is linked with it.
atf_test_case linked
linked_body()
{
    for program in "$TOP_BUILD"/libexec/* "$OURS"/*; do
        ! ldd "$program" 2>/dev/null | grep -q libcurl || atf_fail "$program is linked with libcurl"
    done
}

# ---- raw logs of HTTP servers ----

RAW='doveadm_api_key = key
service stats {
  inet_listener http {
    port = 10990
  }
}
service doveadm {
  inet_listener http {
    port = 10991
  }
}
stats_http_rawlog_dir = '

atf_test_case rawlogs cleanup
rawlogs_head() { atf_set require.user root; }
rawlogs_body()
{
    scene_make
    key=$(printf key | base64)
    for who in dovecot ours; do
        told_clear
        rm -rf "$SCENE/raw"
        mkdir -m 777 "$SCENE/raw" "$SCENE/raw/stats" "$SCENE/raw/doveadm"
        chmod 777 "$SCENE/raw/stats" "$SCENE/raw/doveadm"
        scene_start $who "${RAW}$SCENE/raw/stats" "doveadm_http_rawlog_dir = $SCENE/raw/doveadm"
        curl -s -A x "http://$IP:10990/" "http://$IP:10990/nowhere" >/dev/null
        curl -s -A x -H "Authorization: X-Dovecot-API $key" -H 'Content-Type: application/json' \
            -d '[["mailboxStatus",{"user":"u","field":["messages"],"mailboxMask":["INBOX"]},"t"]]' "http://$IP:10991/doveadm/v1" >answer.$who
        curl -s -A x "http://$IP:10991/doveadm/v1" >/dev/null
        curl -s -A x "http://$IP:10991/x" >/dev/null
        scene_stop
        for folder in stats doveadm; do
            (cd "$SCENE/raw/$folder" && for file in $(ls | sort -t. -k2n -k3n); do
                echo "$file" | sed -E 's/^[0-9]{8}-[0-9]{6}\.[0-9]+\./TIME.PID./'
                sed -E 's/^[0-9]{10}\.[0-9]{6} /AT /; s/Date: .*/Date:\r/' "$file"
                echo
            done) >>raw.$who
        done
    done
    atf_check diff -u answer.dovecot answer.ours
    # The order of the headers is not the same; nor are pages; our stats service ends a connection on which it was asked for what is not there.
    for who in dovecot ours; do
        grep -av '^$\|href\|Content-Length\|Connection: close' raw.$who | sort >sorted.$who
    done
    atf_check diff -u sorted.dovecot sorted.ours
    atf_check -o match:'^TIME.PID.1.in' -o match:'AT POST /doveadm/v1 HTTP/1.1' -o match:'AT .."doveadmResponse"' cat raw.ours
}
rawlogs_cleanup() { scene_end; }

atf_init_test_cases()
{
    for name in export export_end export_tls ox ox_errors linked rawlogs; do
        atf_add_test_case $name
    done
}

# YAML: every named key sets what it should, a misspelt one is found and the right one named; the corpus goes to YAML and back.
DOVECONF="$TOP_BUILD/compat/bin/doveconf"
YARILO="$TOP_BUILD/compat/bin/yarilo"

atf_test_case keys
keys_head() {
    atf_set descr "All named keys give the settings that tests/conf/keys.expected lists"
}
keys_body() {
    cp "$TOP_SRC/tests/conf/keys.yaml" .
    DUMP_CAPABILITY=1 "$DOVECONF" -n -P -c keys.yaml >out 2>err || true
    grep -v '^# \([0-9]\|Pigeon\|OS\|Host\)' out >settings
    diff -u "$TOP_SRC/tests/conf/keys.expected" settings || atf_fail "other settings"
}

atf_test_case misspelt
misspelt_head() {
    atf_set descr "Each key misspelt by one letter is refused at its line, and the right one is named"
    atf_set timeout 600
}
misspelt_body() {
    cat >misspell.py <<'END'
import re, subprocess, sys
text = open(sys.argv[1]).read().split("\n")
free = 0   # indentation of a map with free keys: its direct children are names
seen = wrong = 0
names = {"domains", "namespaces", "dicts", "plugin", "mailbox:", "service", "protocol", "local_name", "mailbox"}
stack = []
for number, line in enumerate(text):
    match = re.match(r"( *)(- )?(\w+):", line)
    if not match:
        continue
    depth = len(match[1]) + len(match[2] or "")
    stack = [s for s in stack if s[0] < depth]
    parent = stack[-1][1] if stack else ""
    above = [s[1] for s in stack]
    stack.append((depth, match[3]))
    settings = bool(above) and above[0] == "settings"
    if parent in ("domains", "namespaces", "dicts", "plugin", "mailbox", "local_name"):
        continue
    if settings and parent in ("service", "protocol"):
        continue
    if len(above) >= 2 and above[0] == "dicts":
        continue
    key = match[3]
    if len(key) < 3:
        continue
    bad = key[:-2] + key[-1]
    lines = list(text)
    lines[number] = line.replace(key + ":", bad + ":", 1)
    open("bad.yaml", "w").write("\n".join(lines))
    run = subprocess.run([sys.argv[2], "-config", "bad.yaml", "-print", "yaml"], capture_output=True, text=True)
    seen += 1
    told = [l for l in run.stderr.split("\n") if l.startswith("bad.yaml:%d:%d: " % (number + 1, depth + 1))]
    # "imas" may be imap or imaps: a name that is as near will do.
    meant = [key] + [k for k in ("imap", "pop3", "submission") if key.startswith(k)]
    if run.returncode != 1 or not any("did you mean " + k + "?" in l for l in told for k in meant):
        wrong += 1
        print("line %d: %s for %s: exit %d: %s" % (number + 1, bad, key, run.returncode, run.stderr.strip()))
print(seen, "keys,", wrong, "wrong")
sys.exit(1 if wrong or seen < 100 else 0)
END
    atf_check -o match:' 0 wrong' python3 misspell.py "$TOP_SRC/tests/conf/keys.yaml" "$YARILO"
}

atf_test_case refused
refused_head() {
    atf_set descr "What is not YAML, or not a configuration, is refused with file, line and column"
}
try() { # text, expected beginning of the message
    printf "$1" >bad.yaml
    atf_check -s exit:89 -o ignore -e match:"doveconf: Fatal: bad.yaml:$2" "$DOVECONF" -n -c bad.yaml
}
refused_body() {
    try 'mode: single\nmode: proxy\n' '2:1: duplicate key mode'
    try 'a: 1\n---\nb: 2\n' '[12]:'
    try 'mode: !x single\n' '1:7: tags are not supported'
    try 'general: &a [*a]\n' '1:14: an anchor refers to itself'
    try '[1]: 2\n' '1:1: a key must be a string'
    try 'mode: cluster\n' '1:7: mode: Invalid value: cluster .known: single.proxy.director.backend.'
    try 'settings:\n  base_dir: ${NO_SUCH_VARIABLE}\n' '2:13: environment variable NO_SUCH_VARIABLE is not set'
    try 'services:\n  imap: {port: 99999}\n' '2:16: port: Invalid port number 99999'
    try 'services:\n  imap: {ssl: yes, ssl_mode: ssl}\n' '2:10: ssl and ssl_mode are the same key'
    try 'general:\n  ssl: 3\n' '2:8: ssl: a map of keys was expected'
    try 'settings:\n  mail_debug: maybe\n' '2:15: mail_debug: Invalid boolean value: maybe'
    try 'monitor: {}\n' '1:1: monitor is not available in this version'
    try '\tx\n' '1:'
}

atf_test_case environment
environment_head() {
    atf_set descr "\${NAME}, its default and its escape; includes; lenient reading"
}
environment_body() {
    mkdir more
    printf 'settings:\n  hostname: b\n  plugin: {x: "1"}\n  passdb: [{driver: pam}]\n' >more/a.yaml
    printf 'include: ["more/*.yaml"]\nsettings:\n  hostname: a\n  login_greeting: "${GREETING:-hi} $${x}"\n  plugin: {y: "2"}\n  passdb: [{driver: static}]\n' >x.yaml
    atf_check -o inline:'hostname = b\nlogin_greeting = hi ${x}\n' "$DOVECONF" -c x.yaml hostname login_greeting
    atf_check -o inline:'login_greeting = good day ${x}\n' env GREETING='good day' "$DOVECONF" -c x.yaml login_greeting
    atf_check -o inline:'passdb=0 1\npassdb/0/name=\npassdb/0/driver=static\npassdb/1/name=\npassdb/1/driver=pam\nplugin=\nplugin/y=2\nplugin/x=1\n' \
        "$DOVECONF" -S -N -c x.yaml passdb plugin
    printf 'nosuch: 1\nsettings: {hostname: a}\n' >l.yaml
    atf_check -s exit:1 -e match:'l.yaml:1:1: unknown key nosuch' "$YARILO" -config l.yaml -check
    atf_check -e match:'l.yaml:1:1: unknown key nosuch' "$YARILO" -config l.yaml -check -lenient
}

atf_test_case round_trip
round_trip_head() {
    atf_set descr "Each valid configuration of the corpus is the same after Dovecot -> YAML -> settings"
    atf_set timeout 600
}
round_trip_body() {
    getent passwd dovecot >/dev/null || atf_skip "Dovecot's users are not there"
    export DUMP_CAPABILITY=1
    work=$PWD
    cases=0
    for folder in "$TOP_SRC"/tests/conf/corpus/*/; do
        [ "$(cat "$folder/expected-exit")" = 0 ] || continue
        cases=$((cases + 1))
        cd "$folder"
        "$YARILO" -config dovecot.conf -format dovecot -print yaml -P >"$work/x.yaml" 2>"$work/err" || atf_fail "$folder: $(cat "$work/err")"
        for options in -nP -NP '-S -n'; do
            "$DOVECONF" $options -c dovecot.conf 2>/dev/null | grep -v '^# [0-9O]' >"$work/before"
            ( cd "$work" && "$DOVECONF" $options -c x.yaml 2>/dev/null ) | grep -v '^# [0-9O]' >"$work/after"
            diff -u "$work/before" "$work/after" || atf_fail "$folder $options"
        done
    done
    [ $cases -gt 50 ] || atf_fail "only $cases cases"
}

atf_test_case single
single_head() {
    atf_set descr "mode: single alone is a whole configuration, and checks"
}
single_body() {
    echo 'mode: single' >y.yaml
    atf_check "$YARILO" -config y.yaml -check
    atf_check -o match:"^mail_home = $PWD/yarilo-data/mail/%d/%n$" -o match:'^protocols = imap lmtp$' \
        -o match:'    port = 10143' -o match:'  driver = sqlite' "$YARILO" -config y.yaml -print dovecot
}

atf_init_test_cases() {
    atf_add_test_case keys
    atf_add_test_case misspelt
    atf_add_test_case refused
    atf_add_test_case environment
    atf_add_test_case round_trip
    atf_add_test_case single
}

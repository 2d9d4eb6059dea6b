# The dict service beside the real one: the same conversations, each one's clients at the other, and quota through it.

. "$TOP_SRC/tests/lib/scene.sh"

# Processes may have it open: it is emptied, not replaced.
clear_database()
{
    rm -f "$SCENE/filedict"
    sqlite3 "$SCENE/db" 'DELETE FROM quota; DELETE FROM shares; DELETE FROM two; DELETE FROM hexes'
}

make_database()
{
    sqlite3 "$SCENE/db" 'CREATE TABLE quota (username TEXT PRIMARY KEY, bytes INTEGER NOT NULL DEFAULT 0, messages INTEGER NOT NULL DEFAULT 0);
        CREATE TABLE shares (from_user TEXT, to_user TEXT, dummy TEXT, PRIMARY KEY (from_user, to_user));
        CREATE TABLE two (username TEXT, k TEXT, a TEXT, b TEXT, PRIMARY KEY (username, k));
        CREATE TABLE hexes (h BLOB, n INTEGER, v INTEGER, PRIMARY KEY (h, n));'
    chown $MAIL_USER "$SCENE/db"
}

# start FIRST SECOND [line ...]: both with the same dictionaries.
start()
{
    scene_make
    first=$1 second=$2
    shift 2
    make_database
    cat >"$SCENE/dict.conf" <<EOT
connect = $SCENE/db
map {
  pattern = priv/quota/storage
  table = quota
  username_field = username
  value_field = bytes
}
map {
  pattern = priv/quota/messages
  table = quota
  username_field = username
  value_field = messages
}
map {
  pattern = shared/shared-boxes/user/\$to/\$from   # who shares
  table = shares
  value_field = dummy
  fields {
    from_user = \$from
    to_user = \$to
  }
}
map {
  pattern = priv/two/\$k
  table = two
  username_field = username
  value_field = a, b
  fields {
    k = \$k
  }
}
map {
  pattern = shared/hex/\$h/\$n
  table = hexes
  value_field = v
  value_type = uint
  fields {
    h = \${hexblob:h}
    n = \${int:n}
  }
}
EOT
    scene_start "$first" "service dict {
  user = root
  unix_listener dict {
    mode = 0666
  }
}
dict {
  sq = sqlite:$SCENE/dict.conf
  fi = file:$SCENE/filedict
}" "$@"
    [ -z "$second" ] || scene_second "$second"
}

dump()
{
    for table in quota shares two hexes; do
        sqlite3 "$SCENE/db" "SELECT * FROM $table ORDER BY 1, 2"
    done
}

head_of()
{
    atf_set require.user root
    atf_set require.progs "dovecot doveadm python3 sqlite3"
    atf_set timeout 200
}

atf_test_case protocol cleanup
protocol_head() { head_of; }
protocol_body()
{
    start dovecot ours
    python3 -B "$TOP_SRC/tests/dict/talk.py" "$SCENE/run/dict" <"$TOP_SRC/tests/dict/talk.txt" >theirs || atf_fail "real: $(tail -3 theirs)"
    dump >theirs.db
    clear_database
    python3 -B "$TOP_SRC/tests/dict/talk.py" "$SCENE/run2/dict" <"$TOP_SRC/tests/dict/talk.txt" >ours || atf_fail "ours: $(tail -3 ours)"
    dump >ours.db
    atf_check diff -u theirs ours
    atf_check diff -u theirs.db ours.db
    [ "$(wc -l <theirs)" -gt 150 ] || atf_fail "there was nothing to compare"
    scene_stop
    for log in log log2; do
        sed -n 's/.*dict[^:]*: Error: //p' "$SCENE/$log" | sed 's/^conn [^:]*:[^:]*: //' >$log.errors
    done
    atf_check diff -u log.errors log2.errors
}
protocol_cleanup() { scene_end; }

# Each doveadm at both services: texts, status and tables.
atf_test_case clients cleanup
clients_head() { head_of; }
clients_body()
{
    start dovecot ours
    for run in run run2; do
        for doveadm in doveadm "$OURS/doveadm"; do
            clear_database
            : >says
            while read -r words; do
                echo "--- $words" >>says
                set -- $words
                "$doveadm" -c "$SCENE/dovecot.conf" dict $(echo "$words" | sed "s|@|proxy:$SCENE/$run/dict|; s|#|file:$SCENE/filedict|") \
                    >>says 2>&1
                echo "status $?" >>says
            done <<EOT
set -u alice @:sq priv/quota/storage 10
set -u alice #  priv/a 1
get -u alice #  priv/a
get #  priv/a
get -u a #  priv/none
get -u a #  bad
get -u a x:y priv/a
get -u alice @:sq priv/quota/storage
get -u bob @:sq priv/quota/storage
inc -u alice @:sq priv/quota/storage 5
inc -u bob @:sq priv/quota/storage 5
inc -u alice @:sq priv/quota/storage x
get -u alice @:sq priv/quota/storage
set @:sq shared/shared-boxes/user/bob/alice 1
set @:sq shared/nosuch 1
unset @:sq shared/nosuch
get @:sq shared/nosuch
iter @:sq shared/shared-boxes/user/bob/
iter -R @:sq shared/
iter -1 @:sq shared/shared-boxes/user/bob/alice
iter -V @:sq shared/shared-boxes/user/bob/
unset @:sq shared/shared-boxes/user/bob/alice
iter -R @:sq shared/
iter -u a # priv
get
get file:/x
iter file:/x
inc
unset
set
set -u a # priv/x
get proxy:x shared/a
EOT
            sed 's/ (reply took .*//' says >"says.$run.$(basename "$(dirname "$doveadm")")"
        done
    done
    atf_check diff -u says.run.. says.run.bin
    atf_check diff -u says.run.. says.run2..
    atf_check diff -u says.run.. says.run2.bin
    grep -q '^15' says.run.bin || atf_fail "nothing was said"
    scene_stop
}
clients_cleanup() { scene_end; }

# Quota counts in the service's table, whoever serves it.
atf_test_case quota cleanup
quota_head() { head_of; }
quota_body()
{
    start ours dovecot 'mail_plugins = quota' 'protocol imap {
  mail_plugins = quota imap_quota
}' 'plugin {
  quota = dict:User quota::proxy::sq
  quota_rule = *:storage=1M
}'
    scene_talk imap <<EOT
a LOGIN u1 pass
b APPEND INBOX {5+}
hello
/^b OK
c GETQUOTAROOT INBOX
d LOGOUT
EOT
    atf_check -o inline:'u1|5|1\n' sqlite3 "$SCENE/db" 'SELECT * FROM quota'
    atf_check -o match:'STORAGE +1 +1024' "$OURS/doveadm" -c "$SCENE/dovecot.conf" quota get -u u1
    atf_check -o match:'STORAGE +1 +1024' doveadm -c "$SCENE/second.conf" quota get -u u1
    sqlite3 "$SCENE/db" 'DELETE FROM quota'
    atf_check "$OURS/doveadm" -c "$SCENE/second.conf" quota recalc -u u1
    atf_check -o inline:'u1|5|1\n' sqlite3 "$SCENE/db" 'SELECT * FROM quota'
    scene_stop
    scene_log_is_clean
}
quota_cleanup() { scene_end; }

atf_init_test_cases()
{
    atf_add_test_case protocol
    atf_add_test_case clients
    atf_add_test_case quota
}

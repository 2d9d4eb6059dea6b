# The small plugins of mail_plugins, with the real server and with ours.

. "$TOP_SRC/tests/lib/scene.sh"

plugins_head()
{
    atf_set require.user root
    atf_set require.progs "dovecot doveadm python3 sqlite3"
    atf_set timeout 300
}

# A fake dict service (tests/lib/fake_dict.py) for each kind, in $SCENE/dicts; what it hears goes to $SCENE/heard.
listen_as_dicts()
{
    scene_make
    mkdir "$SCENE/dicts"
    python3 -B "$TOP_SRC/tests/lib/fake_dict.py" "$SCENE/dicts" "$SCENE/heard" "$@" &
    FAKE=$!
    while [ ! -e "$SCENE/dicts/ready" ]; do
        kill -0 $FAKE || atf_fail "the fake dict service has ended"
    done
}

visit()
{
    printf 'a LOGIN %s pass\nb LOGOUT\n' "$1" | scene_talk imap >/dev/null
}

deliver()
{
    printf 'LHLO x\nMAIL FROM:<>\nRCPT TO:<%s>\n/^250 2.1.5\nDATA\n/^354\nSubject: x\n.\n/^250 2.0.0\nQUIT\n' "$1" |
        scene_talk lmtp >/dev/null
}

# real|ours: stock or own doveadm with the server's configuration.
doveadm_of()
{
    if [ "$1" = ours ]; then shift; "$OURS/doveadm" -c "$SCENE/dovecot.conf" "$@"; else shift; doveadm -c "$SCENE/dovecot.conf" "$@"; fi
}

# What stands behind "last_login_dict: " and the like, without times.
texts()
{
    sed -n "s/.*Error: \($1.*\)/\1/p" "$SCENE/log" | sed 's/ (reply took .*//' | sort
}

# ---- last_login ----

# logins NAME SERVER: who is written where, with which number of digits.
logins()
{
    visit alice
    deliver bob
    doveadm_of $2 mailbox list -u carl >/dev/null
    scene_stop
    {
        for user in alice bob carl; do
            sed 's/^[0-9]*$/&=/; s/[0-9]/9/g' "$SCENE/home/$user/logins" 2>/dev/null
        done
        sqlite3 "$SCENE/db" 'SELECT user, service, length(time) FROM logins ORDER BY 1'
    } >$1.$2
    rm -rf "$SCENE"/home/*
    sqlite3 "$SCENE/db" 'DELETE FROM logins'
}

make_logins()
{
    scene_make
    sqlite3 "$SCENE/db" 'CREATE TABLE logins (user TEXT, service TEXT, time INTEGER, PRIMARY KEY (user, service))'
    chown $MAIL_USER "$SCENE/db"
    cat >"$SCENE/dict.conf" <<EOT
connect = $SCENE/db
map {
  pattern = shared/last-login/\$user/\$service
  table = logins
  value_field = time
  value_type = uint
  fields {
    user = \$user
    service = \$service
  }
}
EOT
}

last_login_both()
{
    name=$1
    shift
    for who in dovecot ours; do
        SERVER=
        scene_start $who 'mail_plugins = last_login' 'dict {' "  logins = sqlite:$SCENE/dict.conf" '}' \
            'service dict {' '  user = root' '  unix_listener dict {' '    mode = 0666' '  }' '}' 'plugin {' "$@" '}'
        logins $name $who
    done
    atf_check diff -u $name.dovecot $name.ours
    grep -q alice $name.ours || grep -q 9999999999 $name.ours || atf_fail "nothing was written"
}

atf_test_case last_login cleanup
last_login_head() { plugins_head; }
last_login_body()
{
    make_logins
    last_login_both plain '  last_login_dict = file:%h/logins'
    last_login_both home '  last_login_dict = file:~/logins' '  last_login_key = seen/%d/%n/%s' '  last_login_precision = ms'
    last_login_both nanoseconds '  last_login_dict = file:~/logins' '  last_login_precision = ns'
    last_login_both sql '  last_login_dict = proxy::logins' '  last_login_key = last-login/%u/%s'
    scene_log_is_clean
}
last_login_cleanup() { scene_end; }

# What goes wrong is said once, in the log alone.
atf_test_case last_login_errors cleanup
last_login_errors_head() { plugins_head; }
last_login_errors_body()
{
    listen_as_dicts ok fail unsure missing close
    for who in dovecot ours; do
        SERVER=
        : >"$SCENE/log"
        scene_start $who 'mail_plugins = last_login' 'plugin {' "  last_login_dict = proxy:$SCENE/dicts/%u:x" '}'
        for user in ok fail unsure missing close none; do
            visit $user
        done
        scene_stop
        texts last_login >errors.$who
        : >"$SCENE/log"
        scene_start $who 'mail_plugins = last_login' 'plugin {' "  last_login_dict = nosuch:x" '}'
        visit ok
        scene_stop
        texts last_login >>errors.$who
        : >"$SCENE/log"
        scene_start $who 'mail_plugins = last_login' 'plugin {' "  last_login_dict = file:~/x" '  last_login_precision = h' '}'
        visit ok
        scene_stop
        texts last_login >>errors.$who
    done
    kill $FAKE
    atf_check diff -u errors.dovecot errors.ours
    atf_check -o inline:'6\n' sh -c 'wc -l <errors.ours'
}
last_login_errors_cleanup() { scene_end; }

# A dict service that never answers holds nobody up: a write that was waited for would have given up meanwhile, and said so.
atf_test_case last_login_waits_for_nobody cleanup
last_login_waits_for_nobody_body()
{
    listen_as_dicts hang
    scene_start ours 'mail_plugins = last_login' 'plugin {' "  last_login_dict = proxy:$SCENE/dicts/hang:x" '}'
    # More than may write at a time.
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        visit u$n
    done
    deliver bob
    grep -q 'hang S1.shared/last-login/u1.' "$SCENE/heard" || atf_fail "nothing was written"
    scene_log_is_clean
    scene_stop
    kill $FAKE
    # Those that are under way when the process ends are not forgotten silently.
    atf_check -o match:'last_login_dict: Write was unconfirmed' cat "$SCENE/log"
}
last_login_waits_for_nobody_cleanup() { scene_end; }

# A session that comes back is no login.
atf_test_case last_login_rests cleanup
last_login_rests_head() { plugins_head; }
last_login_rests_body()
{
    listen_as_dicts ok
    scene_start ours 'imap_hibernate_timeout = 1s' 'service imap {' '  extra_groups = $default_internal_group' '  unix_listener imap-master {' \
        '    user = $default_internal_user' '  }' '}' 'service imap-hibernate {' '  unix_listener imap-hibernate {' '    mode = 0660' \
        '    group = $default_internal_group' '  }' '}' \
        'mail_plugins = last_login' 'plugin {' "  last_login_dict = proxy:$SCENE/dicts/ok:x" '}'
    python3 -B "$TOP_SRC/tests/lib/hibernate.py" same "$IP" $IMAP_PORT "$SCENE/run" >/dev/null || atf_fail "$(cat "$SCENE/log")"
    scene_stop
    kill $FAKE
    grep -c 'ok S1' "$SCENE/heard" >written
    grep -c 'Info: Login: ' "$SCENE/log" >logins
    atf_check diff logins written
}
last_login_rests_cleanup() { scene_end; }

# ---- names ----

# What a client, a delivery and doveadm hear of these names, and the log.
names()
{
    who=$1 words=$2
    SERVER=
    : >"$SCENE/log"
    scene_start $who 'protocols = imap lmtp' "$words"
    {
        echo "--- $words"
        printf 'a LOGIN alice pass\neof\n' | python3 -B "$TOP_SRC/tests/lib/talk.py" "$IP" $IMAP_PORT 2>&1 |
            sed -n 's/ .CAPABILITY.*//; /^a /p; /^. BYE/p'
        printf '/^220\n' | python3 -B "$TOP_SRC/tests/lib/talk.py" "$IP" $LMTP_PORT >/dev/null 2>&1
        doveadm_of $who mailbox list -u carl 2>&1
        echo "status $?"
    } >>names.$who
    scene_stop
    sed -n 's/.*\(imap(alice): Error: .*\)/\1/p; s/.*lmtp([0-9]*): \(Fatal: Plugin\|Fatal: Could\)/\1/p' "$SCENE/log" | sort -u >>names.$who
}

atf_test_case names cleanup
names_head() { plugins_head; }
names_body()
{
    scene_make
    for words in 'mail_plugins = nosuch' 'mail_plugins = trash nosuch' 'mail_plugins = zlib,,lib20_virtual  Zlib,aaa.so' \
        'mail_plugins = bbb aaa ccc' 'mail_plugins = mail_log' 'mail_plugins = mail_log trash' 'mail_plugins = push_notification'; do
        names dovecot "$words"
        names ours "$words"
    done
    atf_check diff -u names.dovecot names.ours
    grep -q "^imap(alice): Error: Plugin 'Zlib' not found from directory" names.ours || atf_fail "$(cat names.ours)"
    # The file of another one's plugin is there: what cannot be loaded here is warned of, with all others that are not there.
    mkdir "$SCENE/modules"
    : >"$SCENE/modules/lib42_others_plugin.so"
    : >"$SCENE/log"
    SERVER=
    scene_start ours "mail_plugin_dir = $SCENE/modules" 'mail_plugins = others,fts zlib lib21_fts_squat fts' 'service imap {' '  service_count = 0' '  process_min_avail = 0' '}'
    # A user stays with his worker.
    for n in 1 2 3 4; do
        visit alice
        deliver alice
    done
    atf_check -o match:INBOX -e not-match:Plugin "$OURS/doveadm" -c "$SCENE/dovecot.conf" mailbox list -u carl
    atf_check -o match:INBOX -e save:debug "$OURS/doveadm" -D -c "$SCENE/dovecot.conf" mailbox list -u carl
    atf_check -o inline:"'others'\n'fts'\n'fts_squat'\n" sed -n 's/.*Plugin \(.*\) is not available.*/\1/p' debug
    scene_stop
    for plugin in others fts fts_squat; do
        for process in imap lmtp; do
            grep -c "$process.*: Warning: Plugin '$plugin' is not available in this version, it has no effect" "$SCENE/log" || :
        done
    done >warnings
    atf_check -s exit:1 grep -vx 1 warnings
    scene_log_is_clean "Plugin '(others|fts|fts_squat)' is not available"
}
names_cleanup() { scene_end; }

# ---- quota_clone ----

# changes NAME BACKEND SERVER: what the dictionary has after each kind of change.
changes()
{
    SERVER=
    scene_start $3 'mail_plugins = quota quota_clone' 'plugin {' "  quota = $2:User quota" '  quota2 = count:Another' '  quota_vsizes = yes' \
        '  quota_rule = Free:ignore' '  quota_clone_dict = file:~/clone' '}'
    {
        printf 'a LOGIN u1 pass\nb APPEND INBOX {10+}\n0123456789\n/^b OK\nc APPEND INBOX {3+}\nabc\n/^c OK\nd LOGOUT\n' | scene_talk imap >/dev/null
        printf 'a LOGIN u2 pass\nb CREATE box\nc CREATE Free\nd APPEND INBOX {5+}\nabcde\n/^d OK\ne SELECT INBOX\nf COPY 1 box\ng COPY 1 Free\nh LOGOUT\n' |
            scene_talk imap >/dev/null
        printf 'a LOGIN u3 pass\nb CREATE box\nd APPEND INBOX {5+}\nabcde\n/^d OK\ne SELECT INBOX\nf COPY 1 box\ng STORE 1 +FLAGS (\\\\Deleted)\nh EXPUNGE\ni DELETE box\nj LOGOUT\n' |
            scene_talk imap >/dev/null
        printf 'a LOGIN u5 pass\nb SELECT INBOX\nc LOGOUT\n' | scene_talk imap >/dev/null
        printf 'a LOGIN u8 pass\nb CREATE box\nd APPEND box {5+}\nabcde\n/^d OK\nc LOGOUT\n' | scene_talk imap >/dev/null
        printf 'a LOGIN u8 pass\nb DELETE box\nc LOGOUT\n' | scene_talk imap >/dev/null
        deliver u4
        printf 'a LOGIN u6 pass\nb APPEND INBOX {10+}\n0123456789\n/^b OK\nd LOGOUT\n' | scene_talk imap >/dev/null
        doveadm_of $3 expunge -u u6 mailbox INBOX all
        printf 'Subject: x\n\n' | doveadm_of $3 -o mail_plugins=quota save -u u7
    } 2>&1
    scene_stop
    for user in u1 u2 u3 u4 u5 u6 u7 u8; do
        echo "$user $([ ! -e "$SCENE/home/$user/clone" ] || paste -d= - - <"$SCENE/home/$user/clone" | sort | tr '\n' ' ')"
    done | sed '/^u4/s/[0-9][0-9][0-9]/N/' >$1.$3
    rm -rf "$SCENE"/home/*
}

atf_test_case quota_clone cleanup
quota_clone_head() { plugins_head; }
quota_clone_body()
{
    for backend in count maildir; do
        changes $backend $backend dovecot
        changes $backend $backend ours
        atf_check diff -u $backend.dovecot $backend.ours
    done
    cat count.ours
    grep -q '^u1 priv/quota/messages=2 priv/quota/storage=13 ' count.ours || atf_fail "$(cat count.ours)"
    scene_log_is_clean
}
quota_clone_cleanup() { scene_end; }

# A session that goes on, too; what fails is said once a write. Many changes are few writes (not more than two a second), and the last
# one tells the truth.
atf_test_case quota_clone_goes_on cleanup
quota_clone_goes_on_head() { plugins_head; }
quota_clone_goes_on_body()
{
    listen_as_dicts ok fail close hang
    scene_start ours 'mail_plugins = quota quota_clone' 'plugin {' '  quota = count:User quota' '  quota_vsizes = yes' \
        "  quota_clone_dict = proxy:$SCENE/dicts/%u:x" '}'
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        printf 'b%s APPEND INBOX {1+}\nx\n/^b%s OK\n' $n $n
    done >many
    { printf 'a LOGIN hang pass\n'; cat many; printf 'c LOGOUT\n'; } | scene_talk imap >session
    begun=$(date +%s%N)
    { printf 'a LOGIN ok pass\n'; cat many; printf 'c LOGOUT\n'; } | scene_talk imap >session
    # Once for each half second that has passed, and at both ends.
    most=$((($(date +%s%N) - begun) / 500000000 + 2))
    for user in fail close; do
        printf 'a LOGIN %s pass\nb APPEND INBOX {1+}\nx\n/^b OK\nc LOGOUT\n' $user | scene_talk imap >/dev/null
    done
    scene_stop
    kill $FAKE
    [ "$(grep '^ok S1.priv/quota/messages' "$SCENE/heard" | tail -1 | cut -f3)" = 20 ] || { cat session "$SCENE/heard" "$SCENE/log"; atf_fail "the last usage is not there"; }
    [ "$(grep -c '^ok C1' "$SCENE/heard")" -le $most ] || atf_fail "each change is a write"
    # Not before the one before has ended.
    [ "$(grep -c '^hang C1' "$SCENE/heard")" -eq 1 ] || atf_fail "two writes at a time"
    grep '(fail)\|(close)' "$SCENE/log" | sed -n 's/ (reply took .*//; s/.*Error: //p' | sort >errors
    atf_check -o inline:'quota_clone_dict: Failed to write value: dict-server returned failure: oh no\nquota_clone_dict: Write was unconfirmed (timeout or disconnect): Connection closed\n' cat errors
    for who in dovecot ours; do
        SERVER=
        : >"$SCENE/log"
        scene_start $who 'mail_plugins = quota quota_clone' 'plugin {' '  quota = count:User quota' '  quota_vsizes = yes' '  quota_clone_dict = nosuch:x' '}'
        visit alice
        scene_stop
        texts quota_clone >errors.$who
    done
    mkdir -m 700 "$SCENE/forbidden"
    for who in dovecot ours; do
        SERVER=
        : >"$SCENE/log"
        scene_start $who 'mail_plugins = quota quota_clone' 'plugin {' "  quota = dict:User quota::file:$SCENE/forbidden/quota" '  quota_clone_dict = file:~/x' '}'
        printf 'a LOGIN bob pass\nb APPEND INBOX {1+}\nx\n/^b OK\nc LOGOUT\n' | scene_talk imap >/dev/null
        scene_stop
        texts quota_clone_plugin | sed 's/\(quota-dict: \).*/\1/' >>errors.$who
    done
    cat errors.ours
    atf_check diff -u errors.dovecot errors.ours
    grep -q 'Failed to get quota resource' errors.ours || atf_fail "nothing is said"
}
quota_clone_goes_on_cleanup() { scene_end; }

# ---- welcome ----

# listen_for_scripts ANSWER [COMMAND]: what stands for a script service. It notes what it is told in $SCENE/said and answers with $1, if
# that is not "none", after the command.
listen_for_scripts()
{
    rm -f "$SCENE/note" "$SCENE/run/note" "$SCENE/said"
    : >"$SCENE/said"
    python3 -B "$TOP_SRC/tests/lib/script_listener.py" "$SCENE/note" "$SCENE/said" "$@" &
    LISTENER=$!
    while [ ! -S "$SCENE/note" ]; do
        kill -0 $LISTENER || atf_fail "the listener has ended"
    done
}

# welcomes SERVER FORMAT SCRIPT WAIT ANSWER
welcomes()
{
    SERVER=
    : >"$SCENE/log"
    listen_for_scripts $5
    scene_start $1 "mail_location = $2" "mail_plugins = ${6-welcome}" 'namespace inbox {' '  mailbox Auto {' '    auto = create' '  }' '}' \
        'plugin {' "  welcome_script = $3 hello %u a  b" "  welcome_wait = $4" '}'
    ln -s ../note "$SCENE/run/note"
    visit u1
    printf 'a LOGIN u1 pass\nb CREATE box\nc LOGOUT\n' | scene_talk imap >/dev/null
    printf 'a LOGIN u1 pass\nb STATUS INBOX (MESSAGES)\nc LOGOUT\n' | scene_talk imap >/dev/null
    printf 'a LOGIN u2 pass\nb SELECT INBOX\nc SELECT Auto\nc LOGOUT\n' | scene_talk imap >/dev/null
    printf 'a LOGIN u2 pass\nb SELECT INBOX\nc LOGOUT\n' | scene_talk imap >/dev/null
    printf 'a LOGIN u3 pass\nb APPEND INBOX {3+}\nabc\n/^b OK\nc LOGOUT\n' | scene_talk imap >/dev/null
    deliver u4
    deliver u4
    doveadm_of $1 mailbox status -u u5 messages INBOX >/dev/null 2>&1
    scene_stop
    kill $LISTENER
    { echo "--- $2 $3 $4 $5 $6"; cat "$SCENE/said"; texts welcome; } >>welcomes.$1
    rm -rf "$SCENE"/home/*
}

atf_test_case welcome cleanup
welcome_head() { plugins_head; }
welcome_body()
{
    scene_make
    for who in dovecot ours; do
        welcomes $who maildir:~/Maildir "$SCENE/note" no none
        welcomes $who sdbox:~/mail "$SCENE/note" yes +
        welcomes $who mdbox:~/mail "$SCENE/note" yes -
        welcomes $who sdbox:~/mail note no none
        welcomes $who sdbox:~/mail "$SCENE/note" yes none
        welcomes $who sdbox:~/mail "$SCENE/nosuch" yes +
        welcomes $who sdbox:~/mail "$SCENE/note" yes + ''
    done
    cat welcomes.ours
    atf_check diff -u welcomes.dovecot welcomes.ours
    grep -q '^hello u4 a b' welcomes.ours || atf_fail "nobody was welcomed"
}
welcome_cleanup() { scene_end; }

# What the script delivers is there in the SELECT that was the first; sessions of others go on meanwhile.
atf_test_case welcome_waits cleanup
welcome_waits_head() { plugins_head; }
welcome_waits_body()
{
    scene_make
    cat >"$SCENE/command" <<EOT
[ \$2 = first ] || exit 0
printf 'LHLO x\\nMAIL FROM:<>\\nRCPT TO:<first>\\n/^250 2.1.5\\nDATA\\n/^354\\nSubject: x\\n.\\n/^250 2.0.0\\nQUIT\\n' |
    python3 -B "$TOP_SRC/tests/lib/talk.py" $IP $LMTP_PORT >$SCENE/command.out
printf 'a LOGIN other pass\\nb STATUS INBOX (MESSAGES)\\nc LOGOUT\\n' | python3 -B "$TOP_SRC/tests/lib/talk.py" $IP $IMAP_PORT >>$SCENE/command.out
echo "commands: \$?" >>$SCENE/command.out
EOT
    chmod +x "$SCENE/command"
    sed -i '1i #!/bin/sh' "$SCENE/command"
    for who in dovecot ours; do
        SERVER=
        rm -f "$SCENE/command.out"
        listen_for_scripts + "$SCENE/command"
        scene_start $who 'mail_location = sdbox:~/mail' 'mail_plugins = welcome' 'plugin {' "  welcome_script = $SCENE/note hello %u" '  welcome_wait = yes' '}'
        printf 'a LOGIN other pass\nb SELECT INBOX\nc LOGOUT\n' | scene_talk imap >/dev/null
        printf 'a LOGIN first pass\nb SELECT INBOX\nc LOGOUT\n' | scene_talk imap >first.$who
        scene_stop
        kill $LISTENER
        atf_check -o match:'1 EXISTS' cat first.$who
        atf_check -o match:'MESSAGES 0' -o match:'commands: 0' cat "$SCENE/command.out"
        rm -rf "$SCENE"/home/*
    done
    scene_log_is_clean
}
welcome_waits_cleanup() { scene_end; }

# ---- charset_alias ----

atf_test_case charset_alias cleanup
charset_alias_head() { plugins_head; }
charset_alias_body()
{
    scene_make
    for who in dovecot ours; do
        for aliases in foo=iso-8859-1 'foo=bar  bar=koi8-r utf-8=iso-8859-1' 'us-ascii=iso-8859-1 iso-8859-1=koi8-r' \
            'foo=utf-8 utf-8=koi8-r us-ascii=koi8-r' 'foo = =x bar=koi8-r bar=utf-8'; do
            SERVER=
            : >"$SCENE/log"
            scene_start $who 'mail_plugins = charset_alias' 'plugin {' "  charset_aliases = $aliases" '}'
            echo "--- $aliases" >>aliases.$who
            python3 -B "$TOP_SRC/tests/lib/charset_alias.py" "$IP" $IMAP_PORT >>aliases.$who || atf_fail "no session"
            doveadm_of $who fetch -u u text.utf8 mailbox INBOX all 2>errors >>aliases.$who
            sed 's/.*: Error: /doveadm: /' errors >>aliases.$who
            scene_stop
            texts charset_alias >>aliases.$who
            rm -rf "$SCENE"/home/*
        done
    done
    atf_check diff -u aliases.dovecot aliases.ours
    atf_check -o match:'^[1-9]' grep -c BADCHARSET aliases.ours
    SERVER=
    scene_start ours 'plugin {' '  charset_aliases = foo=utf-8' '}'
    printf 'a LOGIN u pass\nb SELECT INBOX\nc SEARCH CHARSET foo BODY x\nd LOGOUT\n' | scene_talk imap >session
    scene_stop
    atf_check -o match:'^c NO .BADCHARSET' cat session
    # Who has none is not served with another's.
    SERVER=
    scene_start ours 'mail_plugins = charset_alias' 'plugin {' '  charset_aliases = foo=utf-8' '}' 'service imap {' '  client_limit = 10' '  service_count = 0' '}' \
        'userdb {' '  driver = passwd-file' "  args = $SCENE/users" '}'
    sed -i '/^userdb {/,/^}/{/driver = static/d; /args = uid/d}' "$SCENE/dovecot.conf"
    sed -i ':a; N; $!ba; s/userdb {\n}\n//' "$SCENE/dovecot.conf"
    for user in a b; do
        echo "$user:{PLAIN}pass:$MAIL_UID:$MAIL_GID::$SCENE/home/$user::$([ $user = a ] || echo userdb_charset_aliases=bar=utf-8)"
    done >"$SCENE/users"
    scene_stop
    SERVER=
    scene_run "$OURS/dovecot"
    mkfifo other
    { printf 'a LOGIN b pass\nb SELECT INBOX\nc SEARCH CHARSET bar BODY x\n'; cat other; printf 'd SEARCH CHARSET bar BODY x\ne SEARCH CHARSET foo BODY x\nf LOGOUT\n'; } |
        scene_talk imap >session.b &
    printf 'a LOGIN a pass\nb SELECT INBOX\nd SEARCH CHARSET bar BODY x\ne SEARCH CHARSET foo BODY x\nf LOGOUT\n' | scene_talk imap >session.a
    : >other
    wait $!
    scene_stop
    atf_check -o match:'^d NO .BADCHARSET' -o match:'^e OK' cat session.a
    atf_check -o match:'^c OK' -o match:'^d OK' -o match:'^e NO .BADCHARSET' cat session.b
}
charset_alias_cleanup() { scene_end; }

# ---- var_expand_crypt ----

CRYPT=key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f,iv=000102030405060708090a0b0c0d0e0f

atf_test_case var_expand_crypt cleanup
var_expand_crypt_head() { plugins_head; }
var_expand_crypt_body()
{
    scene_make
    for who in dovecot ours; do
        SERVER=
        : >"$SCENE/log"
        scene_configure 'mail_plugins = var_expand_crypt last_login' 'plugin {' '  last_login_dict = file:~/logins' \
            "  last_login_key = %{encrypt;$CRYPT:user}/%{decrypt;noiv=yes,$CRYPT:home}" '}'
        # auth has it without being told.
        sed -i "s#args = password=pass#args = password=%{encrypt;noiv=yes,$CRYPT:user}#; s#home=.*#home=$SCENE/home/%{encrypt;noiv=yes,$CRYPT:user}#" "$SCENE/dovecot.conf"
        if [ $who = ours ]; then scene_run "$OURS/dovecot"; else scene_run dovecot; fi
        printf 'a LOGIN u cc260227cef6a91ababf3d5f93a4d0e6\n' | scene_talk imap >/dev/null
        scene_stop
        texts 'Failed to expand plugin' >crypt.$who
        sed -i 's#/%{decrypt[^}]*}##' "$SCENE/dovecot.conf"
        SERVER=
        if [ $who = ours ]; then scene_run "$OURS/dovecot"; else scene_run dovecot; fi
        printf 'a LOGIN u cc260227cef6a91ababf3d5f93a4d0e6\nb SELECT INBOX\nc LOGOUT\n' | scene_talk imap >/dev/null
        scene_stop
        { ls "$SCENE/home"; grep -ah shared "$SCENE"/home/*/logins; } >>crypt.$who
        : >"$SCENE/log"
        sed -i 's/^mail_plugins =.*/mail_plugins = last_login/' "$SCENE/dovecot.conf"
        SERVER=
        if [ $who = ours ]; then scene_run "$OURS/dovecot"; else scene_run dovecot; fi
        printf 'a LOGIN u cc260227cef6a91ababf3d5f93a4d0e6\n' | scene_talk imap >/dev/null
        scene_stop
        texts 'Failed to expand plugin' >>crypt.$who
        rm -rf "$SCENE"/home/*
    done
    cat crypt.ours
    atf_check diff -u crypt.dovecot crypt.ours
    grep -q '^cc260227cef6a91ababf3d5f93a4d0e6$' crypt.ours || atf_fail "auth does not encrypt"
    grep -q 'shared/.*cc260227cef6a91ababf3d5f93a4d0e6' crypt.ours || atf_fail "imap does not encrypt"
}
var_expand_crypt_cleanup() { scene_end; }

atf_init_test_cases()
{
    atf_add_test_case charset_alias
    atf_add_test_case var_expand_crypt
    atf_add_test_case welcome
    atf_add_test_case welcome_waits
    atf_add_test_case quota_clone
    atf_add_test_case quota_clone_goes_on
    atf_add_test_case last_login
    atf_add_test_case last_login_errors
    atf_add_test_case last_login_waits_for_nobody
    atf_add_test_case last_login_rests
    atf_add_test_case names
}

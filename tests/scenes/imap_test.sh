# IMAP sessions side by side in one worker: what one does, the others hear of at once, and nobody stops anybody.

. "$TOP_SRC/tests/lib/scene.sh"

imapscene()
{
    kind=$1
    shift
    python3 -B "$TOP_SRC/tests/lib/imapscene.py" "$kind" "$IP" $IMAP_PORT "$@" || { cat "$SCENE/log"; atf_fail "$kind"; }
}

atf_test_case two_sessions cleanup
two_sessions_head()
{
    atf_set descr "a second session hears of new mail, flags and expunges where RFC 3501 lets it"
    atf_set require.user root
}
two_sessions_body()
{
    scene_start ours
    imapscene two
    scene_stop
    scene_log_is_clean
}
two_sessions_cleanup()
{
    scene_end
}

atf_test_case slow_clients cleanup
slow_clients_head()
{
    atf_set descr "clients that do not read do not stop others, and cost little memory"
    atf_set require.user root
    atf_set timeout 400
}
slow_clients_body()
{
    scene_start ours 'mail_max_userip_connections = 50'
    imapscene slow $SERVER
    scene_stop
    scene_log_is_clean
}
slow_clients_cleanup()
{
    scene_end
}

atf_test_case hostile_input cleanup
hostile_input_head()
{
    atf_set descr "malformed commands end at worst their own session"
    atf_set require.user root
    atf_set timeout 400
}
hostile_input_body()
{
    scene_start ours 'mail_max_userip_connections = 200'
    imapscene hostile
    scene_stop
    scene_log_is_clean
}
hostile_input_cleanup()
{
    scene_end
}

atf_test_case idle_lmtp cleanup
idle_lmtp_head()
{
    atf_set descr "an idling client hears of a delivery by our lmtp"
    atf_set require.user root
}
idle_lmtp_body()
{
    scene_start ours
    cat >deliver.sh <<END
python3 -B "$TOP_SRC/tests/lib/talk.py" "$IP" $LMTP_PORT <<EOM
LHLO tests
/^250 
MAIL FROM:<a@example.org>
/^250
RCPT TO:<u@example.org>
/^250
DATA
/^354
Subject: one

text
.
/^250 2.0.0
QUIT
EOM
END
    imapscene idle sh deliver.sh
    scene_stop
    scene_log_is_clean
}
idle_lmtp_cleanup()
{
    scene_end
}

atf_test_case idle_dovecot cleanup
idle_dovecot_head()
{
    atf_set descr "an idling client hears of a delivery by Dovecot's own programs into the same Maildir"
    atf_set require.user root
    atf_set require.progs "dovecot doveadm"
}
idle_dovecot_body()
{
    scene_start ours
    scene_second dovecot
    printf 'Subject: one\r\n\r\ntext\r\n' >message
    printf 'doveadm -c %s/second.conf save -u u -m INBOX <%s/message\n' "$SCENE" "$PWD" >deliver.sh
    imapscene idle sh deliver.sh
    scene_stop
    scene_log_is_clean
}
idle_dovecot_cleanup()
{
    scene_end
}

atf_test_case short_slices cleanup
short_slices_head()
{
    atf_set descr "slices of three units: sessions hear the same (a sync whose slice was over was once dropped)"
    atf_set require.user root
    atf_set require.progs "dovecot doveadm"
}
short_slices_body()
{
    YARILO_SLICE_UNITS=3
    export YARILO_SLICE_UNITS
    scene_start ours
    scene_second dovecot
    printf 'Subject: one\r\n\r\ntext\r\n' >message
    printf 'doveadm -c %s/second.conf save -u u -m INBOX <%s/message\n' "$SCENE" "$PWD" >deliver.sh
    imapscene idle sh deliver.sh
    scene_stop
    scene_log_is_clean
}
short_slices_cleanup()
{
    scene_end
}

atf_test_case fair cleanup
fair_head()
{
    atf_set descr "a session that searches, sorts, copies, fetches for long lets another one of its worker have its answer"
    atf_set require.user root
}
fair_body()
{
    YARILO_SLICE_UNITS=3
    export YARILO_SLICE_UNITS
    scene_start ours
    imapscene fair $SERVER
    scene_stop
    scene_log_is_clean
}
fair_cleanup()
{
    scene_end
}

atf_test_case preauth cleanup
preauth_head()
{
    atf_set descr "doveadm exec imap: a session on standard input, with the user's rights"
    atf_set require.user root
}
preauth_body()
{
    scene_start ours
    printf 'a CREATE box\r\nb STATUS box (MESSAGES)\r\nc LOGOUT\r\n' >input
    atf_check -o match:'^\* PREAUTH \[CAPABILITY IMAP4rev1 .*\] Logged in as u' -o match:'^\* STATUS box \(MESSAGES 0\)' \
        -o match:'^\* BYE Logging out' -e match:'Disconnected: Logged out in=' \
        "$OURS/doveadm" -c "$SCENE/dovecot.conf" exec imap -u u <input
    homes=$SCENE/home
    atf_check -o inline:"$MAIL_USER\n" stat -c %U "$homes/u/Maildir/.box"
    scene_stop
    scene_log_is_clean
}
preauth_cleanup()
{
    scene_end
}

atf_test_case random_sessions cleanup
random_sessions_head()
{
    atf_set descr "random sessions are answered as by the real server"
    atf_set require.user root
    atf_set require.progs "dovecot python3"
    atf_set timeout 600
}
random_sessions_body()
{
    count=30
    [ -z "$YARILO_LONG" ] || count=1000
    scene_start ours 'mail_max_userip_connections = 50'
    scene_second dovecot
    python3 -B "$TOP_SRC/tests/lib/imaprandom.py" "$IP" "$IP2" $IMAP_PORT 0 $count || atf_fail "answers differ"
    scene_stop
}
random_sessions_cleanup()
{
    scene_end
}

atf_test_case rawlog cleanup
rawlog_head()
{
    atf_set descr "rawlog_dir: what a session reads and writes is copied, each line with its time"
    atf_set require.user root
}
rawlog_body()
{
    scene_make
    scene_start ours "rawlog_dir = $SCENE/home/%u.raw"
    mkdir "$SCENE/home/u.raw"
    chown $MAIL_USER "$SCENE/home/u.raw"
    for user in u other; do
        scene_talk imap <<END
a LOGIN $user pass
-a2 APPEND INBOX {5+}\\r\\nhello\\r\\n
/^a2 OK
a3 LOGOUT
END
    done
    scene_stop
    atf_check_equal 2 "$(ls "$SCENE/home/u.raw" | grep -cE '^[0-9]{8}-[0-9]{6}\.[0-9]+\.[0-9]+\.(in|out)$')"
    grep -qE '^[0-9]+\.[0-9]{6} a2 APPEND' "$SCENE"/home/u.raw/*.in || atf_fail "input is missing"
    grep -qE '^[0-9]+\.[0-9]{6} hello' "$SCENE"/home/u.raw/*.in || atf_fail "message data are missing"
    grep -qE '^[0-9]+\.[0-9]{6} a3 OK Logout' "$SCENE"/home/u.raw/*.out || atf_fail "output is missing"
    [ ! -e "$SCENE/home/other.raw" ] || atf_fail "a folder was made"
    scene_log_is_clean
}
rawlog_cleanup()
{
    scene_end
}

atf_test_case flood cleanup
flood_head()
{
    atf_set descr "a client that pipelines without reading, opens a thousand mailboxes or disappears costs bounded memory"
    atf_set require.user root
    atf_set timeout 400
}
flood_body()
{
    # what the sanitizer keeps of freed memory is not the server's
    export ASAN_OPTIONS="quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    scene_start ours 'import_environment = $import_environment ASAN_OPTIONS' 'mail_max_userip_connections = 50'
    imapscene flood $SERVER
    [ -z "$(find "$SCENE/home/u/Maildir/tmp" -type f)" ] || atf_fail "an unfinished message is left"
    scene_stop
    scene_log_is_clean
}
flood_cleanup()
{
    scene_end
}

atf_test_case extensions cleanup
extensions_head()
{
    atf_set descr "extensions that 2.3 does not have: when imap_capability names them, and not otherwise"
    atf_set require.user root
}
extensions_body()
{
    scene_start ours 'imap_capability = +IMAP4rev2 UTF8=ACCEPT UIDONLY PARTIAL REPLACE OBJECTID STATUS=DELETED APPENDLIMIT QUOTA=RES-STORAGE QUOTA=RES-MESSAGE'
    scene_talk imap <<'END'
a LOGIN ext pass
a1 CREATE box
-a2 APPEND box (\\Deleted) {6+}\r\nA: b\r\n\r\n
/^a2 OK
-a3 APPEND box {12+}\r\nSubject: x\r\n\r\n
/^a3 OK
a4 STATUS box (DELETED APPENDLIMIT MAILBOXID)
?STATUS box \(DELETED 1 MAILBOXID \(F[0-9a-f]{32}\) APPENDLIMIT NIL\)
a4b STATUS box (DELETED-STORAGE)
?STATUS box \(DELETED-STORAGE 5\)
a5 SELECT box
?OK \[MAILBOXID \(F[0-9a-f]{32}\)\]
a6 FETCH 1 (EMAILID THREADID)
?1 FETCH \(EMAILID \(M[0-9a-f]{32}\) THREADID NIL\)
a7 UID SEARCH RETURN (PARTIAL -1:-1) ALL
?ESEARCH \(TAG "a7"\) UID PARTIAL \(-1:-1 2\)
a8 UID FETCH 1:* UID (PARTIAL -1:-1)
?^\* 2 FETCH
!^\* 1 FETCH
-a9 REPLACE 2 box (\\Seen) {12+}\r\nSubject: z\r\n\r\n
/^a9 OK
?OK \[APPENDUID [0-9]+ 3\] Replacement Message ready
?^\* 2 EXPUNGE
a10 ENABLE IMAP4rev2
a11 SEARCH ALL
?ESEARCH \(TAG "a11"\) ALL 1:2
a12 SELECT inbox
?^\* LIST \(\) "." INBOX \("OLDNAME" \(inbox\)\)
!RECENT
a13 CREATE "h\xc3\xa4"
a14 SELECT box
a15 ENABLE UIDONLY
a16 FETCH 1 FLAGS
?^a16 BAD \[UIDREQUIRED\]
a17 UID FETCH 1:* FLAGS
?^\* 1 UIDFETCH
a18 EXPUNGE
?^\* VANISHED 1
a19 LOGOUT
END
    scene_stop
    scene_log_is_clean
    sed -i 's/^imap_capability = .*//' "$SCENE/dovecot.conf"
    scene_start ours
    scene_talk imap <<'END'
b LOGIN ext pass
b1 SELECT INBOX
b2 ENABLE IMAP4rev2 UIDONLY UTF8=ACCEPT
!ENABLED
b3 STATUS INBOX (DELETED)
?^b3 BAD .*Invalid status item DELETED
b4 UID REPLACE 1 INBOX x
?^b4 BAD .*Unknown command
b5 FETCH 1:* EMAILID
?^b5 BAD
b6 LOGOUT
END
    scene_stop
}
extensions_cleanup()
{
    scene_end
}

# compare_words: what both servers announce in each state: greeting, asked for before login, under TLS, with the login, after it.
compare_words()
{
    cat >asks <<'END'
a CAPABILITY
b LOGIN u pass
c CAPABILITY
d LOGOUT
END
    cat >direct <<'END'
b LOGIN u pass
c ENABLE CONDSTORE
d SELECT INBOX
e CAPABILITY
f LOGOUT
END
    cat >starttls <<'END'
-s STARTTLS\r\n
/^s OK
tls
a CAPABILITY
b AUTHENTICATE PLAIN AHUAcGFzcw==
c LOGOUT
END
    for talk in asks direct starttls; do
        for ip in "$IP" "$IP2"; do
            python3 -B "$TOP_SRC/tests/lib/talk.py" "$ip" $IMAP_PORT <$talk >said || { cat said; atf_fail "$talk"; }
            grep -a CAPABILITY said | sed 's/ ([0-9. +]* secs)\.//' >$talk.$ip
        done
        sed -i 's/ /\n/g' $talk.*
        diff -U1 "$talk.$IP2" "$talk.$IP" || atf_fail "$talk: other words"
    done
}

words_case()
{
    scene_certificate
    scene_start ours "$TLS" "$@"
    sed -i '/^ssl = no$/d' "$SCENE/dovecot.conf"
    scene_second dovecot
    compare_words
    scene_stop
}

atf_test_case words cleanup
words_head()
{
    atf_set descr "capability words in each state are the real server's"
    atf_set require.user root
    atf_set require.progs "dovecot openssl"
}
words_body()
{
    words_case
}
words_cleanup()
{
    scene_end
}

atf_test_case words_plugins cleanup
words_plugins_head()
{
    atf_set descr "capability words in each state are the real server's, with plugins, URLAUTH, METADATA, special uses and own words"
    atf_set require.user root
    atf_set require.progs "dovecot openssl"
}
words_plugins_body()
{
    words_case 'mail_plugins = acl quota zlib notify' 'imap_urlauth_host = *' 'mail_attribute_dict = file:%h/attributes' 'imap_metadata = yes' \
        'imap_literal_minus = yes' 'imap_capability = +XONE XTWO' 'auth_mechanisms = plain login' \
        'protocol imap {' '  mail_plugins = $mail_plugins imap_acl imap_quota imap_zlib' '}' \
        'plugin {' '  acl = vfile' '  quota = maildir:User' '}' \
        'namespace inbox {' '  mailbox Sent {' '    special_use = \Sent' '  }' '}'
}
words_plugins_cleanup()
{
    scene_end
}

atf_test_case list_and_create cleanup
list_and_create_head()
{
    atf_set descr "LIST-MYRIGHTS, LIST-METADATA, CREATE-SPECIAL-USE"
    atf_set require.user root
}
list_and_create_body()
{
    scene_start ours 'imap_capability = +LIST-MYRIGHTS LIST-METADATA CREATE-SPECIAL-USE' 'mail_attribute_dict = file:%h/attributes' \
        'imap_metadata = yes' 'mail_plugins = acl' 'protocol imap {' '  mail_plugins = acl imap_acl' '}' 'plugin {' '  acl = vfile' '}'
    scene_talk imap <<'END'
a LOGIN ext pass
a1 CREATE box (USE (\\Archive))
a2 CREATE none
a3 LIST "" * RETURN (SPECIAL-USE)
?^\* LIST \(\\Archive\) "." box
?^\* LIST \(\) "." none
a4 CREATE other (USE (\\All))
?^a4 NO \[USEATTR\]
a5 CREATE other (USE \\Sent)
?^a5 BAD
a6 STATUS other (MESSAGES)
?^a6 NO
a7 RENAME box moved
a8 LIST (SPECIAL-USE) "" *
?^\* LIST \(\\Archive\) "." moved
!none
a9 GETMETADATA moved /private/specialuse
?METADATA moved \(/private/specialuse \{8\}
a10 SETMETADATA moved (/private/comment "c" /shared/comment "d")
?^a10 OK
a11 LIST "" (moved none) RETURN (MYRIGHTS METADATA ("/private/comment" "/shared/x") STATUS (MESSAGES))
?^\* MYRIGHTS moved lrwstipekxacd
?^\* METADATA moved \(/private/comment \{1\}
?/shared/x NIL\)
?^\* METADATA none \(/private/comment NIL /shared/x NIL\)
?^\* STATUS moved \(MESSAGES 0\)
a12 LIST "" * RETURN (METADATA (comment))
?^a12 BAD .*Entry name must begin with
a13 DELETE moved
a14 CREATE moved
a15 LIST (SPECIAL-USE) "" *
!Archive
a16 LOGOUT
END
    scene_stop
    scene_log_is_clean
    sed -i 's/^imap_capability = .*//' "$SCENE/dovecot.conf"
    scene_start ours
    scene_talk imap <<'END'
b LOGIN ext pass
b1 CREATE box (USE (\\Archive))
?^b1 OK
b2 LIST "" box RETURN (MYRIGHTS)
?^b2 BAD .*Unknown return options
b3 LIST "" box RETURN (METADATA ("/private/comment"))
?^b3 BAD .*Unknown return options
b4 LIST "" box
!Archive
b5 LOGOUT
END
    scene_stop
}
list_and_create_cleanup()
{
    scene_end
}

atf_test_case limits cleanup
limits_head()
{
    atf_set descr "MESSAGELIMIT and SAVELIMIT: reading commands answer for the last messages, others are refused whole"
    atf_set require.user root
}
limits_body()
{
    scene_start ours 'imap_capability = +MESSAGELIMIT=3 SAVELIMIT=2'
    scene_talk imap <<'END'
a LOGIN ext pass
a1 CREATE box
-a2 APPEND box {6+}\r\nA: 1\r\n {6+}\r\nA: 2\r\n\r\n
/^a2 OK
-a3 APPEND box {6+}\r\nA: 3\r\n {6+}\r\nA: 4\r\n\r\n
/^a3 OK
-a4 APPEND box {6+}\r\nA: 3\r\n {6+}\r\nA: 4\r\n {6+}\r\nA: 5\r\n\r\n
/^a4 NO \[MESSAGELIMIT 2\]
a5 SELECT box
?^\* 4 EXISTS
a6 FETCH 1:* UID
?^\* 2 FETCH
!^\* 1 FETCH
?^a6 OK \[MESSAGELIMIT 3 2\] Fetch completed
a7 UID FETCH 1:3 UID
?^a7 OK Fetch completed
a8 UID SEARCH ALL
?^\* SEARCH 2 3 4
?^a8 OK \[MESSAGELIMIT 3 2\]
a9 UID SEARCH UIDBEFORE 2
?^\* SEARCH 1
?^a9 OK Search completed
a10 UID SEARCH UIDAFTER 2 UIDBEFORE 4
?^\* SEARCH 3
a11 STORE 1:* +FLAGS (\\Deleted)
?^a11 NO \[MESSAGELIMIT 3\]
!FETCH
a12 COPY 1:3 box
?^a12 NO \[MESSAGELIMIT 2\]
a13 MOVE 1:3 INBOX
?^a13 NO \[MESSAGELIMIT 2\]
a14 STORE 1:3 +FLAGS (\\Deleted)
?^a14 OK
a15 UID EXPUNGE 1:*
?^a15 NO \[MESSAGELIMIT 3\]
a16 UID EXPUNGE 1:3
?^a16 OK
a17 LOGOUT
END
    scene_stop
    scene_log_is_clean
}
limits_cleanup()
{
    scene_end
}

atf_test_case multisearch cleanup
multisearch_head()
{
    atf_set descr "ESEARCH: filters, correlators, what is passed over, and the selected mailbox as it is known"
    atf_set require.user root
}
multisearch_body()
{
    scene_start ours 'imap_capability = +MULTISEARCH'
    scene_talk imap <<'END'
a LOGIN ext pass
a1 CREATE f1
a2 CREATE f1.sub
a3 CREATE f1.sub.deep
a4 CREATE "h&AOQ-"
a5 CREATE empty
a6 SUBSCRIBE f1.sub
-b1 APPEND f1 (\\Seen) {14+}\r\nSubject: x\r\n\r\n\r\n
/^b1 OK
-b2 APPEND f1.sub {14+}\r\nSubject: y\r\n\r\n\r\n
/^b2 OK
-b3 APPEND f1.sub (kw) {14+}\r\nSubject: x\r\n\r\n\r\n
/^b3 OK
-b4 APPEND f1.sub.deep {14+}\r\nSubject: x\r\n\r\n\r\n
/^b4 OK
-b5 APPEND "h&AOQ-" {14+}\r\nSubject: x\r\n\r\n\r\n
/^b5 OK
c1 ESEARCH IN (personal) SUBJECT x
?^\* ESEARCH \(TAG "c1" MAILBOX f1 UIDVALIDITY [0-9]+\) UID ALL 1
?^\* ESEARCH \(TAG "c1" MAILBOX f1.sub UIDVALIDITY [0-9]+\) UID ALL 2
?^\* ESEARCH \(TAG "c1" MAILBOX f1.sub.deep UIDVALIDITY [0-9]+\) UID ALL 1
?^\* ESEARCH \(TAG "c1" MAILBOX h&AOQ- UIDVALIDITY [0-9]+\) UID ALL 1
!MAILBOX empty
!MAILBOX INBOX
c2 ESEARCH IN (subtree-one f1) RETURN (COUNT MAX) ALL
?MAILBOX f1 UIDVALIDITY [0-9]+\) UID MAX 1 COUNT 1
?MAILBOX f1.sub UIDVALIDITY [0-9]+\) UID MAX 2 COUNT 2
!deep
c3 ESEARCH IN (subtree "f1.sub" mailboxes ("h&AOQ-" nosuch)) UNSEEN
?MAILBOX f1.sub UIDV
?MAILBOX f1.sub.deep UIDV
?MAILBOX h&AOQ- UIDV
!MAILBOX f1 UIDV
c4 ESEARCH IN (subscribed) KEYWORD kw
?MAILBOX f1.sub UIDVALIDITY [0-9]+\) UID ALL 2
!deep
c5 ESEARCH IN (selected) ALL
?^c5 BAD No mailbox selected
c6 ESEARCH ALL
?^c6 BAD No mailbox selected
c7 SELECT f1.sub
c8 ESEARCH RETURN (SAVE) 2
?^c8 OK
c9 ESEARCH IN (selected mailboxes f1) UID $
?MAILBOX f1.sub UIDVALIDITY [0-9]+\) UID ALL 2
!MAILBOX f1 UIDV
c10 ESEARCH IN (personal) 1
?^c10 BAD
c11 ESEARCH IN (personal) RETURN (SAVE) ALL
?^c11 BAD
c12 ESEARCH IN (personal (x)) ALL
?^c12 BAD .*scope option
c13 ESEARCH IN (nosuch) ALL
?^c13 BAD
c14 ESEARCH IN () ALL
?^c14 BAD
c15 ESEARCH IN (personal) RETURN (UPDATE) ALL
?^c15 BAD
c16 ESEARCH IN (personal) NOSUCHKEY
?^c16 BAD .*Unknown argument NOSUCHKEY
c17 ESEARCH IN (personal) CHARSET nosuch ALL
?^c17 NO \[BADCHARSET
c18 FETCH 1:* (UID FLAGS)
?^\* 1 FETCH \(UID 1 FLAGS
?^\* 2 FETCH
c19 LOGOUT
END
    scene_stop
    scene_log_is_clean
    sed -i 's/^imap_capability = .*//' "$SCENE/dovecot.conf"
    scene_start ours
    scene_talk imap <<'END'
b LOGIN ext pass
b1 ESEARCH IN (personal) ALL
?^b1 BAD .*Unknown command
b2 LOGOUT
END
    scene_stop
}
multisearch_cleanup()
{
    scene_end
}

# A size that the real server's BINARY.SIZE would have below zero (beside_cases.py binary_sizes has the others) is the one that BINARY sends.
atf_test_case binary_size cleanup
binary_size_body()
{
    scene_start ours
    scene_talk imap <<'END' >session
a LOGIN u pass
-b APPEND INBOX {281+}\r\nA: b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nl\r\nl\r\nl\r\nl\r\nl\r\nl\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\neHh4eHh4eHh4\r\n\r\n--b--\r\n\r\n
/^b OK
c EXAMINE INBOX
d FETCH 1 BINARY.PEEK[1]
?BINARY\[1\] \{18\}
e FETCH 1 BINARY.SIZE[1]
?BINARY.SIZE\[1\] 18\)
f FETCH 1 BINARY.SIZE[2]
?BINARY.SIZE\[2\] 81\)
g LOGOUT
END
    scene_stop
    scene_log_is_clean
}
binary_size_cleanup()
{
    scene_end
}

# Users of the domain "nocache" have no index cache, which versus asks for.
versus_start()
{
    scene_configure "$@" 'mail_max_userip_connections = 50' 'mail_attribute_dict = file:%h/dovecot-attributes' 'imap_metadata = yes' \
        'imap_urlauth_host = imap.example.com'
    sed -i 's|^  args = uid=.*|& mail_never_cache_fields=%{if;%d;eq;nocache;*;imap.envelope}|' "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    scene_second dovecot
}

# versus_play FIRST COUNT OPTION [LINE ...]: sequences from FIRST on, at both servers under these lines.
versus_play()
{
    first=$1 count=$2 option=$3
    shift 3
    [ -z "$YARILO_LONG" ] || count=10000
    versus_start "$@"
    "$TOP_SRC/tests/imap/versus" "$IP" "$IP2" $IMAP_PORT $first $count $option --jobs 4 || atf_fail "answers differ"
    scene_stop
}

versus_needs()
{
    atf_set descr "$1"
    atf_set require.user root
    atf_set require.progs "dovecot python3"
    atf_set timeout 3600
}

atf_test_case versus cleanup
versus_head() { versus_needs "several sessions at once are answered as by the real server"; }
versus_body() { versus_play 0 200 ''; }
versus_cleanup() { scene_end; }

atf_test_case versus_wide cleanup
versus_wide_head() { versus_needs "several sessions at once are answered as by the real server, all commands, broken ones among them"; }
versus_wide_body() { versus_play 1000000 250 ''; }
versus_wide_cleanup() { scene_end; }

atf_test_case versus_mdbox cleanup
versus_mdbox_head() { versus_needs "several sessions at once are answered as by the real server, over mdbox"; }
versus_mdbox_body() { versus_play 0 100 --mdbox 'mail_location = mdbox:~/mdbox' 'mailbox_list_index = no'; }
versus_mdbox_cleanup() { scene_end; }

atf_test_case versus_sdbox cleanup
versus_sdbox_head() { versus_needs "several sessions at once are answered as by the real server, over sdbox"; }
versus_sdbox_body() { versus_play 0 100 --sdbox 'mail_location = sdbox:~/sdbox'; }
versus_sdbox_cleanup() { scene_end; }

# What the userdb says of a user's mail holds for every process that opens it: `mail` is mail_location there, a word without a value is "yes".
atf_test_case userdb_fields cleanup
userdb_fields_head()
{
    atf_set require.user root
    atf_set require.progs "python3"
}
userdb_fields_body()
{
    scene_configure
    sed -i 's|^  args = uid=.*|& mail=maildir:~/elsewhere mail_save_crlf|' "$SCENE/dovecot.conf"
    scene_run "$OURS/dovecot"
    python3 -c 'import smtplib, sys
s = smtplib.LMTP(sys.argv[1], int(sys.argv[2]))
s.sendmail("a@example.org", ["u"], "Subject: delivered\r\n\r\nx\r\n")
s.quit()' "$IP" $LMTP_PORT || { cat "$SCENE/log"; atf_fail "no delivery"; }
    printf 'a LOGIN u pass\nb APPEND INBOX {21+}\nSubject: saved\n\nx\n\nc SELECT INBOX\nd LOGOUT\n' | scene_talk imap >session
    atf_check -o match:'^b OK' -o match:'^\* 2 EXISTS' cat session
    atf_check -o inline:'hdr.subject\ndelivered\nsaved\n' "$OURS/doveadm" -f tab -c "$SCENE/dovecot.conf" fetch -u u hdr.subject all
    scene_stop
    [ ! -e "$SCENE/home/u/Maildir" ] || atf_fail "somebody has not looked where the userdb says"
    atf_check_equal 2 "$(grep -rl "$(printf 'x\r')" "$SCENE/home" | grep -c '/elsewhere/cur/')"
    scene_log_is_clean
}
userdb_fields_cleanup()
{
    scene_end
}

atf_test_case log_prefix cleanup
log_prefix_head()
{
    atf_set descr "mail_log_prefix stands before a user's lines, as the real server writes it"
    atf_set require.user root
    atf_set require.progs "dovecot python3"
}
# Both servers: a session and a delivery each; then the prefixes with what is each one's own made equal.
log_prefix_body()
{
    scene_start ours 'mail_log_prefix = "<%s|%u|%n|%Ud|%h|%p|%{pid}|%{session}|%{auth_user}|%i|%{nonsense}> "'
    scene_second dovecot
    for ip in $IP $IP2; do
        printf 'a login Ann@Example.org pass\nb logout\n' | python3 -B "$TOP_SRC/tests/lib/talk.py" "$ip" $IMAP_PORT >/dev/null ||
            atf_fail "no session"
        python3 -c 'import smtplib, sys
s = smtplib.LMTP(sys.argv[1], int(sys.argv[2]))
s.sendmail("a@example.org", ["ann@example.org"], "Subject: x\r\n\r\ny\r\n")
s.quit()' "$ip" $LMTP_PORT || atf_fail "no delivery"
    done
    scene_stop
    for log in log log2; do
        sed -nE 's/^.{16}(<.*> (Info|Error|Warning):) .*/\1/p' "$SCENE/$log" |
            sed -E 's/\|([0-9]+)\|\1\|[^|]*\|/|pid|pid|session|/' >$log
    done
    cat >wanted <<END
<imap|ann@example.org|ann|EXAMPLE.ORG|UNSUPPORTED_VARIABLE_h|pid|pid|session|Ann@Example.org|$MAIL_UID|UNSUPPORTED_VARIABLE_nonsense> Info:
<lmtp|ann@example.org|ann|EXAMPLE.ORG|UNSUPPORTED_VARIABLE_h|pid|pid|session|ann@example.org|$MAIL_UID|UNSUPPORTED_VARIABLE_nonsense> Info:
END
    atf_check -o file:wanted cat log2
    atf_check -o file:wanted cat log
}
log_prefix_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case userdb_fields
    atf_add_test_case log_prefix
    atf_add_test_case rawlog
    atf_add_test_case flood
    atf_add_test_case extensions
    atf_add_test_case words
    atf_add_test_case words_plugins
    atf_add_test_case list_and_create
    atf_add_test_case limits
    atf_add_test_case multisearch
    atf_add_test_case binary_size
    atf_add_test_case versus
    atf_add_test_case versus_wide
    atf_add_test_case versus_sdbox
    atf_add_test_case versus_mdbox
    atf_add_test_case two_sessions
    atf_add_test_case slow_clients
    atf_add_test_case hostile_input
    atf_add_test_case idle_lmtp
    atf_add_test_case idle_dovecot
    atf_add_test_case short_slices
    atf_add_test_case fair
    atf_add_test_case preauth
    atf_add_test_case random_sessions
}

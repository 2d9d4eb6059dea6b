# Access control lists and quotas: the same conversation with the real server and with ours, and both on one store, where one
# obeys what the other has written.

. "$TOP_SRC/tests/lib/scene.sh"

rights_head()
{
    atf_set require.user root
    atf_set require.progs "dovecot python3"
}

# A server with plugins: start PROGRAM
start()
{
    scene_make
    scene_start "$1" 'mail_plugins = acl quota' 'protocol imap {' '  mail_plugins = acl quota imap_acl imap_quota' '}' \
        'namespace inbox {' '  separator = /' '}' \
        'namespace sh {' '  type = shared' '  prefix = shared/%%u/' '  separator = /' '  subscriptions = no' '  list = children' \
        "  location = maildir:$SCENE/home/%%n/Maildir" '}' \
        'plugin {' '  acl = vfile' "  acl_shared_dict = file:$SCENE/home/shared.db" '  quota = maildir:User quota' \
        '  quota_rule = *:storage=1M:messages=6' '}'
}

# What depends on the moment or the machine.
plain()
{
    sed -E 's/ \([0-9.]+ \+ .*secs\)//; s/(UIDVALIDITY|COPYUID|APPENDUID) [0-9]+/\1 V/; /CAPABILITY/d'
}

conversation()
{
    scene_talk imap <<END | plain
a1 LOGIN alice pass
a2 CREATE Box
a3 CREATE Box/Sub
a4 CREATE Private
a5 APPEND Box {12}
/^\+
Subject: a

a5b NOOP
a6 APPEND Box {12}
/^\+
Subject: b

a6b NOOP
a7 SETACL Box bob lrs
a8 SETACL Box/Sub bob lrstwi
a9 SETACL Box -carol l
a10 SETACL Box \$staff lr
a11 SETACL Box anyone lr
a12 GETACL Box
a13 GETQUOTAROOT Box
a14 LOGOUT
END
    scene_talk imap <<END | plain
b1 LOGIN bob pass
b2 LIST "" shared/alice/%
b3 STATUS shared/alice/Private (MESSAGES)
b4 STATUS shared/alice/Box (MESSAGES)
b5 MYRIGHTS shared/alice/Box
b6 GETACL shared/alice/Box
b7 SELECT shared/alice/Box
b8 STORE 1 +FLAGS (\\Flagged \\Seen \\Deleted)
b9 FETCH 1 FLAGS
b10 EXPUNGE
b11 COPY 1 shared/alice/Box
b12 MOVE 1 INBOX
b13 COPY 1 INBOX
b14 COPY 1:2 shared/alice/Box/Sub
b15 CLOSE
b16 DELETE shared/alice/Box
b17 CREATE shared/alice/Box/n
b18 RENAME shared/alice/Box shared/alice/Z
b19 SUBSCRIBE shared/alice/Private
b20 SELECT shared/alice/Private
b21 SELECT INBOX
b22 COPY 1 INBOX
b23 COPY 1:2 INBOX
b24 COPY 1:4 INBOX
b25 GETQUOTA "User quota"
b26 LOGOUT
END
}

atf_test_case same cleanup
same_head()
{
    rights_head
}
same_body()
{
    start dovecot
    conversation >theirs
    for file in alice/Maildir/.Box/dovecot-acl alice/Maildir/maildirsize bob/Maildir/maildirsize shared.db; do
        sort "$SCENE/home/$file" >>theirs.files
    done
    scene_stop
    rm -rf "$SCENE"/home/*
    start ours
    conversation >mine
    for file in alice/Maildir/.Box/dovecot-acl alice/Maildir/maildirsize bob/Maildir/maildirsize shared.db; do
        sort "$SCENE/home/$file" >>mine.files
    done
    scene_stop
    grep -q '^b20 NO' theirs || atf_fail "the real server was not asked"
    atf_check diff -u theirs mine
    atf_check diff -u theirs.files mine.files
    scene_log_is_clean
}
same_cleanup()
{
    scene_end
}

atf_test_case one_store cleanup
one_store_head()
{
    rights_head
}
one_store_body()
{
    start dovecot
    scene_second ours
    # The real server grants, ours obeys; ours takes away, the real server obeys.
    printf 'a1 LOGIN alice pass\na2 CREATE Box\na3 SETACL Box bob lr\n' | scene_talk imap >one
    IP1=$IP
    IP=$IP2
    printf 'b1 LOGIN bob pass\nb2 SELECT shared/alice/Box\nb3 LIST "" shared/*\n' | scene_talk imap >two
    printf 'a1 LOGIN alice pass\na2 DELETEACL Box bob\na3 SETACL Box carol lr\n' | scene_talk imap >three
    IP=$IP1
    printf 'b1 LOGIN bob pass\nb2 SELECT shared/alice/Box\nb3 LIST "" shared/*\n' | scene_talk imap >four
    printf 'c1 LOGIN carol pass\nc2 SELECT shared/alice/Box\nc3 LIST "" shared/*\n' | scene_talk imap >five
    atf_check -o match:'^b2 OK' -o match:'shared/alice/Box' cat two
    atf_check -o match:'^a2 OK' -o match:'^a3 OK' cat three
    atf_check -o match:'^b2 NO' -o not-match:'LIST.*shared/alice/Box' cat four
    atf_check -o match:'^c2 OK' -o match:'LIST.*shared/alice/Box' cat five
    scene_stop
    scene_log_is_clean
}
one_store_cleanup()
{
    scene_end
}

# do_as real|ours USER COMMAND WORD ARGUMENTS: "acl set" takes two words. Errors go to err.
do_as()
{
    program=doveadm
    [ "$1" = real ] || program=$OURS/doveadm
    user=$2 words="$3"
    shift 3
    ASAN_OPTIONS=detect_leaks=0 $program -c "$SCENE/dovecot.conf" $options $words -u "$user" "$@" 2>>err
}

deliver() { printf 'Subject: %s\n\nhello\n' "$4" | do_as "$1" "$2" save -m "$3" || { cat err; atf_fail "$1: $2 cannot save into $3"; }; }

# What both read in a mailbox as a user: readable USER MAILBOX SUBJECT ...
readable()
{
    reader=$1 from=$2
    shift 2
    printf '%s\n' "$@" >wanted
    for side in real ours; do
        do_as $side "$reader" fetch text mailbox "$from" all | sed -n 's/^Subject: //p' >seen
        cmp -s wanted seen || { cat err seen; atf_fail "$side: $reader does not read $from: $*"; }
    done
}

# The keys of mail_crypt that are shared: those of a user, or "" for everybody.
shared_keys() { grep -c "^shared/.*/privkeys/$1[0-9a-f]\{64\}\$" "$SCENE/home/alice/attributes"; }

atf_test_case keys cleanup
keys_head()
{
    atf_set descr "keys of mail_crypt go to those who may read (mail_crypt_acl)"
    rights_head
}
keys_body()
{
    scene_make
    scene_start ours 'mail_plugins = acl mail_crypt mail_crypt_acl' 'mail_attribute_dict = file:%h/attributes' \
        'namespace inbox {' '  separator = /' '}' \
        'namespace sh {' '  type = shared' '  prefix = shared/%%u/' '  separator = /' '  subscriptions = no' '  list = children' \
        "  location = maildir:$SCENE/home/%%n/Maildir:INDEX=~/shared/%%u" '}' \
        'plugin {' '  acl = vfile' "  acl_shared_dict = file:$SCENE/home/shared.db" '  mail_crypt_save_version = 2' \
        '  mail_crypt_curve = prime256v1' '}'
    bob=$(printf bob | od -An -tx1 | tr -d ' ')/
    for user in alice bob carol; do
        deliver real $user INBOX own
    done
    for who in real ours; do
        other=$([ $who = real ] && echo ours || echo real)
        box=By$who
        do_as $who alice "mailbox create" $box
        deliver $who alice $box one
        # The right to see it is none to read it.
        do_as $who alice "acl set" $box user=bob lookup
        [ "$(shared_keys $bob)" = 0 ] || atf_fail "$who: a key went to one who may not read"
        do_as $who alice "acl set" $box user=bob lookup read insert post
        [ "$(shared_keys $bob)" = 1 ] || atf_fail "$who: no key for bob"
        # A new pair is shared, too, and what bob saves is for alice.
        do_as $other alice "mailbox cryptokey generate" -f $box >out || { cat err; atf_fail "$other: no new key"; }
        [ "$(shared_keys $bob)" = 2 ] || atf_fail "$other: the new key is not shared"
        deliver $who alice $box two
        deliver $other bob shared/alice/$box three
        readable bob shared/alice/$box one two three
        readable alice $box one two three
        do_as $who alice "acl delete" $box user=bob
        [ "$(shared_keys $bob)" = 0 ] || atf_fail "$who: bob keeps his keys"
    done
    # For everybody: bare. The real server mixes names up where there are several keys, and leaves the keys there when nobody may
    # read any more; ours takes them away.
    do_as ours alice "mailbox create" All
    deliver real alice All one
    do_as ours alice "acl set" All anyone lookup read insert post
    [ "$(shared_keys '')" = 1 ] || atf_fail "no key for everybody"
    readable carol shared/alice/All one
    do_as ours alice "acl delete" All anyone
    [ "$(shared_keys '')" = 0 ] || atf_fail "everybody keeps the keys"
    # The first message of a mailbox comes from another user: the pair is its owner's (the real server makes one that nobody can use).
    do_as ours alice "mailbox create" First
    do_as ours alice "acl set" First user=bob lookup read insert post
    deliver ours bob shared/alice/First one
    readable alice First one
    readable bob shared/alice/First one
    [ ! -s err ] || { cat err; atf_fail "something was logged"; }
    options="-o plugin/mail_crypt_acl_require_secure_key_sharing=yes"
    for who in real ours; do
        : >err
        ! do_as $who alice "acl set" First group=staff lookup read || atf_fail "$who: keys went to a group"
        grep -q 'mail-crypt-acl-plugin: Secure key sharing is enabled' err || { cat err; atf_fail "$who: refused otherwise"; }
    done
    scene_stop
    scene_log_is_clean
}
keys_cleanup() { scene_end; }

atf_init_test_cases()
{
    atf_add_test_case keys
    atf_add_test_case same
    atf_add_test_case one_store
}

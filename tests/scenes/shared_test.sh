# Two servers on one store at the same time: nothing is lost, neither has anything to complain about, and both say the same.

. "$TOP_SRC/tests/lib/scene.sh"

load()
{
    python3 -B "$TOP_SRC/tests/lib/load.py" "$@"
}

# What the whole store is, as seen at an address: uids, flags, sizes of each message.
state_at()
{
    for user in u1 u2 u3 u4; do
        printf 'a LOGIN %s pass\nb SELECT INBOX\nc UID FETCH 1:* (FLAGS RFC822.SIZE)\nz LOGOUT\n' $user |
            python3 -B "$TOP_SRC/tests/lib/talk.py" "$1" $IMAP_PORT |
            grep -E '^\* ([0-9]+ FETCH|[0-9]+ EXISTS|OK \[(UIDVALIDITY|UIDNEXT))' | sed 's/\\Recent *//; s/ )/)/'
    done
}

shared()
{
    seconds=5
    [ -z "$YARILO_LONG" ] || seconds=60
    scene_start "$1"
    scene_second "$2"
    : >acknowledged
    : >acknowledged2
    load run "$IP" $IMAP_PORT $LMTP_PORT $seconds acknowledged >run1 &
    one=$!
    load run "$IP2" $IMAP_PORT $LMTP_PORT $seconds acknowledged2 >run2 &
    two=$!
    wait $one || { cat run1; atf_fail "load on the first server"; }
    wait $two || { cat run2; atf_fail "load on the second server"; }
    cat run1 run2
    cat acknowledged2 >>acknowledged
    load check "$IP" $IMAP_PORT acknowledged || atf_fail "mail is missing at the first server"
    load check "$IP2" $IMAP_PORT acknowledged || atf_fail "mail is missing at the second server"
    state_at "$IP" >state1
    state_at "$IP2" >state2
    [ "$(wc -l <state1)" -gt 20 ] || atf_fail "there is no state to compare"
    atf_check diff -u state1 state2
    scene_stop
    scene_log_is_clean
}

shared_head()
{
    atf_set require.user root
    atf_set require.progs "dovecot python3"
}

atf_test_case with_dovecot cleanup
with_dovecot_head()
{
    atf_set descr "ours beside a running Dovecot"
    shared_head
}
with_dovecot_body()
{
    shared ours dovecot
}
with_dovecot_cleanup()
{
    scene_end
}

atf_test_case two_dovecots cleanup
two_dovecots_head()
{
    atf_set descr "two real servers: the test's own measure"
    shared_head
}
two_dovecots_body()
{
    shared dovecot dovecot
}
two_dovecots_cleanup()
{
    scene_end
}

# lmtp finds the owner of a shared namespace's mailbox: a detail names it.
deliver_to_alice()
{
    scene_start "$1" 'lmtp_save_to_detail_mailbox = yes
namespace shared {
  type = shared
  separator = /
  prefix = shared/%%n/
  location = maildir:%%h/Maildir
}
namespace inbox {
  separator = /
}
service auth {
  unix_listener auth-userdb {
    mode = 0666
  }
}'
    printf 'a LOGIN alice pass\nb CREATE Box\nz LOGOUT\n' | scene_talk imap >/dev/null
    {
        printf 'LHLO tests\n/^250 \nMAIL FROM:<a@example.org>\n/^250\nRCPT TO:<bob+shared/alice/Box@example.org>\n/^250\n'
        printf 'DATA\n/^354\nSubject: x\n\ntext\n.\n/^250\nQUIT\n'
    } | scene_talk lmtp >delivery
    printf 'a LOGIN alice pass\nb STATUS Box (MESSAGES)\nz LOGOUT\n' | scene_talk imap >alice
    cat "$SCENE/log" delivery alice
    atf_check -o ignore grep 'STATUS Box (MESSAGES 1)' alice
    atf_check -o ignore grep 'saved mail to shared/alice/Box' "$SCENE/log"
    scene_stop
}

atf_test_case deliver_ours cleanup
deliver_ours_head()
{
    atf_set descr "our lmtp delivers into a mailbox of a shared namespace"
    shared_head
}
deliver_ours_body()
{
    deliver_to_alice ours
    scene_log_is_clean
}
deliver_ours_cleanup()
{
    scene_end
}

atf_test_case deliver_dovecot cleanup
deliver_dovecot_head()
{
    atf_set descr "the real lmtp delivers into a mailbox of a shared namespace"
    shared_head
}
deliver_dovecot_body()
{
    deliver_to_alice dovecot
}
deliver_dovecot_cleanup()
{
    scene_end
}

# Says lines at an address, as alice.
as_alice()
{
    { echo 'a LOGIN alice pass'; cat; echo 'z LOGOUT'; } | python3 -B "$TOP_SRC/tests/lib/talk.py" "$1" $IMAP_PORT
}

atf_test_case private_flags cleanup
private_flags_head()
{
    atf_set descr "INDEXPVT: each server sees the private flags that the other one wrote"
    shared_head
}
private_flags_body()
{
    scene_start ours "namespace pub {
  type = public
  separator = /
  prefix = Public/
  location = maildir:~/pub:INDEXPVT=~/pvt
  subscriptions = no
}
namespace inbox {
  separator = /
}"
    scene_second dovecot
    as_alice "$IP" >made <<END
b CREATE Public/Box
c APPEND Public/Box {15+}
Subject: x

1
d APPEND Public/Box (\\Seen) {15+}
Subject: y

1
e APPEND Public/Box {15+}
Subject: z

1
END
    for round in 1 2 3; do
        for at in "$IP" "$IP2"; do
            as_alice "$at" >state <<END
b SELECT Public/Box
c UID SEARCH SEEN
d STATUS Public/Box (UNSEEN)
e UID STORE 1 +FLAGS (\\Seen)
f UID STORE 2 -FLAGS (\\Seen)
END
            case "$round$at" in
            1$IP) want='* SEARCH 2' ;;
            2$IP) want='* SEARCH 1 3' ;;
            *) want='* SEARCH 1' ;;
            esac
            tr -d '\r' <state | grep -qxF "$want" || { cat state; atf_fail "round $round at $at: not $want"; }
            [ "$round$at" != "1$IP2" ] || printf 'b SELECT Public/Box\nc UID STORE 3 +FLAGS (\\Seen)\n' | as_alice "$at" >/dev/null
            [ "$round$at" != "2$IP" ] || printf 'b SELECT Public/Box\nc UID STORE 3 -FLAGS (\\Seen)\n' | as_alice "$at" >/dev/null
        done
    done
    atf_check -o empty find "$SCENE/home/alice/pub/.Box/cur" -name '*:2,*S*'
    scene_stop
    scene_log_is_clean
}
private_flags_cleanup()
{
    scene_end
}

# dovecot.index.thread, the real server's memory of what answers what: ours neither needs nor writes it, and what ours does to the
# mailbox leaves it good. What the real server says with it is what it says without, and what ours says.
atf_test_case thread cleanup
thread_head()
{
    atf_set descr "the real server's thread index survives what ours does to the mailbox"
    shared_head
}
threads_at()
{
    printf 'a LOGIN u pass\nb SELECT %s\nc THREAD REFERENCES utf-8 ALL\nd UID THREAD REFS utf-8 ALL\nz LOGOUT\n' "${2:-INBOX}" |
        python3 -B "$TOP_SRC/tests/lib/talk.py" "$1" $IMAP_PORT | grep '^\* THREAD'
}
thread_body()
{
    scene_start dovecot
    scene_second ours
    for n in 1 2 3 4 5 6; do
        printf 'Subject: s%d\nMessage-ID: <m%d@x>\nReferences: <m%d@x>\n\nx\n' $n $n $((n - 2)) | doveadm -c "$SCENE/dovecot.conf" save -u u || atf_fail "not saved"
    done
    threads_at "$IP" >first
    file=$SCENE/home/u/Maildir/dovecot.index.thread
    [ -s "$file" ] || atf_fail "the real server wrote no thread index"
    cp "$file" before
    threads_at "$IP2" >seen
    atf_check diff -u first seen
    # Ours expunges, appends an answer, flags.
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" expunge -u u mailbox INBOX uid 3,6 || atf_fail "not expunged"
    printf 'Subject: late\nMessage-ID: <m7@x>\nReferences: <m2@x> <m4@x>\n\nx\n' | "$OURS/doveadm" -c "$SCENE/dovecot.conf" save -u u
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" flags add -u u '\Seen' mailbox INBOX uid 1:2
    threads_at "$IP2" >ours
    atf_check cmp before "$file"
    threads_at "$IP" >with
    rm "$file"
    threads_at "$IP" >without
    atf_check diff -u without with
    atf_check diff -u without ours
    # It goes with the folder: another mailbox of that name begins anew.
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" mailbox create -u u Box
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" copy -u u Box mailbox INBOX all
    threads_at "$IP" Box >box
    [ -s "$SCENE/home/u/Maildir/.Box/dovecot.index.thread" ] || atf_fail "no thread index of Box"
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" mailbox delete -u u Box
    "$OURS/doveadm" -c "$SCENE/dovecot.conf" mailbox create -u u Box
    [ ! -e "$SCENE/home/u/Maildir/.Box/dovecot.index.thread" ] || atf_fail "a deleted mailbox leaves its thread index"
    scene_stop
    scene_log_is_clean
}
thread_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case thread
    atf_add_test_case private_flags
    atf_add_test_case deliver_ours
    atf_add_test_case deliver_dovecot
    atf_add_test_case with_dovecot
    atf_add_test_case two_dovecots
}

# The process ends at the N-th mutating call, before or after it, or that call fails or falls short, for all N of a
# change; then the decoder, a reader and a writer open the mailbox: there is the state before the change or the one
# after it, and no complaint.

tool="$TOP_BUILD/tests/index/index_tool"
dump="$TOP_SRC/tests/tools/dovecot-index-dump.py"

# prepare FAMILY
prepare()
{
    cp -r "$TOP_SRC/tests/index/golden/$1" box
    chmod -R u+w box
    "$tool" box flags + 1 3 02 , flags + 2 2 kept >/dev/null
    "$tool" -r box list >before
}

# run_all OPTIONS COMMAND...
run_all()
{
    options=$1
    shift
    cp -r box whole
    YARILO_TRACE_FD=9 "$tool" $options whole "$@" 9>trace >out 2>&1 || atf_fail "fails without a fault: $(cat out)"
    calls=$(wc -l <trace)
    [ "$calls" -gt 1 ] || atf_fail "no calls"
    "$tool" -r whole list >after
    for how in exit-before exit-after fail,err=ENOSPC short,keep=7; do
        n=1
        while [ $n -le $calls ]; do
            rm -rf copy
            cp -r box copy
            YARILO_FAULT="at=$n,how=$how" "$tool" $options copy "$@" >out 2>&1
            check "$how at call $n of $calls"
            n=$((n + 1))
        done
    done
    echo "$calls calls, each with 4 faults"
}

# Modseqs may go on where a purge or another record came between.
plain()
{
    sed 's/modseq=[0-9]*//g' "$1"
}

check()
{
    python3 "$dump" --state copy/dovecot.index >state 2>err || atf_fail "$1: decoder: $(cat err)"
    "$tool" -r copy list >seen 2>err || atf_fail "$1: reader: $(cat err)"
    [ ! -s err ] || atf_fail "$1: reader: $(cat err)"
    plain seen >seen.plain
    plain before >before.plain
    plain after >after.plain
    cmp -s seen.plain before.plain || cmp -s seen.plain after.plain ||
        atf_fail "$1: neither the old nor the new state: $(diff before seen)"
    "$tool" copy flags + 1 1 10 , flags - 1 1 10 , cache >out 2>err || atf_fail "$1: writer: $(cat err)"
    grep -v 'cutting off' err >complaints && atf_fail "$1: writer: $(cat complaints)"
    "$tool" -r copy list >again
    plain again | cmp - seen.plain || atf_fail "$1: a writer changed more than it was told"
}

common_head()
{
    atf_set descr "$1"
    atf_set require.progs python3
    atf_set timeout 900
}

atf_test_case commit
commit_head() { common_head "appending records"; }
commit_body()
{
    prepare maildir-inbox
    run_all "" flags + 1 99 08
}

atf_test_case append
append_head() { common_head "appending messages with cached fields"; }
append_body()
{
    prepare sdbox-rotated
    run_all "-o always=size.virtual" append 3
}

atf_test_case rotate
rotate_head() { common_head "rotating the log and rewriting the base index"; }
rotate_body()
{
    prepare sdbox-reset
    run_all "" rotate
}

atf_test_case rewrite
rewrite_head() { common_head "rewriting the base index"; }
rewrite_body()
{
    prepare sdbox-reset
    run_all "" rewrite
}

atf_test_case purge
purge_head() { common_head "purging the cache"; }
purge_body()
{
    prepare maildir-inbox
    run_all "" purge
}

# ---- with the real server ----

# A store of its own in $store, as the user that doveadm may be.
prepare_oracle()
{
    store=$(mktemp -d /tmp/yarilo-crash.XXXXXX)
    echo "$store" >store.dir
    if [ "$(id -u)" = 0 ]; then
        uid=65534 gid=65534
        as="setpriv --reuid=65534 --regid=65534 --clear-groups"
    else
        uid=$(id -u) gid=$(id -g) as=
    fi
    cp "$tool" "$store/tool"
    cat >"$store/conf" <<END
base_dir = $store/run
log_path = $store/log
ssl = no
mail_location = sdbox:$store/mail
mail_uid = $uid
mail_gid = $gid
first_valid_uid = 0
first_valid_gid = 0
END
    chown -R $uid:$gid "$store"
    for i in 1 2 3 4 5; do
        printf 'Subject: m%d\n\nbody\n' $i | oracle save -m INBOX || atf_fail "doveadm save"
    done
    oracle fetch 'uid flags size.virtual hdr.subject' mailbox INBOX >/dev/null
    oracle flags add '\Seen first' mailbox INBOX uid 2
}

oracle()
{
    HOME=$store USER=$(id -un $uid) doveadm -c "$store/conf" "$@" 2>>"$store/errors"
}

oracle_run()
{
    box=mail/mailboxes/INBOX/dbox-Mails
    oracle fetch 'uid flags' mailbox INBOX >before
    cp -a "$store/mail" "$store/whole"
    YARILO_TRACE_FD=9 $as "$store/tool" "$store/$box" "$@" 9>trace >/dev/null || atf_fail "fails without a fault"
    calls=$(wc -l <trace)
    oracle fetch 'uid flags' mailbox INBOX >after
    for how in exit-before exit-after fail,err=EIO; do
        n=1
        while [ $n -le $calls ]; do
            rm -rf "$store/mail"
            cp -a "$store/whole" "$store/mail"
            YARILO_FAULT="at=$n,how=$how" $as "$store/tool" "$store/$box" "$@" >/dev/null 2>&1
            oracle fetch 'uid flags' mailbox INBOX >seen || atf_fail "$how at $n: doveadm: $(cat "$store/errors")"
            cmp -s seen before || cmp -s seen after || atf_fail "$how at $n: $(diff before seen)"
            oracle flags add last mailbox INBOX uid 1 || atf_fail "$how at $n: doveadm: $(cat "$store/errors")"
            n=$((n + 1))
        done
    done
    [ ! -s "$store/errors" ] || atf_fail "doveadm: $(cat "$store/errors")"
    [ ! -s "$store/log" ] || atf_fail "log: $(cat "$store/log")"
    echo "$calls calls, each with 3 faults"
}

oracle_cleanup()
{
    [ -f store.dir ] && rm -rf "$(cat store.dir)"
    true
}

for change in flags rotate purge; do
    atf_test_case oracle_$change cleanup
    eval "oracle_${change}_head() {
        atf_set descr 'the real server opens what a fault left of: $change'
        atf_set require.progs 'python3 doveadm'
        atf_set timeout 900
    }
    oracle_${change}_cleanup() { oracle_cleanup; }"
done
oracle_flags_body() { prepare_oracle; oracle_run flags + 1 9 second; }
oracle_rotate_body() { prepare_oracle; oracle_run rotate; }
oracle_purge_body() { prepare_oracle; oracle_run purge; }

atf_init_test_cases()
{
    atf_add_test_case commit
    atf_add_test_case append
    atf_add_test_case rotate
    atf_add_test_case rewrite
    atf_add_test_case purge
    atf_add_test_case oracle_flags
    atf_add_test_case oracle_rotate
    atf_add_test_case oracle_purge
}

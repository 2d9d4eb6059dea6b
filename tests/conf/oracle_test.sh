# doveconf beside the real one, on the packaged configuration and on realistic cases of the corpus, with all its forms.
OPTIONS='-n
-a
-d
-s
-N
-S
-S -n
-S -N
-m imap
-m auth -n
-m doveadm
-f service=imap -n
-f service=imap -N
-f service=imap -S -N
-f service=lmtp -a
-f service=imap -f remote=10.0.0.1 -f lname=mail.example.com -n
-h mail_location
-h login_greeting
service
plugin
-S service
-P -n
-d -S
-x -n'

normalise() {
    sed -e '1s/^# .*: \(.*\)$/# VERSION: \1/' -e '/^# Pigeonhole version /d' -e 's/^# OS: .*/# OS/' \
        -e 's/^# Hostname: .*/# HOST/' "$1"
}

compare() { # folder file
    ( cd "$1" && echo "$OPTIONS" | while read -r options; do
        DUMP_CAPABILITY=1 doveconf -c "$2" $options >"$work/out.real" 2>"$work/err.real"; echo $? >"$work/exit.real"
        DUMP_CAPABILITY=1 "$TOP_BUILD/compat/bin/doveconf" -c "$2" $options >"$work/out.ours" 2>"$work/err.ours"
        echo $? >"$work/exit.ours"
        normalise "$work/out.real" >"$work/norm.real"; normalise "$work/out.ours" >"$work/norm.ours"
        for what in norm err exit; do
            diff -u "$work/$what.real" "$work/$what.ours" || { echo "$1/$2 $options: $what differs"; exit 1; }
        done
    done )
}

atf_test_case oracle
oracle_head() {
    atf_set descr "doveconf equals the installed Dovecot's on its own and on realistic configurations"
    atf_set require.progs doveconf
    atf_set timeout 600
}
oracle_body() {
    work=$PWD
    if [ -f /etc/dovecot/dovecot.conf ]; then
        compare /etc/dovecot dovecot.conf || atf_fail "the packaged configuration"
    fi
    for case in r01-virtual-users-sql r02-ldap-auth r04-postfix-sieve-managesieve r05-quota-full r06-acl-shared r08-director \
        r09-backend r12-mdbox-sis-attachments r16-lazy-expunge-trash-virtual r19-submission r23-debian-layout t29-filters; do
        compare "$TOP_SRC/tests/conf/corpus/$case" dovecot.conf || atf_fail "$case"
    done
}

atf_test_case damaged
damaged_head() {
    atf_set descr "doveconf says of damaged configurations what the installed Dovecot's says, word by word"
    atf_set require.progs doveconf
    atf_set timeout 3600
}
damaged_body() {
    rounds=150
    [ -z "$YARILO_LONG" ] || rounds=5000
    python3 "$TOP_SRC/tests/conf/damaged.py" "$TOP_SRC/tests/conf/corpus" "$(command -v doveconf)" \
        "$TOP_BUILD/compat/bin/doveconf" 1 $rounds >out || { head -c 20000 out; atf_fail "$(tail -1 out)"; }
}

atf_init_test_cases() {
    atf_add_test_case oracle
    atf_add_test_case damaged
}

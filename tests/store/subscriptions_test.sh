# Lines of a subscriptions file that no name could be: both servers tell of them, list them not, and ours takes them out.

atf_test_case invalid
invalid_head()
{
    atf_set descr "invalid entries are told of as by the real server"
    atf_set require.user unprivileged
    atf_set require.progs "doveadm"
}

# listed WHO LAYOUT LINE: what is subscribed to, and the log
listed()
{
    prog=doveadm
    [ "$1" = real ] || prog=$TOP_BUILD/compat/bin/doveadm
    rm -rf home
    mkdir -p home/m/new home/m/cur home/m/tmp
    printf 'base_dir = %s\nmail_location = maildir:~/m:LAYOUT=%s\nstats_writer_socket_path =\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n' "$PWD" "$2" >dovecot.conf
    printf 'namespace inbox {\n  inbox = yes\n}\n' >>dovecot.conf
    printf "V\t2\n\nok1\n$3\nok2\n" >home/m/subscriptions
    env USER=u HOME="$PWD/home" "$prog" -c dovecot.conf mailbox list -s >names 2>log || atf_fail "$1, $3: $(cat log)"
    sort names
    sed 's/^.*Warning: //' log
}

invalid_body()
{
    for layout in maildir++ fs; do
        for line in '../etc' 'foo/bar' '~y' '\xff' 'a//b' '/abs' './x' 'a\t..\tb' 'a\tb/c' 'ok3' '*' 'x\x01nq'; do
            case "$layout $line" in
            'maildir++ a\t..\tb') continue ;; # a..b, which the real server lists; we list nothing that could not be opened
            esac
            listed real $layout "$line" >real
            listed ours $layout "$line" >ours
            cmp -s real ours || { diff -u real ours; atf_fail "$layout, $line"; }
            grep -qx ok1 ours && grep -qx ok2 ours || { cat ours; atf_fail "$layout, $line: the others are gone"; }
            if grep -aq 'Removing invalid entry' ours; then
                # Gone from the file: the second time there is nothing to tell of.
                env USER=u HOME="$PWD/home" "$TOP_BUILD/compat/bin/doveadm" -c dovecot.conf mailbox list -s 2>&1 | sort >again
                printf 'ok1\nok2\n' | cmp -s - again || { cat again; atf_fail "$layout, $line: it is still there"; }
            fi
        done
    done
}

# Names of a namespace that keeps no file stand in its parent's: the prefix as clients see it, the name as it is stored.
atf_test_case guests
guests_head()
{
    atf_set descr "subscriptions of namespaces without a file of their own"
    atf_set require.user unprivileged
    atf_set require.progs "doveadm"
}

# guests WHO SEPARATOR LINES: what both commands and the list say, and the file
guests()
{
    prog=doveadm
    [ "$1" = real ] || prog=$TOP_BUILD/compat/bin/doveadm
    rm -rf home pub
    mkdir -p home/m/cur home/m/new home/m/tmp pub
    printf 'base_dir = %s\nmail_location = maildir:~/m\nstats_writer_socket_path =\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n' "$PWD" >dovecot.conf
    printf 'namespace inbox {\n  inbox = yes\n  separator = %s\n}\n' "$2" >>dovecot.conf
    printf 'namespace p {\n  prefix = pub%s\n  separator = %s\n  location = maildir:%s\n  subscriptions = no\n}\n' "$2" "$2" "$PWD/pub" >>dovecot.conf
    printf "$3" >home/m/subscriptions
    for words in "subscribe pub$2team$2x a$2b pub$2one" "unsubscribe pub$2one pub$2old" "list -s"; do
        env USER=u HOME="$PWD/home" "$prog" -c dovecot.conf mailbox $words 2>&1
    done | sort # the real server tells of a line when it looks at the file, which more of its commands do
    sort home/m/subscriptions
}

guests_body()
{
    for separator in / .; do
        for lines in '' 'pub/team.y\npub/old\npub.z\nc\n' 'V\t2\n\npub/team\ty\npub/old\nc\n'; do
            guests real $separator "$lines" >real
            guests ours $separator "$lines" >ours
            cmp -s real ours || { diff -u real ours; atf_fail "separator $separator, '$lines'"; }
            grep -q team ours || { cat ours; atf_fail "separator $separator, '$lines': nothing is subscribed to"; }
        done
    done
}

atf_init_test_cases()
{
    atf_add_test_case guests
    atf_add_test_case invalid
}

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

atf_init_test_cases()
{
    atf_add_test_case invalid
}

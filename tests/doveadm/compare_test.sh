# The same commands with the real doveadm and with ours, each on its own copy of one Maildir: exit status, standard output and
# standard error are equal. The commands are in the file commands; a line that begins with "~" names several mailboxes, whose
# order is the store's affair, so its lines are compared sorted.

as_user()
{
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$MAIL_UID" --regid="$MAIL_GID" --clear-groups "$@"
    else
        "$@"
    fi
}

# run COPY PROGRAM LINE: leaves COPY.out, COPY.err, COPY.rc.
run()
{
    as_user env USER=alice HOME="$SCENE/$1" TZ=UTC ASAN_OPTIONS=detect_leaks=0 sh -c "$2 -c $SCENE/c.conf $3" \
        >"$1.out" 2>"$1.err" </dev/null
    echo $? >"$1.rc"
    for part in "$1.out" "$1.err"; do
        sed "s|$SCENE/$1|HOME|g; s/<[0-9][0-9]*>/<PID>/; s/\[20[0-9][0-9]-[0-9: -]*\]/[STAMP]/" "$part" >text
        mv text "$part"
    done
}

atf_test_case same cleanup
same_head()
{
    atf_set descr 'commands on copies of a Maildir answer as the real ones'
    atf_set require.progs 'doveadm'
}
same_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nmail_attribute_dict = file:%%h/attributes\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n}\n' \
        "$SCENE" >"$SCENE/c.conf"
    mkdir "$SCENE/gold"
    chown "$MAIL_USER" "$SCENE" "$SCENE/gold"
    real="as_user env USER=alice HOME=$SCENE/gold doveadm -c $SCENE/c.conf"
    $real mailbox create Work Work.2021 Drafts Entwürfe || atf_fail "the store cannot be made"
    for mail in mime enc plain second broken; do
        $real save <"$TOP_SRC/tests/recordings/imap/fixture/$mail.eml"
        $real save -m Work <"$TOP_SRC/tests/recordings/imap/fixture/$mail.eml"
    done
    # One as other programs leave it, with CRLF.
    printf 'Subject: crlf\r\n\r\none\r\ntwo' >"$SCENE/gold/Maildir/cur/1600000000.M1P1.crlf:2,S"
    chown "$MAIL_USER" "$SCENE/gold/Maildir/cur/1600000000.M1P1.crlf:2,S"
    $real flags add '\Seen foo' mailbox INBOX 2:4
    $real flags add '\Flagged' mailbox Work 1
    cp -a "$SCENE/gold" "$SCENE/theirs"
    cp -a "$SCENE/gold" "$SCENE/ours"
    bad=0 count=0
    while IFS= read -r line; do
        case $line in '' | '#'*) continue ;; esac
        plain=${line#\~}
        run theirs doveadm "$plain"
        run ours "$OURS/doveadm" "$plain"
        if [ "$plain" != "$line" ]; then
            for copy in theirs ours; do
                sort -o $copy.out $copy.out
            done
        fi
        count=$((count + 1))
        for part in rc out err; do
            cmp -s theirs.$part ours.$part || { bad=$((bad + 1)); echo "$part: $plain"; diff theirs.$part ours.$part | head -12; }
        done
    done <"$TOP_SRC/tests/doveadm/commands"
    [ $count -gt 60 ] || atf_fail "only $count commands"
    [ $bad = 0 ] || atf_fail "$bad differences in $count commands"
}
same_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

atf_test_case privileges
privileges_head()
{
    atf_set descr "root without -u works as mail_uid says, or not at all: mail never belongs to root"
    atf_set require.user root
    atf_set require.progs doveadm
}
privileges_body()
{
    chmod 755 .
    n=0
    for ids in 'mail_uid = mail|mail_gid = mail' '' 'mail_uid = mail'; do
        for program in doveadm "$TOP_BUILD/compat/bin/doveadm"; do
            n=$((n + 1))
            mkdir home$n && chown mail:mail home$n
            {
                printf 'base_dir = %s/run\nlog_path = /dev/stderr\nmail_location = maildir:~/Maildir\nfirst_valid_uid = 1\nssl = no\n' "$PWD"
                printf 'namespace inbox {\n  inbox = yes\n}\n'
                echo "$ids" | tr '|' '\n'
            } >conf
            printf 'Subject: x\n\nx\n' | USER=alice HOME=$PWD/home$n "$program" -c conf save >out$n 2>err$n
            echo "status $?" >>out$n
            [ ! -e home$n/Maildir ] || stat -c 'Maildir of %U %G' home$n/Maildir >>out$n
        done
        atf_check -o file:out$((n - 1)) cat out$n
        atf_check -o file:err$((n - 1)) cat err$n
    done
}

atf_init_test_cases()
{
    atf_add_test_case same
    atf_add_test_case privileges
}

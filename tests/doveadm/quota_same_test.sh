# quota get and quota recalc with the real doveadm and with ours, each on its own copy of one Maildir: with every backend both say the same,
# also of usage that has become wrong, and leave the same files.

# run COPY PROGRAM ARGUMENT...: adds what it says to COPY.said.
run()
{
    copy=$1 called=$2
    shift 2
    {
        echo "+ $*"
        as_user env USER=alice HOME="$SCENE/$copy" TZ=UTC ASAN_OPTIONS=detect_leaks=0 "$called" -c "$SCENE/c.conf" "$@" </dev/null
        echo "= $?"
    } >>"$copy.said" 2>&1
}

# The files of the backends; a file dict has its keys in no order.
files()
{
    [ ! -f "$SCENE/$1/Maildir/maildirsize" ] || cat "$SCENE/$1/Maildir/maildirsize" >>"$1.said"
    [ ! -f "$SCENE/$1/quota" ] || paste - - <"$SCENE/$1/quota" | sort >>"$1.said"
}

same()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nstats_writer_socket_path =\nmail_plugins = quota\nnamespace inbox {\n  inbox = yes\n}\n' \
        "$SCENE" >"$SCENE/c.conf"
    printf 'plugin {\n  quota = %s\n  quota_vsizes = yes\n  quota_rule = *:storage=10k:messages=20\n  quota_rule2 = Trash:ignore\n}\n' "$1" >>"$SCENE/c.conf"
    mkdir "$SCENE/theirs"
    chown "$MAIL_USER" "$SCENE" "$SCENE/theirs"
    real="as_user env USER=alice HOME=$SCENE/theirs doveadm -c $SCENE/c.conf"
    $real mailbox create Work Trash || atf_fail "the store cannot be made"
    for box in INBOX INBOX Work Trash; do
        printf 'Subject: %s\n\nsaved\n' $box | $real save -m $box 2>/dev/null || atf_fail "not saved"
    done
    cp -a "$SCENE/theirs" "$SCENE/ours"
    for copy in theirs ours; do
        program=doveadm
        [ $copy = theirs ] || program=$OURS/doveadm
        : >$copy.said
        run $copy "$program" quota get
        files $copy
        run $copy "$program" -ftab quota get
        # A mail that nobody has counted, and sums that are wrong.
        printf 'Subject: x\n\nother\n' >"$SCENE/$copy/Maildir/cur/1600000000.M1P1.x:2,S"
        chown "$MAIL_USER" "$SCENE/$copy/Maildir/cur/1600000000.M1P1.x:2,S"
        for file in Maildir/maildirsize quota; do
            [ ! -f "$SCENE/$copy/$file" ] || sed -i 's/^[0-9][0-9]*$/999/' "$SCENE/$copy/$file"
        done
        run $copy "$program" quota get
        run $copy "$program" quota recalc
        files $copy
        run $copy "$program" quota get
        # Nothing to begin with.
        rm -f "$SCENE/$copy/Maildir/maildirsize" "$SCENE/$copy/quota"
        rm -f "$SCENE/$copy"/Maildir/dovecot.index* "$SCENE/$copy"/Maildir/.Work/dovecot.index*
        run $copy "$program" quota get
        run $copy "$program" quota recalc
        files $copy
        run $copy "$program" -fflow quota get
    done
    sed -i "s|$SCENE/[a-z]*/|HOME/|g; s/<[0-9][0-9]*>/<PID>/" theirs.said ours.said
    grep -q '10' theirs.said || atf_fail "the real one says nothing: $(cat theirs.said)"
    atf_check diff -u theirs.said ours.said
}

for backend in count maildir dict dirsize; do
    root="$backend:User quota"
    [ $backend != dict ] || root='dict:User quota::file:%h/quota'
    atf_test_case $backend cleanup
    eval "${backend}_head() { atf_set require.progs 'doveadm'; }
          ${backend}_body() { same '$root'; }
          ${backend}_cleanup() { . \"\$TOP_SRC/tests/lib/scene.sh\"; scene_end; }"
done

# Rules in the words of the backend: only of maildir, only whole.
atf_test_case backend_rules cleanup
backend_rules_head() { atf_set require.progs 'doveadm'; }
backend_rules_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nstats_writer_socket_path =\nmail_plugins = quota\nnamespace inbox {\n  inbox = yes\n}\n' \
        "$SCENE" >"$SCENE/c.conf"
    chown "$MAIL_USER" "$SCENE"
    for copy in theirs ours; do
        program=doveadm
        [ $copy = theirs ] || program=$OURS/doveadm
        mkdir "$SCENE/$copy"
        chown "$MAIL_USER" "$SCENE/$copy"
        : >$copy.said
        printf 'Subject: x\n\nsaved\n' | as_user env USER=alice HOME="$SCENE/$copy" ASAN_OPTIONS=detect_leaks=0 $program -c "$SCENE/c.conf" save
        for rule in '*:backend=2000000S,5C' '*:backend=1000C' '*:backend=' '*:backend=foo' '*:storage=10M:backend=3C' 'INBOX:backend=+5C' '*:backend=3C:messages=7'; do
            rm -f "$SCENE/$copy/Maildir/maildirsize"
            run $copy $program -o 'plugin/quota=maildir:U' -o "plugin/quota_rule=$rule" quota get
            [ ! -f "$SCENE/$copy/Maildir/maildirsize" ] || sed 1q "$SCENE/$copy/Maildir/maildirsize" >>$copy.said
        done
        run $copy $program -o 'plugin/quota=count:U' -o plugin/quota_vsizes=yes -o "plugin/quota_rule=*:backend=5C" quota get
    done
    atf_check diff -u theirs.said ours.said
}
backend_rules_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_init_test_cases()
{
    atf_add_test_case backend_rules
    atf_add_test_case count
    atf_add_test_case maildir
    atf_add_test_case dict
    atf_add_test_case dirsize
}

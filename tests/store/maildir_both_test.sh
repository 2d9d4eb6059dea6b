# Damage that a Maildir's files may have (maildir-and-layouts 8), seen by the real server and by ours: the same messages with the same
# UIDs and flags, the same files afterwards, the same words in the log.

prepare()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/m\nstats_writer_socket_path =\nlog_path = /dev/stderr\n' "$SCENE" >"$SCENE/c.conf"
    store=$SCENE/store
    mkdir "$store"
    chown "$MAIL_USER" "$SCENE" "$store"
    for n in a b c; do
        printf 'Subject: %s\n\nbody\n' $n | scene_doveadm real save || atf_fail "the store cannot be made"
    done
    cp -a "$store" "$SCENE/base"
}

# both WHAT COMMANDS: shell commands that damage the mailbox they stand in, then both look twice
both()
{
    for who in real ours; do
        rm -rf "$store"
        cp -a "$SCENE/base" "$store"
        (cd "$store/m" && eval "$2") || atf_fail "$1: no damage"
        {
            for round in 1 2; do
                scene_doveadm $who fetch 'uid flags guid hdr.subject' all 2>&1
            done
            cut -d' ' -f1 "$store/m/dovecot-uidlist"
            [ ! -e "$store/m/dovecot-keywords" ] || cat "$store/m/dovecot-keywords"
        } | grep -vE 'leaked \(parent|^hdr.subject: *$' >$who
    done
    cmp -s real ours || { diff real ours; bad="$bad '$1'"; }
}

result()
{
    [ -z "$bad" ] || atf_fail "different:$bad"
}

head()
{
    atf_set require.progs 'doveadm'
}

atf_test_case uidlist cleanup
uidlist_head() { head; }
uidlist_body()
{
    prepare
    for change in 's/^2 .*/x2 :foo/' 's/^3 /2 /' 's/^2 /4294967295 /' 's/^2 :/2 /' '1s/^3/7/' '1s/V[0-9]*/V0/' '1s/N[0-9]*/N0/' \
        '1s/G.*/Gzz/' '1s/.*/3/' 's|^2 :|2 :a/b|' 's/^2 :/2 x7 y8 :/' '1s/ G.*//' '1s/$/ Znew/' 's/^2 :/2 Qx  P :/'; do
        both "$change" "sed -i '$change' dovecot-uidlist"
    done
    both twice 'sed -i "\$d" dovecot-uidlist; sed -n "2s/^1 /9 /p" dovecot-uidlist >line; cat line >>dovecot-uidlist; rm line dovecot.index*'
    both lost 'rm dovecot-uidlist'
    result
}
uidlist_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case keywords cleanup
keywords_head() { head; }
keywords_body()
{
    prepare
    letters='mv new/* cur/; cd cur; for f in *; do mv "$f" "$f:2,SXabcdg"; done'
    both twice "printf '0 a\n3 A\n2 KW\n' >dovecot-keywords; $letters"
    both space "printf '3 a b\n1 c\n' >dovecot-keywords; $letters"
    both none "$letters"
    result
}
keywords_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case names cleanup
names_head() { head; }
names_body()
{
    prepare
    both names 'for n in "1.M1P1.h:2,SXa" "1.M2P1.h:2,FS,extra" "1.M3P1.h:1,abc" "1.M4P1.h" "1.M5P1.h:2,SS" "1.M6P1.h:2,:2,F"; do
            printf "Subject: x\n\nx\n" >"cur/$n"; done
        for n in 5.M9P1.h 5.M10P1.h 4.x abc 5.a .hidden "7.x:2,T"; do printf "Subject: x\n\nx\n" >"new/$n"; done'
    result
}
names_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# The index is lost: what lies in cur/ has been seen, but for what a conversion was about to put there.
atf_test_case given cleanup
given_head() { head; }
given_body()
{
    prepare
    for given in '' dovecot-uidlist.given.tmp; do
        rm -rf "$store"
        cp -a "$SCENE/base" "$store"
        (cd "$store/m" && for f in new/*; do mv "$f" "cur/${f#new/}:2,F"; done && rm -f dovecot.index* && [ -z "$given" ] || as_user touch "$given")
        scene_doveadm ours mailbox status 'messages recent' INBOX
        [ -z "$given" ] || [ ! -e "$store/m/$given" ] || atf_fail "$given is still there"
    done >seen
    atf_check -o inline:'INBOX messages=3 recent=0\nINBOX messages=3 recent=3\n' cat seen
}
given_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# What takes half a minute is told of. The numbers of names and why= are each server's own.
atf_test_case slow cleanup
slow_head() { head; }
slow_body()
{
    prepare
    cc -shared -fPIC -o "$SCENE/jump.so" "$TOP_SRC/tests/tools/clock_jump.c" || atf_fail "clock_jump.c"
    echo 'import_environment = $import_environment LD_PRELOAD' >>"$SCENE/c.conf"
    for who in real ours; do
        rm -rf "$store"
        cp -a "$SCENE/base" "$store"
        scene_doveadm $who fetch uid all >/dev/null
        mv "$store"/m/new/* "$store/m/cur/"
        PRELOAD=$SCENE/jump.so scene_doveadm $who fetch uid all >$who.all 2>&1
        scene_doveadm $who flags add '\Seen' 1:2
        PRELOAD=$SCENE/jump.so scene_doveadm $who force-resync INBOX >>$who.all 2>&1
        grep 'Warning: Maildir' $who.all | sed 's/([0-9]* readdir.*/(/' >$who
    done
    atf_check -o match:'Scanning .*/m/cur took 31 seconds' -o match:'Synchronization took 31 seconds' cat real
    cmp -s real ours || atf_fail "$(diff real.all ours.all)"
    atf_check -o match:'Scanning .*/m/cur took 31 seconds \(3 readdir\(\)s, 0 rename\(\)s to cur/, why=0xc\)' cat ours.all
}
slow_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_init_test_cases()
{
    atf_add_test_case slow
    atf_add_test_case given
    atf_add_test_case uidlist
    atf_add_test_case keywords
    atf_add_test_case names
}

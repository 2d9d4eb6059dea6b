# What others leave in a Maildir, and what happens to it (maildir-and-layouts 8; known-faults, store).


mail()
{
    printf 'From: a@example.org\nSubject: %s\n\nbody\n' "$1"
}

prepare()
{
    cat >store <<END
#!/bin/sh
exec timeout 30 "$TOP_BUILD/tests/tools/storetool" -u u -h "$PWD" -l "${location:-maildir:~/m}" "\$@"
END
    chmod 755 store
    mail one >one
    ./store save INBOX - one one >/dev/null || atf_fail "cannot save"
}

atf_test_case odd_files
odd_files_body()
{
    prepare
    mkfifo m/cur/1.M1P1.h:2,S m/new/fifo
    mkdir m/cur/folder
    mail secret >secret
    ln -s "$PWD/secret" m/cur/2.M1P1.h:2,
    atf_check -o match:'messages=3' -e match:'Ignoring what is not a file' ./store sync INBOX
    atf_check -s exit:1 -e match:'symbolic link' ./store body INBOX 3
}

atf_test_case order
order_body()
{
    prepare
    for name in 5.M9P1.h 5.M10P1.h 4.x abc 5.a; do mail "$name" >m/new/$name; done
    atf_check -o match:'messages=7' ./store sync INBOX
    atf_check -o inline:'3 :abc\n4 :4.x\n5 :5.M9P1.h\n6 :5.M10P1.h\n7 :5.a\n' sed -n '4,$p' m/dovecot-uidlist
}

atf_test_case flags
flags_body()
{
    prepare
    mail x >'m/cur/1.M1P1.h:2,SXa'; mail x >'m/cur/2.M1P1.h:2,FS,extra'; mail x >'m/cur/3.M1P1.h:1,abc'; mail x >m/cur/4.M1P1.h
    atf_check -o match:'messages=6' ./store sync INBOX
    ./store dump INBOX | sed -n 's/.*"uid": \([3-6]\), "flags": \(\[[^]]*\]\).*/\1 \2/p' >got
    atf_check -o inline:'3 ["\\\\Seen", "unknown-0"]\n4 ["\\\\Flagged", "\\\\Seen"]\n5 []\n6 []\n' cat got
    atf_check ./store flags INBOX 3,4,6 +Answered
    atf_check -o ignore ls 'm/cur/1.M1P1.h:2,RSXa' 'm/cur/2.M1P1.h:2,FRS,extra' 'm/cur/4.M1P1.h:2,R'
}

atf_test_case keywords
keywords_body()
{
    prepare
    atf_check ./store flags INBOX 1 "+$(seq -s, -f k%g 30)"
    atf_check -o match:'^ *26 ' wc -l m/dovecot-keywords
    atf_check -o match:'"k30"' ./store dump INBOX
    rm m/dovecot.index*
    ./store dump INBOX >after
    atf_check -o match:'"k26"' cat after
    atf_check -s exit:1 grep '"k27"' after
}

atf_test_case doubled
doubled_body()
{
    prepare
    mail one >'m/cur/7.M1P1.h:2,S'; mail two >m/new/7.M1P1.h
    atf_check -o match:'messages=4' -e match:'Fixed a duplicate' ./store sync INBOX
    atf_check -o match:'^ *4 ' sh -c 'ls m/new m/cur | grep -c M | sed "s/^/ /;s/$/ /"'
}

atf_test_case wrong_size
wrong_size_body()
{
    prepare
    mail "longer than the name says" >'m/cur/9.M1P1.h,S=10,W=12:2,'
    ./store sync INBOX >/dev/null
    atf_check -o match:longer ./store body INBOX 3
    # The first look that reads it as a whole mends the record; UID and GUID stay.
    ./store dump INBOX >dump 2>log
    atf_check -o match:'corrected in uidlist' cat log
    atf_check -o match:'"uid": 3.*"size": 65.*"guid": "9.M1P1.h,S=10,W=12"' ./store dump INBOX
}

atf_test_case renamed
renamed_body()
{
    prepare
    ./store select INBOX >/dev/null
    file=$(ls m/cur | head -n 1)
    mv "m/cur/$file" "m/cur/${file}FS"
    atf_check -o match:body ./store body INBOX 1
    ./store dump INBOX | sed -n 's/.*"uid": 1, "flags": \(\[[^]]*\]\).*/\1/p' >got
    atf_check -o inline:'["\\\\Flagged", "\\\\Seen"]\n' cat got
}

atf_test_case lost_uidlist
lost_uidlist_body()
{
    prepare
    validity=$(sed -n 's/^3 V\([0-9]*\) .*/\1/p' m/dovecot-uidlist)
    rm m/dovecot-uidlist
    atf_check -o match:"messages=2 .*uidnext=5 uidvalidity=$validity" ./store status INBOX
    rm m/dovecot.index*
    atf_check -o match:"messages=2 .*uidnext=5 uidvalidity=$validity" ./store status INBOX
    rm m/dovecot-uidlist m/dovecot.index*
    atf_check -o match:'messages=2 .*uidnext=3' ./store status INBOX
    atf_check -o not-match:"uidvalidity=$validity" ./store status INBOX
}

atf_test_case broken_uidlist
broken_uidlist_body()
{
    prepare
    printf 'rubbish\n' >>m/dovecot-uidlist
    atf_check -o match:'messages=2' -e match:'Broken.*Invalid data: rubbish' ./store sync INBOX
    atf_check -o match:'messages=2 .*uidnext=3' ./store status INBOX
    atf_check -s exit:1 grep rubbish m/dovecot-uidlist
}

atf_test_case unmounted
unmounted_body()
{
    location='maildir:~/m:INDEX=~/i:CONTROL=~/c'
    prepare
    mv m away
    atf_check -s exit:1 -e match:'is its file system mounted' ./store sync INBOX
    atf_check -s exit:1 -e match:'is its file system mounted' ./store save INBOX - one
    mv away m
    atf_check -o match:'messages=2 uidnext=3' ./store sync INBOX
}

atf_test_case half_made
half_made_body()
{
    # What is to be seen while another process makes the mailbox: one folder after the other.
    prepare
    mv m/new/* m/cur/
    rmdir m/new
    atf_check -o match:'messages=2' ./store sync INBOX
}

atf_test_case trash
trash_body()
{
    prepare
    mkdir -p m/..DOVECOT-TRASHED/cur
    mail x >m/..DOVECOT-TRASHED/cur/1.M1P1.h:2,
    ./store list >/dev/null
    atf_check test -d m/..DOVECOT-TRASHED # a delete that may still be going on
    touch -d '2 hours ago' m/..DOVECOT-TRASHED
    atf_check -o match:INBOX -o not-match:TRASH ./store list
    atf_check test ! -e m/..DOVECOT-TRASHED
}

atf_test_case old_lock
old_lock_body()
{
    prepare
    # A dead process of this host: taken over. One that lives: waited for.
    sh -c 'echo $$' >dead
    printf '%s:%s' "$(cat dead)" "$(uname -n)" >m/dovecot-uidlist.lock
    touch -d '10 seconds ago' m/dovecot-uidlist.lock
    atf_check -o ignore ./store save INBOX - one
    printf '%s:%s' "$$" "$(uname -n)" >m/dovecot-uidlist.lock
    touch -d '10 minutes ago' m/dovecot-uidlist.lock
    atf_check -s exit:124 timeout 2 ./store save INBOX - one
    rm m/dovecot-uidlist.lock
    atf_check -o match:'uids=4' ./store save INBOX - one
}

# What the real server's doveadm finds in the cache after our save, without anybody having looked at the message.
atf_test_case cached
cached_body()
{
    prepare
    sed -i 's/storetool" /storetool" -o "mail_always_cache_fields=hdr.subject size.virtual imap.bodystructure" /' store
    printf 'Subject: parts\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\ntext\n--x--\n' >parts
    ./store save INBOX - parts >/dev/null || atf_fail "cannot save"
    python3 "$TOP_SRC/tests/tools/dovecot-index-dump.py" m/dovecot.index.cache >dump || atf_fail "decoder"
    tac dump | sed '/^record/q' | sed -n 's/^  cached \([^:]*\):.*/\1/p' | sort >fields
    atf_check -o inline:'flags\nhdr.subject\nimap.bodystructure\nmime.parts\nsize.virtual\n' cat fields
    atf_check -o match:'hdr.subject: lines=1 text=Subject: parts' cat dump
    # A mailbox made now begins with these decisions, and a copy takes the values along.
    ./store create other && ./store copy INBOX 3 other >/dev/null || atf_fail "cannot copy"
    atf_check -o match:'hdr.subject: lines=1 text=Subject: parts' \
        python3 "$TOP_SRC/tests/tools/dovecot-index-dump.py" m/.other/dovecot.index.cache
}

# On NFS an open asks the server, a stat may be answered from a cache: what is looked at is opened first, where the settings say so.
atf_test_case nfs cleanup
nfs_head() { atf_set require.progs "strace"; }
opened()
{
    grep -cE "\"($1)\", O_RDONLY\|[A-Z_|]*O_NONBLOCK" trace
}
nfs_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/m\nstats_writer_socket_path =\nmmap_disable = yes\nmail_fsync = always\n' "$SCENE" >"$SCENE/c.conf"
    printf 'namespace inbox {\n  inbox = yes\n}\n' >>"$SCENE/c.conf"
    store=$SCENE/home
    mail one | scene_doveadm ours save || atf_fail "not saved"
    for settings in '' '-o mail_nfs_index=yes' '-o mail_nfs_storage=yes'; do
        USER=alice HOME="$store" ASAN_OPTIONS=detect_leaks=0 strace -f -s 200 -o trace -e trace=openat \
            "$OURS/doveadm" -c "$SCENE/c.conf" -o mail_uid=$MAIL_UID -o mail_gid=$MAIL_GID -o first_valid_uid=1 $settings fetch hdr.subject all >out || atf_fail "$settings: not read"
        grep -q one out || atf_fail "$settings: $(cat out)"
        echo "$(($(opened dovecot.index.log) > 0)) $(($(opened 'new|cur') > 0)) $(($(opened dovecot-uidlist) > 0))" >>said
    done
    atf_check -o inline:'0 0 0\n1 0 0\n0 1 1\n' cat said
}
nfs_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# As the real server says it.
atf_test_case texts
texts_body()
{
    prepare
    mail x >"m/cur/a
b:2,"
    atf_check -o ignore -e match:"Warning: Maildir $PWD/m: Ignoring a file with #0xa: a" ./store sync INBOX
    rm m/cur/a*
    sed -i '1s/V[0-9]*/V77/' m/dovecot-uidlist
    atf_check -o ignore -e match:"Warning: Maildir $PWD/m: UIDVALIDITY changed \([0-9]+ -> 77\)" ./store sync INBOX
}

atf_init_test_cases()
{
    for test in nfs odd_files order flags keywords doubled wrong_size renamed lost_uidlist broken_uidlist unmounted half_made trash old_lock cached texts; do
        atf_add_test_case $test
    done
}

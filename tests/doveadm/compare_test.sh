# The same commands with the real doveadm and with ours, each on its own copy of one Maildir: exit status, standard output and
# standard error are equal. The commands are in the file commands; a line that begins with "~" names several mailboxes, whose
# order is the store's affair, so its lines are compared sorted.

# run COPY PROGRAM LINE: leaves COPY.out, COPY.err, COPY.rc.
run()
{
    as_user env USER=alice HOME="$SCENE/$1" TZ=UTC ASAN_OPTIONS=detect_leaks=0 sh -c "$2 -c $SCENE/c.conf $3" \
        >"$1.out" 2>"$1.err" </dev/null
    echo $? >"$1.rc"
    for part in "$1.out" "$1.err"; do
        sed "s|$SCENE/$1|HOME|g; s/<[0-9][0-9]*>/<PID>/; s/\(20[0-9-]*\) [0-9:]* UTC/\1 TIME UTC/; s/\[20[0-9][0-9]-[0-9: -]*\]/[STAMP]/; s/firstsaved=[0-9]*/firstsaved=N/; s/took [0-9.]* secs ([0-9.]*/took N secs (N/" "$part" >text
        mv text "$part"
    done
}

# compare_each: the lines of standard input with both, in order.
compare_each()
{
    bad=0
    while IFS= read -r line; do
        run theirs doveadm "$line"
        run ours "$OURS/doveadm" "$line"
        for part in out err rc; do
            cmp -s "theirs.$part" "ours.$part" && continue
            echo "$line: $part"
            diff "theirs.$part" "ours.$part"
            bad=$((bad + 1))
        done
    done
    [ $bad = 0 ] || atf_fail "$bad differences"
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

# one_case COPY PROGRAM USER: saves a mail; leaves COPY.text with status, standard error, and whose the mail is.
one_case()
{
    rm -rf "$SCENE"/home/*/Maildir
    set -f
    [ "$3" = - ] && set -- "$1" "$2" || set -- "$1" "$2" -u "$3"
    set +f
    copy=$1 program=$2
    shift 2
    {
        # After a change of groups or of the root LeakSanitizer cannot look at its own process.
        printf 'Subject: x\n\nx\n' | USER=low HOME=$SCENE/home/low ASAN_OPTIONS=detect_leaks=0 "$program" -c "$SCENE/case.conf" save "$@" 2>&1
        echo "status $?"
        find "$SCENE/home" -name Maildir -exec stat -c '%n of %U %G' {} +
    } | sed -E "s/\\)(<[^>]*><[^>]*>)?: Fatal/): Error/; s/\\)<[^>]*><[^>]*>: Error/): Error/" >"$copy.text"
}

atf_test_case privileges cleanup
privileges_head()
{
    atf_set descr "whose mail doveadm touches as whom, and whose not at all: mail never belongs to root"
    atf_set require.user root
    atf_set require.progs 'dovecot doveadm'
}
privileges_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    cat >"$SCENE/users" <<END
low:{PLAIN}x:8:8::$SCENE/home/low::
nouid:{PLAIN}x:::::
chroot:{PLAIN}x:8:8::$SCENE/home/./chroot::
field:{PLAIN}x:8:8::$SCENE/home/field::userdb_chroot=$SCENE/home
END
    for user in low chroot field; do
        mkdir "$SCENE/home/$user"
        chown 8:8 "$SCENE/home/$user"
    done
    scene_configure
    sed -i "/^userdb/,/^}/c userdb {\\n driver = passwd-file\\n args = username_format=%u $SCENE/users\\n}" "$SCENE/dovecot.conf"
    scene_run dovecot # both ask the real server's auth
    bad=0 count=0
    while IFS='|' read -r user settings; do
        case $user in '' | '#'*) continue ;; esac
        {
            grep -vE '^(first_valid_uid|log_path)' "$SCENE/dovecot.conf"
            printf 'log_path = /dev/stderr\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n'
            echo "$settings" | sed "s|HOMES|$SCENE/home|" | tr ';' '\n'
        } >"$SCENE/case.conf"
        one_case theirs doveadm "$user"
        one_case ours "$OURS/doveadm" "$user"
        count=$((count + 1))
        cmp -s theirs.text ours.text || { bad=$((bad + 1)); echo "$user|$settings"; diff theirs.text ours.text | head -12; }
    done <"$TOP_SRC/tests/doveadm/privileges"
    [ $count -gt 30 ] || atf_fail "only $count cases"
    [ $bad = 0 ] || atf_fail "$bad differences in $count cases"
}
privileges_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# Wildcards and namespaces: what one mask reaches, what several do; INBOX comes last.
atf_test_case namespaces cleanup
namespaces_head()
{
    atf_set descr 'masks of mailboxes reach into namespaces as those of the real programs'
    atf_set require.progs 'doveadm'
}
namespaces_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    {
        printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nstats_writer_socket_path =\n' "$SCENE"
        printf 'namespace inbox {\n  inbox = yes\n  separator = /\n}\n'
        printf 'namespace own {\n  prefix = Arch/\n  separator = /\n  location = maildir:~/arch\n}\n'
        printf 'namespace public {\n  type = public\n  prefix = Public/\n  separator = /\n  location = maildir:~/public\n}\n'
        for format in sdbox mdbox; do
            printf 'namespace %s {\n  prefix = %s/\n  separator = /\n  location = %s:~/%s\n}\n' $format $format $format $format
        done
    } >"$SCENE/c.conf"
    mkdir "$SCENE/theirs"
    chown "$MAIL_USER" "$SCENE" "$SCENE/theirs"
    real="as_user env USER=alice HOME=$SCENE/theirs doveadm -c $SCENE/c.conf"
    $real mailbox create Work Apples Arch/Old Public/Ann Public/Ann/sub sdbox/one mdbox/one || atf_fail "the store cannot be made"
    for box in INBOX Work Arch/Old Public/Ann sdbox/one mdbox/one; do
        printf 'Subject: x\n\ny\n' | $real save -m "$box"
    done
    cp -a "$SCENE/theirs" "$SCENE/ours"
    compare_each <<END
mailbox list
mailbox list '*'
mailbox list '%'
mailbox list 'P*'
mailbox list 'Public/*'
mailbox list 'Public/%'
mailbox list 'Pub%/*'
mailbox list 'Public%'
mailbox list Public
mailbox list 'W*' 'P*'
mailbox status messages '*'
mailbox status -t messages '*'
mailbox status messages 'Public/*'
mailbox status messages '*' 'zz*'
mailbox status messages Public/Ann Work
mailbox status messages 'Arch/*' 'Public/*'
fetch mailbox all
fetch mailbox mailbox '*'
fetch mailbox mailbox 'A*'
fetch mailbox mailbox 'Arch/*'
fetch 'mailbox uid' mailbox Work or mailbox '*'
fetch 'storageid pop3.uidl refcount' mailbox sdbox/one all
fetch 'storageid pop3.uidl refcount' mailbox mdbox/one all
fetch storageid mailbox INBOX all
END
}
namespaces_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# The real server looks only at the new message; here the thread is that of the mailbox as it is now.
atf_test_case virtual_thread cleanup
virtual_thread_head()
{
    atf_set descr 'a new message that makes a thread match brings the rest of the thread into a virtual mailbox that is open'
}
virtual_thread_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nmail_plugins = virtual\nstats_writer_socket_path =\n' "$SCENE" >"$SCENE/c.conf"
    printf 'namespace inbox {\n  inbox = yes\n  separator = /\n}\n' >>"$SCENE/c.conf"
    printf 'namespace v {\n  prefix = V/\n  separator = /\n  location = virtual:~/Virtual\n}\n' >>"$SCENE/c.conf"
    mkdir -p "$SCENE/home/Virtual/flagged"
    printf 'INBOX\n  INTHREAD REFS (FLAGGED)\n' >"$SCENE/home/Virtual/flagged/dovecot-virtual"
    chown -R "$MAIL_USER" "$SCENE"
    ours="as_user env USER=alice HOME=$SCENE/home ASAN_OPTIONS=detect_leaks=0 $OURS/doveadm -c $SCENE/c.conf"
    printf 'Message-ID: <a@x>\nSubject: a\n\na\n' | $ours save || atf_fail "save"
    printf 'Message-ID: <b@x>\nSubject: b\n\nb\n' | $ours save || atf_fail "save"
    {
        printf 'a SELECT V/flagged\r\nb APPEND INBOX (\\Flagged) {52+}\r\n'
        printf 'Message-ID: <c@x>\r\nReferences: <a@x>\r\nSubject: c\r\n\r\n\r\nc LOGOUT\r\n'
    } | $ours exec imap >out || atf_fail "imap: $(cat out)"
    atf_check -o match:'^\* 0 EXISTS' -o match:'^\* 2 EXISTS' cat out
}
virtual_thread_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# What mailboxes of dbox do otherwise than Maildir: INBOX can be deleted, messages are shared by reference.
atf_test_case dbox cleanup
dbox_head()
{
    atf_set descr 'commands on copies of an sdbox and an mdbox answer as the real ones'
    atf_set require.progs 'doveadm'
}
dbox_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    chown "$MAIL_USER" "$SCENE"
    for format in sdbox mdbox; do
        printf 'base_dir = %s/run\nmail_location = %s:~/Mail\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n  separator = /\n}\n' \
            "$SCENE" $format >"$SCENE/c.conf"
        rm -rf "$SCENE/theirs" "$SCENE/ours"
        mkdir "$SCENE/theirs"
        chown "$MAIL_USER" "$SCENE/theirs"
        real="as_user env USER=alice HOME=$SCENE/theirs doveadm -c $SCENE/c.conf"
        $real mailbox create Work || atf_fail "the store cannot be made"
        for mail in mime plain; do
            $real save <"$TOP_SRC/tests/recordings/imap/fixture/$mail.eml"
        done
        cp -a "$SCENE/theirs" "$SCENE/ours"
        compare_each <<END
copy Work mailbox INBOX 1
fetch 'uid refcount' mailbox INBOX
rebuild attachments mailbox INBOX
fetch 'uid flags' mailbox INBOX
force-resync INBOX
force-resync -f INBOX
force-resync '*'
force-resync -f '*'
fetch 'uid flags' all
mailbox subscribe Work INBOX Drafts
mailbox list -s
mailbox rename Work Work/x
mailbox delete INBOX
mailbox delete INBOX
mailbox status messages INBOX
save -m INBOX
mailbox delete -r ''
mailbox list
mailbox status messages INBOX
END
    done
}
dbox_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# Files made here, which no mailbox has: their dumps depend on nothing else.
atf_test_case files cleanup
files_head()
{
    atf_set descr 'dumps of change logs and multiplexed streams, whole and broken, are the real ones'
    atf_set require.progs 'doveadm'
}
files_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\n' "$SCENE" >"$SCENE/c.conf"
    mkdir "$SCENE/theirs" "$SCENE/ours" "$SCENE/files"
    chmod 755 "$SCENE"
    : >"$SCENE/files/dovecot.mailbox.log"
    for type in 1 2 3 4 5 6 7 0; do
        printf "\\00$type\\0\\0\\0abcdefghijklmno$type\\137\\000\\000\\00$type" >>"$SCENE/files/dovecot.mailbox.log"
    done
    { cat "$SCENE/files/dovecot.mailbox.log"; printf abc; } >"$SCENE/files/broken"
    tail -c 24 "$SCENE/files/dovecot.mailbox.log" >"$SCENE/files/broken.log"
    printf '\0\0\0\0\6hello\nL\0\0\0\4log\n\0\0\0\0\2ab\7\0\0\0\3\0\1\377' >"$SCENE/files/multiplexed"
    compare_each <<END
dump $SCENE/files/dovecot.mailbox.log
dump -t mailboxlog $SCENE/files/dovecot.mailbox.log
dump -t mailboxlog $SCENE/files/broken
dump $SCENE/files/broken
dump $SCENE/files/broken.log
dump -t mailboxlog $SCENE/files/multiplexed
dump -t multiplex $SCENE/files/multiplexed
dump -t multiplex $SCENE/files
fs stat posix prefix=$SCENE/files/ broken
-f json fs stat posix prefix=$SCENE/files/ broken
-f table fs stat posix prefix=$SCENE/files/ broken
-f flow fs stat posix prefix=$SCENE/files/ broken
fs stat posix prefix=$SCENE/files/ nosuch
fs copy posix prefix=$SCENE/files/ nosuch x
dict get proxy:$SCENE/nosuch:x shared/b
dict set proxy:$SCENE/nosuch:x shared/b 1
dict iter proxy:$SCENE/nosuch:x shared/b
END
    # The real one crashes here, as a rule: what it should say is known.
    printf '* OK hello\r\na OK Begin compression.\r\n\003\000' >"$SCENE/files/imap.z"
    atf_check -s exit:0 -o inline:'* OK hello\r\na OK Begin compression.\r\n' \
        env ASAN_OPTIONS=detect_leaks=0 "$OURS/doveadm" -c "$SCENE/c.conf" dump -t imapzlib "$SCENE/files/imap.z"
}
files_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# The index of threads, as the real server makes it and broken.
atf_test_case threads cleanup
threads_head()
{
    atf_set descr 'dumps of thread indexes are the real ones'
    atf_set require.progs 'doveadm'
}
threads_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n}\n' "$SCENE" >"$SCENE/c.conf"
    mkdir "$SCENE/theirs" "$SCENE/ours" "$SCENE/files" "$SCENE/files/folder.thread"
    chown "$MAIL_USER" "$SCENE" "$SCENE/theirs"
    real="as_user env USER=alice HOME=$SCENE/theirs doveadm -c $SCENE/c.conf"
    for header in 'Message-ID: <m0@x>' 'Message-ID: <m1@x>\nIn-Reply-To: <m0@x>' 'Message-ID: <m2@x>\nReferences: <m0@x> <m1@x>' \
        'Subject: gone' 'Message-ID: <m5@x>\nReferences: <g1@x>' 'In-Reply-To: <m5@x>'; do
        printf "$header\nDate: Sat, 1 Jan 2022 00:00:00 +0000\n\nx\n" | $real save
    done
    $real expunge mailbox INBOX 4
    for algorithm in REFERENCES REFS; do
        printf 'a SELECT INBOX\r\nb THREAD %s UTF-8 ALL\r\nc LOGOUT\r\n' $algorithm | $real exec imap >out 2>&1
        printf 'Message-ID: <%s@x>\nReferences: <m0@x> <m1@x>\n\nx\n' $algorithm | $real save
    done
    cp "$SCENE/theirs/Maildir/dovecot.index.thread" "$SCENE/files/dovecot.index.thread" || atf_fail "no thread index: $(cat out)"
    cp "$SCENE/files/dovecot.index.thread" "$SCENE/files/other"
    python3 -B "$TOP_SRC/tests/doveadm/thread_files.py" "$SCENE/files/other" "$SCENE/files" || atf_fail "no files"
    chmod 755 "$SCENE" "$SCENE/files"
    for file in "$SCENE"/files/*; do
        printf 'dump %s\ndump -t thread %s\n' "$file" "$file"
    done >lines
    echo "dump $SCENE/files/nosuch.thread" >>lines
    compare_each <lines
    doveadm dump "$SCENE/files/dovecot.index.thread" | grep -q 'uid 7: n=3' || atf_fail "the index has too little in it"
}
threads_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# dump_key NAME: NAME.pem, a private key on standard input, and NAME.pub.pem.
dump_key()
{
    openssl pkey -out "$SCENE/files/$1.pem" && openssl pkey -in "$SCENE/files/$1.pem" -pubout -out "$SCENE/files/$1.pub.pem" || atf_fail "openssl"
}

# Encrypted mail, and keys in every form that the real programs write.
atf_test_case crypt cleanup
crypt_head()
{
    atf_set descr 'dumps of encrypted files and of keys are the real ones'
    atf_set require.progs 'doveadm openssl'
}
crypt_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    files=$SCENE/files
    mkdir "$SCENE/theirs" "$SCENE/ours" "$files"
    chown "$MAIL_USER" "$SCENE" "$SCENE/theirs" "$files"
    openssl ecparam -name secp384r1 -genkey -noout 2>err | dump_key ec
    openssl genrsa 2048 2>err | dump_key rsa
    openssl pkey -in "$files/ec.pem" -aes256 -passout pass:x -out "$files/password.pem"
    chmod 644 "$files"/*
    printf 'base_dir = %s/run\nmail_location = maildir:~/own\nmail_plugins = mail_crypt\nstats_writer_socket_path =\nmail_attribute_dict = file:%%h/attributes\n' "$SCENE" >"$SCENE/c.conf"
    printf 'plugin {\n  mail_crypt_curve = prime256v1\n  mail_crypt_save_version = 2\n}\nnamespace inbox {\n  inbox = yes\n}\n' >>"$SCENE/c.conf"
    real="as_user env USER=alice HOME=$SCENE/theirs doveadm -c $SCENE/c.conf"
    for case in ec:1 ec:2 rsa:2; do
        key=${case%:*} version=${case#*:}
        {
            sed "s/mail_crypt_save_version = 2/mail_crypt_save_version = $version/" "$SCENE/c.conf"
            printf 'mail_location = maildir:~/%s\nplugin {\n  mail_crypt_global_public_key = <%s\n  mail_crypt_global_private_key = <%s\n}\n' \
                "$key$version" "$files/$key.pub.pem" "$files/$key.pem"
        } >"$SCENE/key.conf"
        as_user env USER=alice HOME="$SCENE/theirs" doveadm -c "$SCENE/key.conf" save <"$TOP_SRC/tests/recordings/imap/fixture/plain.eml"
        cp "$SCENE/theirs/$key$version"/new/* "$files/mail.$key$version" || atf_fail "no mail"
    done
    echo hello >"$files/plain"
    $real fs put crypt "algo=aes-256-cbc-sha1:public_key_path=$files/ec.pub.pem:private_key_path=$files/ec.pem:posix:prefix=$files/" "$files/plain" mail.cbc
    $real save <"$TOP_SRC/tests/recordings/imap/fixture/plain.eml"
    $real -o plugin/mail_crypt_private_password=sesam mailbox cryptokey generate -U -f >out
    grep '^2:' "$SCENE/theirs/attributes" | awk -v to="$files/key" '{ printf "%s", $0 >(to NR) }'
    [ -f "$files/key5" ] || atf_fail "only these keys: $(echo "$files"/*)"
    for cut in 5 9 14 20 100 200; do
        head -c $cut "$files/mail.ec2" >"$files/cut$cut"
    done
    { head -c 9 "$files/mail.ec2"; printf '\003'; tail -c +11 "$files/mail.ec2"; } >"$files/version"
    for key in 1 2 3 4 5; do
        { head -c -4 "$files/key$key"; printf 0000; } >"$files/id$key"
    done
    { cat "$files/key1"; echo; } >"$files/line"
    { cat "$files/key1"; printf ':x'; } >"$files/more"
    { printf 3; tail -c +2 "$files/key1"; } >"$files/key.version"
    printf '1\t415\t2\ta\tb\tc' >"$files/old"
    printf '1\t415\t2\ta\tb' >"$files/old.short"
    printf '1:415:2:a:b:c' >"$files/old.colons"
    printf '2\t415' >"$files/tabs"
    printf -- '-----BEGIN RSA PRIVATE KEY-----\n' >"$files/pkcs1"
    printf -- '-----BEGIN CERTIFICATE-----\n' >"$files/certificate"
    sed '1s/^/x/' "$files/ec.pem" >"$files/title"
    : >"$files/empty"
    mkdir "$files/folder"
    chmod 755 "$SCENE"
    chmod 644 "$files"/mail.* "$files"/key?
    for file in "$files"/* "$files/nosuch"; do
        printf 'dump %s\ndump -t dcrypt-file %s\ndump -t dcrypt-key %s\n' "$file" "$file" "$file"
    done >lines
    compare_each <lines
}
crypt_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# Rights in public namespaces, whose mailboxes nobody owns.
atf_test_case acl cleanup
acl_head()
{
    atf_set descr 'acl commands on private and public mailboxes answer as the real ones'
    atf_set require.progs 'doveadm'
}
acl_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    cat >"$SCENE/c.conf" <<END
base_dir = $SCENE/run
mail_location = maildir:~/Maildir
stats_writer_socket_path =
mail_plugins = acl
plugin {
  acl = vfile
}
namespace inbox {
  inbox = yes
  separator = /
}
namespace public {
  type = public
  prefix = Public/
  separator = /
  location = maildir:~/public:INDEXPVT=~/private
}
namespace other {
  type = public
  prefix = Other/
  separator = /
  location = maildir:~/other
}
END
    mkdir "$SCENE/theirs"
    chown "$MAIL_USER" "$SCENE" "$SCENE/theirs"
    real="as_user env USER=alice HOME=$SCENE/theirs doveadm -c $SCENE/c.conf"
    $real -o mail_plugins= mailbox create Work/2021 Public/A Public/B Public/Cä Other/A || atf_fail "the store cannot be made"
    echo 'user=alice lr' | as_user tee "$SCENE/theirs/public/.A/dovecot-acl" >"$SCENE/theirs/other.acl"
    echo 'anyone r' | as_user tee "$SCENE/theirs/public/.B/dovecot-acl" >"$SCENE/theirs/other.acl"
    cp -a "$SCENE/theirs" "$SCENE/ours"
    compare_each <<END
acl debug INBOX
acl debug Work/2021
acl debug nosuch
acl debug Public/A
acl debug Public/B
acl debug Public/Cä
acl debug Public/nosuch
acl debug Other/A
acl set INBOX nosuchid read
acl set INBOX user=bob lr
acl set nosuch user=bob lr
acl delete nosuch foo
acl add Public/A user=bob lookup read
acl get Public/A
acl remove Public/A user=bob read
acl get Public/A
acl rights INBOX
acl rights Public/A
END
}
acl_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

atf_test_case proxy cleanup
proxy_head()
{
    atf_set descr 'proxy list and kick ask the ipc service and print as the real ones'
    atf_set require.progs 'doveadm'
}
proxy_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_configure
    for program in doveadm "$OURS/doveadm"; do
        ASAN_OPTIONS=detect_leaks=0 python3 -B "$TOP_SRC/tests/doveadm/ipc.py" "$program" "$SCENE/dovecot.conf" \
            >"said.$(basename "$(dirname "$program")")" || atf_fail "$program"
    done
    cmp -s said.. said.bin || { diff said.. said.bin; atf_fail "they differ"; }
}
proxy_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# With a running stats service of the real server, which knows metrics.
atf_test_case stats cleanup
stats_head()
{
    atf_set descr 'stats add, dump and remove speak with the stats service as the real ones'
    atf_set require.user root
    atf_set require.progs 'dovecot doveadm'
}
stats_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    scene_configure
    scene_run dovecot
    ln -s "$SCENE/dovecot.conf" "$SCENE/c.conf"
    mkdir "$SCENE/theirs" "$SCENE/ours"
    real="doveadm -c $SCENE/dovecot.conf"
    $real stats add --fields 'a b' --group-by user --description "x y" m1 'event=nosuch AND user=alice' || atf_fail "no stats service"
    MAIL_UID=0 MAIL_GID=0
    compare_each <<END
stats dump
-f json stats dump
-f table stats dump -f 'count,stddev variance %10'
stats dump -f nosuch
stats dump -r
stats add m1 event=x
stats add m2 event=
stats remove nosuch
stats dump -s /nonexistent
END
    ASAN_OPTIONS=detect_leaks=0 "$OURS/doveadm" -c "$SCENE/dovecot.conf" stats add --description "a b" --fields c m3 event=y
    ASAN_OPTIONS=detect_leaks=0 "$OURS/doveadm" -c "$SCENE/dovecot.conf" stats remove m1
    $real stats dump -f count >left
    atf_check -o inline:'metric_name\tfield\tcount\nm3\tduration\t0\nm3\tc\t0\n' cat left
}
stats_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

# Another program has removed a message, in new/ or in cur/; both seen by a sync, or not before its file is wanted.
atf_test_case gone cleanup
gone_head()
{
    atf_set descr 'commands on messages of which one has gone'
    atf_set require.progs 'doveadm'
}
gone_body()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nstats_writer_socket_path =\nmaildir_very_dirty_syncs = yes\nnamespace inbox {\n  inbox = yes\n}\n' \
        "$SCENE" >"$SCENE/c.conf"
    mkdir "$SCENE/gold"
    chown "$MAIL_USER" "$SCENE" "$SCENE/gold"
    real="as_user env USER=alice HOME=$SCENE/gold doveadm -c $SCENE/c.conf"
    $real mailbox create Work Moved Hidden1 Hidden2 || atf_fail "the store cannot be made"
    for n in 1 2 3; do
        for box in INBOX Work Hidden1 Hidden2; do
            printf 'Subject: m%s\n\nx\n' $n | $real save -m $box
        done
    done
    printf 'a SELECT Work\r\nb SELECT Hidden1\r\nc SELECT Hidden2\r\nd LOGOUT\r\n' | $real exec imap >out 2>&1
    $real fetch uid ALL >seen
    for mail in $(grep -l 'Subject: m2' "$SCENE"/gold/Maildir/new/* "$SCENE"/gold/Maildir/.*/cur/*); do
        folder=${mail%/*}
        touch -r "$folder" ref
        rm "$mail"
        case $folder in *Hidden*) touch -r ref "$folder" ;; esac
        echo "$mail" >>removed
    done
    [ "$(wc -l <removed)" = 4 ] || atf_fail "removed: $(cat removed)"
    cp -a "$SCENE/gold" "$SCENE/theirs"
    cp -a "$SCENE/gold" "$SCENE/ours"
    compare_each <<END
copy Moved mailbox INBOX ALL
fetch hdr.subject mailbox Moved
fetch hdr.subject mailbox INBOX
move Moved mailbox Work ALL
fetch hdr.subject mailbox Work
copy Moved mailbox Hidden1 ALL
move Moved mailbox Hidden2 1:2
fetch hdr.subject mailbox Moved
END
    [ "$(grep -c m1 ours.out)" = 4 ] || atf_fail "not all was copied: $(cat ours.out)"
}
gone_cleanup()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case gone
    atf_add_test_case same
    atf_add_test_case namespaces
    atf_add_test_case virtual_thread
    atf_add_test_case dbox
    atf_add_test_case files
    atf_add_test_case threads
    atf_add_test_case crypt
    atf_add_test_case acl
    atf_add_test_case stats
    atf_add_test_case proxy
    atf_add_test_case privileges
}

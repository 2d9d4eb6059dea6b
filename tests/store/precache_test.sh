# What `doveadm index` puts into the cache (and with it the indexer's workers): the same as the real server, in each format.

atf_test_case same
same_head()
{
    atf_set descr "both servers cache the same of messages that they index"
    atf_set require.user unprivileged
    atf_set require.progs "doveadm"
}

run()
{
    prog=doveadm
    [ "$1" = real ] || prog=$TOP_BUILD/compat/bin/doveadm
    shift
    env USER=u HOME="$PWD/home" "$prog" -c dovecot.conf "$@" || atf_fail "$*"
}

mail()
{
    printf 'From: a@x\nTo: b\nSubject: s\nDate: Thu, 01 Jan 2026 00:00:00 +0000\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n'
    printf '\n--b\n\nhello\n--b\nContent-Type: text/html\n\n<b>x</b>\n--b--\n'
}

# cached FORMAT USE WHO: a mailbox in which USE has been looked at once; then comes a message, and WHO indexes it.
cached()
{
    rm -rf home
    mkdir home
    printf 'base_dir = %s\nmail_location = %s:~/m\nstats_writer_socket_path =\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n' "$PWD" "$1" >dovecot.conf
    [ "$1" != mbox ] || sed -i 's|^mail_location.*|&:INBOX=~/inbox|' dovecot.conf
    printf 'namespace inbox {\n  inbox = yes\n}\n' >>dovecot.conf
    mail | run real save
    run real fetch "$2" mailbox INBOX >/dev/null
    case $1 in
    maildir)
        index=home/m
        mail >home/m/new/1700000000.M1.host
        ;;
    mbox)
        index=home/m/.imap/INBOX
        { echo 'From a@b Thu Jan  1 00:00:00 2026'; mail; echo; } >>home/inbox
        ;;
    *)
        index=home/m/mailboxes/INBOX/dbox-Mails
        mail | run real -o mail_cache_min_mail_count=100 save
        ;;
    esac
    run "$3" index INBOX
    run real dump $index >dump 2>/dev/null
    grep -aE '^ *[0-9]+: .* (tmp|yes|no) ' dump | sed 's/[0-9-]* [0-9:]*$//; /binary.parts/d'
    sed -n '/seq=2,/,$p' dump | grep -a '^    - ' | sed 's/\(date[a-z.]*:\|guid:\).*/\1/' | sort
}

same_body()
{
    count=0
    for format in maildir sdbox mdbox mbox; do
        for use in 'hdr.subject hdr.from' 'flags size.virtual date.received imap.bodystructure' size.physical; do
            cached $format "$use" real >real
            cached $format "$use" ours >ours
            diff -u real ours || atf_fail "$format, $use"
            [ "$(grep -ac '^    - ' ours)" -ge 2 ] || atf_fail "$format, $use: $(cat ours)"
            count=$((count + 1))
        done
    done
    atf_check_equal 12 $count
}

atf_init_test_cases()
{
    atf_add_test_case same
}

# Quota beyond the plain refusal: the trash plugin, limits of the owner of a shared mailbox, quota_over_flag, the quota of the
# file system: with the real server and with ours.

. "$TOP_SRC/tests/lib/scene.sh"

quota_head()
{
    atf_set require.user root
    atf_set require.progs "dovecot python3"
}

# What stands for a script service: it notes what it is told in $SCENE/said, until told_end.
listen_for_scripts()
{
    : >"$SCENE/said"
    rm -f "$SCENE/note"
    python3 -B "$TOP_SRC/tests/lib/script_listener.py" "$SCENE/note" "$SCENE/said" &
    LISTENER=$!
    while [ ! -S "$SCENE/note" ]; do
        kill -0 $LISTENER || atf_fail "the listener has ended"
    done
}

told_end()
{
    python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"end\n\n")' "$SCENE/note"
    wait $LISTENER
}

# start PROGRAM BACKEND LINE ...: the lines are of plugin {}.
start()
{
    what=$1 backend=$2
    shift 2
    scene_start "$what" 'mail_plugins = acl quota trash' \
        'protocol imap {' '  mail_plugins = acl quota trash imap_acl imap_quota' '}' \
        'namespace inbox {' '  separator = /' '}' \
        'namespace sh {' '  type = shared' '  prefix = shared/%%u/' '  separator = /' '  subscriptions = no' '  list = children' \
        "  location = maildir:$SCENE/home/%%n/Maildir" '}' \
        'plugin {' '  acl = vfile' "  quota = $backend:User quota" '  quota_vsizes = yes' '  quota_rule = *:storage=20k:messages=20' \
        "$@" '}'
}

# same_talk BACKEND: both servers say the same, and both write the same maildirsize if they do.
same_talk()
{
    for who in dovecot ours; do
        SERVER=
        scene_make
        rm -rf "$SCENE"/home/*
        printf '2 Trash\n1 Old\n1 Older\n' >"$SCENE/trash.conf"
        start $who "$1" "  trash = $SCENE/trash.conf"
        python3 -B "$TOP_SRC/tests/lib/quota_talk.py" "$IP" $IMAP_PORT >$who.said 2>&1 || { cat $who.said "$SCENE/log"; atf_fail "$who"; }
        "$(command -v doveadm)" -c "$SCENE/dovecot.conf" quota get -u alice >>$who.said 2>&1
        scene_stop
    done
    grep -q "bob into alice's: NO .OVERQUOTA" dovecot.said || atf_fail "the real server was not asked"
    atf_check diff -u dovecot.said ours.said
    scene_log_is_clean
}

atf_test_case trash_and_owner_maildir cleanup
trash_and_owner_maildir_head()
{
    quota_head
}
trash_and_owner_maildir_body()
{
    same_talk maildir
}
trash_and_owner_maildir_cleanup()
{
    scene_end
}

atf_test_case trash_and_owner_count cleanup
trash_and_owner_count_head()
{
    quota_head
}
trash_and_owner_count_body()
{
    same_talk count
}
trash_and_owner_count_cleanup()
{
    scene_end
}

# append_bytes USER BYTES: into INBOX, a bit more.
append_bytes()
{
    python3 -c 'import imaplib, sys
m = imaplib.IMAP4(sys.argv[1], int(sys.argv[2]))
m.login(sys.argv[3], "pass")
print(m.append("INBOX", None, None, b"From: a\r\n\r\n" + b"%070d\r\n" % 0 * (int(sys.argv[4]) // 72)))
m.logout()' "$IP" $IMAP_PORT "$@" >appended
    grep -q OK appended || atf_fail "$(cat appended)"
}

# over_talk PROGRAM LINE ...: when is the script told what?
over_talk()
{
    who=$1
    shift
    SERVER=
    scene_make
    rm -rf "$SCENE"/home/*
    listen_for_scripts
    start $who maildir "  quota_over_script = unix:$SCENE/note mark %u" "$@"
    for user in u1 u2; do
        printf 'a1 LOGIN %s pass\na2 LOGOUT\n' $user | scene_talk imap >/dev/null
        printf 'a1 LOGIN %s pass\na2 GETQUOTAROOT INBOX\na3 LOGOUT\n' $user | scene_talk imap >/dev/null
        [ $user = u1 ] || continue
        append_bytes u2 19944
    done
    scene_stop
    told_end
    cp "$SCENE/said" $who.told
}

over_case()
{
    over_talk dovecot "$@"
    over_talk ours "$@"
    atf_check diff -u dovecot.told ours.told
}

atf_test_case over_flag cleanup
over_flag_head()
{
    quota_head
}
over_flag_body()
{
    over_case '  quota_over_flag = true' '  quota_over_flag_value = TRU*'
    grep -q 'mark u1 true' ours.told || atf_fail "nothing was told"
    over_case '  quota_over_flag_value = TRU*'
    over_case '  quota_over_flag = TRUE' '  quota_over_flag_value = TRUE' '  quota_over_flag_lazy_check = yes'
    scene_log_is_clean
}
over_flag_cleanup()
{
    scene_end
}

# policy_talk WHO LINE ...: what Postfix is told; the lines are of plugin {}.
policy_talk()
{
    who=$1
    shift
    SERVER=
    scene_make
    rm -rf "$SCENE"/home/*
    scene_start "$who" 'mail_plugins = quota' 'recipient_delimiter = +' 'service quota-status {' '  executable = quota-status -p postfix' \
        '  client_limit = 1' '  inet_listener {' '    port = 10340' '  }' '}' \
        'plugin {' '  quota = maildir:User quota' '  quota_rule = *:storage=20k' '  quota_rule2 = Other:ignore' "$@" '}'
    append_bytes full@example 18000
    python3 -B "$TOP_SRC/tests/lib/policy_talk.py" "$IP" 10340 <<END >>$who.policy
protocol_state=RCPT recipient=full@example size=100
protocol_state=RCPT recipient=full@example size=3000
protocol_state=RCPT recipient=full@example size=6000
protocol_state=RCPT recipient=full+detail@example size=6000
protocol_state=RCPT recipient=empty@example size=6000
protocol_state=RCPT recipient=empty@example size=15000
protocol_state=RCPT recipient=empty@example size=30000
protocol_state=DATA recipient=full@example size=6000
protocol_state=RCPT size=6000
recipient=full@example size=6000
protocol_state=RCPT recipient=full@example recipient=empty@example size=6000
protocol_state=RCPT recipient=full@example size=6000 size=1
protocol_state=RCPT recipient=full@example size=1 size=6000
protocol_state=RCPT recipient= size=6000
protocol_state=RCPT recipient=full@example size=6000
protocol_state=RCPT recipient=empty@example size=6000
END
    scene_stop
}

atf_test_case status cleanup
status_head()
{
    quota_head
}
status_body()
{
    for who in dovecot ours; do
        policy_talk $who
        policy_talk $who '  quota_status_success = DUNNO' '  quota_status_overquota = 552 5.2.2 %u: full' '  quota_status_toolarge = 552 large' \
            '  quota_max_mail_size = 18k'
    done
    grep -E 'Error|Warning' "$SCENE/log" >&2
    grep -q 'action=554 5.2.2 Quota' dovecot.policy || atf_fail "the real server was not asked: $(cat dovecot.policy)"
    atf_check diff -u dovecot.policy ours.policy
    scene_log_is_clean 'unexpected state DATA' 'Client sent invalid recipient address'
}
status_cleanup()
{
    scene_end
}

# set_limits FOLDER UID KILOBYTES INODES: Q_SETQUOTA of the device that is mounted there.
set_limits()
{
    python3 -c 'import ctypes, os, struct, sys
folder, uid, kilobytes, inodes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
device = [line.split()[0] for line in open("/proc/mounts") if line.split()[1] == folder][-1]
block = struct.pack("=QQQQQQQQII", kilobytes, 0, 0, inodes, 0, 0, 0, 0, 1 | 4, 0)
libc = ctypes.CDLL(None, use_errno=True)
if libc.quotactl(0x800008 << 8, device.encode(), uid, block) != 0:
    sys.exit("quotactl: " + os.strerror(ctypes.get_errno()))' "$@" || atf_fail "no limits could be set"
}

# fs_talk PROGRAM MAIL_ROOT
fs_talk()
{
    SERVER=
    scene_make
    scene_start $1 'mail_plugins = quota' "mail_location = maildir:$2/%n" 'plugin {' '  quota = fs:User quota:inode_per_mail' '}' \
        'protocol imap {' '  mail_plugins = quota imap_quota' '}'
    printf 'a1 LOGIN u1 pass\na2 GETQUOTAROOT INBOX\na3 GETQUOTAROOT ""\na4 LOGOUT\n' | scene_talk imap |
        sed -E 's/ \([0-9.]+ \+ .*secs\)//; /CAPABILITY/d' >$1.said
    scene_stop
}

# Where no quotas are kept nothing is limited.
atf_test_case no_file_system_quota cleanup
no_file_system_quota_head()
{
    quota_head
}
no_file_system_quota_body()
{
    scene_make
    install -d -o $MAIL_UID -g $MAIL_GID "$SCENE/home/u1" "$SCENE/home/u1/cur" "$SCENE/home/u1/new" "$SCENE/home/u1/tmp"
    fs_talk dovecot "$SCENE/home"
    fs_talk ours "$SCENE/home"
    ! grep -q '[A-Z]* [0-9]* 2048' dovecot.said || atf_skip "machine: this file system keeps quotas"
    grep -q '^a2 OK' dovecot.said || atf_fail "the real server was not asked: $(cat dovecot.said)"
    atf_check diff -u dovecot.said ours.said
    scene_log_is_clean 'quota-fs: the file system of .* keeps no quotas'
}
no_file_system_quota_cleanup()
{
    scene_end
}

# A file system with quotas of its own, where one can be mounted.
atf_test_case file_system cleanup
file_system_head()
{
    atf_set require.user root
    atf_set require.progs "dovecot python3 mkfs.ext4"
}
file_system_body()
{
    scene_make
    truncate -s 16M "$SCENE/disk"
    mkfs.ext4 -q -O quota -E root_owner=$MAIL_UID:$MAIL_GID "$SCENE/disk"
    mkdir "$SCENE/mnt"
    mount -o loop,usrquota,grpquota "$SCENE/disk" "$SCENE/mnt" 2>err || atf_skip "machine: no file system with quotas can be mounted here: $(head -n 1 err)"
    echo "MOUNTED=$SCENE/mnt" >>scene.vars
    set_limits "$SCENE/mnt" $MAIL_UID 2048 100
    install -d -o $MAIL_UID -g $MAIL_GID "$SCENE/mnt/u1/cur" "$SCENE/mnt/u1/new" "$SCENE/mnt/u1/tmp"
    fs_talk dovecot "$SCENE/mnt"
    fs_talk ours "$SCENE/mnt"
    grep -q 'STORAGE [0-9]* 2048' dovecot.said || atf_fail "the real server saw no quota: $(cat dovecot.said "$SCENE/log")"
    atf_check diff -u dovecot.said ours.said
    scene_log_is_clean
}
file_system_cleanup()
{
    MOUNTED=$(sed -n 's/^MOUNTED=//p' scene.vars)
    sed -i '/^MOUNTED=/d' scene.vars
    [ -z "$MOUNTED" ] || umount -l "$MOUNTED"
    scene_end
}

# set_talk PROGRAM: users whose name begins with y are administrators.
set_talk()
{
    SERVER=
    scene_make
    rm -rf "$SCENE"/home/*
    scene_configure 'mail_plugins = acl quota' 'protocol imap {' '  mail_plugins = acl quota imap_acl imap_quota' '}' \
        'namespace inbox {' '  separator = /' '}' \
        'namespace sh {' '  type = shared' '  prefix = shared/%%u/' '  separator = /' '  subscriptions = no' '  list = children' \
        "  location = maildir:$SCENE/home/%%n/Maildir" '}' \
        'plugin {' '  acl = vfile' '  quota = maildir:User quota' '  quota2 = count:Second' '  quota_vsizes = yes' '  quota_rule = *:storage=20k' \
        "  quota2_set = dict:file:$SCENE/home/limits-%u" '  quota3 = count:Third' '  quota3_set = dict:bogus:x' '}'
    sed -i "s|home=$SCENE/home/%n|& admin=%n|" "$SCENE/dovecot.conf"
    [ $1 = ours ] && scene_run $OURS/dovecot || scene_run dovecot
    printf 'a1 LOGIN bob pass\na2 SETACL INBOX yves lr\na3 LOGOUT\n' | scene_talk imap >/dev/null
    for user in bob yves; do
        scene_talk imap <<END
a1 LOGIN $user pass
a2 SETQUOTA "User quota" (STORAGE 100)
a3 SETQUOTA nope (STORAGE 100)
a4 SETQUOTA Second (BOGUS 1)
a5 SETQUOTA Second ()
a6 SETQUOTA Second () x
b1 SETQUOTA Second (STORAGE)
b2 SETQUOTA Second (STORAGE x)
b3 SETQUOTA Second (STORAGE -1)
b4 SETQUOTA Second (STORAGE 99999999999999999999)
b5 SETQUOTA Second ("STORAGE" "8")
b6 SETQUOTA Second STORAGE
b7 SETQUOTA Second
b8 SETQUOTA
c1 SETQUOTA Third (STORAGE 7)
c2 SETQUOTA "$user:Second" (BOGUS 1)
c3 GETQUOTA "$user:User quota"
c4 GETQUOTA "bob:User quota"
c5 STATUS shared/bob (MESSAGES)
c6 GETQUOTA "bob:User quota"
c7 SETQUOTA "bob:User quota" (STORAGE 7)
c8 GETQUOTAROOT shared/bob
c9 GETQUOTA Second:User
d1 LOGOUT
END
    done | sed "s/ ([0-9. +secs]*)\.$/./; /CAPABILITY/d" >$1.said
}

# What is set is written: the real server crashes at that.
atf_test_case set_limits cleanup
set_limits_head()
{
    quota_head
}
set_limits_body()
{
    for who in dovecot ours; do
        set_talk $who
        [ $who = ours ] || scene_stop
    done
    grep -q 'a4 BAD .*Unsupported resource' dovecot.said || atf_fail "the real server had no administrator: $(cat dovecot.said)"
    atf_check diff -u dovecot.said ours.said
    scene_talk imap >said <<'END'
a1 LOGIN yves pass
a2 SETQUOTA Second (STORAGE 100 message 7)
?^a2 OK Setquota completed
a3 SETQUOTA bob:Second (STORAGE_BYTES 0)
?^a3 NO
a4 STATUS shared/bob (MESSAGES)
a5 SETQUOTA bob:Second (STORAGE_BYTES 0)
?^a5 OK
a6 LOGOUT
END
    scene_stop
    printf 'priv/quota/limit/storage\n100\npriv/quota/limit/messages\n7\n' | atf_check -o file:- cat "$SCENE/home/limits-yves"
    atf_check -o 'inline:priv/quota/limit/bytes\n0\n' cat "$SCENE/home/limits-bob"
    scene_start ours 'mail_plugins = quota' 'plugin {' '  quota = count:User quota' '  quota_vsizes = yes' '  quota_set = file:x' '}'
    printf 'a1 LOGIN bob pass\neof\n' | python3 -B "$TOP_SRC/tests/lib/talk.py" "$IP" $IMAP_PORT >said
    scene_log_is_clean 'dict_init\(\) failed: Unknown dict module: bogus' 'Invalid quota root quota: quota_set supports only dict backend'
}
set_limits_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case set_limits
    atf_add_test_case trash_and_owner_maildir
    atf_add_test_case trash_and_owner_count
    atf_add_test_case over_flag
    atf_add_test_case status
    atf_add_test_case no_file_system_quota
    atf_add_test_case file_system
}

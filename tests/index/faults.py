#!/usr/bin/env python3
"""Faults of index files, one by one: the library's log lines and the real doveadm's, and what each still shows.

    faults.py TOOL DIR

Makes one sdbox mailbox in DIR with doveadm, damages a copy for each, compares (index-format 12.1, 12.2, 12.4).
"""
import os, pwd, shutil, struct, subprocess, sys

TOOL, DIR = sys.argv[1:3]
UID = 65534 if os.getuid() == 0 else os.getuid()
NAME, GID = pwd.getpwuid(UID).pw_name, pwd.getpwuid(UID).pw_gid
BOX = DIR + '/mail/mailboxes/INBOX/dbox-Mails/'
INDEX, LOG, CACHE = 'dovecot.index', 'dovecot.index.log', 'dovecot.index.cache'


def as_user():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(GID)
        os.setuid(UID)


def doveadm(*words, data=None):
    env = dict(os.environ, HOME=DIR, USER=NAME)
    return subprocess.run(['doveadm', '-c', DIR + '/conf'] + list(words), input=data, env=env, capture_output=True, text=True)


def tool(*words, options=()):
    return subprocess.run([TOOL, *options, BOX.rstrip('/')] + list(words), capture_output=True, text=True, preexec_fn=as_user)


def patch(name, offset, data):
    def act():
        with open(BOX + name, 'r+b') as f:
            f.seek(offset)
            f.write(data)
    return act


def cut(name, size):
    return lambda: os.truncate(BOX + name, size)


def add(name, data):
    def act():
        with open(BOX + name, 'ab') as f:
            f.write(data)
    return act


def u32(value):
    return struct.pack('<I', value)


FAULTS = [
    ('major version', patch(INDEX, 0, b'\6')),
    ('compat flags', patch(INDEX, 12, b'\0')),
    ('base index too short', cut(INDEX, 100)),
    ('record size', patch(INDEX, 8, u32(4))),
    ('header sizes', patch(INDEX, 4, u32(100))),
    ('header beyond the file', patch(INDEX, 4, u32(100000))),
    ('messages count', patch(INDEX, 32, u32(9))),
    ('next uid', patch(INDEX, 28, u32(2))),
    ('seen count', patch(INDEX, 40, u32(99))),
    ('first recent', patch(INDEX, 48, u32(99))),
    ('log sequence', patch(INDEX, 60, u32(9))),
    ('extension outside', patch(INDEX, 120, u32(1 << 20))),
    ('log marked', patch(LOG, 4, u32(0))),
    ('log too short', cut(LOG, 20)),
    ('log empty', cut(LOG, 0)),
    ('log header size', patch(LOG, 2, b'\x10\0')),
    ('log missing', lambda: os.unlink(BOX + LOG)),
]


def make():
    os.makedirs(DIR, exist_ok=True)
    os.chmod(DIR, 0o755)
    os.chown(DIR, UID, GID)
    with open(DIR + '/conf', 'w') as f:
        f.write('base_dir = %s/run\nlog_path = %s/log\nssl = no\nmail_location = sdbox:%s/mail\nmail_uid = %d\n'
                'mail_gid = %d\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n' % (DIR, DIR, DIR, UID, GID))
    for i in range(5):
        if doveadm('save', '-m', 'INBOX', data='Subject: m%d\n\nbody\n' % i).returncode != 0:
            sys.exit('doveadm save fails')
    doveadm('flags', 'add', r'\Seen kw', 'mailbox', 'INBOX', 'uid', '2')
    if tool('rewrite').returncode != 0:
        sys.exit('rewrite fails')
    doveadm('flags', 'add', r'\Flagged', 'mailbox', 'INBOX', 'uid', '3')
    os.rename(DIR + '/mail', DIR + '/whole')


def damaged(act):
    shutil.rmtree(DIR + '/mail', ignore_errors=True)
    subprocess.run(['cp', '-a', DIR + '/whole', DIR + '/mail'], check=True)
    act()


def lines(text):
    out = []
    for line in text.splitlines():
        line = line.replace(BOX, '').replace('doveadm(%s): ' % NAME, '').replace('Mailbox INBOX: ', '')
        if 'Rebuilding index' not in line:  # the storage's business
            out.append(line)
    return out


def main():
    make()
    bad = 0
    for name, act in FAULTS:
        damaged(act)
        theirs = doveadm('fetch', 'uid flags', 'mailbox', 'INBOX')
        damaged(act)
        ours = tool('list')
        again = tool('list', options=('-r',))
        shown = sum(' flags=' in line for line in ours.stdout.splitlines())
        if lines(theirs.stderr) != lines(ours.stderr):
            bad += 1
            print('%s: lines differ\n  real: %s\n  ours: %s' % (name, lines(theirs.stderr), lines(ours.stderr)))
        if shown < 5 or shown < theirs.stdout.count('uid:'):
            bad += 1
            print('%s: %d messages are left' % (name, shown))
        if again.stderr:
            bad += 1
            print('%s: after the repair: %s' % (name, again.stderr))
    print('%d faults, %d differences' % (len(FAULTS), bad))
    sys.exit(bad > 0)


main()

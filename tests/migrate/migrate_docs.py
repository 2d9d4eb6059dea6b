#!/usr/bin/env python3
"""Runs the commands of docs/migration.md (indented lines) in their order, on mail that the real server made.

    migrate_docs.py MIGRATE DIR MIGRATION.MD

The configuration's name is added, and /var/mail/%u is a file below DIR. Exit 1 when one fails or mail is missing."""
import os, pwd, re, subprocess, sys

tool, folder, page = sys.argv[1:4]
page = open(page).read()
home = os.path.join(folder, 'home')
os.makedirs(home + '/mail')
conf = os.path.join(folder, 'dovecot.conf')
uid, gid = os.getuid(), os.getgid()
if uid == 0:   # the real server gives root no mail
    owner = pwd.getpwnam('mail')
    uid, gid = owner.pw_uid, owner.pw_gid
with open(conf, 'w') as f:
    f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nfirst_valid_uid = 1\nfirst_valid_gid = 1\nmail_uid = %d\nmail_gid = %d\n'
            'stats_writer_socket_path =\nmail_location = maildir:~/Maildir\nnamespace inbox {\n  inbox = yes\n  separator = /\n}\n'
            % (folder, uid, gid))
if os.getuid() == 0:
    for path in folder, home, home + '/mail':
        os.chown(path, uid, gid)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
environ = dict(os.environ, HOME=home, USER='user')


def run(words, data=None):
    r = subprocess.run(words, input=data, capture_output=True, env=environ)
    print(' '.join(words), r.stdout.decode(), r.stderr.decode(), sep='\n')
    if r.returncode != 0:
        sys.exit('exit %d' % r.returncode)
    return r.stdout.decode()


def doveadm(location, *args, data=None):
    return run(['doveadm', '-c', conf, '-o', 'mail_location=' + location, *args], data)


def uids(location):
    return doveadm(location, 'fetch', 'uid guid', 'all')


mbox = 'mbox:~/mail:INBOX=%s/mbox' % folder
for location in 'maildir:~/Maildir', mbox:
    for i in range(3):
        doveadm(location, 'save', data=b'Subject: %d\n\nx\n' % i)
    doveadm(location, 'expunge', 'mailbox', 'INBOX', 'uid', '2')
migrations = re.findall(r'^    ((?:yarilo-migrate|doveadm) .*)', page, re.M)
if len(migrations) != 3 or not all(c.startswith('yarilo-migrate') for c in migrations) or '/var/mail/%u' not in migrations[2]:
    sys.exit('the page has other commands now: %r' % migrations)
for command in migrations[:2]:
    run([tool, '--config', conf] + command.split()[1:])
    if '--dry-run' in command and os.path.exists(home + '/sdbox'):
        sys.exit('a dry run writes')
if uids('maildir:~/Maildir') != uids('sdbox:~/sdbox'):
    sys.exit('not the same messages')
before = [line for line in uids(mbox).split('\n') if line.startswith('uid')]
run(['rm', '-r', home + '/sdbox'])
for again in range(2):
    run([tool, '--config', conf] + migrations[2].replace('/var/mail/%u', folder + '/mbox').split()[1:])
after = [line for line in uids('sdbox:~/sdbox').split('\n') if line.startswith('uid')]
if len(before) != 2 or before != after:
    sys.exit('mbox: %r, %r' % (before, after))

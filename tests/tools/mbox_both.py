#!/usr/bin/env python3
"""mbox files of all kinds, read by our store and by a real Dovecot, each first on a copy of its own and then after the other; then
both change one mailbox in turn. Both must always see the same UIDs, flags, keywords, GUIDs, dates and bytes, and log nothing.

    mbox_both.py STORETOOL FOLDER"""
import json, os, pwd, shutil, subprocess, sys

tool, folder = map(os.path.abspath, sys.argv[1:3])
who = pwd.getpwnam('nobody') if os.getuid() == 0 else pwd.getpwuid(os.getuid())
LOCATION = 'mbox:~/mail:INBOX=~/spool/u'
os.environ['TZ'] = 'UTC'
bad = 0


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def differ(*what):
    global bad
    bad += 1
    print(*(str(w)[:1500] for w in what), flush=True)


def ours(home, *args, fails=False):
    r = subprocess.run([tool, '-u', 'u', '-h', home, '-l', LOCATION, *args], capture_output=True, preexec_fn=drop if os.getuid() == 0 else None)
    if (r.returncode != 0) != fails or (r.stderr and not fails):
        differ('ours', home, args, r.returncode, r.stderr.decode())
    return r.stdout.decode()


def theirs(home, *args, data=None, fails=False):
    r = subprocess.run(['doveadm', '-c', home + '/dovecot.conf', *args], input=data, capture_output=True, env=dict(os.environ, USER='u', HOME=home))
    if (r.returncode != 0) != fails or (r.stderr and not fails):
        differ('theirs', home, args, r.returncode, r.stderr.decode())
    return r.stdout


def account(name, text):
    home = os.path.join(folder, name)
    shutil.rmtree(home, ignore_errors=True)
    for d in 'mail', 'spool':
        os.makedirs(os.path.join(home, d))
    with open(home + '/spool/u', 'wb') as f:
        f.write(text)
    with open(home + '/dovecot.conf', 'w') as f:
        f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\nmail_uid = %d\n'
                'mail_gid = %d\ndefault_internal_user = %s\ndefault_login_user = %s\nstats_writer_socket_path =\n'
                % (home, LOCATION, who.pw_uid, who.pw_gid, who.pw_name, who.pw_name))
    if os.getuid() == 0:
        for d, names, files in os.walk(home):
            for n in ['.'] + files:
                os.chown(os.path.join(d, n), who.pw_uid, who.pw_gid)
    return home


def our_look(home):
    rows = [json.loads(line) for line in ours(home, 'dump', 'INBOX').splitlines()]
    return [(m['uid'], ' '.join(sorted(m['flags'])), m['guid'], m['date'], m['physical'], m['size']) for m in rows]


def their_look(home):
    rows = [l.split('\t') for l in theirs(home, '-f', 'tab', 'fetch', 'uid flags guid date.received.unixtime size.physical size.virtual', 'mailbox', 'INBOX')
            .decode().splitlines()[1:]]
    return [(int(u), ' '.join(sorted(f for f in flags.split() if f != '\\Recent')), g, int(d), int(p), int(v)) for u, flags, g, d, p, v in rows]


def bytes_of(home, uids):
    for uid in uids:
        a = ours(home, 'body', 'INBOX', str(uid)).encode()
        b = theirs(home, 'fetch', 'text', 'mailbox', 'INBOX', 'uid', str(uid))[len('text:\n'):]
        if a.replace(b'\r\n', b'\n').strip() != b.strip():
            differ(home, 'UID', uid, a, b)


def same(home):
    mine, other = our_look(home), their_look(home)
    if mine != other:
        differ(home, 'ours see', mine, 'theirs', other)
    return mine


FROM = b'From a@b Wed Jan  1 10:00:00 2020\n'
BASE = b'X-IMAPbase: 1234567890 0000000020 kwone\n'


def mails(*parts):
    return b''.join(FROM + p for p in parts)


FILES = {
    'foreign': b'From joe@x Wed Jan  1 10:00:00 2020\nSubject: 1\nStatus: RO\nX-Status: AF\n\nbody1\n\nFrom bob Thu, 02 Jan 2020 11:00:00 +0200\n'
               b'Subject: 2\n\nbody2\nFrom inside\n>From quoted\n\nFrom carl@x Fri Jan  3 10:00:00 2020 +0300\nReceived: a\n\tb\nContent-Length: 6\n\n'
               b'body3\n\nFrom dave@x Fri Jan  3 10:00:00 2020\nMessage-ID: <1@x>\nDate: x\nContent-Length: 600\n\nbody4\n',
    'covered': mails(b'S: x\nContent-Length: 40\n\nx\n\n' + FROM + b'yz\n\n', b'S: y\n\nb\n\n'),
    'based': mails(BASE + b'X-UID: 5\nX-Keywords: kwone\nStatus: O\n\nb\n\n', b'X-UID: 9\nX-Keywords: kwtwo\nX-Status: D\n\nb\n\n', b'S: new\n\nb\n\n'),
    'backwards': mails(BASE + b'X-UID: 19\nStatus: RO\n\nb\n\n', b'X-UID: 3\nStatus: RO\n\nb\n\n', b'X-UID: garbage\nS: 3\n\nb\n\n'),
    'doubled': mails(BASE + b'X-UID: 5\nS: 1\n\nb\n\n', b'X-UID: 5\nS: 2\n\nb\n\n', b'X-UID: 5\nS: 3\n\nb\n\n'),
    'no-end': mails(b'S: x\n\nb\n\n', b'S: y\n\nno line end'),
    'truncated': mails(BASE + b'X-UID: 1\nS: 1\nContent-Length: 100\n\nb\n\n', b'X-UID: 2\nS: 2\nContent-Length: 100\n\nonly the begi'),
    'one': mails(b'S: x\n\nb\n'),
    'empty': b'',
}
# The real server shows a message that ends without a line end without its last byte, but counts it; ours shows all.
ODD = {'no-end', 'truncated'}
REFUSED = {'garbage': b'garbage\n\n' + mails(b'S: x\n\nb\n'), 'no-mbox': b'hello world\n', 'leading': b'\n' + mails(b'S: x\n\nb\n')}

for name, text in FILES.items():
    a, b = account(name + '-ours', text), account(name + '-theirs', text)
    first, second = our_look(a), their_look(b)
    if name in ODD:
        if [row[0] for row in first] != [row[0] for row in second] or our_look(b) != first or [row[0] for row in their_look(a)] != [row[0] for row in first]:
            differ(name, 'ours see', first, 'theirs', second)
        continue
    if first != second:
        differ(name, 'ours see', first, 'theirs', second)
    for home in a, b:
        if same(home) != first:
            differ(name, 'after the other something else is seen')
        bytes_of(home, [row[0] for row in first])
for name, text in REFUSED.items():
    home = account(name, text)
    ours(home, 'dump', 'INBOX', fails=True)
    theirs(home, 'fetch', 'uid', 'mailbox', 'INBOX', 'all', fails=True)
    if open(home + '/spool/u', 'rb').read() != text:
        differ(name, 'the file was changed')

home = account('turns', FILES['foreign'])
mail = os.path.join(folder, 'mail')
with open(mail, 'w') as f:
    f.write('From: x@y\nReceived: r%s\nX-UID: 99\nStatus: RO\n\ntext\nFrom a@b Wed Jan  1 10:00:00 2020\nno end' % ('x' * 100))
long = ','.join('keyword-%02d-%s' % (i, 'x' * 20) for i in range(12))
for turn in (lambda: ours(home, 'flags', 'INBOX', '2,3', '+Flagged,kwx'), lambda: theirs(home, 'flags', 'add', '\\Answered kwz', 'mailbox', 'INBOX', 'uid', '2,4'),
             lambda: ours(home, 'save', 'INBOX', 'Seen,kwy', mail, mail), lambda: theirs(home, 'save', '-m', 'INBOX', data=open(mail, 'rb').read()),
             lambda: ours(home, 'flags', 'INBOX', '3,6', '+' + long), lambda: ours(home, 'sync', 'INBOX'),
             lambda: theirs(home, 'expunge', 'mailbox', 'INBOX', 'uid', '1,6'), lambda: ours(home, 'flags', 'INBOX', '3', '-' + long),
             lambda: ours(home, 'expunge', 'INBOX', '2'), lambda: open(home + '/spool/u', 'ab').write(mails(b'S: by an MTA\n\nb\n\n')),
             lambda: ours(home, 'save', 'INBOX', '-', mail), lambda: ours(home, 'expunge', 'INBOX', '3,4,5,7'), lambda: theirs(home, 'expunge', 'mailbox', 'INBOX', 'all'),
             lambda: ours(home, 'save', 'INBOX', 'kwq', mail), lambda: ours(home, 'expunge', 'INBOX', '10'), lambda: theirs(home, 'save', '-m', 'INBOX', data=open(mail, 'rb').read()),
             lambda: ours(home, 'resync', 'INBOX')):
    turn()
    bytes_of(home, [row[0] for row in same(home)])
print('%d differences' % bad)
sys.exit(1 if bad else 0)

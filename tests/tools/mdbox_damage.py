#!/usr/bin/env python3
"""Damaged mdbox stores, mended by ours and by a real Dovecot on copies: the mailboxes must come out the same.

    mdbox_damage.py STORETOOL FOLDER [CASE...]

Each case makes a state that a crash or a hand has left (dbox-format 3.4 to 3.9), on two copies of one store. Ours works on one,
the real server on the other: a look, a save, force-resync, purge, and a look. Then the real one reads both: mailboxes, UIDs, flags
and bodies must be equal, and ours must be in order."""
import hashlib, os, pwd, re, shutil, subprocess, sys

tool, folder, only = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
root = os.getuid() == 0
who = pwd.getpwnam('nobody') if root else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)
LOCATION = 'mdbox:~/mdbox'
bad = 0


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def ours(home, *args, status=0):
    r = subprocess.run([tool, '-u', 'u', '-h', home, '-l', LOCATION, *args], capture_output=True, preexec_fn=drop if root else None)
    if r.returncode != status and status is not None:
        raise Exception('ours %s: %d %s' % (args, r.returncode, r.stderr.decode()))
    return r


def real(home, *args, data=None, location=LOCATION):
    conf = os.path.join(folder, 'dovecot.conf')
    with open(conf, 'w') as f:
        f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n'
                'mail_uid = %d\nmail_gid = %d\nstats_writer_socket_path =\n' % (folder, location, who.pw_uid, who.pw_gid))
    return subprocess.run(['doveadm', '-c', conf, *args], env=dict(os.environ, USER='u', HOME=home), capture_output=True, input=data)


def look(home):
    """{(mailbox, uid, flags, body)} as the real server sees it; its error lines."""
    r = real(home, '-f', 'pager', 'fetch', 'mailbox uid flags text', 'mailbox', '*')
    rows = set()
    for part in r.stdout.decode().split('\x0c'):
        m = re.match(r'\n?mailbox: (.*)\nuid: (.*)\nflags: (.*)\ntext:\n', part)
        if m:
            flags = ' '.join(sorted(f for f in m[3].split() if f != '\\Recent'))
            rows.add((m[1], int(m[2]), flags, hashlib.sha256(part[m.end():].encode()).hexdigest()[:12]))
    return rows, [l for l in r.stderr.decode().splitlines() if re.search('Error|Warning|Panic', l)]


def copy(home, name):
    to = os.path.join(folder, name)
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(['cp', '-a', home, to], check=True)
    return to


def at(home, name):
    return os.path.join(home, 'mdbox', name)


MAP, INBOX, BOX = 'storage/dovecot.map.index.log', 'mailboxes/INBOX/dbox-Mails/dovecot.index.log', 'mailboxes/box/dbox-Mails/dovecot.index.log'


def take(home, other, *names):
    """These files as they are in the other store."""
    for name in names:
        subprocess.run(['cp', '-a', at(other, name), at(home, name)], check=True)


def cut(home, name, size=16):
    os.truncate(at(home, name), os.path.getsize(at(home, name)) - size)


def append(home, name, data):
    with open(at(home, name), 'ab') as f:
        f.write(data)


def spoil(home, n):
    """The magic of the n-th message (from 0)."""
    with open(at(home, 'storage/m.1'), 'r+b') as f:
        places = [m.start() for m in re.finditer(rb'^\x01\x02N ', f.read(), re.M)]
        f.seek(places[n])
        f.write(b'X')


def second_name(home):
    shutil.copy2(at(home, 'storage/m.1'), at(home, 'storage/m.5'))
    os.chown(at(home, 'storage/m.5'), who.pw_uid, who.pw_gid)


def without_index(home):
    for name in os.listdir(os.path.dirname(at(home, BOX))):
        os.unlink(os.path.join(os.path.dirname(at(home, BOX)), name))


def unknown_file(home):
    take(home, saved, 'storage/m.1')
    os.rename(at(home, 'storage/m.1'), at(home, 'storage/m.2'))
    take(home, base, 'storage/m.1')


base = os.path.join(folder, 'base')
os.mkdir(base); os.chown(base, who.pw_uid, who.pw_gid)
mails = []
for i in range(8):
    mails.append(os.path.join(folder, 'm%d' % i))
    with open(mails[-1], 'w') as f:
        f.write('From: a@example.org\nSubject: mail %d\n\n%s' % (i, 'line of %d\n' % i * (i + 1)))
ours(base, 'save', 'INBOX', 'Seen,kw1', *mails[:3])
ours(base, 'create', 'box')
ours(base, 'save', 'box', 'Flagged', mails[3])
ours(base, 'copy', 'INBOX', '2', 'box')
ours(base, 'save', 'INBOX', '-', mails[4])
ours(base, 'expunge', 'INBOX', '4')
real(base, 'fetch', 'uid', 'all')
saved, copied, expunged, purged = (copy(base, n) for n in ('saved', 'copied', 'expunged', 'purged'))
ours(saved, 'save', 'INBOX', 'Answered', mails[5])
ours(copied, 'copy', 'INBOX', '1', 'box')
ours(expunged, 'expunge', 'INBOX', '1')
ours(purged, 'purge')

CASES = {
    # what is left behind               how it is made
    'in order':                         lambda h: None,
    'save: valid tail':                 lambda h: take(h, saved, 'storage/m.1'),
    'save: garbage':                    lambda h: append(h, 'storage/m.1', b'garbage ' * 20),
    'save: m.2 not in the map':         unknown_file,
    'save: no mailbox record':          lambda h: (take(h, saved, 'storage/m.1', MAP), cut(h, MAP)),
    'save: no tail':                    lambda h: (take(h, saved, 'storage/m.1', MAP, INBOX), cut(h, MAP)),
    'copy: reference not counted':      lambda h: take(h, copied, BOX),
    'copy: no mailbox record':          lambda h: (take(h, copied, MAP), cut(h, MAP)),
    'copy: no tail':                    lambda h: (take(h, copied, MAP, BOX), cut(h, MAP)),
    'expunge: no mailbox record':       lambda h: (take(h, expunged, MAP), cut(h, MAP)),
    'expunge: no tail':                 lambda h: (take(h, expunged, MAP, INBOX), cut(h, MAP)),
    'purge: new file not in the map':   lambda h: take(h, purged, 'storage/m.2'),
    'map deleted':                      lambda h: os.unlink(at(h, MAP)),
    'index of box deleted':             without_index,
    'm.1 deleted':                      lambda h: os.unlink(at(h, 'storage/m.1')),
    'm.1 also as m.5':                  second_name,
    'm.1: a byte of a header':          lambda h: spoil(h, 1),
}


def plain(rows):
    """What came after the damage has no agreed order: ours rebuilds before it saves, the real one when it closes."""
    return sorted((box, uid if uid < 5 else 0, flags, body) for box, uid, flags, body in rows)


def differ(case, text):
    global bad
    bad += 1
    print('%s: %s' % (case, text), flush=True)


for case, damage in CASES.items():
    if only and case not in only:
        continue
    a, b = copy(base, 'ours'), copy(base, 'real')
    damage(a); damage(b)
    # The first save may fail where the real one's does: what counts is the store afterwards.
    ours(a, 'state', status=None)
    ours(a, 'save', 'INBOX', '-', mails[6], status=None)
    ours(a, 'resync', 'INBOX')
    ours(a, 'purge')
    real(b, 'fetch', 'uid body', 'mailbox', '*')
    if real(b, 'save', data=open(mails[6], 'rb').read()).returncode != 0:
        real(b, 'save', data=open(mails[6], 'rb').read())
    real(b, 'force-resync', 'INBOX')
    real(b, 'purge')
    one, noise = look(a)
    look(b)  # at the first look it gives an empty text where its cache has the size from before the repair
    two, _ = look(b)
    if plain(one) != plain(two):
        differ(case, 'ours only %s, the real one only %s' % (sorted(one - two), sorted(two - one)))
    if noise:
        differ(case, 'the real one says of ours: %s' % noise[0])
    ours(a, 'resync', 'INBOX')
    again, noise = look(a)
    if again != one or noise:
        differ(case, 'a second force-resync changes something %s' % noise[:1])
print('%d cases, %d differences' % (len(only or CASES), bad))
sys.exit(bad != 0)

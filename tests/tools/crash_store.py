#!/usr/bin/env python3
"""Crashes at the N-th mutating call of the store, for all N (or every K-th), then looks with the store and with a real
Dovecot.

    crash_store.py STORETOOL FOLDER [--every K] [--how exit-before,exit-after,fail] [--only save,copy,...] [LOCATION]

For each operation a prepared mailbox is copied, the operation runs with YARILO_FAULT=at=N until N is beyond its last call.
Afterwards: every message that was there before (and was not to be expunged) is there with its bytes and UID; what was
acknowledged holds; nothing stands twice; a second run works; Dovecot's doveadm logs no error and sees the same."""
import argparse, hashlib, json, os, pwd, re, shutil, subprocess, sys

ap = argparse.ArgumentParser()
ap.add_argument('tool'); ap.add_argument('folder'); ap.add_argument('location', nargs='?', default='maildir:~/Maildir')
ap.add_argument('--every', type=int, default=1); ap.add_argument('--how', default='exit-before,exit-after,fail')
ap.add_argument('--only', default=''); ap.add_argument('--start', type=int, default=1)
a = ap.parse_args()
folder, tool = os.path.abspath(a.folder), os.path.abspath(a.tool)
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
root = os.getuid() == 0
who = pwd.getpwnam('nobody') if root else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)
sep = '/' if 'LAYOUT=fs' in a.location or a.location[:5] in ('sdbox', 'mdbox') else '.'


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def store(home, *args, fault=None):
    env = dict(os.environ)
    if fault:
        env['YARILO_FAULT'] = fault
    return subprocess.run([tool, '-u', 'u', '-h', home, '-l', a.location, *args], capture_output=True, env=env,
                          preexec_fn=drop if root else None)


def must(r):
    if r.returncode != 0 or r.stderr:
        raise Exception('%s: %d %s' % (r.args[7:], r.returncode, r.stderr.decode()[:1500]))
    return r.stdout.decode()


def doveadm(home, *args):
    conf = os.path.join(home, 'dovecot.conf')
    with open(conf, 'w') as f:
        f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n'
                'mail_uid = %d\nmail_gid = %d\ndefault_internal_user = %s\ndefault_login_user = %s\nstats_writer_socket_path =\n'
                % (home, a.location, who.pw_uid, who.pw_gid, who.pw_name, who.pw_name))
    return subprocess.run(['doveadm', '-c', conf, *args], env=dict(os.environ, USER='u', HOME=home), capture_output=True)


def dump(home, box):
    return {m['uid']: m for m in map(json.loads, must(store(home, 'dump', box)).splitlines())}


def listed(home):
    return {l.split(' ', 1)[1] for l in must(store(home, 'list')).splitlines() if 'noselect' not in l}


# ---- the prepared account
base = os.path.join(folder, 'base')
os.mkdir(base); os.chown(base, who.pw_uid, who.pw_gid)
mails = []
for i in range(6):
    p = os.path.join(folder, 'm%d' % i)
    with open(p, 'w') as f:
        f.write('From: a@example.org\nSubject: mail %d\nX-Id: %d\n\n%s\n' % (i, i, 'line\n' * (i * 50)))
    mails.append(p)
must(store(base, 'save', 'INBOX', '-', *mails[:3]))
must(store(base, 'save', 'INBOX', 'Seen,kw1', mails[3]))
must(store(base, 'create', 'other'))
must(store(base, 'save', 'other', '-', mails[4]))
must(store(base, 'create', 'third'))
must(store(base, 'select', 'INBOX')); must(store(base, 'list')); must(store(base, 'dump', 'INBOX'))
before = {b: dump(base, b) for b in ('INBOX', 'other', 'third')}

def age_locks(home):
    """Dead owners' locks are taken over after 2 seconds; those without a pid in them (the crash came between creating and
    writing) after 30 to 180: not waited for here."""
    for d, _, files in os.walk(home):
        for f in files:
            p = os.path.join(d, f)
            if f.endswith('lock') and f != 'mailboxes.lock':
                if f == 'dovecot-uidlist.lock' and os.path.getsize(p) > 0:
                    os.utime(p, (0, 0))
                else:
                    os.unlink(p)


OPS = {
    'deliver': ('save', 'INBOX', '-', mails[5]), 'append': ('save', 'INBOX', 'Flagged,kwnew', mails[5], mails[4]),
    'copy': ('copy', 'INBOX', '1,4', 'other'), 'move': ('move', 'INBOX', '2,4', 'other'),
    'store': ('flags', 'INBOX', '1,4', '+Flagged,kwx'), 'unstore': ('flags', 'INBOX', '4', '-Seen,kw1'),
    'expunge': ('expunge', 'INBOX', '1,3'), 'create': ('create', 'fresh'), 'rename': ('rename', 'other', 'moved'),
    'delete': ('delete', 'other'), 'subscribe': ('subscribe', 'other'), 'select': ('select', 'INBOX'),
}
bad = runs = 0


def differ(where, text):
    global bad
    bad += 1
    if bad <= 40:
        print('%s: %s' % (where, text), flush=True)


def check(where, op, args, home, acknowledged):
    boxes = listed(home)
    gone = {int(x) for x in args[2].split(',')} if op in ('move', 'expunge') else set()
    want = dict(before)
    if op == 'delete':
        want.pop('other')
    if op == 'rename':
        if 'moved' in boxes:
            want['moved'] = want.pop('other')
            if 'other' in boxes:
                differ(where, 'both names exist')
        elif acknowledged:
            differ(where, 'not renamed')
    if op == 'create' and acknowledged and 'fresh' not in boxes:
        differ(where, 'not created')
    if op == 'delete' and acknowledged and 'other' in boxes:
        differ(where, 'not deleted')
    state = {}
    for name, old in want.items():
        if name not in boxes:
            differ(where, 'mailbox %s is lost (%s)' % (name, sorted(boxes)))
            continue
        state[name] = new = dump(home, name)
        for uid, m in old.items():
            if uid in new:
                if new[uid]['sha256'] != m['sha256'] or new[uid]['guid'] != m['guid'] or new[uid]['date'] != m['date']:
                    differ(where, '%s UID %d has changed' % (name, uid))
                if op not in ('store', 'unstore') and sorted(new[uid]['flags']) != sorted(m['flags']):
                    differ(where, '%s UID %d flags %s' % (name, uid, new[uid]['flags']))
            elif not (name == 'INBOX' and uid in gone):
                differ(where, '%s UID %d is lost' % (name, uid))
        extra = [m for uid, m in new.items() if uid not in old]
        room = {'deliver': 1, 'append': 2, 'copy': 2, 'move': 2}.get(op, 0)
        if len(extra) > room or (extra and name != ('other' if op in ('copy', 'move') else 'INBOX')):
            differ(where, '%s has %d new messages' % (name, len(extra)))
        shas = [m['sha256'] for m in extra]
        if len(set(shas)) != len(shas):
            differ(where, '%s has a message twice' % name)
        if acknowledged and room and name == ('other' if op in ('copy', 'move') else 'INBOX') and len(extra) != room:
            differ(where, '%s: acknowledged, but %d of %d are there' % (name, len(extra), room))
    if acknowledged and gone and gone & set(state['INBOX']):
        differ(where, 'acknowledged, but not expunged')
    if op == 'move' and 'INBOX' in state and 'other' in state:
        for uid in gone:
            sha = before['INBOX'][uid]['sha256']
            if uid not in state['INBOX'] and sha not in [m['sha256'] for m in state['other'].values()]:
                differ(where, 'UID %d was lost in the move' % uid)
    if op in ('store', 'unstore') and acknowledged:
        f = state['INBOX'][4]['flags']
        if (op == 'store') != ('\\Flagged' in f) or (op == 'unstore' and ('\\Seen' in f or 'kw1' in f)):
            differ(where, 'acknowledged, but flags are %s' % f)
    r = doveadm(home, '-f', 'tab', 'fetch', 'mailbox uid guid', 'mailbox', '*')
    noise = [l for l in r.stderr.decode().splitlines() if re.search('Error|Panic|Fatal', l)]
    if noise:
        differ(where, 'Dovecot: ' + noise[0])
    theirs = sorted(tuple(l.split('\t')) for l in r.stdout.decode().splitlines()[1:])
    ours = sorted((n, str(u), m['guid']) for n, b in state.items() for u, m in b.items())
    if op in ('create',):
        theirs = [t for t in theirs if t[0] != 'fresh']
    if op == 'delete':
        theirs = [t for t in theirs if t[0] != 'other']
    if theirs != ours:
        differ(where, 'Dovecot sees %s, ours %s' % (set(theirs) - set(ours), set(ours) - set(theirs)))


for op, args in OPS.items():
    if a.only and op not in a.only.split(','):
        continue
    for how in a.how.split(','):
        n = a.start
        while True:
            where = '%s %s %d' % (op, how, n)
            home = os.path.join(folder, 'run')
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run(['cp', '-a', base, home], check=True)
            r = store(home, *args, fault='at=%d,how=%s%s' % (n, how, ',err=ENOSPC' if how == 'fail' else ''))
            runs += 1; print(where, r.returncode, flush=True) if os.environ.get("VERBOSE") else None
            if b'Sanitizer' in r.stderr or b'runtime error' in r.stderr:
                differ(where, r.stderr.decode()[:3000])
            fired = r.returncode not in (0, 1) if how != 'fail' else (r.returncode == 1 or r.stderr)
            age_locks(home)
            try:
                check(where, op, args, home, r.returncode == 0)
                second = store(home, 'save', 'INBOX', '-', mails[0])
                if second.returncode != 0:
                    differ(where, 'afterwards saving fails: ' + second.stderr.decode()[:300])
            except Exception as e:
                differ(where, repr(e)[:1500])
            # An fsync or a cleanup may fail without anybody noticing: go on until calls are used up.
            if how != 'fail' and not fired:
                break
            if how == 'fail' and not fired and n > 60:
                break
            n += a.every
print('%d runs, %d differences' % (runs, bad))
sys.exit(1 if bad else 0)

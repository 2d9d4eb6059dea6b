#!/usr/bin/env python3
"""Mailboxes made, renamed, deleted, subscribed by the store and by a real Dovecot at once; then both list the same, with the
same UIDVALIDITYs, all of them different, and nothing was logged.

    mixed_lists.py STORETOOL FOLDER SECONDS [LOCATION]"""
import os, pwd, random, re, shutil, subprocess, sys, threading, time

tool, folder, seconds = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int(sys.argv[3])
location = sys.argv[4] if len(sys.argv) > 4 else 'maildir:~/Maildir'
sep = '/' if 'LAYOUT=fs' in location or location[:5] in ('sdbox', 'mdbox') else '.'
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
root = os.getuid() == 0
who = pwd.getpwnam('nobody') if root else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)
conf = os.path.join(folder, 'dovecot.conf')
with open(conf, 'w') as f:
    f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n'
            'mail_uid = %d\nmail_gid = %d\ndefault_internal_user = %s\ndefault_login_user = %s\nstats_writer_socket_path =\n'
            % (folder, location, who.pw_uid, who.pw_gid, who.pw_name, who.pw_name))
env = dict(os.environ, USER='u', HOME=folder)
problems = []


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def theirs(*args):
    return subprocess.run(['doveadm', '-c', conf, *args], env=env, capture_output=True)


def ours(*args):
    return subprocess.run([tool, '-u', 'u', '-h', folder, '-l', location, *args], capture_output=True, preexec_fn=drop if root else None)


have, subscribed = set(), set()
guard = threading.Lock()
mail = os.path.join(folder, 'mail')
open(mail, 'w').write('Subject: x\n\nx\n')


def work(seed, side):
    r = random.Random(seed)
    names, n = [], 0
    until = time.time() + seconds

    def run(*args):
        p = ours(*args) if side == 'ours' else theirs('mailbox', *args)
        if p.returncode != 0 or p.stderr:
            problems.append('%s %s: %d %s' % (side, args, p.returncode, p.stderr.decode()[:300]))
            return False
        return True
    while time.time() < until:
        what = r.randrange(6)
        if what < 3 or not names:
            name = '%s%d%sbox%d' % (side, seed, sep, n) if r.random() < .5 else '%s%dx%d' % (side, seed, n)
            n += 1
            if run('create', name):
                names.append(name)
        elif what == 3:
            old = names.pop(r.randrange(len(names)))
            new = '%s%dr%d' % (side, seed, n)
            n += 1
            if run('rename', old, new):
                names.append(new)
        elif what == 4:
            run('delete', names.pop(r.randrange(len(names))))
        else:
            name = r.choice(names)
            if run('subscribe', name):
                with guard:
                    subscribed.add(name)
    with guard:
        have.update(names)


# One Dovecot, so that every error counts: two of them, without us, answer some CREATEs with a false "already exists"
# (43 of 1230 mailboxes measured); one beside two of ours never did.
threads = [threading.Thread(target=work, args=(i, s)) for i, s in ((1, 'ours'), (2, 'ours'), (3, 'ours'), (4, 'theirs'))]
for t in threads:
    t.start()
for t in threads:
    t.join()
a = {l.split(' ', 1)[1] for l in ours('list').stdout.decode().splitlines() if 'noselect' not in l} - {'INBOX'}
b = set()
status = {}
for l in theirs('mailbox', 'status', 'uidvalidity guid', '*').stdout.decode().splitlines():
    m = re.match(r'(.*) uidvalidity=(\d+) guid=(\w+)$', l)
    status[m.group(1)] = (m.group(2), m.group(3))
b = set(status) - {'INBOX'}
if a != have or b != have:
    problems.append('lists: missing ours %s, theirs %s; too many ours %s, theirs %s' % (have - a, have - b, a - have, b - have))
if len({v for v, _ in status.values()}) != len(status):
    problems.append('a UIDVALIDITY was given twice')
if len({g for _, g in status.values()}) != len(status):
    problems.append('a GUID was given twice')
for name in sorted(have)[:10]:
    w = dict(x.split('=', 1) for x in ours('status', name).stdout.decode().split() if '=' in x)
    if (w.get('uidvalidity'), w.get('guid')) != status[name]:
        problems.append('%s: %s, theirs %s' % (name, w, status[name]))
s = {l.split(' ', 1)[1] for l in ours('lsub').stdout.decode().splitlines() if 'subscribed' in l.split(' ', 1)[0]}
t = set(theirs('mailbox', 'list', '-s').stdout.decode().splitlines())
if s != subscribed or not t <= subscribed:
    problems.append('subscriptions: %s %s' % (s ^ subscribed, t - subscribed))
print('%d mailboxes, %d subscriptions, %d problems' % (len(have), len(subscribed), len(problems)))
for p in problems[:20]:
    print(p)
sys.exit(1 if problems else 0)

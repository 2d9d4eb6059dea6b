#!/usr/bin/env python3
"""The store and a real Dovecot at once on one mailbox: random saves, flag changes, expunges by both, then a look by both.

    mixed_load.py STORETOOL FOLDER SECONDS [LOCATION]

FOLDER is made. As root, both sides run as the user nobody. Exit 1 when a message was lost or doubled, when the two see
different UIDs, flags or GUIDs, or when anything was logged."""
import json, os, pwd, random, re, shutil, subprocess, sys, threading, time

tool, folder, seconds = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int(sys.argv[3])
location = sys.argv[4] if len(sys.argv) > 4 else 'maildir:~/Maildir'
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
who = pwd.getpwnam('nobody') if os.getuid() == 0 else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)
log = os.path.join(folder, 'dovecot.log')
open(log, 'w').close()
os.chown(log, who.pw_uid, who.pw_gid)
conf = os.path.join(folder, 'dovecot.conf')
with open(conf, 'w') as f:
    f.write('base_dir = %s/run\nlog_path = %s\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n'
            'mail_uid = %d\nmail_gid = %d\ndefault_internal_user = %s\ndefault_login_user = %s\nstats_writer_socket_path =\n'
            % (folder, log, location, who.pw_uid, who.pw_gid, who.pw_name, who.pw_name))
env = dict(os.environ, USER='u', HOME=folder)


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def doveadm(*args):
    return subprocess.run(['doveadm', '-c', conf, *args], env=env, capture_output=True)


def storetool(*args):
    return subprocess.run([tool, '-u', 'u', '-h', folder, '-l', location, *args], capture_output=True,
                          preexec_fn=drop if os.getuid() == 0 else None)


saved, expunged, problems = {}, set(), []
guard = threading.Lock()


def ours(seed):
    r = storetool('load', 'INBOX', str(seconds), str(seed))
    if r.returncode != 0 or r.stderr:
        problems.append('storetool %d: exit %d %s' % (seed, r.returncode, r.stderr.decode()[:2000]))
    with guard:
        for line in r.stdout.decode().splitlines():
            w = line.split()
            if w[0] == '+':
                saved[w[1]] = int(w[2])
            elif w[0] == '-':
                expunged.add(int(w[1]))
            else:
                problems.append('storetool %d: %s' % (seed, line))


class Imap:
    """A preauthenticated session of the real server on pipes."""
    def __init__(self):
        self.p = subprocess.Popen(['/usr/lib/dovecot/imap', '-c', conf] if False else ['doveadm', '-c', conf, 'exec', 'imap'],
                                  env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.n = 0
        self.p.stdout.readline()

    def command(self, text, literal=None):
        self.n += 1
        tag = 'a%d' % self.n
        self.p.stdin.write(('%s %s\r\n' % (tag, text)).encode())
        if literal is not None:
            self.p.stdin.write(literal + b'\r\n')
        self.p.stdin.flush()
        lines = []
        while True:
            line = self.p.stdout.readline()
            if not line:
                raise Exception('connection lost: %r' % lines[-3:])
            if line.startswith(tag.encode() + b' '):
                return line.decode('latin-1'), lines
            lines.append(line)


def theirs(seed):
    r = random.Random(seed)
    own, count = [], 0
    try:
        s = Imap()
        s.command('SELECT INBOX')
        until = time.time() + seconds
        while time.time() < until:
            what = r.randrange(10)
            if what < 4:
                id_ = 'd%d-%d' % (seed, count)
                count += 1
                mail = ('From: x@example.org\r\nX-Id: %s\r\nSubject: theirs\r\n\r\n%s\r\n' % (id_, 'x' * r.randrange(2000))).encode()
                done, _ = s.command('APPEND INBOX %s{%d+}' % (r.choice(['', '(\\Seen) ', '(kwB) ']), len(mail)), mail)
                m = re.search(r'APPENDUID \d+ (\d+)', done)
                if not m:
                    problems.append('APPEND: ' + done)
                    continue
                with guard:
                    saved[id_] = int(m.group(1))
                own.append(int(m.group(1)))
            elif what < 5 and len(own) > 3:
                uid = own.pop(r.randrange(len(own)))
                with guard:
                    expunged.add(uid)
                s.command('UID STORE %d +FLAGS (\\Deleted)' % uid)
                s.command('UID EXPUNGE %d' % uid)
            elif what < 8:
                s.command('UID STORE %s %sFLAGS (%s)' % (r.choice(own) if own else 1, r.choice('+-'), r.choice(['\\Seen', '\\Flagged', 'kwA', 'kwD'])))
            else:
                s.command(r.choice(['NOOP', 'UID FETCH 1:* FLAGS', 'FETCH * (ENVELOPE BODYSTRUCTURE)', 'SELECT INBOX']))
        s.command('LOGOUT')
        s.p.wait()
    except Exception as e:
        problems.append('imap %d: %r %s' % (seed, e, ''))


# In an mbox two sessions of the real server lose flags to each other, one or two in a hundred, ours present or not: what one sets while the
# other expunges. With one session alone every expunge must last.
mine, real = (3, 1) if location.startswith('mbox:') else (2, 2)
threads = [threading.Thread(target=f, args=(first + i,)) for f, first, n in ((ours, 1, mine), (theirs, 11, real)) for i in range(n)]
for t in threads:
    t.start()
for t in threads:
    t.join()
r = doveadm('-f', 'tab', 'fetch', 'uid guid flags hdr.x-id modseq', 'mailbox', 'INBOX')
other = [l.split('\t') for l in r.stdout.decode().splitlines()[1:]]
if r.stderr:
    problems.append(r.stderr.decode())
shown = [json.loads(l) for l in storetool('dump', 'INBOX').stdout.decode().splitlines()]
have = {}
for uid, guid, flags, id_, modseq in other:
    if id_ in have:
        problems.append('%s is there twice: %s %s' % (id_, have[id_], uid))
    have[id_] = int(uid)
for id_, uid in saved.items():
    if uid in expunged:
        if id_ in have:
            problems.append('%s (UID %d) was expunged and is there as %d' % (id_, uid, have[id_]))
    elif have.get(id_) != uid:
        problems.append('%s was saved as UID %d, now %s' % (id_, uid, have.get(id_)))
a = [(m['uid'], m['guid'], sorted(f.lower() for f in m['flags']), m['modseq']) for m in shown]
b = [(int(u), g, sorted(f.lower() for f in fl.split() if f.lower() != '\\recent'), int(ms)) for u, g, fl, i, ms in other]
if a != b:
    problems.append('the two see different messages: %s' % [x for x in zip(a, b) if x[0] != x[1]][:3])
noise = [l for l in open(log).read().splitlines() if re.search(r'Warning|Error|Fatal|Panic', l)]
problems += noise[:20]
r = doveadm('force-resync', 'INBOX')
after = {l.split('\t')[0] for l in doveadm('-f', 'tab', 'fetch', 'uid', 'mailbox', 'INBOX').stdout.decode().splitlines()[1:]}
if after != {str(x[0]) for x in b}:
    problems.append('force-resync changed UIDs')
print('%d saved (%d by ours), %d expunged, %d there, %d problems' % (len(saved), sum(i[0] == 's' for i in saved), len(expunged), len(have), len(problems)))
for p in problems[:20]:
    print(p)
sys.exit(1 if problems else 0)

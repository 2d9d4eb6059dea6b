#!/usr/bin/env python3
"""A store that a real Dovecot made is changed through src/store; then the real one must see exactly what ours sees, and log
nothing.

    golden_change.py STORETOOL DIR LOCATION [KEY=VALUE]...

Works on DIR itself, a copy of what make-golden-store made: flags, saves, copies, moves, expunges, with ALT moves there and
back, in every mailbox of every user. Compared are UIDs, flags, modseqs, dates, sizes, GUIDs and bytes. Exit 1 on a difference."""
import hashlib, json, os, re, subprocess, sys

tool, folder, location = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
options = sys.argv[4:]
truth = json.load(open(os.path.join(folder, 'truth.json')))
sep = '~' if 'LAYOUT=index' in location else '/' if 'LAYOUT=fs' in location or location[:5] in ('sdbox', 'mdbox') else '.'
bad = count = 0


def differ(what, text):
    global bad
    bad += 1
    if bad < 40:
        print('%s: %s' % (what, str(text)[:1800]), flush=True)


class User:
    def __init__(self, name):
        self.name, self.home = name, os.path.join(folder, 'home', name)
        st = os.stat(self.home)
        self.uid, self.gid = st.st_uid, st.st_gid
        self.conf = os.path.join(folder, 'change.conf')
        with open(self.conf, 'w') as f:
            f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n'
                    'mail_uid = %d\nmail_gid = %d\nstats_writer_socket_path =\n%s\nnamespace inbox {\n  inbox = yes\n  separator = %s\n}\n'
                    % (folder, location, self.uid, self.gid, '\n'.join(o.replace('=', ' = ', 1) for o in options), sep))

    def drop(self):
        if os.getuid() == 0:
            os.setgroups([]); os.setgid(self.gid); os.setuid(self.uid)

    def ours(self, *args, may_fail=False):
        words = [w for o in options for w in ('-o', o)]
        r = subprocess.run([tool, '-u', self.name, '-h', self.home, '-l', location, *words, *args], capture_output=True, preexec_fn=self.drop)
        if (r.returncode != 0 and not may_fail) or r.stderr:
            differ('%s %s' % (self.name, ' '.join(args)), 'exit %d %s' % (r.returncode, r.stderr.decode()))
        return r.stdout.decode()

    def theirs(self, box):
        """UID -> facts, by IMAP of the real server on pipes; what it logged."""
        script = 'a EXAMINE %s\r\nb UID FETCH 1:* (UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE BODY.PEEK[])\r\nc LOGOUT\r\n' % quoted(box)
        with open(os.path.join(folder, 'change.log'), 'w+') as log:
            p = subprocess.Popen(['doveadm', '-c', self.conf, 'exec', 'imap'], env=dict(os.environ, USER=self.name, HOME=self.home),
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            p.stdin.write(script.encode())
            p.stdin.flush() # and stays open: its end would end the answers
            answer = p.stdout.read()
            p.stdin.close()
            p.wait()
            log.seek(0)
            noise = [l for l in log.read().splitlines() if 'Info:' not in l and l.strip()]
        if noise:
            differ('%s %s: Dovecot says' % (self.name, box), noise[:5])
        self.said = [line[:120] for line in answer.split(b'\r\n') if re.match(rb'\* |[a-c] ', line)]
        out, at = {}, 0
        for m in re.finditer(rb'\* \d+ FETCH \(UID (\d+) FLAGS \((.*?)\) MODSEQ \((\d+)\) INTERNALDATE "(.*?)" RFC822.SIZE (\d+) BODY\[\] (?:\{(\d+)\}\r\n|"")', answer):
            if m.start() < at:
                continue # inside a body
            n = int(m[6] or 0)
            at = m.end() + n
            out[int(m[1])] = (sorted(f for f in m[2].decode().lower().split() if f != '\\recent'), int(m[3]), int(m[5]),
                              hashlib.sha256(answer[m.end():m.end() + n]).hexdigest())
        return out


def quoted(name):
    out, run = '', ''
    for c in name + '\0':
        if ' ' <= c <= '~':
            if run:
                import base64
                out += '&' + base64.b64encode(run.encode('utf-16-be')).decode().rstrip('=').replace('/', ',') + '-'
                run = ''
            out += '&-' if c == '&' else '\\' + c if c in '"\\' else c
        elif c != '\0':
            run += c
        elif run:
            import base64
            out += '&' + base64.b64encode(run.encode('utf-16-be')).decode().rstrip('=').replace('/', ',') + '-'
    return '"%s"' % out


mail = os.path.join(folder, 'new.eml')
with open(mail, 'w') as f:
    f.write('From: a@example.org\nSubject: new\n\n' + 'a line\n' * 30)
os.chmod(folder, 0o755)
for name, ut in truth['users'].items():
    user = User(name)
    boxes = [n.replace('/', sep) for n in ut['mailboxes'] if not n.startswith('shared/')]
    for i, box in enumerate(boxes):
        uids = [m['uid'] for m in ut['mailboxes'][box.replace(sep, '/')]['mails']]
        pick = lambda k, n: ','.join(str(u) for u in uids[k::max(1, len(uids) // n)][:n]) if uids else ''
        user.ours('save', box, 'Seen,kwnew', mail, mail)
        if not uids:
            continue
        user.ours('flags', box, pick(0, 3), '+Flagged,kwother')
        user.ours('flags', box, pick(1, 2) or pick(0, 1), '-Seen')
        if 'ALT=' in location:
            user.ours('altmove', box, pick(0, 2), 'back' if i % 2 else 'there')
        user.ours('copy', box, pick(0, 2), boxes[(i + 1) % len(boxes)])
        user.ours('expunge', box, pick(1, 1) or pick(0, 1))
    for box in boxes:
        ours = {}
        for line in user.ours('dump', box).splitlines():
            m = json.loads(line)
            ours[m['uid']] = (sorted(f.lower() for f in m['flags']), m['modseq'], m['size'], m['sha256'])
        theirs = user.theirs(box)
        count += len(ours)
        if ours != theirs:
            for uid in sorted(set(ours) | set(theirs)):
                if ours.get(uid) != theirs.get(uid):
                    differ('%s %s UID %d' % (name, box, uid), 'ours %s, Dovecot %s' % (ours.get(uid), theirs.get(uid)))
            differ('%s %s' % (name, box), 'Dovecot said %s ... %s' % (user.said[:8], user.said[-6:]))
print('%d messages, %d differences' % (count, bad))
sys.exit(1 if bad else 0)

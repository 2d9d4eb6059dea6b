#!/usr/bin/env python3
"""Damaged sdbox mailboxes, each given to a real Dovecot and to ours: what both show after force-resync must be the same
(dbox-format 2.6, 4).

    repair_sdbox.py OUR-DOVEADM FOLDER [-v] [CASE...]

Compared per case: UIDs, flags, GUIDs and bytes, UIDNEXT, and which files are there. Where ours is meant to do better the case says
what it must show. Exit 1 on a difference."""
import base64, hashlib, os, pwd, re, shutil, subprocess, sys

words = [w for w in sys.argv[1:] if w != '-v']
verbose = '-v' in sys.argv
ours, folder, only = os.path.abspath(words[0]), os.path.abspath(words[1]), words[2:]
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
os.chmod(folder, 0o755)
root = os.getuid() == 0
who = pwd.getpwnam('nobody') if root else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)
BOX = 'sdbox/mailboxes/INBOX/dbox-Mails'
env = dict(os.environ, USER='u', TZ='UTC', ASAN_OPTIONS='detect_leaks=0')


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def doveadm(program, home, *args, data=b''):
    conf = os.path.join(folder, os.path.basename(home) + '.conf')
    with open(conf, 'w') as f:
        f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = sdbox:~/sdbox:ALT=~/alt:ALTNOCHECK\n'
                'mail_home = %s\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n}\n' % (folder, home))
    r = subprocess.run([program, '-c', conf, *args], env=dict(env, HOME=home), input=data, capture_output=True, preexec_fn=drop if root else None)
    if b'Sanitizer' in r.stderr or b'runtime error' in r.stderr:
        raise Exception(r.stderr.decode())
    log = r.stderr.decode('utf-8', 'replace').replace(home, 'HOME')
    return r.returncode, r.stdout, [re.sub(r'<\d+><[^>]*>', '', l) for l in log.splitlines()]


made = os.path.join(folder, 'made')
os.mkdir(made); os.chown(made, who.pw_uid, who.pw_gid)
for i in range(1, 7):
    mail = ('From: a@example.org\nSubject: mail %d\n\n%s' % (i, 'line %d\n' % i * (i * 3))).encode()
    assert doveadm('doveadm', made, 'save', data=mail)[0] == 0
for args in (('flags', 'add', r'\Seen kw1', 'uid', '2,4'), ('flags', 'add', r'\Flagged', 'uid', '1,3'), ('expunge', 'mailbox', 'INBOX', 'uid', '5'),
             ('altmove', 'uid', '6')):
    r = doveadm('doveadm', made, *args)
    assert r[0] == 0, r


def path(home, name):
    return os.path.join(home, BOX, name)


def edit(name, change):
    def damage(home):
        with open(path(home, name), 'rb') as f:
            data = bytearray(f.read())
        data = change(data)
        with open(path(home, name), 'wb') as f:
            f.write(data)
    return damage


def put(at, text):
    def change(data):
        data[at:at + len(text)] = text
        return data
    return change


def remove(*names):
    def damage(home):
        for n in names:
            for f in os.listdir(os.path.join(home, BOX)):
                if re.fullmatch(n, f):
                    os.unlink(path(home, f))
    return damage


def copied(source, *names):
    def damage(home):
        for n in names:
            shutil.copy2(path(home, source), path(home, n))
            os.chown(path(home, n), who.pw_uid, who.pw_gid)
    return damage


# The file header is 16 bytes, the message header 30: its size field is at 29..45.
CASES = {
    'healthy': lambda home: None,
    'lost file': remove(r'u\.2'),
    'bad magic': edit('u.2', put(16, b'x')),
    'bad type': edit('u.2', put(18, b'Y')),
    'size too small': edit('u.2', put(40, b'00010')),
    'size one more': edit('u.2', lambda d: put(29, b'%016X' % (int(d[29:45], 16) + 1))(d)),
    'size beyond the end': edit('u.2', put(40, b'FFFFF')),
    'size is no number': edit('u.2', put(40, b'zzzzz')),
    'no end of header': edit('u.2', put(45, b'x')),
    'body cut': edit('u.2', lambda d: d[:70]),
    'metadata cut': edit('u.2', lambda d: d[:-10]),
    'metadata begin damaged': edit('u.2', lambda d: d.replace(b'\n\1\3\n', b'\nx\3\n')),
    'no metadata end': edit('u.2', lambda d: d[:-1]),
    'control character in metadata': edit('u.2', lambda d: d[:-8] + b'\2' + d[-7:]),
    'no GUID': edit('u.2', lambda d: re.sub(rb'\nG[0-9a-f]+\n', b'\n', bytes(d))),
    'garbage behind': edit('u.2', lambda d: d + b'garbage\n'),
    'garbage before': edit('u.2', lambda d: d[:16] + b'garbage\n' + d[16:]),
    'header cut': edit('u.2', lambda d: d[:30]),
    'empty file': edit('u.2', lambda d: b''),
    'file header damaged': edit('u.2', put(0, b'9')),
    'file header without size': edit('u.2', lambda d: d.replace(b' M1e', b' Q1e', 1)),
    'file without line': edit('u.2', lambda d: b'x' * 50),
    'zeros': edit('u.2', lambda d: bytes(len(d))),
    'half of it zeros': edit('u.2', lambda d: d[:60] + bytes(len(d) - 60)),
    'copied in': copied('u.1', 'u.9'),
    'old UID again': copied('u.1', 'u.5'),
    'other names': copied('u.1', 'u.x', 'u.2.broken', 'u.0', 'u.01', 'u.4294967295', 'u.', 'v.1'),
    'two broken': lambda home: (edit('u.1', put(16, b'x'))(home), edit('u.4', lambda d: d[:-5])(home)),
    'index log is garbage': edit('dovecot.index.log', lambda d: b'garbage' * 100),
    'index log is empty': edit('dovecot.index.log', lambda d: b''),
    'index log is cut': edit('dovecot.index.log', lambda d: d[:-7]),
    'cache is garbage': edit('dovecot.index.cache', lambda d: b'garbage' * 100),
    'cache is lost': remove(r'dovecot\.index\.cache'),
}
# Ours mends more: the same messages with the same flags, but what is left of the damaged one may be more, with a copy kept.
KEPT = {'bad magic', 'size too small', 'size beyond the end', 'size is no number', 'no end of header', 'body cut', 'metadata cut',
        'metadata begin damaged', 'no metadata end', 'control character in metadata', 'no GUID', 'half of it zeros', 'two broken'}
DAMAGED = (1, 2, 4)
# The real server loses messages, or dies: ours must show all.
ALL = {'index log is garbage', 'index log is empty', 'size one more', 'index log is cut', 'other names'}


def state(program, home):
    code, out, log = doveadm(program, home, '-f', 'tab', 'fetch', 'uid flags', 'all')
    rows = {}
    for line in out.decode().splitlines()[1:]:
        uid, flags = line.split('\t')
        c1, guid, l1 = doveadm(program, home, '-f', 'tab', 'fetch', 'guid', 'uid', uid)
        c2, body, l2 = doveadm(program, home, 'fetch', 'text', 'uid', uid)
        log += l1 + l2
        rows[int(uid)] = (' '.join(sorted(f for f in flags.split() if f != '\\Recent')), guid.decode().split('\n')[1:2],
                          hashlib.sha256(body).hexdigest()[:12])
    status = doveadm(program, home, 'mailbox', 'status', 'uidnext messages', 'INBOX')
    return rows, status[1].decode().strip(), log


def files(home):
    return sorted(os.path.relpath(os.path.join(d, f), home) for d, _, fs in os.walk(home) for f in fs if f.startswith('u.'))


bad = 0
for name, damage in CASES.items():
    if only and name not in only:
        continue
    result = {}
    for side, program in (('theirs', 'doveadm'), ('ours', ours)):
        home = os.path.join(folder, side)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run(['cp', '-a', made, home], check=True)
        damage(home)
        touched = doveadm(program, home, 'fetch', 'uid guid hdr.subject', 'uid', '1:9')
        resync = doveadm(program, home, 'force-resync', 'INBOX')
        rows, status, log = state(program, home)
        saved = doveadm(program, home, 'save', data=b'Subject: later\n\nx\n')
        result[side] = dict(rows=rows, status=status, files=files(home), code=resync[0], saved=saved[0],
                            log=['fetch: ' + l for l in touched[2]] + ['resync: ' + l for l in resync[2]] + ['after: ' + l for l in log + saved[2]])
    a, b = result['theirs'], result['ours']
    wrong = []
    if name in ALL:
        if {1, 2, 3, 4, 6} - set(b['rows']):
            wrong.append('rows: %s' % b['rows'])
    else:
        kept = name in KEPT
        plain = lambda rows: {u: (r[0],) if kept and u in DAMAGED else r for u, r in rows.items()}
        if plain(a['rows']) != plain(b['rows']):
            wrong.append('rows:\n   theirs %s\n   ours   %s' % (a['rows'], b['rows']))
        if kept:
            for r in (a, b):
                r['files'] = [f for f in r['files'] if not f.endswith('.broken')]
        for key in ('status', 'files', 'code'):
            if a[key] != b[key]:
                wrong.append('%s:\n   theirs %s\n   ours   %s' % (key, a[key], b[key]))
    if b['saved'] != 0 or any(l.startswith('after: ') for l in b['log']):
        wrong.append('after: %s %s' % (b['saved'], [l for l in b['log'] if l.startswith('after: ')]))
    if wrong:
        bad += 1
    if wrong or verbose:
        print('%s %s' % ('DIFFER' if wrong else 'same', name))
        for w in wrong:
            print('  ' + w)
        if verbose:
            for side in ('theirs', 'ours'):
                for l in result[side]['log']:
                    print('    %-6s %s' % (side, l))
print('%d cases, %d differences' % (len(CASES), bad))
sys.exit(1 if bad else 0)

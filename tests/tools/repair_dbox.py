#!/usr/bin/env python3
"""Damaged sdbox and mdbox mailboxes, each given to a real Dovecot and to ours: what both show after force-resync must be the same
(dbox-format 2.6, 3.9, 4), and so must be what they log.

    repair_dbox.py sdbox|mdbox OUR-DOVEADM FOLDER [-v] [CASE...]

Compared per case: UIDs, flags, GUIDs and bytes, UIDNEXT, and which files are there. Where ours is meant to do better the case says
what it must show. Of the log: what the real one says while it reads the damaged message and rebuilds, ours says too, and nothing
else, but for what follows from repairing more or from not crashing. Exit 1 on a difference."""
import base64, hashlib, os, pwd, re, shutil, subprocess, sys

words = [w for w in sys.argv[1:] if w != '-v']
verbose = '-v' in sys.argv
form, ours, folder, only = words[0], os.path.abspath(words[1]), os.path.abspath(words[2]), words[3:]
sdbox = form == 'sdbox'
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
os.chmod(folder, 0o755)
root = os.getuid() == 0
who = pwd.getpwnam('nobody') if root else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)
BOX = form + '/mailboxes/INBOX/dbox-Mails'
FILES = BOX if sdbox else 'mdbox/storage'   # where the messages are
env = dict(os.environ, USER='u', TZ='UTC', ASAN_OPTIONS='detect_leaks=0')


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def doveadm(program, home, *args, data=b''):
    conf = os.path.join(folder, os.path.basename(home) + '.conf')
    with open(conf, 'w') as f:
        f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s:~/%s%s\n'
                'mail_home = %s\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n}\n' % (folder, form, form, ':ALT=~/alt:ALTNOCHECK' if sdbox else '', home))
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
             *([('altmove', 'uid', '6')] if sdbox else [])):
    r = doveadm('doveadm', made, *args)
    assert r[0] == 0, r


def path(home, name):
    return os.path.join(home, BOX if name.startswith('dovecot.index') else FILES, name)


def edit(name, change):
    def damage(home):
        with open(path(home, name), 'rb') as f:
            data = f.read()
        with open(path(home, name), 'wb') as f:
            f.write(change(bytearray(data)))
    return damage


def message(uid, change):
    """`change` gets the line of the file and the message; in an mdbox the others stay as they are."""
    if sdbox:
        return edit('u.%d' % uid, change)

    def inside(data):
        starts = [m.start() for m in re.finditer(rb'^\x01\x02N {10}', data, re.M)] + [len(data)]
        first, end = starts[uid - 1], starts[uid]
        return data[:first] + change(bytearray(data[:starts[0]] + data[first:end]))[starts[0]:] + data[end:]
    return edit('m.1', inside)


def put(at, text):
    def change(data):
        data[at:at + len(text)] = text
        return data
    return change


def remove(*names):
    def damage(home):
        for n in names:
            for d in {BOX, FILES}:
                for f in os.listdir(os.path.join(home, d)):
                    if re.fullmatch(n, f):
                        os.unlink(os.path.join(home, d, f))
    return damage


def copied(source, *names):
    def damage(home):
        for n in names:
            shutil.copy2(path(home, source), path(home, n))
            os.chown(path(home, n), who.pw_uid, who.pw_gid)
    return damage


def guid(data):
    return re.search(rb'\nG([0-9a-f]{32})\n', data)[1]


def guid_of_first(home):
    """A second message with the GUID of the first one."""
    with open(path(home, 'u.1' if sdbox else 'm.1'), 'rb') as f:
        first = guid(f.read())
    message(2, lambda d: d.replace(guid(d), first))(home)


def folder_instead(home):
    os.unlink(path(home, FILE))
    os.mkdir(path(home, FILE))
    os.chown(path(home, FILE), who.pw_uid, who.pw_gid)


FILE = 'u.2' if sdbox else 'm.1'
LOG, CACHE, MAP = 'dovecot.index.log', 'dovecot.index.cache', 'dovecot.map.index.log'
GARBAGE = b'garbage' * 100
# The file header is 16 bytes, the message header 30: its size field is at 29..45.
CASES = {
    'healthy': lambda home: None,
    'lost file': remove(re.escape(FILE)),
    'bad magic': message(2, put(16, b'x')),
    'bad type': message(2, put(18, b'Y')),
    'size too small': message(2, put(40, b'00010')),
    'size one more': message(2, lambda d: put(29, b'%016X' % (int(d[29:45], 16) + 1))(d)),
    'size beyond the end': message(2, put(40, b'FFFFF')),
    'size is no number': message(2, put(40, b'zzzzz')),
    'no end of header': message(2, put(45, b'x')),
    'body cut': message(2, lambda d: d[:70]),
    'metadata lost': message(2, lambda d: d[:d.index(b'\n\1\3\n')]),
    'metadata cut': message(2, lambda d: d[:-10]),
    'metadata begin damaged': message(2, lambda d: d.replace(b'\n\1\3\n', b'\nx\3\n')),
    'no metadata end': message(2, lambda d: d[:-1]),
    'control character in metadata': message(2, lambda d: d[:-8] + b'\2' + d[-7:]),
    'no GUID': message(2, lambda d: re.sub(rb'\nG[0-9a-f]+\n', b'\n', bytes(d))),
    'another GUID': message(2, lambda d: d.replace(guid(d), b'1' * 32)),
    'GUID of the first': guid_of_first,
    'GUID is no number': message(2, lambda d: d.replace(guid(d), b'x' * 32)),
    'no date': message(2, lambda d: re.sub(rb'\nR[0-9a-f]+\n', b'\n', bytes(d))),
    'garbage behind': message(2, lambda d: d + b'garbage\n'),
    'garbage before': message(2, lambda d: d[:16] + b'garbage\n' + d[16:]),
    'header cut': message(2, lambda d: d[:30]),
    'message cut out': message(2, lambda d: d[:16]),
    'message zeroed': message(2, lambda d: d[:16] + bytes(len(d) - 16)),
    'half of it zeros': message(2, lambda d: d[:60] + bytes(len(d) - 60)),
    'two broken': lambda home: (message(1, put(16, b'x'))(home), message(4, lambda d: d[:-5])(home)),
    'empty file': edit(FILE, lambda d: b''),
    'zeros': edit(FILE, lambda d: bytes(len(d))),
    'half a file': edit(FILE, lambda d: d[:len(d) // 2]),
    'garbage at the end': edit(FILE, lambda d: d + GARBAGE),
    'file header damaged': edit(FILE, put(0, b'9')),
    'file header without size': edit(FILE, lambda d: d.replace(b' M1e', b' Q1e', 1)),
    'file header with another size': edit(FILE, lambda d: d.replace(b' M1e', b' M1f', 1)),
    'file without line': edit(FILE, lambda d: b'x' * 50),
    'unreadable': lambda home: os.chmod(path(home, FILE), 0),
    'a folder': folder_instead,
    'index log is garbage': edit(LOG, lambda d: GARBAGE),
    'index log is empty': edit(LOG, lambda d: b''),
    'index log is cut': edit(LOG, lambda d: d[:-7]),
    'index log is lost': remove(r'dovecot\.index\.log.*'),
    'cache is garbage': edit(CACHE, lambda d: GARBAGE),
    'cache is lost': remove(r'dovecot\.index\.cache'),
}
if sdbox:
    CASES.update({
        'copied in': copied('u.1', 'u.9'),
        'old UID again': copied('u.1', 'u.5'),
        'other names': copied('u.1', 'u.x', 'u.2.broken', 'u.0', 'u.01', 'u.4294967295', 'u.', 'v.1'),
    })
else:
    CASES.update({
        'copied in': copied('m.1', 'm.9'),
        'other names': copied('m.1', 'm.x', 'm.0', 'm.2.broken', 'm.', 'm.3.lock', 'n.1'),
        'map log is garbage': edit(MAP, lambda d: GARBAGE),
        'map log is empty': edit(MAP, lambda d: b''),
        'map log is cut': edit(MAP, lambda d: d[:-7]),
        'map log lost its end': edit(MAP, lambda d: d[:-60]),
        'map is lost': remove(r'dovecot\.map\.index.*'),
        'everything but the messages is lost': remove(r'dovecot\..*'),
    })


# Ours mends more: what is left of the damaged message may be more, with a copy kept.
KEPT = {'bad magic', 'size too small', 'size beyond the end', 'size is no number', 'no end of header', 'body cut', 'metadata cut', 'metadata lost',
        'metadata begin damaged', 'no metadata end', 'control character in metadata', 'no GUID', 'half of it zeros', 'two broken', 'size one more',
        'half a file', 'message zeroed'}
DAMAGED = {1, 2, 4} if sdbox else {1, 2, 3, 4, 6}  # in an mdbox the one behind may have a piece of it
# The real server loses messages or flags, or dies: ours has all but those of MISSED.
MORE = {'index log is cut'} | (
    {'index log is garbage', 'index log is empty', 'index log is lost', 'other names', 'a folder'} if sdbox else
    {'size one more', 'size beyond the end', 'size is no number', 'no metadata end', 'no GUID', 'header cut', 'half a file', 'file header damaged',
     'file header without size', 'file header with another size', 'map log is cut', 'map log lost its end', 'metadata cut', 'metadata begin damaged',
     'metadata lost', 'empty file', 'zeros', 'file without line'})
MISSED = {'a folder': {2}, 'header cut': {2}, 'half a file': {4, 6}, 'metadata lost': {2}, 'metadata cut': {2}, 'size one more': {2}, 'metadata begin damaged': {2}, 'no metadata end': {2},
          **{name: {1, 2, 3, 4, 6} for name in ('empty file', 'zeros', 'file without line')}}
# All that tells which messages were expunged is gone.
FORGOTTEN = set() if sdbox else {'map log lost its end', 'map log is garbage', 'map log is empty', 'map is lost', 'everything but the messages is lost'}
GONE = hashlib.sha256(b'From: a@example.org\nSubject: mail 5\n\n' + b'line 5\n' * 15).hexdigest()[:12]


def each(program, home, field):
    """UID -> the field of each message that has it."""
    _, out, log = doveadm(program, home, '-f', 'pager', 'fetch', 'uid ' + field, 'all')
    parts = (re.match(r'\n?uid: (\d+)\n%s:[ \n](.*)' % field, part, re.S) for part in out.decode().split('\x0c'))
    return {int(m[1]): m[2] for m in parts if m}, log


def state(program, home):
    (flags, l1), (ids, l2), (texts, l3) = (each(program, home, field) for field in ('flags', 'guid', 'text'))
    rows = {uid: (' '.join(sorted(f for f in flags[uid].split() if f != '\\Recent')), ids.get(uid),
                  hashlib.sha256(texts.get(uid, '').encode()).hexdigest()[:12]) for uid in flags}
    if l1 + l2 + l3:  # one that fails takes the columns of others away
        rows = {uid: (r[0], None, None) for uid, r in rows.items()}
    status = doveadm(program, home, 'mailbox', 'status', 'uidnext messages', 'INBOX')
    return rows, status[1].decode().strip(), l1 + l2 + l3


def files(home):
    return sorted(os.path.relpath(os.path.join(d, f), home) for d, _, fs in os.walk(home) for f in fs if re.match(r'[um]\.', f))


def run(program, home, damage):
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run(['cp', '-a', made, home], check=True)
    damage(home)
    touched = doveadm(program, home, 'fetch', 'uid guid hdr.subject', 'uid', '1:9')
    resync = doveadm(program, home, 'force-resync', 'INBOX')
    rows, status, log = state(program, home)
    saved = doveadm(program, home, 'save', data=b'Subject: later\n\nx\n')
    return dict(rows=rows, status=status, files=files(home), code=resync[0], saved=saved[0], after=log + saved[2],
                log=['fetch: ' + l for l in touched[2]] + ['resync: ' + l for l in resync[2]])


# What the real one says because it crashes, believes its cache, or loses what ours finds again.
THEIRS = re.compile(r'Panic|Raw backtrace|Deleting corrupted cache record|Cached message size|fetch\(\w+\) failed .*dbox: Unexpectedly lost uid|'
                    r'fetch\(\w+\) failed .*mdbox map .* corrupted: Unexpectedly lost|map uidvalidity mismatch|Failed to fix file|'
                    r'Corrupted transaction log file|marked corrupted|Unexpected garbage at EOF|readdir\(.*u\.|(link|readdir)\(.*\) failed')
# What ours says because it mends, or does not crash.
OURS = re.compile(r'Copy of the broken file saved|Ignoring invalid filename|cutting off \d+ bytes of an unfinished transaction|'
                  r'points to broken data at offset|fetch\(\w+\) failed .*(EOF while reading file header|Invalid dbox version|Missing message header size)')
# What is wrong is seen elsewhere, or not at all.
OTHERWISE = {'size is no number', 'a folder', 'file header with another size'} | (
    set() if sdbox else {'map log is cut', 'map log lost its end', 'metadata begin damaged', 'no metadata end'})


def told(log):
    """Each text once, whenever it was said: ours rebuilds what it has seen before the real one does."""
    return {l.split(': ', 1)[1].replace('doveadm(u): ', '') for l in log}


def compare(name, a, b):
    wrong = []
    for uid in sorted(set(a['rows']) | set(b['rows'])):
        x, y = a['rows'].get(uid), b['rows'].get(uid)
        if y is not None and y[2] == GONE and name not in FORGOTTEN:
            wrong.append('UID %d was expunged' % uid)
        if x is not None and y is None and uid > 6:
            continue  # there the expunged one is back
        if x != y and name not in MORE and not (x and y and (name in KEPT and uid in DAMAGED or x[1:] == (None, None)) and x[0] == y[0]):
            wrong.append('UID %d:\n   theirs %s\n   ours   %s' % (uid, x, y))
    if name in KEPT:
        for r in (a, b):
            r['files'] = [f for f in r['files'] if not f.endswith('.broken')]
    if name in MORE and {1, 2, 3, 4, 6} - MISSED.get(name, set()) - set(b['rows']):
        wrong.append('ours has only %s' % b['rows'])
    for key in () if name in MORE else ('code',) if set(a['rows']) - set(b['rows']) else ('status', 'files', 'code'):
        if a[key] != b[key]:
            wrong.append('%s:\n   theirs %s\n   ours   %s' % (key, a[key], b[key]))
    if b['saved'] != 0 or (b['after'] and not a['after']):
        wrong.append('after: %s %s' % (b['saved'], b['after']))
    one, two = (set(), set()) if name in OTHERWISE else (told(a['log']), told(b['log']))
    wrong += ['only the real one says: ' + l for l in sorted(one - two) if not THEIRS.search(l)]
    wrong += ['only ours says: ' + l for l in sorted(two - one) if not OURS.search(l)]
    return wrong


bad = 0
for name, damage in CASES.items():
    if only and name not in only:
        continue
    a, b = run('doveadm', os.path.join(folder, 'theirs'), damage), run(ours, os.path.join(folder, 'ours'), damage)
    wrong = compare(name, a, b)
    bad += bool(wrong)
    if wrong or verbose:
        print('%s %s' % ('DIFFER' if wrong else 'same', name))
        for w in wrong:
            print('  ' + w)
        if verbose:
            for side, r in (('theirs', a), ('ours', b)):
                for l in r['log']:
                    print('    %-6s %s' % (side, l))
print('%s: %d cases, %d differences' % (form, len(only or CASES), bad))
sys.exit(1 if bad else 0)

#!/usr/bin/env python3
"""Faults of index files, one by one: the library's log lines and the real doveadm's, and what each still shows.

    faults.py TOOL DIR [FAULT...]

Makes one sdbox mailbox in DIR with doveadm, damages a copy for each, compares (index-format 12.1, 12.2, 12.4).
"""
import os, pwd, re, shutil, struct, subprocess, sys

TOOL, DIR, *ONLY = sys.argv[1:]
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


def get(name, offset):
    with open(BOX + name, 'rb') as f:
        f.seek(offset)
        return struct.unpack('<I', f.read(4))[0]


def last_record(offset, data):
    def act():
        at = get(INDEX, 4) + (get(INDEX, 32) - 1) * get(INDEX, 8)
        patch(INDEX, at + offset, data)()
    return act


def extension(name, offset, data):
    """In the header of an extension: offset 0 is its hdr_size; 'data' is where its own header begins."""
    def act():
        at = 120
        while True:
            with open(BOX + INDEX, 'rb') as f:
                f.seek(at)
                size, _, _, _, _, length = struct.unpack('<IIHHHH', f.read(16))
                known = f.read(length)
            own = at + (16 + length + 7) // 8 * 8
            if known == name:
                break
            at = own + (size + 7) // 8 * 8
        patch(INDEX, own + offset[1] if isinstance(offset, tuple) else at + offset, data)()
    return act


def decode(name, offset):
    with open(BOX + name, 'rb') as f:
        f.seek(offset)
        b = f.read(4)
    return (b[0] & 0x7f) << 23 | (b[1] & 0x7f) << 16 | (b[2] & 0x7f) << 9 | (b[3] & 0x7f) << 2


def cached(place, offset, data, base=None):
    """In the first record of the cache, or its field header; base: an array in that."""
    def act():
        fields = decode(CACHE, 28)
        at = fields if place == 'fields' else (fields + get(CACHE, fields + 4) + 3) // 4 * 4
        if base is not None:
            at += 12 + base * get(CACHE, fields + 8)
        patch(CACHE, at + offset, u32(at) if data == 'own' else encode(at) if data == 'own offset' else data)()
    return act


def encode(size):
    size >>= 2
    return bytes(0x80 | (size >> shift & 0x7f) for shift in (21, 14, 7, 0))


def record(kind, *words, raw=b''):
    body = b''.join(u32(w) for w in words) + raw
    return encode(8 + len(body)) + u32(kind) + body


def logged(kind, *words, raw=b''):
    return add(LOG, record(kind, *words, raw=raw))


def with_intro(kind, *words, name=b'hdr-pop3-uidl\0\0\0', raw=b''):
    """A transaction: the introduction of an extension, then a record that needs one."""
    intro = record(0x40 | EXT, 0xffffffff, 0, 4, 0, raw=struct.pack('<HH', 1, len(name.rstrip(b'\0'))) + name)
    then = record(kind, *words, raw=raw)
    return add(LOG, record(0x80000 | EXT, 12 + len(intro) + len(then)) + intro + then)


EXT = 0x10000000
UNFINISHED = {'half a record', 'record without size', 'stray bytes', 'boundary beyond the end'}
# Nothing is left that says how many changes there were.
UNKNOWN_MODSEQ = {'log major version', 'log compat flags', 'log too short', 'log empty', 'log header size', 'log missing'}
u16 = struct.Struct('<H').pack
# (name, damage, how the log lines compare): same = all, first = the first one, own = ours has more to say, or less.
FAULTS = [
    # the base index (12.1)
    ('major version', patch(INDEX, 0, b'\6'), 'same'),
    ('compat flags', patch(INDEX, 12, b'\0'), 'same'),
    ('base index too short', cut(INDEX, 100), 'same'),
    ('record size', patch(INDEX, 8, u32(4)), 'same'),
    ('header sizes', patch(INDEX, 4, u32(100)), 'same'),
    ('header beyond the file', patch(INDEX, 4, u32(100000)), 'same'),
    ('last uid', last_record(0, u32(0)), 'same'),
    ('last uid too high', last_record(0, u32(77)), 'same'),
    ('indexid', patch(INDEX, 16, u32(77)), 'first'),
    ('messages count', patch(INDEX, 32, u32(9)), 'same'),
    ('uidvalidity', patch(INDEX, 24, u32(0)), 'same'),
    ('next uid', patch(INDEX, 28, u32(2)), 'same'),
    ('next uid 0', patch(INDEX, 28, u32(0)), 'same'),
    ('seen count', patch(INDEX, 40, u32(99)), 'same'),
    ('deleted count', patch(INDEX, 44, u32(99)), 'same'),
    ('first recent', patch(INDEX, 48, u32(99)), 'same'),
    ('first recent 0', patch(INDEX, 48, u32(0)), 'same'),
    ('unseen lowwater', patch(INDEX, 52, u32(99)), 'same'),
    ('deleted lowwater', patch(INDEX, 56, u32(99)), 'same'),
    ('log sequence', patch(INDEX, 60, u32(9)), 'same'),
    ('log sequence older', patch(INDEX, 60, u32(1)), 'same'),
    ('log position beyond', patch(INDEX, 68, u32(9999)), 'first'),
    ('tail beyond head', patch(INDEX, 64, u32(9999)), 'first'),
    ('extension outside', patch(INDEX, 120, u32(1 << 20)), 'same'),
    ('extension record offset', extension(b'keywords', 8, u16(99)), 'same'),
    ('extension record size', extension(b'keywords', 10, u16(999)), 'same'),
    ('extension alignment 0', extension(b'keywords', 12, u16(0)), 'same'),
    ('extension alignment', extension(b'keywords', 12, u16(64)), 'same'),
    ('extension name', extension(b'keywords', 16, b'\x01'), 'own'),
    ('extension doubled', extension(b'keywords', 16, b'dbox-hdr'), 'same'),
    ('keywords count', extension(b'keywords', ('own', 0), u32(9999)), 'first'),
    ('keywords offset', extension(b'keywords', ('own', 8), u32(9999)), 'first'),
    # the log (12.2)
    ('log marked', patch(LOG, 4, u32(0)), 'same'),
    ('log major version', patch(LOG, 0, b'\2'), 'same'),
    ('log compat flags', patch(LOG, 32, b'\0'), 'same'),
    ('log too short', cut(LOG, 20), 'same'),
    ('log empty', cut(LOG, 0), 'same'),
    ('log header size', patch(LOG, 2, b'\x10\0'), 'same'),
    ('log missing', lambda: os.unlink(BOX + LOG), 'same'),
    ('half a record', add(LOG, record(0x4, 1, 1, 8)[:-4]), 'same'),
    ('record without size', add(LOG, bytes(12)), 'same'),
    ('stray bytes', add(LOG, b'\x80\x80\x80'), 'same'),
    ('boundary beyond the end', logged(0x80000 | EXT, 999), 'same'),
    ('record size 4', add(LOG, encode(4) + u32(4)), 'first'),
    ('record empty', logged(0x4), 'first'),
    ('flag record size', logged(0x4, 1, 1), 'first'),
    ('flag range', logged(0x4, 3, 2, 8), 'first'),
    ('flag uid 0', logged(0x4, 0, 2, 8), 'first'),
    ('flag ranges unsorted', logged(0x4, 3, 3, 8, 1, 1, 8), 'first'),
    ('expunge unprotected', logged(0x1 | EXT, 1, 5), 'first'),
    ('expunge-guid unprotected', logged(0x2000 | EXT, 1, 0, 0, 0, 0), 'first'),
    ('append size', logged(0x2 | EXT, 9, 0, 0), 'first'),
    ('expunge-guid size', logged(0xed90 | EXT, 1, 0, 0), 'first'),
    ('expunge-guid uid 0', logged(0xed90 | EXT, 0, 0, 0, 0, 0), 'first'),
    ('keyword empty', logged(0x400, 0, 1, 1), 'first'),
    ('keyword size', logged(0x400, 0xffff0000, 1, 1), 'first'),
    ('intro name', logged(0x40 | EXT, 0xffffffff, 0, 4, 0, 0xffff0000), 'first'),
    ('attribute prefix', logged(0x100000, raw=b'xpa\0\0\0\0\0' + u32(1)), 'first'),
    ('attribute type', logged(0x100000, raw=b'+xa\0\0\0\0\0' + u32(1) + u32(1)), 'first'),
    ('attribute key', logged(0x100000, raw=b'+p\0\0' + u32(1) + u32(1)), 'first'),
    ('attribute end', logged(0x100000, raw=b'+pab'), 'own'),
    ('tail goes past', logged(0x20 | EXT, 0x40040, 99999), 'first'),
    ('tail smaller', logged(0x20 | EXT, 0x40040, 40), 'same'),
    ('unknown type', logged(0x200000 | EXT, 1), 'first'),
    ('header update outside', logged(0x20 | EXT, 0x40000 | 200, 1), 'first'),
    ('append below next uid', logged(0x2 | EXT, 2, 0), 'first'),
    ('intro of unknown id', logged(0x40 | EXT, 77, 0, 4, 0, 1), 'first'),
    ('intro without id or name', logged(0x40 | EXT, 0xffffffff, 0, 4, 0, 1), 'first'),
    ('intro of keywords', logged(0x40 | EXT, 0xffffffff, 0, 4, 0, raw=struct.pack('<HH', 1, 8) + b'keywords'), 'first'),
    ('intro without sizes', logged(0x40 | EXT, 0xffffffff, 0, 0, 0, raw=struct.pack('<HH', 1, 3) + b'abc\0'), 'first'),
    ('reset without intro', logged(0x80 | EXT, 1, 0), 'first'),
    ('header without intro', logged(0x100 | EXT, 0x40000, 1), 'first'),
    ('record without intro', logged(0x200 | EXT, 1, 1), 'first'),
    ('extension header outside', with_intro(0x100 | EXT, 0x40000 | 64, 1), 'first'),
    ('extension record uid', with_intro(0x200 | EXT, 0, name=b'hdr-pop3-uidl\0\0\0'), 'first'),
]
# The cache (12.4): what is asked for is there all the same.
CACHE_FAULTS = [
    ('cache major version', patch(CACHE, 0, b'\2'), 'same'),
    ('cache offset size', patch(CACHE, 1, b'\4'), 'same'),
    ('cache indexid', patch(CACHE, 4, u32(77)), 'same'),
    ('cache file_seq 0', patch(CACHE, 8, u32(0)), 'same'),
    ('cache file_seq', patch(CACHE, 8, u32(77)), 'own'),
    ('cache too small', cut(CACHE, 20), 'same'),
    ('cache empty', cut(CACHE, 0), 'same'),
    ('cache without fields', patch(CACHE, 28, u32(0)), 'same'),
    ('cache fields outside', patch(CACHE, 28, encode(1 << 20)), 'same'),
    ('cache fields loop', cached('fields', 0, 'own offset'), 'same'),
    ('cache field header size', cached('fields', 4, u32(4)), 'same'),
    ('cache field type', cached('fields', 0, b'\x77', base=8), 'same'),
    ('cache field decision', cached('fields', 0, b'\x77', base=9), 'same'),
    ('cache missing', lambda: os.unlink(BOX + CACHE), 'same'),
    ('cache record size', cached('record', 4, u32(6)), 'same'),
    ('cache record too long', cached('record', 4, u32(1 << 24)), 'same'),
    ('cache record circular', cached('record', 0, 'own'), 'same'),
    ('cache record beyond', cached('record', 0, u32(1 << 24)), 'same'),
    ('cache field index', cached('record', 8, u32(999)), 'same'),
]


def make():
    global WHOLE_MODSEQ, WHOLE_SIZE
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
    doveadm('fetch', 'hdr.subject date.sent size.virtual', 'mailbox', 'INBOX')
    if tool('rewrite').returncode != 0:
        sys.exit('rewrite fails')
    doveadm('flags', 'add', r'\Flagged', 'mailbox', 'INBOX', 'uid', '3')
    WHOLE_SIZE = os.path.getsize(BOX + LOG)
    WHOLE_MODSEQ = int(re.search(r'modseq=(\d+)', tool('list').stdout).group(1))
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


def compare(name, how, theirs, ours):
    a, b = lines(theirs), lines(ours)
    if how != 'own' and (a[:1] != b[:1] if how == 'first' else a != b):
        print('%s: lines differ\n  real: %s\n  ours: %s' % (name, a, b))
        return 1
    return 0


def main():
    make()
    bad = 0
    for name, act, how in FAULTS:
        if ONLY and name not in ONLY:
            continue
        damaged(act)
        theirs = doveadm('fetch', 'uid flags', 'mailbox', 'INBOX')
        damaged(act)
        size = os.path.getsize(BOX + LOG) if os.path.exists(BOX + LOG) else 0
        looked = tool('list', options=('-r',))
        if size and os.path.getsize(BOX + LOG) != size:
            bad += 1
            print('%s: a reader changes the log' % name)
        ours = tool('list')
        again = tool('list', options=('-r',))
        shown = min(sum(' flags=' in line for line in r.stdout.splitlines()) for r in (looked, ours))
        bad += compare(name, how, theirs.stderr, ours.stderr)
        if shown < 5 or shown < theirs.stdout.count('uid:'):
            bad += 1
            print('%s: %d messages are left' % (name, shown))
        modseqs = [int(re.search(r'modseq=(\d+)', r.stdout).group(1)) for r in (looked, ours, again)]
        if name not in UNKNOWN_MODSEQ and min(modseqs) < WHOLE_MODSEQ:
            bad += 1
            print('%s: modseq %s, was %d' % (name, modseqs, WHOLE_MODSEQ))
        if again.stderr:
            bad += 1
            print('%s: after the repair: %s' % (name, again.stderr))
        written = tool('flags', '+', '1', '1', '10', ',', 'list')
        expected = r'Warning: .*: cutting off \d+ bytes of an unfinished transaction at %d\n' % WHOLE_SIZE if name in UNFINISHED else ''
        if written.returncode != 0 or not re.fullmatch(expected, written.stderr) or written.stdout.count(' flags=') != shown or '\n1 flags=10' not in written.stdout:
            bad += 1
            print('%s: writing: %s %s' % (name, written.stdout, written.stderr))
        last = doveadm('fetch', 'uid flags', 'mailbox', 'INBOX')
        if lines(last.stderr) or last.stdout.count('uid:') != 5:
            bad += 1
            print('%s: the real one after the repair: %s %s' % (name, last.stderr, last.stdout))
    for name, act, how in CACHE_FAULTS:
        if ONLY and name not in ONLY:
            continue
        damaged(act)
        theirs = doveadm('fetch', 'uid hdr.subject', 'mailbox', 'INBOX')
        damaged(act)
        ours = tool('cache', ',', 'flush')
        again = tool('cache', ',', 'put', '1', 'hdr.subject', 'x', ',', 'flush')
        bad += compare(name, how, theirs.stderr, ours.stderr)
        if again.returncode != 0 or again.stderr or theirs.stdout.count('m') < 5:
            bad += 1
            print('%s: afterwards: %s' % (name, again.stderr))
    # A message that brings its modseq along into an index that has none yet: not damage, for neither.
    damaged(lambda: None)
    ours, theirs = tool('append', '1', '77', ',', 'list'), doveadm('-f', 'tab', 'fetch', 'uid modseq', 'mailbox', 'INBOX')
    if ours.stderr or theirs.stderr or '6\t77' not in theirs.stdout or '\n6 flags=00 modseq=77' not in ours.stdout:
        bad += 1
        print('append with a modseq: %s %s\n%s %s' % (ours.stdout, ours.stderr, theirs.stdout, theirs.stderr))
    print('%d faults, %d differences' % (len(FAULTS) + len(CACHE_FAULTS), bad))
    sys.exit(bad > 0)


main()

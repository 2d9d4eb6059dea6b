#!/usr/bin/env python3
"""Settings of indexes and caches, one by one: what can be seen in the files is another thing with the setting than
without it.

    index_settings.py STORETOOL INDEX_TOOL DIR

Needs a build with --enable-faults for what only a trace of the calls shows (src/base/os.h). Exit 1 when a setting does nothing."""
import fcntl, os, shutil, struct, subprocess, sys, time

tool, index_tool, folder = map(os.path.abspath, sys.argv[1:4])
os.makedirs(folder, exist_ok=True)
home, mail = folder + '/home', folder + '/mail'
box = home + '/s/mailboxes/INBOX/dbox-Mails'
log, cache = box + '/dovecot.index.log', box + '/dovecot.index.cache'
with open(mail, 'w') as f:
    f.write('From: a@example.org\nSubject: s\nX-Id: %s\nX-Other: y\n\nbody\n' % ('x' * 600))
bad = 0


def run(options, *commands, location='sdbox:~/s', trace=None):
    words = [w for o in options for w in ('-o', o)]
    commands = [w for c in commands for w in ('--', *c)][1:]
    env = dict(os.environ, **({'YARILO_TRACE_FD': str(trace.fileno())} if trace else {}))
    return subprocess.run([tool, '-u', 'u', '-h', home, '-l', location, *words, *commands], capture_output=True, text=True, env=env,
                          pass_fds=[trace.fileno()] if trace else (), timeout=120)


def must(*args, **more):
    r = run(*args, **more)
    if r.returncode != 0 or 'Error' in r.stderr:
        sys.exit('%s: %s' % (args, r.stderr))


def fresh():
    shutil.rmtree(home, ignore_errors=True)
    os.mkdir(home)


def cached(field):
    r = subprocess.run([index_tool, '-r', box, 'cache'], capture_output=True, text=True)
    return field in r.stdout


def save(n=1):
    return ('save', 'INBOX', '-', *[mail] * n)


def calls(options, *commands, location='sdbox:~/s'):
    with open(folder + '/trace', 'w') as f:
        must(options, *commands, location=location, trace=f)
    return [line.split('\t') for line in open(f.name).read().splitlines()]


ADD, LOOK, SYNC = ('flags', 'INBOX', '1', '+Flagged'), ('state',), ('sync', 'INBOX')
HEADERS = 'mail_always_cache_fields=hdr.x-id'
SMALL = 'mail_cache_purge_min_size=1'


def after(*steps):
    """Runs steps with the options, each a process of its own."""
    def act(options):
        fresh()
        for step in steps:
            must(options, *step)
    return act


def purged(options):
    fresh()
    must((HEADERS,), save(4))
    must((HEADERS,), LOOK)
    before = os.stat(cache).st_ino
    keep = os.open(cache, os.O_RDONLY)    # or its number would be given again
    must((HEADERS, *options), ('expunge', 'INBOX', '1,2'))
    must((HEADERS, *options), SYNC)
    os.close(keep)
    return os.stat(cache).st_ino != before


def see(act, look):
    return lambda options: (act(options), look())[1]


def syncs(options):
    fresh()
    return sum(c[1] == 'sync' for c in calls(options, save(), ADD))


def touches(name, *steps):
    """Does a call of the steps touch such a file?"""
    def look(options):
        fresh()
        return any(c[2].endswith(name) for c in calls(options, *steps))
    return look


def replaced(*steps):
    """Is the cache a new file after the last step?"""
    def look(options):
        fresh()
        for step in steps[:-1]:
            must(*step)
        keep = os.open(cache, os.O_RDONLY)    # or its number would be given again
        before = os.fstat(keep).st_ino
        must((*options, *steps[-1][0]), *steps[-1][1:])
        os.close(keep)
        return os.stat(cache).st_ino != before
    return look


def by_link(options):
    fresh()
    must(options, save())
    return any('.temp.' in c[2] for c in calls(options, ADD))


def waits_for_flock(options):
    fresh()
    must((), save())
    with open(log) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        return 'waiting for lock' in run((*options, 'mail_max_lock_timeout=1s'), ADD).stderr


def rotates(age):
    """Is a log of this age rotated by a change? It is a few hundred bytes long."""
    def look(options):
        fresh()
        must((), save())
        with open(log, 'r+b') as file:
            file.seek(LOG_CREATED)
            file.write(struct.pack('<I', int(time.time()) - age))
        must(options, ADD)
        must(options, SYNC)
        return exists(log + '.2')
    return look


def old_log_goes(options):
    """The older log is there until its time, which the header of the index has."""
    fresh()
    must((), save())
    must(('mail_index_log_rotate_max_size=1',), ADD)
    assert exists(log + '.2')
    index = box + '/dovecot.index'
    must(('mail_index_rewrite_max_log_bytes=1', 'mail_index_rewrite_min_log_bytes=1'), ('flags', 'INBOX', '1', '+Seen'))
    os.utime(log + '.2', (0, time.time() - 86400))
    with open(index, 'r+b') as file:    # rotated a day ago
        file.seek(LOG2_TIME)
        file.write(struct.pack('<I', int(time.time()) - 86400))
    must((*options, 'mail_index_rewrite_max_log_bytes=1', 'mail_index_rewrite_min_log_bytes=1'), ('flags', 'INBOX', '1', '-Seen'))
    return not exists(log + '.2')


def second_file(age):
    """Two messages of an mdbox; the file of the first is made so old. Is the other one in a file of its own?"""
    def look(options):
        fresh()
        must(options, save(), location='mdbox:~/s')
        with open(home + '/s/storage/m.1', 'r+b') as file:
            line = file.readline()
            at = line.index(b' C') + 2
            file.seek(at)
            file.write(b'%08x' % (int(time.time()) - age))
        must(options, save(), location='mdbox:~/s')
        return exists(home + '/s/storage/m.2')
    return look


def unused_field_goes(options):
    """All fields of the cache were used last forty days ago."""
    fresh()
    must(('mail_cache_fields=hdr.x-id',), save())
    must((), ('cachepurge', 'INBOX'))
    assert cached('hdr.x-id')
    with open(cache, 'r+b') as file:
        header = file.read()
        at = sum((byte & 127) << shift for byte, shift in zip(header[28:32], (23, 16, 9, 2)))
        count = struct.unpack_from('<I', header, at + 8)[0]
        for i in range(count):
            file.seek(at + 12 + 4 * i)
            file.write(struct.pack('<I', int(time.time()) - 40 * 86400))
    must(options, ('cachepurge', 'INBOX'))
    return not cached('hdr.x-id')


exists = os.path.exists
LOG2_TIME, LOG_CREATED = 76, 20
ONE_BY_ONE = [((SMALL, 'mail_always_cache_fields=hdr.' + name), save()) for name in ('x-id', 'x-other', 'from-a', 'from-b')]
CASES = [  # (setting, options with it, options without it, what is seen, with it, without it)
    ('mail_always_cache_fields', (HEADERS,), (), see(after((save(),)), lambda: cached('hdr.x-id')), True, False),
    ('mail_cache_fields', ('mail_cache_fields=flags hdr.x-id',), (), see(after((save(),)), lambda: cached('hdr.x-id')), True, False),
    ('mail_cache_min_mail_count', (HEADERS, 'mail_cache_min_mail_count=5'), (HEADERS,), see(after((save(),)), lambda: exists(cache)),
     False, True),
    ('mail_cache_record_max_size', (HEADERS, 'mail_cache_record_max_size=200'), (HEADERS,),
     see(after((save(),)), lambda: cached('hdr.x-id')), False, True),
    ('mail_cache_max_size', (HEADERS, 'mail_cache_max_size=4k'), (HEADERS,),
     see(after((save(20),), (save(),)), lambda: exists(cache) and os.path.getsize(cache) > 4096), False, True),
    ('mail_cache_purge_min_size', (SMALL,), (), purged, True, False),
    ('mail_index_log_rotate_max_size', ('mail_index_log_rotate_max_size=1',), (), see(after((save(),), (ADD,)), lambda: exists(log + '.2')),
     True, False),
    ('mail_index_rewrite_max_log_bytes', ('mail_index_rewrite_max_log_bytes=1',), (),
     see(after((save(),), (ADD,)), lambda: exists(box + '/dovecot.index')), True, False),
    ('mail_index_rewrite_min_log_bytes', ('mail_index_rewrite_min_log_bytes=1',), (),
     see(after((save(),), (ADD,)), lambda: exists(box + '/dovecot.index')), True, False),
    ('mail_never_cache_fields', ('mail_cache_fields=hdr.x-id', 'mail_never_cache_fields=hdr.x-id'), ('mail_cache_fields=hdr.x-id',),
     see(after((save(),)), lambda: cached('hdr.x-id')), False, True),
    ('lock_method = dotlock', ('lock_method=dotlock',), (), touches('INBOX/dbox-Mails/dovecot.index.log.lock', save(), ADD), True, False),
    ('lock_method = flock', ('lock_method=flock',), (), waits_for_flock, True, False),
    ('dotlock_use_excl', ('lock_method=dotlock', 'dotlock_use_excl=no'), ('lock_method=dotlock',),
     by_link, True, False),
    ('mail_index_log_rotate_min_size', ('mail_index_log_rotate_min_size=1',), (), rotates(1000), True, False),
    ('mail_index_log_rotate_min_age', ('mail_index_log_rotate_min_size=1', 'mail_index_log_rotate_min_age=10s'),
     ('mail_index_log_rotate_min_size=1',), rotates(100), True, False),
    ('mail_index_log_rotate_min_age = 0', ('mail_index_log_rotate_min_size=1', 'mail_index_log_rotate_min_age=0'),
     ('mail_index_log_rotate_min_size=1',), rotates(100), True, False),
    ('mail_index_log2_max_age', ('mail_index_log2_max_age=1 hours',), (), old_log_goes, True, False),
    ('mail_cache_unaccessed_field_drop', ('mail_cache_unaccessed_field_drop=10 days',), (), unused_field_goes, True, False),
    ('mail_cache_purge_continued_percentage', ('mail_cache_purge_continued_percentage=50',), (),
     replaced(((), save(3)), ((HEADERS,), save(3)), ((), ('dump', 'INBOX')), ((SMALL,), ('expunge', 'INBOX', '1'), SYNC)), True, False),
    ('mail_cache_purge_header_continue_count', ('mail_cache_purge_header_continue_count=1',), (),
     replaced(*ONE_BY_ONE, ((), ('expunge', 'INBOX', '1'), SYNC)), True, False),
    ('mdbox_rotate_interval', ('mdbox_rotate_interval=1 days',), (), second_file(2 * 86400), True, False),
    ('mdbox_rotate_size', ('mdbox_rotate_size=1k',), (), second_file(0), True, False),
    ('mail_fsync = never', ('mail_fsync=never',), (), lambda o: syncs(o) == 0, True, False),
]
for name, options, without, look, want, otherwise in CASES:
    try:
        found = look(options), look(without)
    except Exception as e:
        found = repr(e)
    if found != (want, otherwise):
        bad += 1
        print('%s: %s, not %s' % (name, found, (want, otherwise)))
if not syncs(('mail_fsync=never',)) < syncs(()) < syncs(('mail_fsync=always',)):
    bad += 1
    print('mail_fsync: always syncs no more than optimized')

# Somebody holds the log: mail_max_lock_timeout says how long a change waits for him.
fresh()
must((), save())
with open(log, 'r+') as held:
    fcntl.lockf(held, fcntl.LOCK_EX)
    r = run(('mail_max_lock_timeout=1s',), ADD)
    if 'Timeout (1s) while waiting for lock' not in r.stdout + r.stderr:
        bad += 1
        print('mail_max_lock_timeout: %s' % (r.stdout + r.stderr))
print('%d settings, %d do nothing' % (len(CASES) + 2, bad))
sys.exit(bad > 0)

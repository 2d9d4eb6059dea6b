#!/usr/bin/env python3
"""Settings of indexes and caches, one by one: what can be seen in the files is another thing with the setting than
without it.

    index_settings.py STORETOOL INDEX_TOOL DIR

Needs a build with --enable-faults for what only a trace of the calls shows (src/base/os.h). Exit 1 when a setting does nothing."""
import fcntl, os, shutil, subprocess, sys

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


exists = os.path.exists
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

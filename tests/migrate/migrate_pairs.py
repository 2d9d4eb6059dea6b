#!/usr/bin/env python3
"""yarilo-migrate between two formats, judged by the real server: it makes the source, and says what is in source and target.

    migrate_pairs.py MIGRATE DIR FROM TO [--interrupt [--rebuilt]]

FROM and TO are keys of FORMATS. --interrupt: the program ends at some (with YARILO_LONG: each) of its mutating calls (YARILO_FAULT, fault builds), and by
SIGKILL at random times, and is run again; then everything must be as after one run. --rebuilt: in between the real server makes a
force-resync of the target. Exit 1 on a difference."""
import glob, json, os, pwd, random, shutil, subprocess, sys, time

FORMATS = {'maildir': 'maildir:~/Maildir', 'maildir-fs': 'maildir:~/MaildirFs:LAYOUT=fs', 'sdbox': 'sdbox:~/sdbox',
           'mdbox': 'mdbox:~/mdbox', 'mdbox-index': 'mdbox:~/mdboxi:LAYOUT=index', 'mbox': 'mbox:~/mbox'}
tool, folder, source, target = sys.argv[1:5]
interrupt, rebuilt = '--interrupt' in sys.argv, '--rebuilt' in sys.argv
mbox = 'mbox' in (source, target)     # has GUIDs of its own, stores no POP3 UIDLs, and no mailbox below one with messages
DEEP = 'Folder/Deep' if mbox else 'Work/Deep'
home = os.path.join(folder, 'home')
os.makedirs(home)
if os.getuid() == 0:   # the real server gives root no mail
    owner = pwd.getpwnam('mail')
    for path in folder, home:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    os.setgroups([])
    os.setgid(owner.pw_gid)
    os.setuid(owner.pw_uid)
conf = os.path.join(folder, 'dovecot.conf')
with open(conf, 'w') as f:
    f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nfirst_valid_uid = 0\nfirst_valid_gid = 0\nmail_uid = %d\nmail_gid = %d\nstats_writer_socket_path =\n'
            'mail_location = %s\nnamespace inbox {\n  inbox = yes\n  separator = /\n}\n' % (folder, os.getuid(), os.getgid(), FORMATS[source]))
environ = dict(os.environ, HOME=home, USER='user')
environ.pop('YARILO_FAULT', None)
bad = 0


def differ(what, a, b=''):
    global bad
    bad += 1
    print('DIFFER %s -> %s: %s\n  %s\n  %s' % (source, target, what, str(a)[:400], str(b)[:400]), flush=True)


def theirs(fmt, *args, data=None):
    r = subprocess.run(['doveadm', '-c', conf, '-o', 'mail_location=' + FORMATS[fmt], *args], input=data, capture_output=True, env=environ)
    if r.returncode != 0 or r.stderr:
        differ('doveadm on %s: %s: exit %d' % (fmt, ' '.join(args), r.returncode), r.stderr.decode())
    return r.stdout.decode('utf-8', 'surrogateescape')


def migrate(*more, fault=None, may_fail=False):
    env = environ if fault is None else dict(environ, YARILO_FAULT=fault)
    r = subprocess.run([tool, '--config', conf, '--from', FORMATS[source], '--to', FORMATS[target].split(':', 1)[1],
                        '--format', FORMATS[target].split(':', 1)[0], *more], capture_output=True, env=env)
    if not may_fail and (r.returncode != 0 or r.stderr):
        differ('yarilo-migrate: exit %d' % r.returncode, r.stderr.decode(), r.stdout.decode())
    return r.returncode, [json.loads(line) for line in r.stdout.decode().splitlines()] if not may_fail else []


def listed(fmt, *args):
    """Rows of a doveadm command about all mailboxes at once, but for the folder that is none."""
    return [row for row in json.loads(theirs(fmt, '-f', 'json', *args) or '[]') if row['mailbox'] != 'Folder']


def facts(fmt):
    """What clients can see of a store, by the real server."""
    out = {}
    index = 'LAYOUT=index' in FORMATS[source] + FORMATS[target]   # there the GUID is the folder's name
    for row in listed(fmt, 'mailbox', 'status', 'messages uidnext uidvalidity unseen recent' + ('' if index else ' guid'), '*'):
        out[row['mailbox']] = row
    for m in listed(fmt, 'fetch', 'mailbox uid guid flags date.received size.virtual text', 'mailbox', '*', 'all'):
        if mbox:
            del m['guid']
        m['flags'] = sorted(m['flags'].replace('\\Recent', '').split())
        out[m['mailbox'], m['uid']] = m
    out['subscriptions'] = sorted(theirs(fmt, 'mailbox', 'list', '-s').split())
    return out


def modseqs(fmt):
    rows = (listed(fmt, 'mailbox', 'status', 'highestmodseq', '*') +
            listed(fmt, 'fetch', 'mailbox uid modseq' + ('' if mbox else ' pop3.uidl'), 'mailbox', '*', 'all'))
    return {(row['mailbox'], row.get('uid', '')): row for row in rows}


def compare(what, a, b):
    for key in sorted(set(a) | set(b), key=str):
        if a.get(key) != b.get(key):
            differ('%s: %s' % (what, key), a.get(key), b.get(key))


def make():
    rnd = random.Random(7)
    for box in ('INBOX', 'Work', DEEP, 'Entw\u00fcrfe', 'Empty'):
        if box != 'INBOX':
            theirs(source, 'mailbox', 'create', box)
        for i in range(0 if box == 'Empty' else 12):
            body = ''.join(rnd.choice('abc \n') for _ in range(rnd.choice((0, 50, 3000))))
            theirs(source, 'save', '-m', box, data=('From: a%d@example.org\nSubject: %s %d\nMessage-ID: <%d@%d>\n\n%s\n'
                                                  % (i, 'x', i, i, rnd.randrange(1 << 30), body)).encode())
        theirs(source, 'fetch', 'modseq', 'mailbox', box, 'all')   # from now on there are modseqs
        if box != 'Empty':
            theirs(source, 'flags', 'add', '\\Seen \\Flagged', 'mailbox', box, 'uid', '2,5')
            theirs(source, 'flags', 'add', '$Label1 other', 'mailbox', box, 'uid', '3,5')
            theirs(source, 'flags', 'add', '\\Draft \\Answered \\Deleted', 'mailbox', box, 'uid', '4')
            theirs(source, 'expunge', 'mailbox', box, 'uid', '1,7,12')
    theirs(source, 'mailbox', 'subscribe', 'INBOX', DEEP, 'Nowhere')


def again(what):
    """The run after an interruption: all is as it should be."""
    if rebuilt and os.path.exists(where):   # it says what it finds
        for lock in glob.glob(where + '/**/*lock', recursive=True):   # of the dead process; it would wait until they are old
            os.unlink(lock)
        for args in (('force-resync', '*'), ('fetch', 'uid', 'mailbox', '*', 'all')):
            subprocess.run(['doveadm', '-c', conf, '-o', 'mail_location=' + FORMATS[target], *args], capture_output=True, env=environ)
    r = subprocess.run([tool, '--config', conf, '--from', FORMATS[source], '--to', FORMATS[target]], capture_output=True, env=environ)
    if any(json.loads(line).get('extra') for line in r.stdout.decode().splitlines()):
        differ(what + ': more than the source has', r.stdout.decode())
    if r.returncode != 0 or b'Error' in r.stderr:   # dbox warns of its rebuild
        differ(what + ': exit %d' % r.returncode, r.stderr.decode(), r.stdout.decode())
    compare(what, before, facts(target))


make()
before, before_modseqs = facts(source), modseqs(source)
where = FORMATS[target].split(':')[1].replace('~', home)

if interrupt:
    at, ended, last = 1, 0, 0
    while True:
        shutil.rmtree(where, ignore_errors=True)
        status, _ = migrate(fault='at=%d,how=exit-before' % at, may_fail=True)
        if status == 0:
            break
        ended += 1
        if last != 0 and status != last:
            differ('ends at call %d' % at, 'exit %d' % status)
        last = status
        again('interrupted at call %d' % at)
        if bad:
            sys.exit(1)
        at += 1 if os.environ.get('YARILO_LONG') else 1 + at // 3
    if ended < 10:
        differ('interruptions', ended)
    for i in range(5):
        shutil.rmtree(where, ignore_errors=True)
        killed = subprocess.Popen([tool, '--config', conf, '--from', FORMATS[source], '--to', FORMATS[target]], env=environ,
                                  stdout=subprocess.PIPE)
        for _ in range(i + 1):
            killed.stdout.readline()    # so many mailboxes are done
        killed.kill()
        killed.wait()
        again('killed after mailbox %d' % (i + 1))
    left = {'maildir': 'dovecot-uidlist.given.tmp', 'mdbox': 'storage/given.temp.1'}.get(target)
    if left:
        with open(os.path.join(where, left), 'w') as f:
            f.write('%032d\n' % 0)
        again('a list of UIDs to give was left')
        if os.path.exists(os.path.join(where, left)):
            differ('the list of UIDs to give stays', left)
    print('%s -> %s: %d interruptions, %d differences' % (source, target, ended + 5, bad))
    sys.exit(1 if bad else 0)

_, lines = migrate('--dry-run')
if os.path.exists(where) or not lines[-1]['dry_run'] or lines[-1]['copied']:
    differ('a dry run writes', lines[-1])
_, lines = migrate()
messages = sum(isinstance(k, tuple) for k in before)
if lines[-1]['copied'] != messages or lines[-1]['failed']:
    differ('told', lines[-1], messages)
compare('source', before, facts(source))
compare('target', before, facts(target))
compare('modseqs, POP3 UIDLs', before_modseqs, modseqs(target))
_, lines = migrate()
if lines[-1]['copied'] or lines[-1]['subscribed'] or any(l.get('changed') for l in lines):
    differ('a second run does something', lines)
compare('target again', before, facts(target))
# News in the source, and an expunge in the target, which stays.
theirs(source, 'flags', 'add', '\\Seen later', 'mailbox', 'Work', 'uid', '8')
theirs(source, 'save', '-m', 'Work', data=b'Subject: news\n\nx\n')
theirs(target, 'expunge', 'mailbox', 'INBOX', 'uid', '3')
_, lines = migrate()
work, inbox = ([l for l in lines if l.get('mailbox') == n][0] for n in ('Work', 'INBOX'))
if (work['copied'], work['changed'], inbox['gone'], inbox['copied']) != (1, 1, 1, 0):
    differ('the third run', work, inbox)
after = facts(source)
del after['INBOX'], after['INBOX', '3']
now = facts(target)
del now['INBOX']
compare('target after news', after, now)
# A target that was somebody else's is refused, and nothing happens to it.
shutil.rmtree(where)
theirs(target, 'mailbox', 'create', 'Work')
theirs(target, 'save', '-m', 'Work', data=b'Subject: other\n\nx\n')
other = theirs(target, 'fetch', 'uid guid text', 'mailbox', 'Work', 'all')
status, _ = migrate(may_fail=True)
if status != 75 or theirs(target, 'fetch', 'uid guid text', 'mailbox', 'Work', 'all') != other:
    differ('a target in use', status)
# The same where the UIDVALIDITY happens to be the same, but the mailbox is another one.
if 'LAYOUT=index' not in FORMATS[target]:
    validity = theirs(source, '-f', 'tab', 'mailbox', 'status', 'uidvalidity', 'Work').split()[-1]
    theirs(target, 'mailbox', 'update', '--uid-validity', validity, 'Work')
    status, _ = migrate(may_fail=True)
    if status != 75 or theirs(target, 'fetch', 'uid guid text', 'mailbox', 'Work', 'all') != other:
        differ('a target of the same UIDVALIDITY', status)
print('%s -> %s: %d messages, %d differences' % (source, target, messages, bad))
sys.exit(1 if bad else 0)

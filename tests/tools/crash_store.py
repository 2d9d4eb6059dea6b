#!/usr/bin/env python3
"""Faults at the N-th mutating call of every store operation, for all N or a sample, then looks with the store and with a
real Dovecot.

    crash_store.py STORETOOL FOLDER FORMAT [--runs M] [--only save,copy,...] [--how exit,ENOSPC,...] [--at N] [--keep]
                   [--migrate YARILO-MIGRATE] [--jobs J]

FORMAT is a name of store_formats.py. A prepared account is copied, the operation runs with a fault (src/base/os.h) in it:

    exit      the process ends before call N (for each N before which the files differ), or after the last one
    ENOSPC EDQUOT EIO   call N fails; EMFILE: call N, one that creates, fails
    short     call N writes 7 bytes, then ENOSPC
    full      from the N-th call on that needs space, all of them fail

--runs M takes M of all these, spread evenly; without it all are run. Runs in which the same calls succeeded, with the same answer,
leave the same files: of those one is looked at. After each, on two copies, once our store and once the real
server looks first: every message that was there (and was not to be expunged) is there with its bytes, UID, GUID, date and flags;
what was acknowledged holds; nothing stands twice; what was expunged before stays away; UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ
never go back; a process that lived has left no temporary file; saving works at once; after force-resync the files on the disk
are the messages, and what the index had called expunged stays away; what was acknowledged as expunged stays away also after a
force-resync of the real one; the real one logs no error and sees the same. After a migration: it runs again, and then the target is what one
undisturbed run makes, in the eyes of both, the files on the disk are the messages, and the source is as it was. The last line has
the figures."""
import argparse, base64, hashlib, json, multiprocessing, os, pwd, re, shutil, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from store_formats import FORMATS, files_below, migrated_files

ap = argparse.ArgumentParser()
ap.add_argument('tool'); ap.add_argument('folder'); ap.add_argument('format', choices=sorted(FORMATS))
ap.add_argument('--runs', type=int, default=0); ap.add_argument('--only', default=''); ap.add_argument('--how', default='')
ap.add_argument('--at', type=int, default=0); ap.add_argument('--keep', action='store_true')
ap.add_argument('--migrate', default=''); ap.add_argument('--jobs', type=int, default=os.cpu_count())
a = ap.parse_args()
form = FORMATS[a.format]
folder, tool = os.path.abspath(a.folder), os.path.abspath(a.tool)
migrate_tool = os.path.abspath(a.migrate) if a.migrate else os.path.join(os.path.dirname(tool), 'yarilo-migrate')
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
root = os.getuid() == 0
who = pwd.getpwnam('nobody') if root else pwd.getpwuid(os.getuid())
os.chown(folder, who.pw_uid, who.pw_gid)


def drop():
    os.setgroups([]); os.setgid(who.pw_gid); os.setuid(who.pw_uid)


def ours_run(words, fault=None, trace=None):
    env = dict(os.environ)
    if fault:
        env['YARILO_FAULT'] = fault
    if trace:
        env['YARILO_TRACE_FD'] = str(trace.fileno())
    try:
        return subprocess.run(words, capture_output=True, env=env, preexec_fn=drop if root else None,
                              pass_fds=[trace.fileno()] if trace else (), timeout=300)
    except subprocess.TimeoutExpired as e:
        raise Exception('%s hangs' % (words,)) from e


def store(home, *args, fault=None, options=(), trace=None, location=form.location):
    if args[0] == 'migrate':
        return ours_run([migrate_tool, '--config', write_conf(home), '--user', 'u', '--home', home, '--from', form.location,
                         '--to', form.migrates_to], fault, trace)
    words = [w for o in form.settings + tuple(options) for w in ('-o', o.replace('%h', home))]
    if form.conf:
        words += ['-c', write_conf(home)]
    return ours_run([tool, '-u', 'u', '-h', home, '-l', location, *words, *args], fault, trace)


def batch(home, *commands, location=form.location):
    words = [w for c in commands for w in ('--', *c)]
    return must(store(home, *words[1:], location=location))


def must(r):
    if r.returncode != 0:
        raise Exception('%s: %d %s' % (r.args[7:], r.returncode, r.stderr.decode()[:1500]))
    return r.stdout.decode()


def write_conf(home, location=form.location):
    conf = os.path.join(home, 'dovecot.conf')
    with open(conf, 'w') as f:
        f.write('base_dir = %s/run\nlog_path = /dev/stderr\nssl = no\nmail_location = %s\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n'
                'mail_uid = %d\nmail_gid = %d\ndefault_internal_user = %s\ndefault_login_user = %s\nstats_writer_socket_path =\n%s\n%s'
                % (home, location, who.pw_uid, who.pw_gid, who.pw_name, who.pw_name, settings_text(), form.conf))
    return conf


def doveadm(home, *args, data=None, location=form.location):
    conf = write_conf(home, location)
    return subprocess.run(['doveadm', '-c', conf, *args], env=dict(os.environ, USER='u', HOME=home), capture_output=True, input=data,
                          timeout=300)


def settings_text():
    """plugin/x = y of our options is a section in the file."""
    plugin = [o.split('/', 1)[1] for o in form.settings if o.startswith('plugin/')]
    plain = [o for o in form.settings if not o.startswith('plugin/')]
    lines = [o.replace('=', ' = ', 1) for o in plain]
    return '\n'.join(lines + (['plugin {'] + [o.replace('=', ' = ', 1) for o in plugin] + ['}'] if plugin else []))


def look(home, *before, location=form.location):
    """name -> {'status': ..., uid: message}, after other commands."""
    boxes, box = {}, None
    for line in batch(home, *before, ('state',), location=location).splitlines():
        if not line.startswith('{'):
            continue
        line = json.loads(line)
        if 'mailbox' in line:
            box = boxes[line['mailbox']] = {'status': line}
        else:
            box[line['uid']] = line
    return boxes


def messages(box):
    return {uid: m for uid, m in box.items() if uid != 'status'}


# ---- the prepared account
base = os.path.join(folder, 'base')
os.mkdir(base); os.chown(base, who.pw_uid, who.pw_gid)
for path, text in form.files.items():
    subprocess.run(['mkdir', '-p', os.path.dirname(os.path.join(base, path))], check=True)
    with open(os.path.join(base, path), 'w') as f:
        f.write(text)
    subprocess.run(['chown', '-R', '%d:%d' % (who.pw_uid, who.pw_gid), base], check=True)
ATTACHMENT = 'MIME-Version: 1.0\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\n'
mails = []
for i in range(7):
    p = os.path.join(folder, 'm%d' % i)
    with open(p, 'w') as f:
        text = 'line\n' * (i * 50)
        if form.attachments:
            text = base64.encodebytes(('file %d' % (i % 3) + text).encode()).decode()
        f.write('From: a@example.org\nSubject: mail %d\nX-Id: %d\n%s\n%s\n' % (i, i, ATTACHMENT if form.attachments else '', text))
    mails.append(p)
must(store(base, 'save', 'INBOX', '-', *mails[:2]))
if doveadm(base, 'save', '-m', 'INBOX', data=open(mails[2], 'rb').read()).returncode != 0:
    sys.exit('doveadm save fails')
must(store(base, 'save', 'INBOX', 'Seen,kw1', mails[3]))
must(store(base, 'save', 'INBOX', 'Flagged', mails[6]))
must(store(base, 'create', 'other'))
must(store(base, 'save', 'other', '-', mails[4]))
must(store(base, 'create', 'third'))
must(store(base, 'select', 'INBOX')); must(store(base, 'list'))
gone_for_ever = look(base)['INBOX'][5]
must(store(base, 'expunge', 'INBOX', '5'))
for words in form.prepare:
    must(store(base, *words))
# Folders that changed a moment ago are looked at again by the next sync (maildir-and-layouts 8.7): these did long ago.
for d, _, _ in os.walk(base):
    os.utime(d, (100000000, 100000000))
for _ in range(2):
    must(store(base, 'state'))
before = look(base)

ROTATE = ('mail_index_log_rotate_max_size=1', 'mail_index_rewrite_max_log_bytes=1')
OPERATIONS = {  # arguments, then settings of this run alone
    'deliver': (('save', 'INBOX', '-', mails[5]),), 'append': (('save', 'INBOX', 'Flagged,kwnew', mails[5]),),
    'multi-append': (('save', 'INBOX', 'Flagged,kwnew', mails[5], mails[4], mails[0]),),
    'copy': (('copy', 'INBOX', '1,4', 'other'),), 'move': (('move', 'INBOX', '2,4', 'other'),),
    'store': (('flags', 'INBOX', '1,4', '+Flagged,kwx'),), 'unstore': (('flags', 'INBOX', '4', '-Seen,kw1'),),
    'expunge': (('expunge', 'INBOX', '1,3'),), 'create': (('create', 'fresh'),), 'rename': (('rename', 'other', 'moved'),),
    'delete': (('delete', 'other'),), 'subscribe': (('subscribe', 'other'),), 'select': (('select', 'INBOX'),),
    'cache-purge': (('cachepurge', 'INBOX'),), 'rotate': (('flags', 'INBOX', '1,4', '+Flagged,kwx'), ROTATE),
    'rebuild': (('resync', 'INBOX'),),
}
for name in form.without:
    OPERATIONS.pop(name)
if form.mirror:
    OPERATIONS = {op: (tuple(form.mirror if w == 'INBOX' else w for w in args), *rest) for op, (args, *rest) in OPERATIONS.items()}
if form.migrates_to is not None:
    OPERATIONS['migrate'] = (('migrate',),)
for name, args in form.more.items():
    OPERATIONS[name] = tuple(args) if args and isinstance(args[0], tuple) else (tuple(args),)
ADDS = {'deliver': ('INBOX', 1), 'append': ('INBOX', 1), 'multi-append': ('INBOX', 3), 'copy': ('other', 2), 'move': ('other', 2)}
differences = []


def differ(where, text):
    differences.append('%s: %s' % (where, text))


def check(where, op, args, state, acknowledged):
    gone = {int(x) for x in args[2].split(',')} if op in ('move', 'expunge') else set()
    want = dict(before)
    if op == 'delete':
        if acknowledged and 'other' in state:
            differ(where, 'not deleted')
        if 'other' not in state:
            want.pop('other')
    if op == 'rename':
        if 'moved' in state:
            want['moved'] = want.pop('other')
            if 'other' in state:
                differ(where, 'both names exist')
        elif acknowledged:
            differ(where, 'not renamed')
    if op == 'create' and acknowledged and 'fresh' not in state:
        differ(where, 'not created')
    to, room = ADDS.get(op, (None, 0))
    for name, old in want.items():
        if name not in state:
            differ(where, 'mailbox %s is lost (%s)' % (name, sorted(state)))
            continue
        new, old_status, status = messages(state[name]), old['status'], state[name]['status']
        for key in ('uidvalidity', 'uidnext', 'modseq'):
            # A mailbox in several folders is renamed in as many steps; between two the list of UIDs is not found.
            unknown = op == 'rename' and not acknowledged and status['uidvalidity'] > old_status['uidvalidity']
            if (status[key] < old_status[key] or (key == 'uidvalidity' and status[key] != old_status[key])) and not unknown:
                differ(where, '%s %s %d -> %d' % (name, key, old_status[key], status[key]))
        old = messages(old)
        for uid, m in old.items():
            if uid in new:
                for key in ('sha256', 'guid', 'date'):
                    if new[uid][key] != m[key]:
                        differ(where, '%s UID %d: %s %s -> %s' % (name, uid, key, m[key], new[uid][key]))
                if op not in ('store', 'unstore', 'rotate') and sorted(new[uid]['flags']) != sorted(m['flags']):
                    differ(where, '%s UID %d flags %s' % (name, uid, new[uid]['flags']))
            elif not (name in ('INBOX', form.mirror) and uid in gone) and not (name == 'other' and op == 'delete'):
                differ(where, '%s UID %d is lost' % (name, uid))
        extra = [m for uid, m in new.items() if uid not in old]
        room_here = room if to == ('INBOX' if name == form.mirror else name) else 0
        if len(extra) > room_here:
            differ(where, '%s has %d new messages' % (name, len(extra)))
        shas = [m['sha256'] for m in extra]
        if len(set(shas)) != len(shas):
            differ(where, '%s has a message twice' % name)
        if gone_for_ever['sha256'] in shas:
            differ(where, '%s: an expunged message is back' % name)
        if acknowledged and len(extra) != room_here:
            differ(where, '%s: acknowledged, but %d of %d are there' % (name, len(extra), room_here))
        if extra and min(m['uid'] for m in extra) < old_status['uidnext']:
            differ(where, '%s: a UID below UIDNEXT was given' % name)
    if acknowledged and gone and gone & set(state.get('INBOX', {})):
        differ(where, 'acknowledged, but not expunged')
    if op == 'move' and 'INBOX' in state and 'other' in state:
        for uid in gone:
            sha = before['INBOX'][uid]['sha256']
            if uid not in state['INBOX'] and sha not in [m['sha256'] for m in messages(state['other']).values()]:
                differ(where, 'UID %d was lost in the move' % uid)
    if op in ('store', 'unstore', 'rotate') and acknowledged and 4 in state.get('INBOX', {}):
        f = state['INBOX'][4]['flags']
        if (op == 'unstore') == ('\\Flagged' in f) or (op == 'unstore' and ('\\Seen' in f or 'kw1' in f)):
            differ(where, 'acknowledged, but flags are %s' % f)


def theirs(where, home, location=form.location):
    rows = []
    if form.mirror and location == form.location:
        # Not in "*", and its messages are shown with the name of the one behind. First: what it was asked for it does there.
        rows = [(form.mirror, *row[1:]) for row in fetch(where, home, form.mirror, location)]
    return sorted(rows + fetch(where, home, '*', location))


def fetch(where, home, pattern, location):
    r = doveadm(home, '-f', 'tab', 'fetch', 'mailbox uid guid flags', 'mailbox', pattern, location=location)
    noise = [l for l in r.stderr.decode().splitlines() if re.search('Error|Panic|Fatal', l)
             and not (' exit ' in where and 'cache: reset_id mismatch even after locking' in l)  # between a purge's two steps
             # Counts went down, the mailbox was not told: the real one notices, and rebuilds.
             and not (form.shares and re.search(' (exit|full) ', where) and 'refcount too low' in l)]
    if noise:
        differ(where, 'Dovecot: ' + noise[0])
    rows = (l.split('\t') for l in r.stdout.decode().splitlines()[1:])
    return [(b, u, g, ' '.join(sorted(x for x in f.split() if x != '\\Recent'))) for b, u, g, f in rows]


def ours(state):
    return sorted((name, str(uid), m['guid'], ' '.join(sorted(m['flags']))) for name, box in state.items()
                  for uid, m in messages(box).items())


def compare(where, other, state):
    mine = ours(state)
    if 'delete ' in where:  # its messages go one by one
        other, mine = ([row for row in rows if row[0] != 'other'] for rows in (other, mine))
    if other != mine:
        differ(where, 'Dovecot sees %s, ours %s' % (set(other) - set(mine), set(mine) - set(other)))


def forget_locks(home):
    """The real server waits for the lock files of dead processes; we must not, so only its copy loses them."""
    for d, _, files in os.walk(home):
        for f in files:
            if f.endswith('lock') and f != 'mailboxes.lock':
                os.unlink(os.path.join(d, f))


def check_returned(where, op, args, state, last):
    """What was expunged by the first look is not there after a force-resync."""
    uids = {int(x) for x in args[2].split(',')} if op in ('move', 'expunge') else set()
    # In mbox a GUID is the digest of some headers, which these messages have not.
    one = lambda m: (m['uid'], m['sha256']) if form.location.startswith('mbox:') else m['guid']
    gone = {one(before['INBOX'][uid]) for uid in uids if uid not in state.get('INBOX', {})} | {one(gone_for_ever)}
    back = [m['uid'] for m in messages(last.get('INBOX', {})).values() if one(m) in gone]
    if back:
        differ(where, 'expunged, and back after a force-resync: %s' % back)


def left_over(home):
    names = (os.path.relpath(os.path.join(d, f), home) for d, _, files in os.walk(home) for f in files)
    return sorted(n for n in names if form.temporary.search(n) and not n.endswith('mailboxes.lock'))


def aftermath(where, op, args, home, lived, failed_call, acknowledged):
    copy = home + '.dovecot'
    shutil.rmtree(copy, ignore_errors=True)
    if lived and 'unlink' not in failed_call and left_over(home):
        differ(where, 'left: %s' % left_over(home)[:3])
    if form.dovecot:
        subprocess.run(['cp', '-a', home, copy], check=True)
        forget_locks(copy)
    state = look(home)
    check(where, op, args, state, acknowledged)
    if form.dovecot:
        first = theirs(where + ' (Dovecot first)', copy)
        known = look(copy)
        check(where + ' (Dovecot first)', op, args, known, acknowledged)
        compare(where + ' (Dovecot first)', first, known)
        if acknowledged and op in ('move', 'expunge'):
            doveadm(copy, 'force-resync', '*')
            check_returned(where + ' (Dovecot)', op, args, known, look(copy))
    then = [('save', 'INBOX', '-', mails[0])] + [('resync', name) for name in state]
    if op == 'delete' and 'other' in state:
        then.append(('delete', 'other'))
    if 'purge' in OPERATIONS:
        then.append(OPERATIONS['purge'][0])
    batch(home, *then)
    for d, folders, _ in os.walk(home):
        for f in folders:
            if f.endswith(('DOVECOT-TRASHED', 'DOVECOT-TrasH')):  # what a deletion that died left is removed after an hour
                os.utime(os.path.join(d, f), (0, 0))
    last = look(home, ('list',))
    check_returned(where, op, args, state, last)
    if form.message_files is not None:
        all_of_them = [m['guid'] for name, b in last.items() if name != form.mirror for m in messages(b).values()]
        count, want = form.message_files(home), len(set(all_of_them) if form.shares else all_of_them)
        if count != want:
            differ(where, '%d messages, %d stored' % (want, count))
    if form.dovecot:
        compare(where + ' (at last)', theirs(where + ' (at last)', home), last)


def mail_files(home):
    """The source's files, but for the index, which looking may change."""
    found = {}
    for d, _, files in os.walk(home):
        for f in files:
            path = os.path.join(d, f)
            if not f.startswith('dovecot') and not path.startswith(os.path.join(home, 'to')):
                with open(path, 'rb') as data:
                    found[os.path.relpath(path, home)] = data.read()
    return found


def known(state):
    """What a migration must carry over."""
    return {(name, uid): {k: v for k, v in m.items() if k not in ('modseq', 'recent', 'envelope', 'bodystructure')} for name, box in state.items()
            for uid, m in box.items()}


def after_migration(where, home, lived, failed_call):
    if lived and 'unlink' not in failed_call and left_over(home):
        differ(where, 'left: %s' % left_over(home)[:3])
    to = form.migrates_to
    r = store(home, 'migrate')
    if r.returncode != 0 or b'Error' in r.stderr:
        differ(where, 'the second run: %d %s' % (r.returncode, r.stderr.decode()[:600]))
        return
    state = look(home, location=to)
    want, modseqs = migrated()
    for key in sorted(set(want) | set(known(state)), key=str):
        if want.get(key) != known(state).get(key):
            differ(where, 'the target: %s: %s, not %s' % (key, known(state).get(key), want.get(key)))
    for name in state:
        if state[name]['status']['modseq'] < modseqs.get(name, 0):
            differ(where, '%s: modseq %d -> %d' % (name, modseqs[name], state[name]['status']['modseq']))
    if ours(state) != theirs(where + ' (target)', home, location=to):
        differ(where, 'Dovecot sees another target')
    if known(look(home)) != known(before):
        differ(where, 'the source has other messages')
    if mail_files(home) != mail_files(base):
        differ(where, 'the files of the source changed')
    last = look(home, *[('resync', name) for name in state], *([('purge',)] if to.startswith('mdbox') else []), location=to)
    count = migrated_files(to)(os.path.join(home, 'to'))
    if count != sum(len(messages(b)) for b in last.values()):
        differ(where, '%d messages stored in the target' % count)
    if files_below(os.path.join(home, 'to'), r'/given\.|\.given\.'):
        differ(where, 'a list of UIDs to give is left')
    if known(last) != want:
        differ(where, 'after a resync the target is another one')


def migrated():
    """What an undisturbed run makes."""
    with open(os.path.join(folder, 'migrated'), 'rb') as f:
        return eval(f.read())


def fresh():
    home = os.path.join(folder, 'run%d' % os.getpid())
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run(['cp', '-a', base, home], check=True)
    return home


GROWS = {'create', 'write', 'pwrite', 'mkdir', 'link', 'rename', 'sync'}
UNSEEN = {'sync', 'lock'}  # calls after which the files are as before them


def cases_of(op, args, options):
    trace, home = os.path.join(folder, 'trace'), fresh()
    with open(trace, 'w') as f:
        r = store(home, *args, options=options, trace=f)
    if op == 'migrate' and r.returncode == 0:
        with open(os.path.join(folder, 'migrated'), 'w') as f:
            state = look(home, location=form.migrates_to)
            f.write(repr((known(state), {name: b['status']['modseq'] for name, b in state.items()})))
    if r.returncode != 0 or b'Error' in r.stderr:
        sys.exit('%s fails without a fault: %s' % (op, r.stderr.decode()))
    calls = [l.split('\t')[1] for l in open(trace).read().splitlines()]
    for n, call in enumerate(calls, 1):
        if n == 1 or calls[n - 2] not in UNSEEN:
            yield 'exit', n, call, 'at=%d,how=exit-before' % n
        if call in GROWS:
            yield 'ENOSPC', n, call, 'at=%d,how=fail,err=ENOSPC' % n
            yield 'EDQUOT', n, call, 'at=%d,how=fail,err=EDQUOT' % n
        if call != 'lock':
            yield 'EIO', n, call, 'at=%d,how=fail,err=EIO' % n
        if call == 'create':
            yield 'EMFILE', n, call, 'at=%d,how=fail,err=EMFILE' % n
        if call in ('write', 'pwrite'):
            yield 'short', n, call, 'at=%d,how=short,keep=7' % n
    if calls:
        yield 'exit', len(calls) + 1, '', 'at=%d,how=exit-after' % len(calls)
    space = GROWS - {'rename'}
    for n in range(1, sum(c in space for c in calls) + 1):
        yield 'full', n, 'many', 'at=%d,calls=%s,how=fail,err=ENOSPC,stays' % (n, '+'.join(sorted(space)))
    figures.append(len(calls))


figures, cases = [], []
for op, (args, *options) in OPERATIONS.items():
    if not a.only or op in a.only.split(','):
        cases += [(op, args, options[0] if options else (), *c) for c in cases_of(op, args, options[0] if options else ())]
cases = [c for c in cases if (not a.how or c[3] in a.how.split(',')) and (not a.at or c[4] == a.at)]
total = len(cases)
if a.runs and a.runs < total:
    shift = sum(map(ord, a.format)) % 97 / 97
    cases = [cases[int((i + shift) * total / a.runs)] for i in range(a.runs)]


def outcome(lines, home, op, how, r):
    """The same for runs that leave the same files: what succeeded, with names that only this run has by their order."""
    order, done = {}, []
    for _, call, path, size, err, *old in lines:
        for p in (path, *old):
            for word in re.findall(r'\d{9,}[^/,:]*|[0-9a-f]{32}', p.replace(home, '')):
                order.setdefault(word, 'name%d' % len(order))
        if err == '0' and call not in UNSEEN:
            names = tuple(re.sub(r'\d{9,}[^/,:]*|[0-9a-f]{32}', lambda m: order[m.group()], p.replace(home, '')) for p in (path, *old))
            done.append((call, names, size))
    return hashlib.sha1(repr((op, how == 'exit', r.returncode, done)).encode()).hexdigest()


def run_case(i):
    """-> the differences, and whether the files were looked at."""
    op, args, options, how, n, call, fault = cases[i]
    where, looked = '%s %s %d %s' % (op, how, n, call), True
    differences.clear()
    try:
        home = fresh()
        with open(home + '.trace', 'w') as f:
            r = store(home, *args, options=options, fault=fault, trace=f)
        lines = [l.split('\t') for l in open(f.name).read().splitlines()]
        failed = {l[1] for l in lines if l[4] != '0'}
        if b'Sanitizer' in r.stderr or b'runtime error' in r.stderr:
            differ(where, r.stderr.decode()[:3000])
        if how == 'exit' and r.returncode not in (0, 70):
            differ(where, 'the fault did not fire: %d %s' % (r.returncode, r.stderr.decode()[:300]))
        if how != 'exit' and r.returncode not in (0, 1) + ((75,) if op == 'migrate' else ()):
            differ(where, 'ends with %d %s' % (r.returncode, r.stderr.decode()[:300]))
        try:
            os.mkdir(os.path.join(folder, 'seen', outcome(lines, home, op, how, r)))
        except FileExistsError:
            looked = False
        if looked and op == 'migrate':
            after_migration(where, home, how != 'exit', failed)
        elif looked:
            aftermath(where, op, args, home, how != 'exit', failed, r.returncode == 0)
    except Exception as e:
        differ(where, repr(e)[:1500])
    return list(differences), looked


os.mkdir(os.path.join(folder, 'seen'))
bad = looks = 0
with multiprocessing.get_context('fork').Pool(max(1, a.jobs)) as pool:
    for found, looked in pool.imap_unordered(run_case, range(len(cases))):
        looks += looked
        for text in found:
            bad += 1
            if bad <= 40:
                print(text, flush=True)
        if bad and a.keep:
            pool.terminate()
            break
print('%s: %d operations, %d calls, %d faults, %d run, %d outcomes, %d differences'
      % (a.format, len(figures), sum(figures), total, len(cases), looks, bad))
sys.exit(1 if bad else 0)

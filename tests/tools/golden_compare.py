#!/usr/bin/env python3
"""Reads a golden store (made by a real Dovecot with make-golden-store) through src/store and compares it with what that
Dovecot said (truth.json).

    golden_compare.py STORETOOL DIR [LOCATION [KEY=VALUE]...]

Works on DIR itself: give it a copy. Exit 1 on a difference. Names are asked for with the layout's own separator."""
import datetime, json, os, re, subprocess, sys

tool, dir_ = sys.argv[1], sys.argv[2]
location = sys.argv[3] if len(sys.argv) > 3 else 'maildir:~/Maildir'
sep = '~' if 'LAYOUT=index' in location else '/' if 'LAYOUT=fs' in location or location[:5] in ('sdbox', 'mdbox') else '.'
truth = json.load(open(os.path.join(dir_, 'truth.json')))
bad = count = 0


def differ(what, ours, theirs):
    global bad
    bad += 1
    if bad < 60:
        print('DIFFER %s\n  ours   %s\n  theirs %s' % (what, ours, theirs))


def run(user, *args):
    home = os.path.join(dir_, 'home', user)
    options = [word for pair in sys.argv[4:] for word in ('-o', pair)]
    r = subprocess.run([tool, '-u', user, '-h', home, '-l', location, *options, *args], capture_output=True)
    if r.returncode != 0 or r.stderr:
        differ('%s %s: exit %d' % (user, ' '.join(args), r.returncode), r.stderr.decode()[:500], '')
    return r.stdout.decode()


def unix(text):
    return int(datetime.datetime.strptime(text.strip(), '%d-%b-%Y %H:%M:%S %z').timestamp())


def imap_to_list(text):
    """The IMAP text of an envelope or structure as nested lists of strings."""
    tokens = re.findall(rb'\(|\)|"(?:[^"\\]|\\.)*"|\{(\d+)\}\r\n|[^\s()"]+', text)
    out, stack, i = [], [], 0
    while i < len(text):
        c = text[i:i + 1]
        if c == b' ':
            i += 1
        elif c == b'(':
            stack.append(out); out = []; i += 1
        elif c == b')':
            done = out; out = stack.pop(); out.append(done); i += 1
        elif c == b'"':
            j = i + 1; s = b''
            while text[j:j + 1] != b'"':
                if text[j:j + 1] == b'\\':
                    j += 1
                s += text[j:j + 1]; j += 1
            out.append(s); i = j + 1
        elif c == b'{':
            j = text.index(b'}', i); n = int(text[i + 1:j])
            out.append(text[j + 3:j + 3 + n]); i = j + 3 + n
        else:
            j = i
            while j < len(text) and text[j:j + 1] not in (b' ', b'(', b')'):
                j += 1
            w = text[i:j]; out.append(None if w == b'NIL' else w); i = j
    return out


def plain(x):
    if isinstance(x, list):
        return [plain(y) for y in x]
    if isinstance(x, bytes):
        return x.decode('utf-8', 'surrogateescape')
    return x


def norm(x):
    if isinstance(x, list):
        return [norm(y) for y in x]
    return x if x is None else str(x)


for user, ut in truth['users'].items():
    listed = {}
    for line in run(user, 'list').splitlines():
        flags, name = line.split(' ', 1)
        listed[name] = flags
    want = {n.replace('/', sep): b for n, b in ut['mailboxes'].items() if not n.startswith('shared/')}
    ours = {n for n, f in listed.items() if 'noselect' not in f}
    for name in sorted(set(want) ^ ours):
        differ('%s: mailbox %r' % (user, name), name in ours, name in want)
    unselectable = {n.replace('/', sep) for n in ut['not_selectable'] if not (n + '/').startswith('shared/')}
    got = {n for n, f in listed.items() if 'noselect' in f}
    if got != unselectable:
        differ('%s: not selectable' % user, sorted(got), sorted(unselectable))
    subs = {n.replace('/', sep) for n in ut['subscriptions'] if not n.startswith('shared/')}
    got = {l.split(' ', 1)[1] for l in run(user, 'lsub').splitlines() if 'noselect' not in l.split(' ', 1)[0] or 'subscribed' in l.split(' ', 1)[0]}
    if got - {n for n in got if n.startswith('shared')} != subs:
        differ('%s: subscriptions' % user, sorted(got), sorted(subs))
    for name, box in want.items():
        status = dict(w.split('=', 1) for w in run(user, 'status', name).split() if '=' in w)
        for key, theirs in (('messages', 'messages'), ('uidnext', 'uidnext'), ('uidvalidity', 'uidvalidity'), ('recent', 'recent'),
                            ('unseen', 'unseen'), ('modseq', 'highestmodseq'), ('size', 'size'), ('guid', 'guid')):
            if status.get(key) != str(box[theirs]):
                differ('%s %s %s' % (user, name, key), status.get(key), box[theirs])
        mails = [json.loads(l) for l in run(user, 'dump', name).splitlines()]
        if [m['uid'] for m in mails] != [m['uid'] for m in box['mails']]:
            differ('%s %s UIDs' % (user, name), [m['uid'] for m in mails], [m['uid'] for m in box['mails']])
            continue
        for a, b in zip(mails, box['mails']):
            count += 1
            at = '%s %s UID %d ' % (user, name, a['uid'])
            flags = sorted(f.lower() for f in b['flags'] + b['keywords'] if f.lower() != '\\recent')
            if sorted(f.lower() for f in a['flags']) != flags:
                differ(at + 'flags', a['flags'], flags)
            for key in ('modseq', 'size', 'guid', 'sha256'):
                if a[key] != b[key]:
                    differ(at + key, a[key], b[key])
            if a['date'] != unix(b['internaldate']):
                differ(at + 'date', a['date'], b['internaldate'])
            for key in ('envelope', 'bodystructure'):
                ours = plain(imap_to_list(a[key].encode('latin-1')))
                if norm(ours) != norm(b[key]):
                    differ(at + key, ours, b[key])
print('%d messages, %d differences' % (count, bad))
sys.exit(1 if bad else 0)

#!/usr/bin/env python3
"""Our writer and a real Dovecot on one mailbox at the same time.

    live.py TOOL DUMP DIR [SECONDS]

Starts a private Dovecot with one sdbox INBOX in DIR, runs an IMAP session that stores, fetches, appends and expunges
while TOOL (index_tool) stores flags, asks for expunges, caches, syncs, rotates and rewrites. Then: the server's log
has no complaint, and what IMAP, TOOL and the independent decoder DUMP see is the same.
"""
import imaplib, os, pwd, random, re, socket, subprocess, sys, time

TOOL, DUMP, DIR = sys.argv[1:4]
SECONDS = float(sys.argv[4]) if len(sys.argv) > 4 else 5
UID = 65534 if os.getuid() == 0 else os.getuid()
NAME, GID = pwd.getpwuid(UID).pw_name, pwd.getpwuid(UID).pw_gid
BOX = DIR + '/mail/mailboxes/INBOX/dbox-Mails'


def free_port():
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def group():
    import grp
    return grp.getgrgid(GID).gr_name


def as_user():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(GID)
        os.setuid(UID)


def start(port):
    os.makedirs(DIR, exist_ok=True)
    os.chmod(DIR, 0o755)
    os.chown(DIR, UID, GID)
    with open(DIR + '/conf', 'w') as f:
        f.write('''base_dir = %(d)s/run
log_path = %(d)s/log
protocols = imap
listen = 127.0.0.1
ssl = no
default_internal_user = %(n)s
default_login_user = %(n)s
default_internal_group = %(g)s
mail_location = sdbox:%(d)s/mail
first_valid_uid = 0
first_valid_gid = 0
mail_index_log_rotate_min_size = 2k
mail_index_log_rotate_min_age = 1s
service imap-login {
  chroot =
  inet_listener imap {
    port = %(p)d
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  chroot =
}
passdb {
  driver = static
  args = password=pass
}
userdb {
  driver = static
  args = uid=%(u)d gid=%(i)d home=%(d)s
}
''' % dict(d=DIR, n=NAME, g=group(), p=port, u=UID, i=GID))
    subprocess.run(['dovecot', '-c', DIR + '/conf'], check=True)  # returns when it listens


def tool(*words):
    r = subprocess.run([TOOL, '-o', 'rotate_min=3000', '-o', 'rotate_age=1', '-o', 'fields=flags size.virtual', BOX] +
                       list(words), capture_output=True, text=True, preexec_fn=as_user)
    if r.returncode != 0 or r.stderr:
        sys.exit('index_tool %s: %d\n%s' % (' '.join(words), r.returncode, r.stderr))
    return r.stdout


def want(answer):
    if answer[0] != 'OK':
        sys.exit('IMAP: %r' % (answer,))
    return answer[1]


def main():
    port = free_port()
    start(port)
    try:
        rounds = live(port)
        compare(port)
    finally:
        subprocess.run(['doveadm', '-c', DIR + '/conf', 'stop'])
    bad = [l for l in open(DIR + '/log') if re.search(r'Error|Warning|Panic|Fatal|Corrupt|fsck', l) and 'Killed with signal 15' not in l]
    if bad:
        sys.exit('the server complains:\n' + ''.join(bad))
    print('%d rounds, nothing lost, nothing logged' % rounds)


def live(port):
    r = random.Random(int(os.environ.get('SEED', '7')))
    m = imaplib.IMAP4('127.0.0.1', port)
    m.login(NAME, 'pass')
    want(m.select('INBOX'))
    for i in range(20):
        want(m.append('INBOX', None, None, b'Subject: m%d\r\n\r\nbody\r\n' % i))
    want(m.noop())
    background = subprocess.Popen([TOOL, BOX, 'loop', str(int(SECONDS * 100)), '1', '02'], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, preexec_fn=as_user)
    end, rounds = time.time() + SECONDS, 0
    while time.time() < end:
        rounds += 1
        n = int(want(m.noop()) and want(m.select('INBOX'))[0])
        seq = str(r.randint(2, n))
        what = r.randint(0, 7)
        if what == 0:
            want(m.store(seq, '+FLAGS', r'(\Answered kw%d)' % r.randint(0, 12)))
        elif what == 1:
            want(m.fetch('1:*', '(UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])'))
        elif what == 2:
            want(m.append('INBOX', r'(\Draft)', None, b'Subject: x\r\n\r\nbody %d\r\n' % rounds))
        elif what == 3 and n > 12:
            want(m.store(seq, '+FLAGS', r'(\Deleted)'))
            want(m.expunge())
        elif what == 4:
            tool('flags', '+', '1', '4294967294', '10', ',', 'flags', '-', '1', '4294967294', '10')
        elif what == 5:
            tool('flags', '+', '1', '9', 'own%d' % r.randint(0, 12), ',', 'sync')
        elif what == 6:
            uid = want(m.fetch(seq, '(UID)'))[0].split()[-1].rstrip(b')').decode()
            if n > 12 and uid != '1':
                tool('expunge', 'i', uid)
        else:
            uid = want(m.fetch(seq, '(UID)'))[0].split()[-1].rstrip(b')').decode()
            tool('put', uid, 'imap.bodystructure', '"text" "plain"', ',', 'flush', ',', 'purge' if r.random() < .3 else 'list')
    err = background.communicate()[1]
    if background.returncode != 0 or err:
        sys.exit('background writer: %r' % err)
    m.logout()
    return rounds


def compare(port):
    m = imaplib.IMAP4('127.0.0.1', port)
    m.login(NAME, 'pass')
    want(m.select('INBOX', readonly=True))
    theirs = {}
    for line in want(m.fetch('1:*', '(UID FLAGS MODSEQ)')):
        g = re.match(rb'\d+ \(UID (\d+) FLAGS \(([^)]*)\) MODSEQ \((\d+)\)', line)
        theirs[int(g.group(1))] = (sorted(f for f in g.group(2).decode().split() if f != r'\Recent'), int(g.group(3)))
    highest = int(re.search(rb'HIGHESTMODSEQ (\d+)', want(m.status('INBOX', '(HIGHESTMODSEQ)'))[0]).group(1))
    m.logout()
    names = ((1, r'\Answered'), (2, r'\Flagged'), (4, r'\Deleted'), (8, r'\Seen'), (16, r'\Draft'))
    ours, head = {}, None
    for line in tool('list').splitlines():
        g = re.match(r'(\d+) flags=(\w\w) modseq=(\d+) keywords=(.*)', line)
        if g:
            bits = int(g.group(2), 16)
            words = [n for b, n in names if bits & b] + [k for k in g.group(4).split(',') if k]
            ours[int(g.group(1))] = (sorted(words), int(g.group(3)))
        else:
            head = int(re.search(r'modseq=(\d+)', line).group(1))
    if ours != theirs or head != highest:
        diff = [(u, ours.get(u), theirs.get(u)) for u in sorted(set(ours) | set(theirs)) if ours.get(u) != theirs.get(u)]
        sys.exit('differs: highest %r %r, messages %r' % (head, highest, diff[:10]))
    subprocess.run([sys.executable, DUMP, '--state', '--emit-index', DIR + '/emitted', BOX + '/dovecot.index'], check=True,
                   stdout=subprocess.DEVNULL)
    with open(DIR + '/ours', 'wb') as f:
        subprocess.run([TOOL, '-r', BOX, 'emit'], check=True, stdout=f, preexec_fn=as_user)
    if open(DIR + '/ours', 'rb').read() != open(DIR + '/emitted', 'rb').read():
        sys.exit('the states of decoder and library differ: %s/ours, %s/emitted' % (DIR, DIR))


main()

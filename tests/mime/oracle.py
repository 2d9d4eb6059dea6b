#!/usr/bin/env python3
"""Compare src/mime with a real Dovecot 2.3, or record what it says.

    oracle.py compare --show PROGRAM [--seed N] [--count N] [--allow N]   ask both about generated mail; exit 1 when
                                                        more than --allow mails differ
    oracle.py record FILE.mails > FILE.cases            write what the real server says about the mails of a file

Mails are put into a Maildir as they are; the server is Dovecot's imap run over stdin (doveadm exec imap), no daemon,
no port. Compared: ENVELOPE, BODY, BODYSTRUCTURE, and BODY[...] of many sections. Runs as root (then the server runs as
nobody) or as an ordinary user. Exit 77: no Dovecot here.
"""
import argparse, os, pwd, random, re, shutil, subprocess, sys, tempfile

SECTIONS = ('', 'HEADER', 'TEXT', '1', '1.MIME', '1.HEADER', '1.TEXT', '2', '2.MIME', '1.1', '1.2', '2.1', '1.1.1', '1.1.MIME',
            '1.1.HEADER', '3', '3.HEADER', '0', '1.1.1.1', '2.HEADER', '2.TEXT', '2.1.MIME', 'HEADER.FIELDS (To Subject Content-Type X)',
            'HEADER.FIELDS.NOT (To Subject Content-Type)', '<3.7>', 'TEXT<5.10>', '1<2.3>', '<0.0>', '<1000.5>', 'HEADER<4>', '<17>')


class Dovecot:
    def __init__(self):
        if shutil.which('doveadm') is None or not os.path.exists('/usr/lib/dovecot/imap'):
            print('no Dovecot here', file=sys.stderr)
            sys.exit(77)
        self.root = tempfile.mkdtemp(prefix='mime-oracle.')
        self.asroot = os.getuid() == 0
        me = 'nobody' if self.asroot else pwd.getpwuid(os.getuid()).pw_name
        self.user = pwd.getpwnam(me)
        os.chmod(self.root, 0o755)
        for name in ('home', 'base'):
            os.mkdir(self.root + '/' + name)
            if self.asroot:
                os.chown(self.root + '/' + name, self.user.pw_uid, self.user.pw_gid)
        with open(self.root + '/dovecot.conf', 'w') as out:
            out.write('base_dir = %s/base\nstate_dir = %s/base\nlog_path = /dev/stderr\ninfo_log_path = /dev/null\nssl = no\n'
                      'mail_location = maildir:%s/home/Maildir\ndefault_internal_user = %s\ndefault_login_user = %s\n'
                      'first_valid_uid = 1\nmail_fsync = never\n' % (self.root, self.root, self.root, me, me))

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def put(self, mails):
        box = self.root + '/home/Maildir'
        shutil.rmtree(box, ignore_errors=True)
        for name in ('cur', 'new', 'tmp'):
            os.makedirs(box + '/' + name)
        for i, mail in enumerate(mails):
            with open('%s/cur/%d.M%dP1.h:2,S' % (box, 1600000000 + i, i), 'wb') as out:
                out.write(mail)
        if self.asroot:
            for top, dirs, files in os.walk(box):
                for name in dirs + files:
                    os.chown(top + '/' + name, self.user.pw_uid, self.user.pw_gid)
            os.chown(box, self.user.pw_uid, self.user.pw_gid)

    def imap(self, commands):
        env = {'HOME': self.root + '/home', 'USER': self.user.pw_name, 'PATH': os.environ['PATH'] + ':/usr/sbin', 'TZ': 'UTC'}
        drop = (lambda: (os.setgroups([]), os.setgid(self.user.pw_gid), os.setuid(self.user.pw_uid))) if self.asroot else None
        with subprocess.Popen(['doveadm', '-c', self.root + '/dovecot.conf', 'exec', 'imap'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, env=env, preexec_fn=drop, cwd='/') as p:
            p.stdin.write(b''.join(c.encode() + b'\r\n' for c in commands + ['z LOGOUT']))
            p.stdin.flush()  # and stays open: its end would end the answers
            return p.stdout.read()

    def fetch(self, count, items, at_once=25):
        """-> {number: bytes between the parentheses}; a mail that the server fails on is missing"""
        found = {}
        for first in range(1, count + 1, at_once):
            out = self.imap(['a SELECT INBOX', 'b FETCH %d:%d (%s)' % (first, min(first + at_once - 1, count), items), 'c NOOP'])
            found.update(fetches(out))
        return found


def fetches(out):
    found, i = {}, 0
    while i < len(out):
        j = out.find(b'\n', i)
        if j < 0:
            break
        line, i = out[i:j + 1], j + 1
        while True:
            literal = re.search(rb'\{(\d+)\}\r\n$', line)
            if not literal:
                break
            size = int(literal.group(1))
            j = out.find(b'\n', i + size)
            if j < 0:
                return found
            line, i = line + out[i:j + 1], j + 1
        m = re.match(rb'\* (\d+) FETCH \((.*)\)\r\n$', line, re.S)
        if m:
            found[int(m.group(1))] = m.group(2)
    return found


def values(raw, count):
    """The values of BODY[...] items, in order."""
    item = re.compile(rb'BODY\[[^\]]*\](?:<\d+>)? (?:\{(\d+)\}\r\n|(NIL)|"([^"]*)") ?')
    found, i = [], 0
    while i < len(raw):
        m = item.match(raw, i)
        if m is None:
            return None
        if m.group(1) is not None:
            size = int(m.group(1))
            j = raw.index(b'\r\n', i) + 2
            found.append(raw[j:j + size])
            i = j + size + (raw[j + size:j + size + 1] == b' ')
        else:
            found.append(m.group(2) or m.group(3))
            i = m.end()
    return found if len(found) == count else None


def read_answers(out):
    """Output of mime_show -> a list of {key: bytes}."""
    found, i = [], 0
    while i < len(out):
        j = out.index(b'\n', i)
        line, i = out[i:j], j + 1
        if line.startswith(b'FILE '):
            found.append({})
            continue
        key, size = line.rsplit(b' ', 1)
        found[-1][key.decode()] = out[i:i + int(size)]
        i += int(size) + 1
    return found


def ask_ours(show, mails, sections):
    folder = tempfile.mkdtemp(prefix='mime-show.')
    names, found = [], []
    for i, mail in enumerate(mails):
        names.append('%s/%05d' % (folder, i))
        with open(names[-1], 'wb') as out:
            out.write(mail)
    options = [word for s in sections for word in ('-s', s)]
    for first in range(0, len(names), 200):
        done = subprocess.run([show] + options + names[first:first + 200], stdout=subprocess.PIPE)
        if done.returncode != 0:
            print('%s failed: %d' % (show, done.returncode), file=sys.stderr)
            sys.exit(1)
        found += read_answers(done.stdout)
    shutil.rmtree(folder)
    return found


# ---- mail that is broken in all the ways that broken mail is ------------------------------------------------------------
ADDRESS = ['a', 'b', 'c.d', 'x', '"q"', '"q \\" r"', '<', '>', '@', ',', ',', ';', ':', '.', '(', '(c)', ')', '[', ']', '\\', ' ', '  ', '\t',
           '\r\n ', '\n\t', '\0', '\xc3\xa4', '=?utf-8?q?a?=', '"', 'a@b', '<a@b>', 'g:', '=', '*', '/', '?', '\x7f', 'x@y.z', 'Name', '%',
           '""', "'", '@r:', 'a.', '(a(b)\\))']
PARAM = ['a', 'b', 'a*0', 'a*1', 'a*', 'a*0*', 'a*1*', '=', '=', ';', ';', '; ', '"', '"v w"', 'v', ' ', '(c)', '(', 'x=y', 'charset', 'boundary',
         '\n ', '%41', "utf-8''", '\0', '\xe4', '/', 'text', 'plain', '*', '\\', '[', ',', 'A*0', 'b*1=', 'a*0=', 'a*1=', 'a=', 'a*2*=', '=?q?=', '?']
FIELDS = ['Subject', 'Date', 'Message-ID', 'In-Reply-To', 'Content-ID', 'Content-Description', 'Content-Location', 'Content-MD5',
          'Content-Language', 'Content-Transfer-Encoding', 'MIME-Version', 'Content-Disposition', 'Content-Type', 'Content-Language']
BOUNDARIES = ['b', 'bb', 'c', 'b--', 'b c', 'a', '']


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def junk(self, words, most=8):
        return ''.join(self.r.choice(words) for _ in range(self.r.randint(0, most)))

    def header(self):
        r, h = self.r, ''
        for _ in range(r.randint(0, 3)):
            h += r.choice(['From', 'To', 'Cc', 'Sender', 'Reply-To', 'Bcc', 'from']) + ':' + r.choice([' ', '', '  '])
            h += self.junk(ADDRESS, r.choice([3, 6, 12])) + r.choice(['\n', '\r\n'])
        for _ in range(r.choice([0, 0, 1, 2])):
            h += r.choice(FIELDS) + r.choice([':', ': ', ' :', ': ']) + self.junk(ADDRESS + PARAM, 6) + '\n'
        return h + ('MIME-Version: 1.0\n' if r.random() < .3 else '')

    def part(self, depth=0, around=()):
        r, h = self.r, self.header()
        nl = r.choice(['\n', '\n', '\r\n'])
        kind = r.random()
        if r.random() < .1:
            h = self.junk(ADDRESS, 4) + nl + h
        if kind < .4 and depth < 5:
            b = r.choice(BOUNDARIES)
            h += 'Content-Type: multipart/' + r.choice(['mixed', 'digest', 'alternative']) + '; '
            h += (self.junk(PARAM, 4) + '; ' if r.random() < .2 else '') + 'boundary=' + r.choice(['"%s"', '"%s"', '%s']) % b + nl
            known = list(around) + [b]
            body = r.choice(['', 'pre' + nl, nl])
            for _ in range(r.randint(0, 3)):
                body += '--' + r.choice(known[-1:] * 4 + known) + r.choice([nl] * 5 + [' ' + nl, 'x' + nl, ''])
                body += self.part(depth + 1, known) + r.choice([nl] * 4 + [''])
            body += r.choice(['--' + b + '--' + nl] * 4 + ['', '--' + b + '--', '--' + b, '--' + b + nl]) + r.choice(['', 'epi' + nl, 'epi', nl])
        elif kind < .55 and depth < 5:
            h += 'Content-Type: message/rfc822' + nl
            body = self.part(depth + 1, around)
        elif kind < .7:
            h += 'Content-Type: ' + r.choice(['text/plain', 'image/gif', 'text', 'multipart/mixed', 'x/y']) + r.choice(['', ';']) + self.junk(PARAM, 8) + nl
            body = self.junk(['x', 'y\n', '\n', '\r\n', '--', 'b', '\0'], 8)
        else:
            body = self.junk(['x', 'y\n', '\n', '\r\n', '--b\n', '--', '\0', 'foo bar\n'], 8)
        return h + r.choice([nl] * 8 + ['', '', nl + nl]) + body

    def mail(self):
        # A CR alone: the real server miscounts partial ranges then and drops the connection.
        return re.sub(rb'\r(?!\n)', b'', self.part().encode('latin1'))


def compare(show, mails):
    server = Dovecot()
    server.put(mails)
    structure = server.fetch(len(mails), 'ENVELOPE BODYSTRUCTURE', 500)
    server.put(mails)                      # BODYSTRUCTURE again from the cache would hide differences
    bodies = server.fetch(len(mails), 'BODY', 500)
    def item(s):
        m = re.match(r'(.*?)(<.*>)?$', s)
        return 'BODY.PEEK[%s]%s' % (m.group(1), m.group(2) or '')
    sections = server.fetch(len(mails), ' '.join(item(s) for s in SECTIONS))
    server.close()
    different = asked = 0
    for number, (mail, ours) in enumerate(zip(mails, ask_ours(show, mails, SECTIONS)), 1):
        wrong = []
        if number in structure:
            asked += 1
            mine = b'ENVELOPE (' + ours['ENVELOPE'] + b') BODYSTRUCTURE (' + ours['BODYSTRUCTURE'] + b')'
            if mine != structure[number]:
                wrong.append(('structure', mine, structure[number]))
        if number in bodies and b'BODY (' + ours['BODY'] + b')' != bodies[number]:
            wrong.append(('BODY', ours['BODY'], bodies[number]))
        theirs = values(sections[number], len(SECTIONS)) if number in sections else None
        for name, value in zip(SECTIONS, theirs or ()):
            if ours[name] != value:
                wrong.append((name, ours[name], value))
        if wrong:
            different += 1
            print('mail', mail)
            for name, mine, value in wrong[:3]:
                print('  %s\n    ours   %s\n    theirs %s' % (name, mine, value))
    print('%d mails, %d answered, %d different' % (len(mails), asked, different))
    return different, asked


def read_mails(name):
    """A file of mails: "MAIL size\\n", the bytes, "\\n"; repeated."""
    with open(name, 'rb') as file:
        raw = file.read()
    mails, i = [], 0
    while i < len(raw):
        j = raw.index(b'\n', i)
        word, size = raw[i:j].split()
        assert word == b'MAIL'
        mails.append(raw[j + 1:j + 1 + int(size)])
        i = j + 2 + int(size)
    return mails


def record(name):
    mails = read_mails(name)
    server = Dovecot()
    server.put(mails)
    answers = server.fetch(len(mails), 'ENVELOPE BODYSTRUCTURE', 500)
    server.close()
    out = sys.stdout.buffer
    for number, mail in enumerate(mails, 1):
        answer = answers[number]
        out.write(b'MAIL %d\n%s\nANSWER %d\n%s\n' % (len(mail), mail, len(answer), answer))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('compare', 'record'))
    parser.add_argument('file', nargs='?')
    parser.add_argument('--show')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--count', type=int, default=300)
    parser.add_argument('--allow', type=int, default=0)
    args = parser.parse_args()
    if args.what == 'record':
        record(args.file)
        return
    generator = Generator(args.seed)
    mails = read_mails(args.file) if args.file else [generator.mail() for _ in range(args.count)]
    different, asked = compare(args.show, mails)
    if asked < len(mails) * 9 // 10:
        sys.exit('the real server answered too few')
    sys.exit(1 if different > args.allow else 0)


if __name__ == '__main__':
    main()

"""Recorder for line protocols and command lines (Python 3 standard library only).

Shared by ../pop3, ../lmtp, ../submission and ../lda.  README.md in this
folder describes the session language, the normalisation and the profiles.
"""
import argparse
import base64
import calendar
import difflib
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import stop  # noqa: E402

TIMEOUT = 20.0
LIB = os.path.dirname(os.path.abspath(__file__))


# --------------------------------------------------------------------------
# Session sources
# --------------------------------------------------------------------------

def unescape(text):
    r"""\r \n \t \0 \\ \xHH -> the byte; everything else is UTF-8.  Latin-1 str."""
    out, i = bytearray(), 0
    simple = {'r': 13, 'n': 10, 't': 9, '0': 0, '\\': 92}
    while i < len(text):
        c = text[i]
        n = text[i + 1:i + 2]
        if c == '\\' and n in simple and n:
            out.append(simple[n])
            i += 2
        elif c == '\\' and n == 'x':
            out.append(int(text[i + 2:i + 4], 16))
            i += 4
        else:
            out += c.encode('utf-8')
            i += 1
    return out.decode('latin-1')


def raw(text):
    return text.encode('utf-8').decode('latin-1')


STEP = re.compile(r'([0-9]?)(>>|>|\||\?|\+|-|@|<b|<|\*|\$)( (.*))?$')


def new_session(name, default):
    return {'name': name, 'profile': default, 'doc': '', 'fixture': [],
            'relay': [], 'sieve': [], 'steps': []}


def parse_file(path, default):
    sessions, sess, header = [], None, True
    with open(path, encoding='utf-8') as f:
        for num, line in enumerate(f, 1):
            line = line.rstrip('\n')
            m = re.match(r'=== (\S+)$', line)
            if m:
                sess, header = new_session(m.group(1), default), True
                sessions.append(sess)
                continue
            if not line.strip() or line.startswith('#'):
                continue
            if sess is None:
                raise SystemExit('%s:%d: "=== NAME" first' % (path, num))
            if line == '---':
                header = False
                continue
            if header:
                key, value = [x.strip() for x in line.split(':', 1)]
                if key == 'doc':
                    sess['doc'] = (sess['doc'] + ' ' + value).strip()
                elif key == 'profile':
                    sess['profile'] = value
                elif key == 'fixture':          # USER MESSAGE...
                    sess['fixture'].append(value.split())
                elif key == 'sieve':            # USER script text with escapes
                    sess['sieve'].append(value.split(None, 1))
                elif key == 'relay':            # PATTERN => ACTION
                    sess['relay'].append([raw(x.strip()) for x in value.split('=>', 1)])
                else:
                    raise SystemExit('%s:%d: unknown key %s' % (path, num, key))
                continue
            m = STEP.match(line)
            if not m:
                raise SystemExit('%s:%d: bad step: %s' % (path, num, line))
            sess['steps'].append([int(m.group(1) or 1), m.group(2), m.group(4) or ''])
    return sessions


# --------------------------------------------------------------------------
# Client connection
# --------------------------------------------------------------------------

class Conn:
    def __init__(self, port, source=None, path=None):
        if path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(path)
        else:
            self.sock = socket.create_connection(
                ('127.0.0.1', port), TIMEOUT, (source, 0) if source else None)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf, self.eof = b'', False

    def tls(self):
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname = False
        ctx.verify_mode = ssl.CERT_NONE
        self.sock.settimeout(TIMEOUT)
        self.sock = ctx.wrap_socket(self.sock)

    def fill(self, timeout):
        if self.eof:
            return False
        self.sock.settimeout(max(timeout, 0.001))
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except OSError:
            data = b''
        if not data:
            self.eof = True
            return False
        self.buf += data
        return True

    def send(self, data):
        try:
            self.sock.settimeout(TIMEOUT)
            self.sock.sendall(data)
        except OSError:
            pass

    def take(self):
        data, self.buf = self.buf, b''
        return data

    def wait(self, done, limit=TIMEOUT):
        """Until done(buf) or end of file; then what follows within 20 ms."""
        end = time.time() + limit
        while not done(self.buf):
            if time.time() > end:
                return self.take() + b'<TIMEOUT>'
            if not self.fill(end - time.time()) and self.eof:
                return self.take() + b'<EOF>'
        self.fill(0.02)
        return self.take()

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass


def smtp_replies(buf):
    return len(re.findall(rb'^\d{3}(?: [^\n]*)?\r?\n', buf, re.M))


def pop3_done(multi):
    def done(buf):
        nl = buf.find(b'\n')
        if nl < 0:
            return False
        if not multi or not buf.startswith(b'+OK'):
            return True
        return buf.endswith(b'\r\n.\r\n')
    return done


def pop3_multi(line):
    words = line.upper().split()
    if not words:
        return False
    return words[0] in ('RETR', 'TOP', 'CAPA') or \
        (words[0] in ('LIST', 'UIDL', 'AUTH') and len(words) == 1)


# --------------------------------------------------------------------------
# The scripted server (relay of submission, backend of LMTP proxying,
# submission_host of the LDA)
# --------------------------------------------------------------------------

class Relay(threading.Thread):
    """Answers SMTP or LMTP and writes down what arrives.

    Rules are (pattern, action): the first rule whose pattern (a regular
    expression, case ignored) is found in the line is used.  "." stands for
    the end of the data, GREETING for the connection.  Actions: text of the
    reply (\\n inside for several lines), `close`, `stall` (no answer).
    """

    def __init__(self, port):
        super().__init__(daemon=True)
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(('127.0.0.1', port))
        self.sock.listen(20)
        self.lock = threading.Lock()
        self.rules, self.lines, self.count = [], [], 0
        self.active = 0
        self.start()

    def reset(self, rules):
        with self.lock:
            self.rules = [(re.compile(p, re.I), unescape(a)) for p, a in rules]
            self.lines, self.count = [], 0

    def run(self):
        while True:
            c, _ = self.sock.accept()
            with self.lock:
                self.count += 1
                self.active += 1
                n = self.count
            threading.Thread(target=self.serve, args=(c, n), daemon=True).start()

    def note(self, n, text):
        with self.lock:
            self.lines.append('%d %s' % (n, text))

    def rule(self, line, default):
        with self.lock:
            for rx, action in self.rules:
                if rx.search(line):
                    return action
        return default

    def serve(self, c, n):
        try:
            self.talk(c, n)
        except OSError:
            pass
        finally:
            self.note(n, '(closed)')
            with self.lock:
                self.active -= 1
            c.close()

    def talk(self, c, n):
        buf = [b'']
        c.settimeout(60)
        lmtp, rcpts, bdat = False, [], b''

        def line():
            while b'\n' not in buf[0]:
                d = c.recv(65536)
                if not d:
                    return None
                buf[0] += d
            got, buf[0] = buf[0].split(b'\n', 1)
            return got + b'\n'

        def say(action):
            if action == 'close':
                return False
            if action == 'stall':
                return True
            if action.startswith('then-close '):
                c.sendall(action[11:].encode('latin-1') + b'\r\n')
                return False
            c.sendall(action.replace('\n', '\r\n').encode('latin-1') + b'\r\n')
            return True

        if not say(self.rule('GREETING', '220 relay.test ESMTP')):
            return
        while True:
            got = line()
            if got is None:
                return
            text = got.decode('latin-1').rstrip('\r\n')
            if not text.upper().startswith('BDAT'):
                self.note(n, 'C: ' + text)
            verb = text.split(' ')[0].upper()
            if verb in ('EHLO', 'LHLO'):
                lmtp = verb == 'LHLO'
                default = '250-relay.test\n250-PIPELINING\n250-SIZE 1000000\n' \
                    '250-8BITMIME\n250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250-DSN\n250 BURL imap'
                if lmtp:
                    default = '250-relay.test\n250-PIPELINING\n250-8BITMIME\n250-ENHANCEDSTATUSCODES\n250 XRCPTFORWARD'
            elif verb == 'MAIL':
                default, rcpts, bdat = '250 2.1.0 sender ok', [], b''
            elif verb == 'RCPT':
                default = '250 2.1.5 rcpt ok'
            elif verb == 'DATA':
                default = '354 go ahead'
            elif verb == 'QUIT':
                default = 'then-close 221 2.0.0 bye'
            elif verb == 'BDAT':
                size = int(text.split()[1])
                while len(buf[0]) < size:
                    d = c.recv(65536)
                    if not d:
                        return
                    buf[0] += d
                bdat += buf[0][:size]
                buf[0] = buf[0][size:]
                if 'LAST' in text.upper():
                    self.note(n, 'C: BDAT (all chunks, together %d bytes)' % len(bdat))
                    self.note(n, 'D: ' + bdat.decode('latin-1'))
                default = '250 2.0.0 chunk ok'
            elif verb == 'NOOP' or verb == 'RSET' or verb == 'XCLIENT':
                default = '250 2.0.0 ok'
                if verb == 'XCLIENT':
                    default = '220 relay.test ESMTP'
            elif verb == 'VRFY':
                default = '252 2.1.5 try it'
            elif verb == 'AUTH':
                default = '235 2.7.0 welcome'
            else:
                default = '500 5.5.1 what?'
            reply = self.rule(text, default)
            if verb == 'RCPT' and reply.startswith('2'):
                rcpts.append(text)
            if not say(reply):
                return
            if verb == 'DATA' and reply.startswith('3'):
                data = b''
                while True:
                    got = line()
                    if got is None:
                        self.note(n, 'D: ' + data.decode('latin-1') + '<EOF>')
                        return
                    if got == b'.\r\n':
                        break
                    data += got
                self.note(n, 'D: ' + data.decode('latin-1'))
                for r in (rcpts if lmtp else ['']):
                    m = re.search(r'<(.*?)>', r)
                    if not say(self.rule('. ' + (m.group(1) if m else ''),
                                         '250 2.0.0 queued' if not lmtp else
                                         '250 2.0.0 %s stored' % (m.group(0) if m else ''))):
                        return

    def transcript(self):
        end = time.time() + 3
        old = -1
        while time.time() < end:
            with self.lock:
                now, active = len(self.lines), self.active
            if now == old and (active == 0 or time.time() > end - 2.4):
                break
            old = now
            time.sleep(0.15)
        with self.lock:
            out, self.lines = self.lines, []
        return out


# --------------------------------------------------------------------------
# One private server
# --------------------------------------------------------------------------

class Server:
    def __init__(self, args, here, profile):
        self.args, self.here, self.profile = args, here, profile
        self.dir = os.path.join(args.workdir, profile)
        self.pw = pwd.getpwnam(args.user_id)
        shutil.rmtree(self.dir, ignore_errors=True)
        for sub in ('', 'home', 'spool'):
            os.makedirs(os.path.join(self.dir, sub), exist_ok=True)
        os.chmod(self.dir, 0o755)
        for sub in ('home', 'spool'):
            os.chown(os.path.join(self.dir, sub), self.pw.pw_uid, self.pw.pw_gid)
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                        '-days', '2', '-subj', '/CN=localhost', '-keyout', 'key.pem',
                        '-out', 'cert.pem'], cwd=self.dir, check=True,
                       stderr=subprocess.DEVNULL)
        values = {'@DIR@': self.dir, '@UID@': str(self.pw.pw_uid),
                  '@GID@': str(self.pw.pw_gid), '@USERNAME@': args.user_id}
        for i in range(10):
            values['@PORT%d@' % i] = str(args.port + i)
        conf = os.path.join(here, 'conf')
        files = [(os.path.join(LIB, x), x) for x in ('common.inc', 'users', 'sendmail')]
        for x in os.listdir(conf):
            files.append((os.path.join(conf, x),
                          'dovecot.conf' if x == profile + '.conf' else x))
        for src, dst in files:
            with open(src) as f:
                text = f.read()
            for k, v in values.items():
                text = text.replace(k, v)
            with open(os.path.join(self.dir, dst), 'w') as f:
                f.write(text)
        os.chmod(os.path.join(self.dir, 'sendmail'), 0o755)
        self.conf = os.path.join(self.dir, 'dovecot.conf')
        self.log_path = os.path.join(self.dir, 'log')
        with open(self.log_path, 'w'):
            pass
        os.chmod(self.log_path, 0o666)
        self.log_at = 0
        self.sent_at = 0
        env = {'PATH': os.environ.get('PATH', ''), 'TZ': 'UTC0'}
        subprocess.run([args.dovecot, '-c', self.conf], check=True, env=env)
        end = time.time() + 10
        while time.time() < end:
            try:
                c = socket.create_connection(('127.0.0.1', args.port), 5)
                c.recv(100)     # the greeting: everything is up
                c.close()
                break
            except OSError:
                time.sleep(0.05)
        time.sleep(0.5)
        self.log('x')

    def stop(self):
        stop.stop(self.args.doveadm, self.conf, self.dir)

    def home(self, user):
        local, _, domain = user.partition('@')
        return os.path.join(self.dir, 'home', domain, local)

    def chown(self, path):
        os.chown(path, self.pw.pw_uid, self.pw.pw_gid)

    def mkdirs(self, path):
        todo = []
        while not os.path.isdir(path):
            todo.append(path)
            path = os.path.dirname(path)
        for p in reversed(todo):
            os.mkdir(p, 0o700)
            self.chown(p)

    def put(self, path, data, mode=0o600):
        self.mkdirs(os.path.dirname(path))
        with open(path, 'wb') as f:
            f.write(data)
        os.chmod(path, mode)
        self.chown(path)

    def add_messages(self, user, names, fixtures):
        """Fixed file names and a fixed uidlist: UIDLs are the same each time."""
        box = os.path.join(self.home(user), 'Maildir')
        for sub in ('cur', 'new', 'tmp'):
            self.mkdirs(os.path.join(box, sub))
        lines = []
        for i, name in enumerate(names, 1):
            flags = ''
            if ':' in name:
                name, flags = name.split(':')
            data = fixtures[name].replace(b'\r\n', b'\n')
            base = '16000000%02d.M%dP1.fix,S=%d' % (i, i, len(data))
            p = os.path.join(box, 'cur', base + ':2,' + flags)
            self.put(p, data)
            os.utime(p, (1600000000 + i, 1600000000 + i))
            lines.append('%d :%s\n' % (i, base))
        head = '3 V1600000000 N%d G%032x\n' % (len(names) + 1, 0x1234)
        self.put(os.path.join(box, 'dovecot-uidlist'), (head + ''.join(lines)).encode())

    def stored(self, user, folder=''):
        box = os.path.join(self.home(user), 'Maildir')
        if folder:
            box = os.path.join(box, '.' + folder)
        found = []
        for sub in ('new', 'cur'):
            d = os.path.join(box, sub)
            for fn in os.listdir(d) if os.path.isdir(d) else []:
                m = re.match(r'(\d+)\.M(\d+)', fn)
                key = (int(m.group(1)), int(m.group(2))) if m else (0, 0)
                found.append((key, sub, fn, os.path.join(d, fn)))
        if not os.path.isdir(box):
            return 'no folder'
        out = []
        for _, sub, fn, p in sorted(found):
            flags = fn.split(':2,')[1] if ':2,' in fn else ''
            with open(p, 'rb') as f:
                out.append('--- %s flags=(%s)\n%s' % (sub, flags, f.read().decode('latin-1')))
        return '%d messages\n%s' % (len(out), ''.join(out))

    def files(self, user):
        out = []
        top = self.home(user)
        for d, dirs, names in os.walk(top):
            dirs.sort()
            for fn in sorted(names):
                rel = os.path.relpath(os.path.join(d, fn), top)
                if not re.search(r'(^|/)(dovecot[.-](index|list|uidlist|uidvalidity)|maildirfolder)', rel):
                    out.append(re.sub(r'\d+\.M\d+P\d+[^:]*', '<FILE>', rel))
        return '\n'.join(sorted(out))

    def log(self, rx):
        last = -1
        for _ in range(20):
            size = os.path.getsize(self.log_path)
            if size == last:
                break
            last = size
            time.sleep(0.12)
        with open(self.log_path, 'rb') as f:
            f.seek(self.log_at)
            data = f.read()
            self.log_at = f.tell()
        return '\n'.join(x for x in data.decode('latin-1').split('\n') if re.search(rx, x))

    def sent(self):
        """What the sendmail replacement was given since the last time."""
        p = os.path.join(self.dir, 'spool', 'sent')
        if not os.path.exists(p):
            return ''
        with open(p, 'rb') as f:
            f.seek(self.sent_at)
            data = f.read()
            self.sent_at = f.tell()
        return data.decode('latin-1')


# --------------------------------------------------------------------------
# Playing
# --------------------------------------------------------------------------

class Player:
    def __init__(self, server, relay, proto, fixtures, logs):
        self.server, self.relay, self.proto = server, relay, proto
        self.fixtures, self.logs = fixtures, logs

    def play(self, sess):
        srv = self.server
        self.relay.reset(sess['relay'])
        self.vars = {}
        for words in sess['fixture']:
            srv.add_messages(words[0], words[1:], self.fixtures)
        for user, text in sess['sieve']:
            srv.put(os.path.join(srv.home(user), '.dovecot.sieve'),
                    unescape(text).encode('latin-1'))
        srv.log('x')
        srv.sent()
        conns, outs, last = {}, [], {}
        for num, op, arg in sess['steps']:
            out = self.step(conns, num, op, arg, last)
            if isinstance(out, bytes):
                out = out.decode('latin-1')
            if out:
                last[num] = out
            outs.append(out)
        for c in conns.values():
            c.close()
        time.sleep(0.05)
        return outs

    def open(self, arg):
        words = arg.split()
        port, source, path, tls, quiet = 0, None, None, False, False
        for w in words:
            if w.isdigit():
                port = int(w)
            elif w.startswith('from='):
                source = w[5:]
            elif w.startswith('unix='):
                path = os.path.join(self.server.dir, w[5:])
            elif w == 'tls':
                tls = True
            elif w == 'silent':
                quiet = True
        c = Conn(self.server.args.port + port, source, path)
        if tls:
            c.tls()
        if quiet:
            return c, b''
        return c, c.wait(lambda b: b.endswith(b'\n'))

    def subst(self, text):
        text = re.sub(r'\$\{(\w+)\}', lambda m: self.vars.get(m.group(1), '?'), text)
        for i in range(10):
            text = text.replace('@PORT%d@' % i, str(self.server.args.port + i))

        def plain(m):
            return base64.b64encode(unescape(m.group(1)).encode('latin-1')).decode()
        text = re.sub(r'@B64\((.*?)\)@', plain, text)
        return text.replace('@DIR@', self.server.dir)

    def done(self, line):
        if self.proto == 'pop3':
            return pop3_done(pop3_multi(line))
        return lambda b: smtp_replies(b) >= 1

    def step(self, conns, num, op, arg, last):
        srv = self.server

        def conn():
            if num not in conns:
                conns[num], _ = self.open('')
            return conns[num]

        if op == '+':
            if num in conns:
                conns[num].close()
            conns[num], out = self.open(arg)
            return out
        if op == '-':
            conn().close()
            conns.pop(num)
            time.sleep(0.05)
            return ''
        if op == '>':
            text = self.subst(raw(arg))
            conn().send(text.encode('latin-1') + b'\r\n')
            return conn().wait(self.done(text))
        if op == '>>':
            conn().send(self.subst(raw(arg)).encode('latin-1') + b'\r\n')
            return ''
        if op == '|':
            conn().send(self.subst(unescape(arg)).encode('latin-1'))
            return ''
        if op == '*':
            n, text = arg.split(' ', 1)
            conn().send(unescape(text).encode('latin-1') * int(n))
            return ''
        if op == '<':
            words = arg.split()
            data = re.sub(rb'^\.', b'..', self.fixtures[words[0]], flags=re.M)
            conn().send(data + b'.\r\n')
            n = int(words[1]) if len(words) > 1 else 1
            return conn().wait(lambda b: smtp_replies(b) >= n)
        if op == '<b':
            words = arg.split()
            data = self.fixtures[words[0]]
            n = int(words[-1]) if words[-1].isdigit() else 1
            last_ = ' LAST' if 'LAST' in words else ''
            conn().send(b'BDAT %d%s\r\n' % (len(data), last_.encode()) + data)
            return conn().wait(lambda b: smtp_replies(b) >= n)
        if op == '?':
            words = arg.split(None, 1)
            if words[0] == 'reply':
                n = int(words[1]) if len(words) > 1 else 1
                return conn().wait(lambda b: smtp_replies(b) >= n)
            if words[0] == 'lines':
                n = int(words[1])
                return conn().wait(lambda b: b.count(b'\n') >= n)
            if words[0] == 'multi':
                return conn().wait(pop3_done(True))
            if words[0] == 'quiet':
                stop = time.time() + float(words[1])
                while time.time() < stop and not conn().eof:
                    conn().fill(stop - time.time())
                return conn().take()
            if words[0] == 'eof':
                limit = float(words[1]) if len(words) > 1 else TIMEOUT
                end = time.time() + limit
                while not conn().eof and time.time() < end:
                    conn().fill(end - time.time())
                return conn().take() + (b'<EOF>' if conn().eof else b'<OPEN>')
            if words[0] == 'starttls':
                try:
                    conn().tls()
                except OSError as e:
                    return 'no TLS: %s' % type(e).__name__
                return ''
            raise SystemExit('bad wait: ' + arg)
        if op == '$':
            return self.command(arg)
        # op == '@'
        words = arg.split(None, 1)
        word, rest = words[0], words[1] if len(words) > 1 else ''
        if word == 'sleep':
            time.sleep(float(rest))
            return ''
        if word == 'stored':
            return srv.stored(*rest.split())
        if word == 'files':
            return srv.files(rest)
        if word == 'cat':
            user, name = rest.split(None, 1)
            p = os.path.join(srv.home(user), name)
            if not os.path.exists(p):
                return 'no file'
            with open(p, 'rb') as f:
                return f.read()
        if word == 'write':
            user, name, text = (rest.split(None, 2) + [''])[:3]
            srv.put(os.path.join(srv.home(user), name), unescape(text).encode('latin-1'))
            return ''
        if word == 'chmod':
            user, mode, name = rest.split(None, 2)
            os.chmod(os.path.join(srv.home(user), name), int(mode, 8))
            return ''
        if word == 'mkdir':
            user, name = rest.split(None, 1)
            srv.mkdirs(os.path.join(srv.home(user), name))
            return ''
        if word == 'log':
            return srv.log(rest or self.logs)
        if word == 'relay':
            return '\n'.join(self.relay.transcript())
        if word == 'sent':
            return srv.sent()
        if word == 'doveadm':
            p = subprocess.run([srv.args.doveadm, '-c', srv.conf] + shlex.split(self.subst(rest)),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return 'exit %d\n%s' % (p.returncode, p.stdout.decode('latin-1'))
        if word == 'get':
            name, rx = rest.split(None, 1)
            m = re.search(rx, last.get(num, ''), re.S)
            self.vars[name] = m.group(1) if m else '?'
            return ''
        raise SystemExit('bad step: @ ' + arg)

    def command(self, arg):
        """$ [NAME=VALUE]... [as=user] lda ARGS [< MESSAGE | < 'text with escapes']"""
        srv = self.server
        text, _, inp = arg.partition(' < ')
        words = shlex.split(self.subst(text))
        env = {'PATH': os.environ.get('PATH', ''), 'TZ': 'UTC0'}
        user = None
        while words and re.match(r'\w+=', words[0]):
            k, v = words.pop(0).split('=', 1)
            if k == 'as':
                user = v
            else:
                env[k] = v
        if words[0] != 'lda':
            raise SystemExit('not a known command: ' + words[0])
        words[0] = srv.args.lda
        if '-c' not in words and 'CONFIG_FILE' not in env:
            words[1:1] = ['-c', srv.conf]
        inp = inp.strip()
        if inp.startswith("'"):
            data = unescape(inp[1:-1]).encode('latin-1')
        elif inp:
            data = self.fixtures[inp].replace(b'\r\n', b'\n')
        else:
            data = b''
        kw = {}
        if user == 'vmail':
            kw = {'user': srv.pw.pw_uid, 'group': srv.pw.pw_gid, 'extra_groups': []}
        p = subprocess.run(words, input=data, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=env, cwd='/', timeout=60, **kw)
        out = 'exit %d\n' % p.returncode
        if p.stdout:
            out += 'stdout: ' + p.stdout.decode('latin-1')
        if p.stderr:
            out += 'stderr: ' + p.stderr.decode('latin-1')
        return out


# --------------------------------------------------------------------------
# Normalisation
# --------------------------------------------------------------------------

MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split()


def near(m):
    day, mon, year, hh, mm, ss, sign, zone = m.groups()
    t = calendar.timegm((int(year), MONTHS.index(mon) + 1, int(day), int(hh), int(mm), int(ss)))
    off = (int(zone[:2]) * 60 + int(zone[2:])) * 60
    return abs(t - (off if sign == '+' else -off) - time.time()) < 2 * 86400


DATE = re.compile(r'(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d?) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d{4})')


def normalize(outs, server):
    tables = {}

    def number(name):
        def sub(m):
            t = tables.setdefault(name, {})
            v = m.group(0)
            t.setdefault(v, len(t) + 1)
            return '<%s%d>' % (name, t[v])
        return sub

    host = socket.gethostname()
    res = []
    for out in outs:
        out = out.replace(server.dir, '<DIR>').replace(server.args.lda + ':', '<LDA>:')
        out = re.sub(r'^(stderr: lda)\(\d+\)', r'\1(<PID>)', out, flags=re.M)
        for i in range(10):
            out = re.sub(r'(?<!\d)%d(?!\d)' % (server.args.port + i), '<PORT%d>' % i, out)
        out = DATE.sub(lambda m: '<DATE>' if near(m) else m.group(0), out)
        out = re.sub(r'dovecot-\d{10}-\d{1,6}-\d+(?=@)', 'dovecot-<ID>', out)
        out = re.sub(r'dovecot-sieve-\d{10}-\d{1,6}-\d+(?=@)', 'dovecot-sieve-<ID>', out)
        out = re.sub(r'\b\d+/%s\b' % re.escape(host), '<PID>/<HOST>', out)
        out = out.replace(host + '.', '<HOST>.') if len(host) > 3 else out
        out = re.sub(r'<[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]{8}\.[^@ >]+@%s>' % re.escape(host), '<<APOP>@<HOST>>', out)
        out = re.sub(r'(?<=session=<)[A-Za-z0-9+/]{16}(?=>)|(?<=>{1}<)[A-Za-z0-9+/]{16}(?=>: )', number('LSID'), out)
        out = re.sub(r'request \[\d+\]', 'request [<N>]', out)
        out = re.sub(r'client-id=\d+', 'client-id=<N>', out)
        out = re.sub(r'\(pid=(\d+|<PID>) id=\d+\)', '(pid=<PID> id=<N>)', out)
        out = re.sub(r'(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{11}/AA[AE][A-Z](?![A-Za-z0-9+/=])', number('LSID'), out)
        out = re.sub(r'(?<![A-Za-z0-9+/.-])(?=[A-Za-z0-9+/]*[0-9+/A-Z])[A-Za-z0-9+/]{22}(?![A-Za-z0-9+/=.-])', number('SID'), out)
        out = re.sub(r'^([a-z0-9-]+)\(\d+\)', r'\1(<PID>)', out, flags=re.M)
        out = re.sub(r'^([a-z0-9-]+\([^()\n]+\))<\d+>', r'\1<<PID>>', out, flags=re.M)
        out = re.sub(r'^(lda|stderr: lda)\(([^(),\n]*)\)<\d+>', r'\1(\2)<<PID>>', out, flags=re.M)
        out = re.sub(r'\b127\.0\.0\.(\d):\d{4,5} \[\d+\]', r'127.0.0.\1:<LPORT> [<N>]', out)
        out = re.sub(r'(conn (?:127\.0\.0\.1:<PORT\d>|unix:\S+) )\[\d+\]', r'\1[<N>]', out)
        out = re.sub(r'(?<=")\d+/(?=mx\.test)|(?<=^--)\d+/(?=mx\.test)|(?<=^\| --)\d+/(?=mx\.test)', '<PID>/', out, flags=re.M)
        out = re.sub(r'(<ID>)@%s>' % re.escape(host), r'\1@<HOST>>', out)
        out = re.sub(r'(program exec:\S+ )\(\d+\)', r'\1(<PID>)', out)
        out = re.sub(r'child \d+ ', 'child <PID> ', out)
        out = re.sub(r'(s idle, in=)\d+, out=\d+', r'\1<N>, out=<N>', out)
        out = re.sub(r'mpid=\d+', 'mpid=<PID>', out)
        out = re.sub(r'\bpid[= ]\d+', 'pid=<PID>', out)
        out = re.sub(r'local=127\.0\.0\.1:\d+', 'local=127.0.0.1:<LPORT>', out)
        out = re.sub(r'\b\d+\.\d{3} (in|secs|s\b)', r'<SECS> \1', out)
        out = re.sub(r'\bin \d+ secs', 'in <N> secs', out)
        out = re.sub(r'\b\d+ (m?secs?)( ago|\b)', r'<N> \1\2', out)
        out = re.sub(r'(SESSION=)[A-Za-z0-9+/]{16,30}(?=[ :\n]|$)', r'\1<XSID>', out)
        out = re.sub(r'( PORT=)\d{5}( ADDR=127)', r'\1<LPORT>\2', out)
        out = re.sub(r'\b\d+ ms\b', '<N> ms', out)
        out = re.sub(r'\d{10}\.M\d+P\d+\.[^,:\s]+', '<FILE>', out)
        out = re.sub(r'v2\.[34]\.\d+(\.\d+)? ?\([0-9a-f]+\)', '<VERSION>', out)
        out = re.sub(r'\[[^\]\s:]+:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]', '[<HOST>:<TIME>]', out)
        out = re.sub(r'\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b', '<TIME>', out)
        res.append(out)
    return res


# --------------------------------------------------------------------------
# Files, comparing, command line
# --------------------------------------------------------------------------

def load_fixtures(here):
    fx = {}
    for d in (os.path.join(LIB, 'messages'), os.path.join(here, 'messages')):
        for fn in sorted(os.listdir(d)) if os.path.isdir(d) else []:
            with open(os.path.join(d, fn), 'rb') as f:
                data = f.read()
            fx[os.path.splitext(fn)[0]] = re.sub(rb'(?<!\r)\n', b'\r\n', data)
    fx['k10'] = b'From: a@test\r\nSubject: k10\r\n\r\n' + \
        b'0123456789012345678901234567890123456789012345678901234567890123\r\n' * 155
    fx['k5'] = b'From: a@test\r\nSubject: k5\r\n\r\n' + \
        b'0123456789012345678901234567890123456789012345678901234567890123\r\n' * 75
    fx['k200'] = b'From: a@test\r\nSubject: k200\r\n\r\n' + \
        b'0123456789012345678901234567890123456789012345678901234567890123\r\n' * 3100
    return fx


def show(text):
    return ''.join(c if ' ' <= c <= '~' else {'\t': '\\t', '\r': '\\r'}.get(
        c, '\\x%02x' % ord(c)) for c in text)


def by_writer(step, text):
    """Lines of a log whose writers are several processes: the order between them is that in which their pipes were read."""
    if step[1] != '@' or step[2].split()[:1] != ['log']:
        return text
    return '\n'.join(sorted(text.split('\n'), key=lambda line: re.split(r'(?=<|: )', line)[0]))


def differences(old, sess, got):
    res = []
    if [s[:3] for s in old['steps']] != sess['steps']:
        res.append('  the source has other steps than the recording: record again')
    for num, (step, b) in enumerate(zip(old['steps'], got), 1):
        a = step[3] if len(step) > 3 else ''
        if by_writer(step, a) != by_writer(step, b):
            res.append('  step %d, connection %d: %s %s' % (num, step[0], step[1], show(step[2])[:150]))
            res += ['    ' + x for x in difflib.ndiff(
                [show(x) for x in a.split('\n')], [show(x) for x in b.split('\n')])
                if not x.startswith('?')]
    return res


def main(here, proto, profile, logs):
    ap = argparse.ArgumentParser(description='Record or check the sessions of this folder; see README.md')
    ap.add_argument('--workdir', required=True)
    ap.add_argument('--port', type=int, default=21700, help='first of ten ports')
    ap.add_argument('--dovecot', default='dovecot')
    ap.add_argument('--doveadm', default='doveadm')
    ap.add_argument('--lda', default='/usr/lib/dovecot/dovecot-lda')
    ap.add_argument('--user-id', default='mail')
    ap.add_argument('--check', action='store_true')
    ap.add_argument('--print', action='store_true', help='show the outputs, write nothing')
    ap.add_argument('session', nargs='*')
    args = ap.parse_args()
    args.workdir = os.path.abspath(args.workdir)
    os.makedirs(args.workdir, exist_ok=True)
    os.chmod(args.workdir, 0o755)
    fixtures = load_fixtures(here)
    sessions = []
    d = os.path.join(here, 'sessions')
    for fn in sorted(os.listdir(d)):
        if fn.endswith('.txt'):
            sessions += parse_file(os.path.join(d, fn), profile)
    names = [s['name'] for s in sessions]
    if len(set(names)) != len(names):
        raise SystemExit('two sessions with one name: %s' % [n for n in names if names.count(n) > 1])
    sessions = [s for s in sessions if not args.session or s['name'] in args.session]
    relay = Relay(args.port + 9)
    same = different = 0
    for prof in sorted({s['profile'] for s in sessions}):
        server = Server(args, here, prof)
        player = Player(server, relay, proto, fixtures, logs)
        try:
            for sess in [s for s in sessions if s['profile'] == prof]:
                try:
                    got = normalize(player.play(sess), server)
                except (OSError, ValueError) as e:
                    got = ['failed: %s: %s' % (type(e).__name__, e)]
                    got += [''] * (len(sess['steps']) - 1)
                path = os.path.join(here, sess['name'] + '.json')
                if args.print:
                    print('===', sess['name'])
                    for s, g in zip(sess['steps'], got):
                        print('%d%s %s' % tuple(s))
                        for x in g.rstrip('\n').split('\n') if g else []:
                            print('      ' + show(x))
                elif args.check:
                    try:
                        with open(path, encoding='ascii') as f:
                            diff = differences(json.load(f), sess, got)
                    except FileNotFoundError:
                        diff = ['  no recording']
                    if diff:
                        different += 1
                        print('different: %s\n%s' % (sess['name'], '\n'.join(diff)))
                    else:
                        same += 1
                else:
                    out = dict(sess)
                    out['steps'] = [s + [g] for s, g in zip(sess['steps'], got)]
                    with open(path, 'w', encoding='ascii') as f:
                        json.dump(out, f, indent=1)
                        f.write('\n')
                    print('recorded %s (%d steps)' % (sess['name'], len(got)))
                sys.stdout.flush()
        finally:
            server.stop()
    if args.check:
        print('%d same, %d different' % (same, different))
        return 1 if different else 0
    return 0

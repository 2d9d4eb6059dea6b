"""Runs our server and the real one with the same authentication configuration, has the same conversations on their auth
sockets, and compares every line. Usage: compare.py OURS-DOVECOT SCENARIO (see SCENARIOS); prints the differences."""
import base64
import concurrent.futures
import difflib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time


BASE = """
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols =
auth_verbose = yes
auth_mechanisms = plain login
auth_failure_delay = 0
first_valid_uid = 1
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
"""


def plain(user, password, authzid=""):
    return base64.b64encode(f"{authzid}\0{user}\0{password}".encode()).decode()


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Lines:
    """A connection; keeps what was said, with numbers that differ by nature replaced."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(path)
        self.rest = b""
        self.said = []

    def read(self):
        while b"\n" not in self.rest:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                self.said.append("<closed>")
                return None
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        line = line.decode("utf-8", "backslashreplace")
        self.said.append(re.sub(r"^(SPID|CUID|COOKIE)\t.*", r"\1\t?", line))
        return line

    def until(self, pattern):
        while True:
            line = self.read()
            if line is None or re.search(pattern, line):
                return line

    def send(self, *lines):
        try:
            self.sock.sendall("".join(line + "\n" for line in lines).encode())
        except BrokenPipeError:
            pass

    def drain(self):
        """Everything until the server closes; the side that writes is closed first."""
        self.sock.shutdown(socket.SHUT_WR)
        while self.read() is not None:
            pass


class Server:
    def __init__(self, program, conf, files, ready="auth-master"):
        self.dir = tempfile.mkdtemp(prefix="auth.")
        os.chmod(self.dir, 0o755)
        for name in ("run", "state"):
            os.mkdir(f"{self.dir}/{name}")
        for name, text in files.items():
            if name.endswith(".sqlite"):
                import sqlite3
                db = sqlite3.connect(f"{self.dir}/{name}")
                db.executescript(text)
                db.close()
            else:
                os.makedirs(os.path.dirname(f"{self.dir}/{name}"), exist_ok=True)
                with open(f"{self.dir}/{name}", "w") as out:
                    out.write(text.replace("{dir}", self.dir))
        with open(f"{self.dir}/dovecot.conf", "w") as out:
            out.write(BASE.format(dir=self.dir) + conf.replace("{dir}", self.dir))
        self.out = open(f"{self.dir}/out", "wb")
        self.process = subprocess.Popen([program, "-F", "-c", f"{self.dir}/dovecot.conf"], stdout=self.out,
                                        stderr=self.out)
        end = time.time() + 30
        while not os.path.exists(self.path(ready)):
            try:
                self.process.wait(0.05)
                end = 0
            except subprocess.TimeoutExpired:
                pass
            if time.time() > end:
                raise SystemExit(f"{program} does not start: " + open(f"{self.dir}/out").read() + self.log())

    def path(self, name):
        return f"{self.dir}/run/{name}"

    def log(self):
        try:
            return open(f"{self.dir}/log", errors="replace").read()
        except FileNotFoundError:
            return ""

    def log_lines(self):
        """What auth and its workers logged, sorted, without what differs by nature. Lines about a passwd-file as a whole
        come once for each block that names it here, once for all there."""
        self.end()
        lines = []
        for line in self.log().replace(self.dir, "DIR").replace("\t", "?").split("\n"):
            line = re.sub(r"^\w+ +\d+ [\d:]+ ", "", line)
            if not re.match(r"auth(-worker\(\d+\))?: ", line) or re.search("passwd-file DIR/[a-z]+:User", line):
                continue
            if "Invalid UID value" in line or "nopassword set but" in line:
                continue
            for pattern, by in ((r"\(created .*\)", "(when)"), (r"auth-worker\(\d+\)", "auth-worker(P)"),
                                (r"pid=\d+", "pid=P"), (r"auth-worker<\d+>", "auth-worker<N>"), (r"\b\d{4,}\b", "N")):
                line = re.sub(pattern, by, line)
            lines.append(line)
        return sorted(lines)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    def stop(self):
        self.end()
        self.out.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def client(self, version="VERSION\t1\t2", name="auth-client"):
        c = Lines(self.path(name))
        c.until("^DONE")
        c.send(version, f"CPID\t{os.getpid()}")
        return c

    def master(self, name="auth-master"):
        c = Lines(self.path(name))
        c.until("^SPID")
        c.send("VERSION\t1\t1")
        return c


def auth_many(server, logins, name="auth-client", params="\tno-penalty\trip=192.0.2.9\tlip=192.0.2.1\tlport=143\trport=4444"):
    """logins: (user, password[, authzid]); each on its own line, answers in order."""
    c = server.client(name=name)
    for number, login in enumerate(logins, 1):
        c.send(f"AUTH\t{number}\tPLAIN\tservice=imap{params}\tresp={plain(*login)}")
        c.until(rf"^(OK|FAIL|CONT)\t{number}\b")
    c.drain()
    return c.said


def lookups(server, *lines):
    c = server.master()
    for number, line in enumerate(lines, 1):
        command, rest = line.split("\t", 1)
        c.send(f"{command}\t{number}\t{rest}")
        c.until(rf"^(USER|PASS|NOTFOUND|FAIL|DONE)\t{number}\b")
    c.drain()
    # The order of userdb fields is the server's own business; their set is not.
    said = []
    for line in c.said:
        words = line.split("\t")
        said.append("\t".join(words[:3] + sorted(words[3:])) if words[0] in ("USER", "PASS") else line)
    return said


# ---- scenarios ----------------------------------------------------------------------------------------------------------

FIELDS = """
plain:{PLAIN}secret:1001:1001::/srv/plain::userdb_quota_rule=*:storage=10M userdb_mail=maildir:~/m
hash:{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=:1002:1002::/srv/hash::
old:5ebe2294ecd0e0f08eab7690d2a6ee69[34]:1003:1003::/srv/old::
locked:{PLAIN}secret:1001:1001::/srv/l::nologin=y reason=Account_locked
nets:{PLAIN}secret:1001:1001::/srv/n::allow_nets=10.0.0.0/8
netsok:{PLAIN}secret:1001:1001::/srv/n::allow_nets=192.0.2.0/24,10.0.0.0/8
failing:{PLAIN}secret:1001:1001::/srv/f::fail=yes
renamed:{PLAIN}secret:1001:1001::/srv/r::user=other
domain:{PLAIN}secret:1001:1001::/srv/r::domain=example.org
open::1001:1001::/srv/o::nopassword=y
openbad:{PLAIN}x:1001:1001::/srv/o::nopassword=y
nodelay:{PLAIN}secret:1001:1001::/srv/o::nodelay=y
proxy:{PLAIN}secret:1001:1001::/srv/p::proxy=y host=198.51.100.7 port=1143 destuser=d
maybe:{PLAIN}secret:1001:1001::/srv/p::proxy_maybe=y host=192.0.2.1 port=143
maybe2:{PLAIN}secret:1001:1001::/srv/p::proxy_maybe=y host=198.51.100.9
nohost:{PLAIN}secret:1001:1001::/srv/p::proxy=y
unknown:{FOO}secret:1001:1001::/srv/u::
broken:{SHA256}xx:1001:1001::/srv/u::
onlypass:{PLAIN}secret
vars:{PLAIN}secret:1001:1001::/srv/%u/%n::userdb_x=%u-%s-%r weird=a:b:c
protected:{PLAIN}secret:1001:1001::/srv/x::a=1 a:protected=2 b:protected=3 a2=4 a2:remove=
import:{PLAIN}secret:1001:1001::/srv/x::forward_foo=bar event_x=y
nopw::1001:1001::/srv/x::
empty:{PLAIN}:1001:1001::/srv/x::
oldmail:{PLAIN}secret:1001:1001::/srv/x:::maildir:/x/y:tail
badid:{PLAIN}secret:nosuchuser:1001::/srv/x::
zero:{PLAIN}secret:0:0::/srv/x::
plain:{PLAIN}second:1001:1001::/srv/plain::
#comment:{PLAIN}secret:1:1::/::
"""

FILE = """
passdb {{
  driver = passwd-file
  args = {dir}/{name}
{more}
}}
"""
USERDB = """
userdb {
  driver = passwd-file
  args = {dir}/users
}
"""


def passdb(name="users", *more):
    return FILE.replace("{name}", name).replace("{more}", "\n".join("  " + m for m in more)).replace("{{", "{").replace("}}", "}")


def run_fields(server):
    users = [line.split(":")[0] for line in FIELDS.split("\n") if line and line[0] != "#"]
    said = auth_many(server, [(u, "secret") for u in users])
    said += auth_many(server, [(u, "secret") for u in users if not u.startswith("nohost")], name="login/login")
    said += auth_many(server, [("plain", "bad"), ("nosuch", "x"), ("empty", ""), ("we ird", "x"), ("PLAIN", "secret"),
                               ("", "x"), ("plain", ""), ("plain", "a\tb"), ("plain", "secret", "hash"),
                               ("plain", "secret", "plain")])
    said += lookups(server, *[f"USER\t{u}\tservice=imap\trip=192.0.2.9" for u in users])
    said += lookups(server, *[f"PASS\t{u}\tservice=lmtp\trip=192.0.2.9" for u in users])
    # The real one lists every line, also a second one of the same user and those that it refuses itself.
    said += sorted({line for line in lookups(server, "LIST\tservice=imap", "LIST\tuser=p*\tservice=imap")
                    if not line.endswith(("\tbadid", "\tzero"))})
    return said


def run_protocol(server):
    """What the client protocol says to odd input."""
    said = []

    def talk(*lines, wait=None, version="VERSION\t1\t2"):
        c = server.client(version)
        c.send(*lines)
        if wait:
            c.until(wait)
        c.drain()
        said.extend(["--"] + c.said)

    talk("AUTH\t6\tPLAIN\tservice=smtp\tresp=!!!", wait="^FAIL\t6")
    talk(f"AUTH\t1\tLOGIN\tservice=x\tno-penalty\tnologin\tlip=1.2.3.4", wait="^CONT")
    talk("AUTH\t1\tLOGIN\tservice=x\tno-penalty\r", "CONT\t1\t" + b64("plain") + "\r", "CONT\t1\t" + b64("secret"), wait="^(OK|FAIL)\t1")
    talk("AUTH\t1\tLOGIN\tservice=x\tno-penalty\tresp=" + b64("plain"), "CONT\t1\t" + b64("secret"), wait="^(OK|FAIL)\t1")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty", "CONT\t1\t" + plain("plain", "secret"), wait="^(OK|FAIL)\t1")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp=", wait="^(CONT|FAIL)\t1", version="VERSION\t1\t0")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp=", wait="^(CONT|FAIL)\t1")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp==", wait="^(CONT|FAIL)\t1")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp=" + b64("a\0b"), wait="^(CONT|FAIL)\t1")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp=" + b64("a\0b\0c\0d"), wait="^(CONT|FAIL)\t1")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty", "CONT\t1\t!", wait="^FAIL")
    talk("CONT\t9\t" + b64("x"), wait="^FAIL")
    talk("AUTH\t1\tPLAIN\tno-penalty\tresp=" + plain("plain", "secret"))
    talk("AUTH\t1\tPLAIN\tservice=x\tresp=" + plain("plain", "secret") + "\tno-penalty")
    talk("AUTH\t1\tFOO\tservice=x")
    talk("FOO\t1")
    talk("AUTH\tx\tPLAIN\tservice=x")
    talk("CANCEL\t77", "AUTH\t1\tPLAIN\tservice=x\tno-penalty", "CANCEL\t1", "AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp=" + plain("plain", "secret"), wait="^OK")
    talk("AUTH\t1\tPLAIN\tservice=x\tno-penalty", "AUTH\t1\tPLAIN\tservice=x\tno-penalty")
    talk("AUTH\t1\tPLAIN\tservice=x\t" + "x" * 17000)
    for version in ("VERSION\t2\t0", "HELLO", "VERSION\t1"):
        c = Lines(server.path("auth-client"))
        c.until("^DONE")
        c.send(version)
        c.drain()
        said.extend(["--"] + c.said)
    c = Lines(server.path("auth-client"))
    c.until("^DONE")
    c.send("VERSION\t1\t2", "CPID\t0")
    c.drain()
    said.extend(["--"] + c.said)
    first, second = Lines(server.path("login/login")), Lines(server.path("login/login"))
    for c in (first, second):
        c.until("^DONE")
        c.send("VERSION\t1\t2", "CPID\t4242", "AUTH\t1\tPLAIN\tservice=x\tno-penalty\tresp=" + plain("plain", "secret"))
        if c == first:
            c.until("^OK")
    second.drain()
    first.drain()
    said.extend(["--"] + first.said + second.said)
    for lines in (["FOO\t1"], ["USER\t1\tplain"], ["USER\tx\tplain\tservice=x"], ["REQUEST\t1\t2\t3\t" + "0" * 32],
                  ["REQUEST\t1\t2\t3\tzz"], ["CACHE-FLUSH\t4"], ["USER\t1\t" + "x" * 1100 + "\tservice=x"]):
        c = server.master()
        c.send(*lines)
        c.drain()
        said.extend(["--"] + c.said)
    return said


def pick_up(server, user, password, authzid="", again=True):
    login = Lines(server.path("login/login"))
    cookie = login.until("^COOKIE").split("\t")[1]
    login.until("^DONE")
    cpid = str(os.getpid() + 100000)
    login.send("VERSION\t1\t2", "CPID\t" + cpid,
               f"AUTH\t7\tPLAIN\tservice=imap\tno-penalty\tsession=S1\tresp={plain(user, password, authzid)}")
    login.until("^(OK|FAIL)")
    m = server.master()
    pid = os.getpid()
    m.send(f"REQUEST\t1\t{cpid}\t7\t{'0' * 32}\tsession_pid={pid}\trequest_auth_token")
    m.until("^(USER|NOTFOUND|FAIL)")
    m.send(f"REQUEST\t2\t{cpid}\t7\t{cookie}\tsession_pid={pid}\trequest_auth_token")
    m.until("^(USER|NOTFOUND|FAIL)")
    m.send(f"REQUEST\t3\t{cpid}\t7\t{cookie}\tsession_pid={pid}")
    m.until("^(USER|NOTFOUND|FAIL)")
    m.drain()
    login.drain()
    return login.said + [re.sub("auth_token=[0-9a-f]{40}", "auth_token=?", line) for line in m.said]


MASTERS = "boss:{PLAIN}m\nlost:{PLAIN}m\n"


def run_master(server):
    said = pick_up(server, "plain", "secret") + pick_up(server, "plain*boss", "m") + pick_up(server, "boss", "m", "plain")
    said += pick_up(server, "renamed", "secret") + pick_up(server, "onlypass", "secret")
    said += auth_many(server, [("nosuch*boss", "m"), ("plain*boss", "bad"), ("*boss", "m"), ("plain*", "m"), ("plain*plain", "secret"),
                               ("locked*boss", "m"), ("plain*nomaster", "m")], name="login/login")
    return said


RULES = [
    ("", ""), ("result_failure = return", ""), ("result_failure = return-fail", ""), ("result_failure = return-ok", ""),
    ("result_success = continue", ""), ("result_success = continue-ok", ""), ("result_success = continue-fail", ""),
    ("result_success = return-fail", ""), ("result_success = return", ""), ("result_failure = continue-ok", ""),
    ("result_failure = continue-fail", ""), ("pass = yes", ""), ("deny = yes", ""), ("mechanisms = login", ""),
    ("mechanisms = plain none", ""), ("username_filter = a*", ""), ("username_filter = !a*", ""), ("", "skip = authenticated"),
    ("result_success = continue", "skip = authenticated"), ("result_success = continue-ok", "skip = unauthenticated"),
    ("default_fields = a=1 b=%u", "override_fields = a=2 c=%u"), ("override_fields = user=zed", ""),
    ("override_fields = noauthenticate=y", ""), ("result_success = continue-ok", "result_failure = return-fail"),
    ("result_success = continue-ok", "result_success = return-fail"),
]
ONE = "anna:{PLAIN}one::::::x=1\nboth:{PLAIN}one::::::x=1 y=1\nwrong:{FOO}x\n"
TWO = "bert:{PLAIN}two::::::x=2\nboth:{PLAIN}two::::::x=2 z=2\nwrong:{PLAIN}two\n"


def run_rules(server):
    logins = [("anna", "one"), ("anna", "two"), ("bert", "two"), ("bert", "one"), ("both", "one"), ("both", "two"),
              ("both", "three"), ("none", "one"), ("wrong", "two"), ("wrong", "x")]
    said = auth_many(server, logins)
    return said + lookups(server, *[f"PASS\t{u}\tservice=imap" for u in ("anna", "bert", "both", "none")])


SQL = """
driver = sqlite
connect = {dir}/db.sqlite
default_pass_scheme = PLAIN
password_query = SELECT password, nodelay, home AS userdb_home FROM users WHERE userid = '%n' AND (domain = '%d' OR '%d' = '')
user_query = SELECT home, uid, gid, NULL AS mail FROM users WHERE userid = '%n'
iterate_query = SELECT userid AS user FROM users
"""
DB = """
CREATE TABLE users (userid TEXT, domain TEXT, password TEXT, nodelay TEXT, home TEXT, uid INT, gid INT);
INSERT INTO users VALUES ('sq', 'd', 'secret', 'yes', '/srv/sq', 1001, 1001);
INSERT INTO users VALUES ('hash', 'd', '{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b', NULL, '/srv/h', 1002, 1002);
INSERT INTO users VALUES ('null', 'd', NULL, NULL, NULL, 1, 1);
INSERT INTO users VALUES ('twice', 'd', 'secret', NULL, '/a', 1, 1);
INSERT INTO users VALUES ('twice', 'd', 'secret', NULL, '/b', 1, 1);
"""
SQL_CONF = """
passdb {
  driver = sql
  args = {dir}/sql.conf
}
userdb {
  driver = sql
  args = {dir}/sql.conf
}
"""


def run_sql(server):
    users = ["sq@d", "hash@d", "null@d", "twice@d", "none@d", "sq", "sq@other"]
    said = auth_many(server, [(u, "secret") for u in users] + [("sq@d", "bad")])
    said += lookups(server, *[f"USER\t{u}\tservice=imap" for u in users])
    said += lookups(server, *[f"PASS\t{u}\tservice=imap" for u in users])
    return said + lookups(server, "LIST\tservice=imap")


NAMES = """
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@+
auth_default_realm = example.org
auth_username_translation = +-
auth_username_format = %Ln@%d
"""


def run_names(server):
    users = ["Plain", "plain@example.org", "PLAIN@EXAMPLE.ORG", "a+b", "a+b@c", "x y", "plain@a@b", "@d", "u@"]
    said = auth_many(server, [(u, "pw") for u in users], params="\tno-penalty")
    return said + lookups(server, *[f"USER\t{u}\tservice=imap" for u in users if " " not in u])


STATIC = """
passdb {
  driver = static
  args = password=pw nodelay=y proxy=y host=%d
}
userdb {
  driver = static
  args = uid=1001 gid=1001 home=/srv/%d/%n mail=maildir:~/%u
}
"""

DOMAINS = """
passdb {
  driver = passwd-file
  args = username_format=%n {dir}/pw/%d/users
}
userdb {
  driver = passwd-file
  args = username_format=%n {dir}/pw/%d/users
}
auth_username_chars =
"""


def run_domains(server):
    users = ["u@dom", "u@../pwother", "u@..", "u@dom/../dom", "u@./dom", "u@a/..", "u@none", "u", "u@../pw/dom"]
    said = auth_many(server, [(u, "secret") for u in users], params="\tno-penalty")
    return said + lookups(server, *[f"USER\t{u}\tservice=imap" for u in users])


SYSTEM = """
passdb {
  driver = %s
}
userdb {
  driver = passwd
}
"""


def run_system(server):
    """su asks nobody for a password when root asks (pam_rootok): the one success that needs no account of our own."""
    said = auth_many(server, [("mail", "x"), ("nosuchuser", "x"), ("root", "y"), ("mail", "")])
    return said + lookups(server, "USER\tmail\tservice=imap", "USER\tnosuchuser\tservice=imap", "PASS\tmail\tservice=imap",
                          "LIST\tservice=imap")


SCENARIOS = {
    "system": [(SYSTEM % driver, {}, run_system) for driver in
               ("pam\n  args = su", "pam\n  args = nosuchservice", "passwd", "shadow",
                "pam\n  args = failure_show_msg=yes max_requests=1 other")],
    "fields": [(passdb() + USERDB, {"users": FIELDS}, run_fields)],
    "protocol": [(passdb() + USERDB, {"users": FIELDS}, run_protocol)],
    "master": [("auth_master_user_separator = *\n" + passdb("masters", "master = yes", extra) + passdb() + USERDB,
                {"users": FIELDS, "masters": MASTERS}, run_master)
               for extra in ("pass = yes", "result_success = return-ok")],
    "rules": [(passdb("one", a) + passdb("two", b) + USERDB.replace("users", "one"), {"one": ONE, "two": TWO}, run_rules)
              for a, b in RULES],
    "passwords": [(f"auth_verbose_passwords = {how}\n" + passdb("one") + passdb("two") + USERDB.replace("users", "one"),
                   {"one": ONE, "two": TWO}, run_rules) for how in ("plain", "sha1:6", "plain:2")],
    "sql": [(SQL_CONF, {"sql.conf": SQL, "db.sqlite": DB}, run_sql)],
    "names": [(NAMES + STATIC.replace(" proxy=y host=%d", ""), {}, run_names)],
    "static": [(STATIC, {}, run_names)],
    "domains": [(DOMAINS, {"pw/dom/users": "u:{PLAIN}secret:1:1::/srv/u::\n", "pwother/users": "u:{PLAIN}secret:2:2::/x::\n"},
                 run_domains)],
}


def compare(ours, name, number, conf, files, run):
    """The differences of one configuration, as text."""
    servers = []
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for started in [pool.submit(Server, program, conf, files) for program in ("dovecot", ours)]:
                servers.append(started.result())
            said = [[line.replace(s.dir, "DIR") for line in answers]
                    for s, answers in zip(servers, pool.map(run, servers))]
        said = [answers + ["---- log"] + s.log_lines() for s, answers in zip(servers, said)]
        if said[0] == said[1]:
            return "" if len(said[0]) >= 3 else f"{name} {number}: nothing was compared"
        return "\n".join([f"==== {name} {number}: - is Dovecot, + is ours\n{conf}",
                          "\n".join(difflib.unified_diff(said[0], said[1], lineterm="", n=1)).replace("\t", "⇥"),
                          "-- our log:\n" + servers[1].log()])
    finally:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Server.stop, servers))


def main():
    ours, name = sys.argv[1], sys.argv[2]
    only = int(sys.argv[3]) if len(sys.argv) > 3 else None
    # Most of the time both servers let failed logins wait: several configurations at a time.
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        differences = list(pool.map(lambda one: compare(ours, name, one[0], *one[1]),
                                    [one for one in enumerate(SCENARIOS[name]) if only in (None, one[0])]))
    print("\n".join(filter(None, differences)), end="")
    return 1 if any(differences) else 0


if __name__ == "__main__":
    sys.exit(main())

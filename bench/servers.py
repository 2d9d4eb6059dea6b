"""Servers to measure: started on free loopback ports in folders of their own, both from one configuration."""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

COMMON = """base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{dir}/cert.pem
ssl_key = <{dir}/key.pem
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = {format}:~/mail
mail_max_userip_connections = 20000
passdb {{
  driver = static
  args = password=pass
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={dir}/home/%n
}}
namespace inbox {{
  inbox = yes
}}
service anvil {{
  client_limit = 30000
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
{login}}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
{delivery}}}
service imap {{
  process_limit = 12000
{session}}}
service auth {{
  client_limit = 30000
}}
default_vsz_limit = 0
"""

# default: what a plain installation does. tuned: what Dovecot's own guidance gives a busy site: login processes that
# serve many clients, reused and spare mail processes, list index, an authentication cache. mail_fsync stays as it is:
# the same durability. Ours has of each what says how things are done ("extra"), but no process counts.
NO_COUNTS = {"login": "", "session": "", "delivery": "", "extra": ""}
PROFILES = {
    "default": dict(NO_COUNTS, login="  process_limit = 12000\n"),
    "tuned": {"login": "  service_count = 0\n  client_limit = 12000\n  process_min_avail = 2\n",
              "session": "  service_count = 1000\n  process_min_avail = 4\n", "delivery": "  process_min_avail = 4\n",
              "extra": "auth_cache_size = 64 M\nmailbox_list_index = yes\nmaildir_very_dirty_syncs = yes\n"
                       "mail_prefetch_count = 8\n"},
}
PROFILES.update({"ours-" + name: dict(NO_COUNTS, extra=profile["extra"]) for name, profile in list(PROFILES.items())})


def mail_owner(name):
    for one in [name] if name else ["vmail", "mail", "nobody"]:
        try:
            return pwd.getpwnam(one)
        except KeyError:
            pass
    raise SystemExit("no such user: %s" % name)


def free_ports(count):
    socks = [socket.socket() for _ in range(count)]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


class Server:
    """One running server. `program` is anything that reads a Dovecot configuration with -F -c FILE."""
    host = "127.0.0.1"
    password = "pass"

    def __init__(self, name, program, profile, folder, owner=None, format="maildir"):
        self.name, self.dir, self.format = name, os.path.join(os.path.abspath(folder), name), format
        user = mail_owner(owner)
        shutil.rmtree(self.dir, ignore_errors=True)
        for sub in ("", "/run", "/state", "/home"):
            os.makedirs(self.dir + sub)
            os.chmod(self.dir + sub, 0o755)
        os.chown(self.dir + "/home", user.pw_uid, user.pw_gid)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", "/CN=localhost", "-keyout", self.dir + "/key.pem", "-out",
                        self.dir + "/cert.pem"], stderr=subprocess.DEVNULL, check=True)
        self.imap, self.imaps, self.lmtp = free_ports(3)
        part = PROFILES[profile]
        with open(self.dir + "/dovecot.conf", "w") as conf:
            conf.write(COMMON.format(dir=self.dir, uid=user.pw_uid, gid=user.pw_gid, imap=self.imap, imaps=self.imaps,
                                     lmtp=self.lmtp, login=part["login"], session=part["session"],
                                     delivery=part["delivery"], format=format) + part["extra"])
        with open(self.dir + "/out", "wb") as out:
            self.process = subprocess.Popen([program, "-F", "-c", self.dir + "/dovecot.conf"], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.wait_until_ready()

    def wait_until_ready(self):
        for _ in range(300):
            if self.process.poll() is not None:
                raise SystemExit("%s ended at once: %s" % (self.name, self.log_tail()))
            try:
                with socket.create_connection((self.host, self.imap), timeout=5) as sock:
                    if sock.recv(100).startswith(b"* "):
                        return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise SystemExit("%s: no greeting; %s" % (self.name, self.log_tail()))

    def log_tail(self):
        text = ""
        for name in ("out", "log"):
            try:
                with open(os.path.join(self.dir, name), errors="replace") as src:
                    text += src.read()[-1500:]
            except OSError:
                pass
        return text

    def drop_indexes(self, user):
        """Removes the user's index files, not the mail. Of dbox, whose indexes are the truth, only what is cached."""
        prefixes = ("dovecot.index", "dovecot.list.index") if self.format == "maildir" else ("dovecot.index.cache",)
        for folder, _, names in os.walk(os.path.join(self.dir, "home", user, "mail")):
            for name in names:
                if name.startswith(prefixes):
                    os.unlink(os.path.join(folder, name))

    def pids(self):
        """The master and its living descendants."""
        children = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % name) as src:
                    children.setdefault(int(src.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
            except OSError:
                continue
        found, todo = [], [self.pid]
        while todo:
            one = todo.pop()
            found.append(one)
            todo += children.get(one, [])
        return found

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

#!/usr/bin/env python3
"""One script, played to the real server and to ours, each with a store of its own: the answers are the same.

    same_imap.py OURS_BIN FOLDER [--show] SCRIPT...

OURS_BIN is the folder of our `dovecot` and `doveadm`. A script is lines of configuration, a line `---`, then steps:

    @name              go on as this user (a new connection)
    @@name             the same, if it has a connection already it is kept
    ! command          a shell command in the folder that holds the homes; its output is compared too
    $ arguments        the server's own doveadm; lines are compared as a set
    literal:TEXT       sent after the next command's `+`
    anything else      an IMAP command without its tag

A line of configuration `#each @NAME@ one | two | ...` plays the script once for each of the values; `#marks` compares \\Marked and
\\UnMarked too. Times, UIDVALIDITYs and pids are masked; untagged answers of a command are compared as a set. Exit 1 with a diff when something
differs. In the configuration @DIR@ is the folder of the server, homes are @DIR@/home/NAME."""
import difflib, os, pwd, re, shutil, signal, socket, subprocess, sys, time

POLL = 0.05  # a port that nobody listens to yet has no event
MAIL = "mail" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
COMMON = """base_dir = @DIR@/run
state_dir = @DIR@/state
log_path = @DIR@/log
protocols = imap
listen = @IP@
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
default_internal_user = @INTERNAL@
default_login_user = @LOGIN@
passdb {
  driver = static
  args = password=pass
}
userdb {
  driver = static
  args = uid=@UID@ gid=@GID@ home=@DIR@/home/%n
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  unix_listener auth-userdb {
    mode = 0666
  }
}
service imap-login {
  inet_listener imap {
    port = 10143
  }
  inet_listener imaps {
    port = 0
  }
}
"""


def masked(text, folder):
    text = text.replace(folder, "@DIR@")
    text = re.sub(r" \(\d+\.\d+ \+ [^)]*secs\)", "", text)
    text = re.sub(r"UIDVALIDITY \d+", "UIDVALIDITY N", text)
    text = re.sub(r"\[(COPYUID|APPENDUID) \d+", r"[\1 N", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "GUID", text)
    text = re.sub(r"HIGHESTMODSEQ \d+", "HIGHESTMODSEQ N", text)
    return re.sub(r"\[20\d\d-[0-9: -]*\]", "[STAMP]", text)


class Connection:
    def __init__(self, ip, user, marks):
        self.marks = marks
        self.sock = socket.create_connection((ip, 10143), timeout=30)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        self.count = 0
        self.literal = None
        self.command("LOGIN %s pass" % user)

    def command(self, text):
        self.count += 1
        tag = "t%d" % self.count
        untagged = []
        try:
            self.sock.sendall((tag + " " + text + "\r\n").encode())
        except OSError:
            return ["<EOF>"]
        while True:
            try:
                line = self.file.readline()
            except OSError:
                line = b""
            if not line:
                return sorted(untagged) + ["<EOF>"]
            while (found := re.search(rb"\{(\d+)\}\r\n$", line)):
                line += self.file.read(int(found[1])) + self.file.readline()
            shown = line.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
            if shown.startswith("+"):
                self.sock.sendall((self.literal or "").replace("\\n", "\r\n").encode() + b"\r\n")
            elif shown.startswith(tag + " "):
                # \\Marked depends on when rows of the list index were written
                untagged = untagged if self.marks else [re.sub(r"\( ", "(", re.sub(r" ?\\(Un)?Marked\b", "", line)) for line in untagged]
                return sorted(untagged) + [shown[len(tag) + 1:]]
            else:
                untagged.append(shown)


def play(name, programs, folder, conf, steps):
    shutil.rmtree(folder, ignore_errors=True)
    for sub in ("home", "run", "state"):
        os.makedirs(os.path.join(folder, sub))
    who = pwd.getpwnam(MAIL)
    os.chmod(folder, 0o755)
    os.chown(os.path.join(folder, "home"), who.pw_uid, who.pw_gid)
    pid = os.getpid()
    ip = "127.%d.%d.%d" % ((201 if name == "ours" else 150) + (pid >> 16) % 40, (pid >> 8) & 255, pid & 255 or 1)
    root = os.getuid() == 0
    marks = "\n#marks\n" in "\n" + conf
    text = COMMON + conf
    for key, value in (("DIR", folder), ("IP", ip), ("UID", str(who.pw_uid)), ("GID", str(who.pw_gid)),
                       ("INTERNAL", "dovecot" if root else MAIL), ("LOGIN", "dovenull" if root else MAIL)):
        text = text.replace("@%s@" % key, value)
    path = os.path.join(folder, "dovecot.conf")
    with open(path, "w") as file:
        file.write(text)
    server = subprocess.Popen([programs + "dovecot", "-F", "-c", path], stdout=subprocess.DEVNULL, stderr=open(os.path.join(folder, "out"), "w"))
    said = []
    connections, now = {}, None
    try:
        for _ in range(300):
            try:
                socket.create_connection((ip, 10143), timeout=5).close()
                break
            except OSError:
                if server.poll() is not None:
                    break
                time.sleep(POLL)
        literal = None
        for step in steps:
            said.append("> " + step)
            if step.startswith("@@"):
                if step[2:] not in connections:
                    connections[step[2:]] = Connection(ip, step[2:], marks)
                now = connections[step[2:]]
            elif step.startswith("@"):
                now = connections[step[1:]] = Connection(ip, step[1:], marks)
            elif step.startswith("literal:"):
                literal = step[8:]
            elif step[0] in "!$":
                command = step[1:].strip()
                if step[0] == "$":
                    command = "%sdoveadm -c %s %s" % (programs, path, command)
                if root and step[0] == "!":
                    command = "exec setpriv --reuid=%s --regid=%s --clear-groups sh -c '%s'" % (who.pw_uid, who.pw_gid, command.replace("'", "'\\''"))
                done = subprocess.run(command, shell=True, cwd=os.path.join(folder, "home"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                lines = masked(done.stdout.decode("utf-8", "replace"), folder).splitlines()
                said += sorted(lines) if step[0] == "$" else lines
            else:
                if now is None:
                    now = connections["u"] = Connection(ip, "u", marks)
                now.literal = literal
                for line in now.command(step):
                    said += masked(line, folder).split("\n")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    return said


def variants(text):
    """The script with each of the values that an #each names."""
    found = re.search(r"^#each (@\w+@) (.*)$", text, re.M)
    if not found:
        return [text]
    rest = text[:found.start()] + text[found.end():]
    return [made for value in found[2].split(" | ") for made in variants(rest.replace(found[1], value.strip()))]


def main(arguments):
    show = "--show" in arguments
    if show:
        arguments.remove("--show")
    ours, folder = os.path.join(os.path.abspath(arguments[0]), ""), os.path.abspath(arguments[1])
    bad = 0
    for script in arguments[2:]:
        bad += sum(compare(script, text, ours, folder, show) for text in variants(open(script).read()))
    return 1 if bad else 0


def compare(script, text, ours, folder, show):
    conf, _, rest = text.partition("\n---\n")
    steps = [line for line in rest.split("\n") if line.strip() and not line.startswith("#")]
    theirs = play("theirs", "", os.path.join(folder, "theirs"), conf + "\n", steps)
    mine = play("ours", ours, os.path.join(folder, "ours"), conf + "\n", steps)
    if show:
        print("\n".join(theirs))
    diff = list(difflib.unified_diff(theirs, mine, "dovecot", "ours", lineterm="", n=3))
    if diff:
        print("different: %s\n%s" % (script, conf))
        print("\n".join(diff))
        for log in ("theirs/log", "ours/log", "ours/out"):
            path = os.path.join(folder, log)
            lines = open(path).read().splitlines() if os.path.exists(path) else []
            print("\n".join("%s: %s" % (log, line) for line in lines[-30:] if "Info: " not in line))
    return 1 if diff else 0


sys.exit(main(sys.argv[1:]))

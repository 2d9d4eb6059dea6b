"""The real imap-login and imap talk to our auth: the real server has no auth sockets of its own, ours makes them in its
folder. Usage: stock_login.py OURS-DOVECOT"""
import imaplib
import os
import pwd
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compare

REAL = """
protocols = imap
listen = {ip}
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
service imap-login {{
  inet_listener imap {{
    port = 10143
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service auth {{
  unix_listener login/login {{
    mode = 0
  }}
  unix_listener auth-master {{
    mode = 0
  }}
}}
passdb {{
  driver = static
  args = password=nobody-may-log-in-here
}}
"""
OURS = """
service auth {{
  unix_listener {real}/run/login/login {{
    mode = 0666
  }}
  unix_listener {real}/run/auth-master {{
    mode = 0600
  }}
}}
passdb {{
  driver = passwd-file
  args = {{dir}}/users
}}
userdb {{
  driver = passwd-file
  args = {{dir}}/users
}}
"""


def login(ip, how):
    client = imaplib.IMAP4(ip, 10143)
    try:
        how(client)
        return client
    except imaplib.IMAP4.error as e:
        client.shutdown()
        return str(e)


def main():
    number = os.getpid()
    ip = f"127.{number // 65536 % 100 + 1}.{number // 256 % 256}.{number % 256}"
    user = pwd.getpwnam("mail")
    real = compare.Server("dovecot", REAL.format(ip=ip), {}, ready="login/imap")
    home = f"{real.dir}/home"
    os.mkdir(home)
    os.chown(home, user.pw_uid, user.pw_gid)
    ours = None
    try:
        users = (f"plain:{{PLAIN}}secret:{user.pw_uid}:{user.pw_gid}::{home}::userdb_imap_id_send=name x\n"
                 "locked:{PLAIN}secret:1:1::/x::nologin=y reason=Account_locked\nlost:{PLAIN}secret\n")
        ours = compare.Server(sys.argv[1], OURS.format(real=real.dir), {"users": users})
        client = login(ip, lambda c: c.login("plain", "secret"))
        assert not isinstance(client, str), client
        status, count = client.select("INBOX")
        assert (status, count) == ("OK", [b"0"]), (status, count)
        client.logout()
        client = login(ip, lambda c: c.authenticate("PLAIN", lambda _: b"\0plain\0secret"))
        assert not isinstance(client, str), client
        client.logout()
        answers = iter([b"plain", b"secret"])
        client = login(ip, lambda c: c.authenticate("LOGIN", lambda _: next(answers)))
        assert not isinstance(client, str), client
        client.logout()
        text = login(ip, lambda c: c.login("plain", "bad"))
        assert "[AUTHENTICATIONFAILED] Authentication failed." in text, text
        text = login(ip, lambda c: c.login("locked", "secret"))
        assert "[CONTACTADMIN] Account_locked" in text, text
        login(ip, lambda c: c.login("lost", "secret"))
        real.process.terminate()
        real.process.wait(20)
        log = real.log()
        assert len(re.findall(r"imap-login: Info: Login: user=<plain>, method=(PLAIN|LOGIN), rip=", log)) == 3, log
        assert "(auth failed, 1 attempts in " in log, log
        assert re.search("Internal login failure.*user=<lost>", log), log
        assert "Panic" not in log and "user=<lost>" not in ours.log(), log
        assert "passwd-file(lost," in ours.log() and "user not found from userdb" in ours.log(), ours.log()
    except AssertionError:
        print(real.log(), "\n-- ours:\n", ours.log() if ours else "")
        raise
    finally:
        if ours:
            ours.stop()
        real.stop()


main()

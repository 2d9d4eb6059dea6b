"""mail_log.py HOST IMAP_PORT LMTP_PORT: a session that does everything of which the mail_log plugin tells, and deliveries."""
import smtplib
import socket
import sys


def message(number):
    return (b"From: =?utf-8?q?J=C3=B6rg?= <a%d@x>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= %d\r\nMessage-ID: <id%d@x>\r\n\r\nbody\r\n"
            % (number, number, number))


ODD = (b"Subject: a\x01\xc2\x85b\xff c\xe2\x82\xac\r\nFrom: =?utf-8?q?" + b"=C3=B6" * 45 + b"?= <x@y>\r\n y\r\n"
       b"Message-ID: <1>\r\n <2>\r\n\r\nx\r\n")
LONG = b"Subject: " + b"long " * 40 + b"\r\nMessage-Id:   <a@b> trailing\r\n\r\nx\r\n"
BARE = b"Subject: no id\r\n\r\nx\r\n"

SESSION = [
    (b"CREATE Sub", None), (b"APPEND INBOX", message(1)), (b"APPEND INBOX (\\Seen kw1)", message(2)), (b"APPEND INBOX", BARE),
    (b"APPEND INBOX", LONG), (b"APPEND INBOX", ODD), (b"APPEND INBOX (\\Deleted)", message(6)), (b"SELECT INBOX", None),
    (b"STORE 1 +FLAGS (\\Seen)", None), (b"STORE 1 +FLAGS (\\Seen)", None), (b"STORE 1:2 +FLAGS (\\Deleted)", None),
    (b"STORE 1 -FLAGS (\\Deleted)", None), (b"STORE 1 +FLAGS (\\Flagged foo \\Deleted)", None), (b"STORE 1 FLAGS ()", None),
    (b"STORE 1:3 +FLAGS (kw1 \\Answered)", None), (b"STORE 2:3 FLAGS (\\Deleted)", None), (b"STORE 1,3 FLAGS (\\Draft kw2)", None),
    (b"STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Deleted)", None), (b"COPY 1:2 Sub", None), (b"MOVE 4 Sub", None), (b"EXPUNGE", None),
    (b"FETCH 1:* BODY[]", None), (b"COPY 1 Sub", None), (b"COPY 1 Nope", None), (b"EXAMINE Sub", None), (b"FETCH 1:* BODY[]", None),
    (b"RENAME Sub Sub2", None), (b"SUBSCRIBE Sub2", None), (b"DELETE Sub2", None), (b"CREATE x.y.z", None), (b"RENAME x q", None),
    (b"DELETE nope", None), (b"CREATE q.y.z", None), (b"SELECT Auto", None), (b"APPEND Old", message(1)), (b"APPEND Old", message(2)),
    (b"SELECT INBOX", None), (b"STORE 1:* +FLAGS (\\Deleted)", None), (b"CLOSE", None), (b"APPEND INBOX (\\Flagged)", message(9)),
    (b"SELECT INBOX", None), (b"MOVE 1 Auto", None), (b"SELECT Auto", None), (b"COPY 1 Auto", None)]


def main():
    host, imap, lmtp = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sock = socket.create_connection((host, imap), timeout=60)
    lines = sock.makefile("rb")
    lines.readline()

    def command(text, literal=None):
        sock.sendall(b"a " + text + (b"" if literal is None else b" {%d+}\r\n" % len(literal) + literal) + b"\r\n")
        for line in iter(lines.readline, b""):
            if line.startswith(b"a "):
                print(text.decode("latin-1")[:60], line.split()[1].decode())
                return

    command(b"LOGIN u pass")
    for text, literal in SESSION:
        command(text, literal)
    command(b"LOGOUT")
    for user, mail in (("u", message(20)), ("v", message(21)), ("v", BARE)):
        with smtplib.LMTP(host, lmtp) as door:
            door.sendmail("s@example.org", [user], mail)


main()

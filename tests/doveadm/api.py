"""api.py IP PORT [better]: requests to doveadm's HTTP API, and what comes back; `better`: those at which the real server fails."""
import http.client
import json
import re
import sys

ip, port = sys.argv[1], int(sys.argv[2])
KEY = {"Authorization": "X-Dovecot-API a2V5"}
BASIC = {"Authorization": "Basic ZG92ZWFkbTpzZWNyZXQ="}


def ask(method, path, headers, body=None, brief=False):
    c = http.client.HTTPConnection(ip, port, timeout=30)
    c.request(method, path, body=body, headers=headers)
    r = c.getresponse()
    text = re.sub("[0-9a-f]{32}", "GUID", r.read().decode())
    if brief:
        print(r.status, text.strip())
        return
    print(method, path, body)
    print(r.status, r.reason, sorted(h for h in r.getheaders() if h[0] not in ("Date", "Content-Length")))
    print(text)


def post(body, **options):
    ask("POST", "/doveadm/v1", KEY, body, **options)


if sys.argv[3:] == ["better"]:
    post('[["search",{"user":"one","query":["nosuch"]},"a"],["search",{"user":"one"},"b"],["search",{"query":["all"]},"c"]]', brief=True)
    post('[["purge",{"user":"one"},"a"],["nosuch",{},"b"],["purge",{"nosuch":1},"c"],["purge",{"user":"one"},"d"]]', brief=True)
    ask("POST", "/doveadm/v1", {**KEY, "Content-Length": "99999999999"}, "[]", brief=True)
    sys.exit()
for path in "/", "/nosuch", "/doveadm/v1":
    ask("GET", path, {})
ask("GET", "/", KEY)
ask("PUT", "/doveadm/v1", KEY, "[]")
ask("OPTIONS", "/x", {})
for headers in BASIC, {"Authorization": "Basic ZG92ZWFkbTp4"}, {"Authorization": "X-Dovecot-API eA=="}, {"Authorization": "Foo a2V5"}:
    ask("POST", "/doveadm/v1", headers, "[]")
COMMANDS = [
    ["user", {"userMask": ["one"]}], ["user", {"userMask": "*"}], ["user", {"userMask": "one", "field": "uid"}],
    ["user", {"userMask": "nobody"}], ["user", {}], ["search", {"user": "nobody", "query": ["all"]}],
    ["save", {"user": "one", "file": "Subject: caf\u00e9\n\nbody\n"}], ["search", {"user": "one", "query": ["subject", "caf"]}],
    ["fetch", {"user": "one", "field": ["uid", "text", "flags"], "query": ["all"]}],
    ["mailboxStatus", {"user": "one", "field": ["messages", "recent"], "mailboxMask": ["*"]}],
    ["flagsAdd", {"user": "one", "flag": ["\\Seen", "x"], "query": ["all"]}],
    ["fetch", {"user": "one", "field": ["flags"], "query": "all"}],
    ["mailbox list", {"user": "one", "mailbox-mask": ["INBOX"]}], ["mailboxCreate", {"user": "one", "mailbox": ["INBOX"]}],
    ["authCacheFlush", {"user": ["one"]}],
]
post(json.dumps([command + ['tag "%d"' % n] for n, command in enumerate(COMMANDS)]))
for body in ("{}", "[x", "[[]]", "[3]", "[] []", '[["search","x","t"]]', '[["search",{"user":"one","query":["all"]}]]',
             '[["user",{"userMask":"*"},"t",1]]', '[["nosuch",{},"t"]]', '[["pw",{},"t"]]',
             '[["search",{"user":"one","nosuch":1,"query":["all"]},"t"]]', '[["search",{"allUsers":true,"query":["all"]},"t"]]'):
    post(body)

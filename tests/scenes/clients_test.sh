# Programs that people use, as their packages come: each fetches or synchronises generated mail, changes it on its side and on
# the server's, and at the end both sides hold the same messages with the same flags; a further run changes nothing.

. "$TOP_SRC/tests/lib/scene.sh"

# sums COMMAND ...: see clientsums.py.
sums()
{
    python3 -B "$TOP_SRC/tests/lib/clientsums.py" "$@" || { cat "$SCENE/log"; atf_fail "clientsums.py $*"; }
}

# same ONE OTHER WHAT: two files with sums are equal, and there are some.
same()
{
    [ -s "$1" ] || atf_fail "$3: nothing in $1"
    diff -u "$1" "$2" || { tail -40 "$SCENE/log"; atf_fail "$3"; }
}

# well COMMAND ...: it must end well; what it says is shown if it does not.
well()
{
    "$@" >said 2>&1 || { echo "$? from $*"; cat said; tail -40 "$SCENE/log"; atf_fail "$*"; }
}

run()
{
    well timeout 100 "$@"
}

# synchronises USER PATH PROGRAM ...: the round that is the same for all that keep a tree of Maildirs in step with the server.
synchronises()
{
    user=$1 path=$2
    shift 2
    sums fill "$IP" $IMAP_PORT "$user"
    run "$@"
    sums imap "$IP" $IMAP_PORT "$user" >there
    sums maildir "$path" >here
    same there here "$user: the first run"
    sums change-imap "$IP" $IMAP_PORT "$user"
    run "$@"
    sums imap "$IP" $IMAP_PORT "$user" >changed
    ! cmp -s there changed || atf_fail "nothing was changed on the server"
    sums maildir "$path" >here
    same changed here "$user: changes of the server"
    sums change-maildir "$path"
    sums maildir "$path" >here
    run "$@"
    sums imap "$IP" $IMAP_PORT "$user" >there
    ! cmp -s changed there || atf_fail "nothing was changed on the client's side"
    same here there "$user: changes of the client"
    sums maildir "$path" >here
    same there here "$user: changes of the client, on its own side"
    sums state "$IP" $IMAP_PORT "$user" >before
    run "$@"
    sums state "$IP" $IMAP_PORT "$user" >after
    same before after "$user: a run without changes changes the server"
    sums maildir "$path" >here
    same there here "$user: a run without changes changes the client"
}

mbsync_runs()
{
    mkdir -p "$HOME/mbsync"
    cat >"$HOME/mbsyncrc" <<EOT
IMAPStore far
Host $IP
Port $IMAP_PORT
User mbsync
Pass pass
SSLType None
AuthMechs LOGIN

MaildirStore near
Path $HOME/mbsync/
Inbox $HOME/mbsync/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
EOT
    synchronises mbsync "$HOME/mbsync" mbsync -c "$HOME/mbsyncrc" -a
}

offlineimap_runs()
{
    cat >"$HOME/offlineimaprc" <<EOT
[general]
accounts = a
metadata = $HOME/offlineimap.state
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = $HOME/offlineimap
sep = /
[Repository far]
type = IMAP
remotehost = $IP
remoteport = $IMAP_PORT
remoteuser = offlineimap
remotepass = pass
ssl = no
starttls = no
auth_mechanisms = LOGIN
EOT
    synchronises offlineimap "$HOME/offlineimap" offlineimap -o -u quiet -c "$HOME/offlineimaprc"
}

# Fetches and keeps, fetches and removes, then there is nothing to fetch (exit code 1).
fetchmail_runs()
{
    sums fill "$IP" $IMAP_PORT fetchmail
    sums bodies "$IP" $IMAP_PORT fetchmail >there
    mkdir "$HOME/fetchmail"
    cat >"$HOME/fetchmailrc" <<EOT
set invisible
poll "$IP" protocol imap service $IMAP_PORT auth password
    user "fetchmail" password "pass" sslproto "" fetchall no rewrite
    mda "cat >\`mktemp $HOME/fetchmail/XXXXXXXX\`"
EOT
    chmod 600 "$HOME/fetchmailrc"
    set -- fetchmail --nosyslog --pidfile "$HOME/fetchmail.pid" -i "$HOME/fetchids" -f "$HOME/fetchmailrc"
    run "$@" --keep
    sums files "$HOME/fetchmail" >here
    same there here "fetchmail --keep"
    sums imap "$IP" $IMAP_PORT fetchmail | grep -P '^INBOX\t' >flags
    [ "$(grep -c . flags) $(grep -cF '\Seen' flags)" = '24 24' ] || { cat flags; atf_fail "kept mails are not seen ones"; }
    rm "$HOME"/fetchmail/*
    run "$@"
    sums files "$HOME/fetchmail" >here
    same there here "fetchmail"
    sums bodies "$IP" $IMAP_PORT fetchmail >left
    [ ! -s left ] || atf_fail "fetchmail removed nothing"
    atf_check -s exit:1 -o ignore -e ignore timeout 100 "$@"
}

# Fetches and keeps, then only what is new, then removes.
getmail_runs()
{
    sums fill "$IP" $IMAP_PORT getmail
    sums bodies "$IP" $IMAP_PORT getmail >there
    mkdir -p "$HOME/getmail/cur" "$HOME/getmail/new" "$HOME/getmail/tmp"
    chown -R $MAIL_USER "$HOME/getmail"   # It delivers as nobody else, and never as root.
    cat >"$HOME/getmailrc" <<EOT
[retriever]
type = SimpleIMAPRetriever
server = $IP
port = $IMAP_PORT
username = getmail
password = pass
[destination]
type = Maildir
path = $HOME/getmail/
user = $MAIL_USER
[options]
read_all = false
delivered_to = false
received = false
EOT
    set -- python3 -B "$TOP_SRC/tests/lib/getmail.py" --getmaildir "$HOME" --rcfile "$HOME/getmailrc"
    run "$@"
    sums files "$HOME/getmail/new" >here
    same there here "getmail"
    rm "$HOME"/getmail/new/*
    sums change-imap "$IP" $IMAP_PORT getmail
    sums bodies "$IP" $IMAP_PORT getmail >changed
    run "$@"
    sums files "$HOME/getmail/new" >here
    comm -13 there changed >new
    same new here "getmail takes what is new alone"
    run "$@" --delete
    sums bodies "$IP" $IMAP_PORT getmail >left
    [ ! -s left ] || atf_fail "getmail removed nothing"
}

curl_runs()
{
    sums fill "$IP" $IMAP_PORT curl
    sums bodies "$IP" $IMAP_PORT curl >there
    url=imap://$IP:$IMAP_PORT
    mkdir "$HOME/curl"
    run curl -sS -u curl:pass "$url/INBOX;UID=[1-24]" -o "$HOME/curl/#1"
    sums files "$HOME/curl" >here
    same there here "curl fetches"
    printf 'Subject: of curl\r\n\r\nsent by curl\r\n' >"$HOME/new"
    run curl -sS -u curl:pass -T "$HOME/new" "$url/Work"
    run curl -sS -u curl:pass "$url/Work;UID=10" -o "$HOME/again"
    cmp "$HOME/new" "$HOME/again" || atf_fail "curl gets something else than it has sent"
    run curl -sS -u curl:pass "$url/Work" -X 'UID STORE 1,10 +FLAGS (\Deleted $curl)'
    run curl -sS -u curl:pass "$url/Work?KEYWORD%20%24curl"
    tr -d '\r' <said >found
    echo '* SEARCH 1 10' >wanted
    same wanted found "curl searches"
    run curl -sS -u curl:pass "$url/Work" -X EXPUNGE
    run curl -sS -u curl:pass "$url/" -X 'STATUS Work (MESSAGES)'
    grep -q '^\* STATUS Work (MESSAGES 8)' said || { cat said; atf_fail "curl expunges"; }
    run curl -sS -u curl:pass "$url/"
    grep -qF '"/" Work/Deep' said || { cat said; atf_fail "curl lists"; }
}

perl_runs()
{
    sums fill "$IP" $IMAP_PORT perl
    sums imap "$IP" $IMAP_PORT perl | grep -P '^Work\t' | cut -f2- >there
    mkdir "$HOME/perl"
    cat >"$HOME/talk.pl" <<'EOT'
use strict; use warnings; use Mail::IMAPClient;
my ($host, $port, $folder) = @ARGV;
my $i = Mail::IMAPClient->new(Server => $host, Port => $port, User => "perl", Password => "pass", Uid => 1, Peek => 1)
    or die "login: $@";
sub ok { my ($good, $what) = @_; die "$what: " . ($i->LastError // "") . "\n" unless $good; }
ok(grep({ $_ eq "Work/Deep" } $i->folders), "folders");
ok($i->select("Work"), "select");
my @all = $i->messages;
ok(@all == 9, "messages");
for my $uid (@all) {
    my $text = $i->message_string($uid);
    ok(defined $text && length $text == $i->size($uid), "message_string");
    open my $f, ">", "$folder/$uid" or die;
    print $f $text;
    close $f;
}
my $new = $i->append_string("Work", "Subject: of perl\r\n\r\nsent by perl\r\n", "\\Flagged");
ok($new == 10, "append_string");
ok($i->subject($new) eq "of perl", "subject");
ok($i->get_bodystructure($all[2])->bodytype eq "MULTIPART", "bodystructure");
ok($i->set_flag("Seen", @all), "set_flag");
ok($i->unset_flag("Flagged", @all), "unset_flag");
my @seen = $i->seen;
ok(@seen == 9 && $i->unseen_count == 1, "seen");
ok($i->create("Of perl"), "create");
ok($i->copy("Of perl", @all[0, 1]), "copy");
ok($i->move("Of perl", $all[2]), "move");
ok($i->delete_message(@all[3, 4]) == 2, "delete_message");
ok($i->expunge, "expunge");
ok($i->message_count("Work") == 7 && $i->message_count("Of perl") == 3, "message_count");
ok($i->rename("Of perl", "By perl"), "rename");
ok($i->delete("By perl"), "delete");
ok($i->idle, "idle");
ok($i->done, "done");
ok($i->logout, "logout");
EOT
    run perl "$HOME/talk.pl" "$IP" $IMAP_PORT "$HOME/perl"
    sums files "$HOME/perl" >here
    cut -f2 there | sort >bodies
    same bodies here "Mail::IMAPClient fetches"
    sums imap "$IP" $IMAP_PORT perl | grep -P '^Work\t' | cut -f2 | sort | uniq -c | tr -s ' ' >flags
    grep -qxF ' 1 \Flagged' flags || { cat flags; atf_fail "the flags that Mail::IMAPClient set"; }
}

clients_make()
{
    scene_make
    HOME=$SCENE/client
    mkdir "$HOME"
    export HOME
}

# clients_start STORE: CLIENTS_SERVER=dovecot: the same with the real server. What is durable has scenes of its own.
clients_start()
{
    scene_start ${CLIENTS_SERVER:-ours} "$1" 'mail_fsync = never' 'namespace inbox {
  separator = /
}'
}

all_clients()
{
    clients_make
    for need in mbsync offlineimap fetchmail getmail curl perl; do
        command -v $need >/dev/null || atf_skip "$need is not installed"
    done
    perl -MMail::IMAPClient -e 1 2>/dev/null || atf_skip "Mail::IMAPClient is not installed"
    clients_start "$1"
    sums python "$IP" $IMAP_PORT python
    mbsync_runs
    offlineimap_runs
    fetchmail_runs
    getmail_runs
    curl_runs
    perl_runs
    scene_stop
    scene_log_is_clean
}

# flow COMMAND: what imapflow.mjs does, with the tree in HOME/tree.
flow()
{
    (cd "$HOME/flow" && exec timeout 100 node "$TOP_SRC/tests/lib/imapflow.mjs" "$IP" $IMAP_PORT flow "$1" "$HOME/tree")
}

atf_test_case imapflow cleanup
imapflow_head()
{
    atf_set descr "imapflow of npm: fetches all, changes, and hears of new mail"
    atf_set require.user root
}
imapflow_body()
{
    clients_make
    command -v npm >/dev/null || atf_skip "machine: Node.js and npm are not installed"
    mkdir "$HOME/flow"
    (cd "$HOME/flow" && timeout 100 npm install --no-audit --no-fund imapflow@1 >npm.log 2>&1) ||
        atf_skip "machine: npm cannot install imapflow: $(tail -1 "$HOME/flow/npm.log")"
    clients_start 'mail_location = maildir:~/Maildir'
    sums fill "$IP" $IMAP_PORT flow
    well flow fetch
    sums imap "$IP" $IMAP_PORT flow >there
    sums maildir "$HOME/tree" >here
    same there here "imapflow fetches"
    well flow change
    sums imap "$IP" $IMAP_PORT flow >changed
    ! cmp -s there changed || atf_fail "imapflow changed nothing"
    sums maildir "$HOME/tree" >here
    same changed here "imapflow changes"
    mkfifo pipe
    flow wait >pipe 2>said &
    waiting=$!
    read -r line <pipe
    [ "$line" = waiting ] || { cat said; atf_fail "imapflow does not wait"; }
    sums change-imap "$IP" $IMAP_PORT flow
    wait $waiting || { cat said; atf_fail "imapflow waits"; }
    well flow fetch
    sums imap "$IP" $IMAP_PORT flow >there
    sums maildir "$HOME/tree" >here
    same there here "imapflow after news"
    scene_stop
    scene_log_is_clean
}
imapflow_cleanup()
{
    scene_end
}

# asked FOLDER SEARCH UID ...: what the server finds for mutt is these.
asked()
{
    run curl -sS -u mutt:pass "imap://$IP:$IMAP_PORT/$1" -X "$2"
    shift 2
    echo "* SEARCH $*" >wanted
    tr -d '\r' <said >found
    same wanted found "neomutt changes"
}

# mutt COMMANDS: neomutt at a terminal of its own, with the keys that these commands name, on the folder INBOX.
mutt()
{
    cat >"$HOME/muttrc" <<EOT
set imap_user = mutt
set imap_pass = pass
set folder = imap://mutt@$IP:$IMAP_PORT/
set spoolfile = +INBOX
set imap_authenticators = plain
set ssl_starttls = no
set ssl_force_tls = no
set mbox_type = Maildir
set confirmappend = no
set confirmcreate = no
set delete = yes
set move = no
set quit = yes
set wait_key = no
set mark_old = no
set beep = no
set sleep_time = 0
set resume_draft_files = no
set header_cache = $HOME/headers
set message_cachedir = $HOME/bodies
set sort = mailbox-order
push "$1"
EOT
    TERM=xterm timeout 100 script -qec "neomutt -F $HOME/muttrc" /dev/null </dev/null
}

atf_test_case neomutt cleanup
neomutt_head()
{
    atf_set descr "neomutt at a terminal: copies all, flags, deletes, moves"
    atf_set require.user root
}
neomutt_body()
{
    clients_make
    for need in neomutt script curl; do
        command -v $need >/dev/null || atf_skip "$need is not installed"
    done
    clients_start 'mail_location = maildir:~/Maildir'
    sums fill "$IP" $IMAP_PORT mutt
    sums imap "$IP" $IMAP_PORT mutt | sed -n 's/^INBOX\t//p' >there
    well mutt "<tag-pattern>~A<enter><tag-prefix><copy-message>$HOME/copy<enter><quit>"
    sums files "$HOME/copy/cur" "$HOME/copy/new" >here
    cut -f2 there | sort >bodies
    same bodies here "neomutt copies"
    well mutt "<delete-pattern>~m 3-5<enter><tag-pattern>~m 6-8<enter><tag-prefix><set-flag>!<tag-prefix><save-message>+Work<enter><tag-pattern>~m 10-12<enter><tag-prefix><clear-flag>N<sync-mailbox><quit>"
    asked INBOX 'UID SEARCH ALL' 1 2 $(seq -s ' ' 9 24)
    asked INBOX 'UID SEARCH UID 10:12 SEEN' 10 11 12
    asked Work 'UID SEARCH UID 10:* FLAGGED' 10 11 12
    sums files "$HOME/copy/cur" "$HOME/copy/new" >all
    { sums bodies "$IP" $IMAP_PORT mutt; sums imap "$IP" $IMAP_PORT mutt | sed -n 's/^Work\t//p' | cut -f2; } | sort >left
    [ "$(comm -12 all left | wc -l)" = 21 ] || atf_fail "neomutt moves other messages than there were"
    scene_stop
    scene_log_is_clean
}
neomutt_cleanup()
{
    scene_end
}

atf_test_case maildir cleanup
maildir_head()
{
    atf_set descr "imaplib, mbsync, offlineimap, fetchmail, getmail, curl and Mail::IMAPClient over Maildir"
    atf_set require.user root
}
maildir_body()
{
    all_clients 'mail_location = maildir:~/Maildir'
}
maildir_cleanup()
{
    scene_end
}

atf_test_case mdbox cleanup
mdbox_head()
{
    atf_set descr "the same clients over mdbox"
    atf_set require.user root
}
mdbox_body()
{
    all_clients 'mail_location = mdbox:~/mdbox'
}
mdbox_cleanup()
{
    scene_end
}

atf_init_test_cases()
{
    atf_add_test_case maildir
    atf_add_test_case mdbox
    atf_add_test_case imapflow
    atf_add_test_case neomutt
}

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

# run PROGRAM ...: it must end well; what it says is shown if it does not.
run()
{
    timeout 100 "$@" >said 2>&1 || { echo "$? from $*"; cat said; tail -40 "$SCENE/log"; atf_fail "$1"; }
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

all_clients()
{
    scene_make
    HOME=$SCENE/client
    mkdir "$HOME"
    export HOME
    for need in mbsync offlineimap fetchmail getmail curl perl; do
        command -v $need >/dev/null || atf_skip "$need is not installed"
    done
    perl -MMail::IMAPClient -e 1 2>/dev/null || atf_skip "Mail::IMAPClient is not installed"
    # CLIENTS_SERVER=dovecot: the same with the real server. What is durable has scenes of its own.
    scene_start ${CLIENTS_SERVER:-ours} "$1" 'mail_fsync = never' 'namespace inbox {
  separator = /
}'
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
}

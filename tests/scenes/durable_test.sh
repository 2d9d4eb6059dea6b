# Durable before acknowledged: a message's file is synced, named, and its folder synced before the answer. A kill would show
# nothing of this, since the page cache survives it; the order of the system calls does.

. "$TOP_SRC/tests/lib/scene.sh"

# traced ours|dovecot: a delivery and an APPEND, twenty of each.
traced()
{
    scene_configure
    program=dovecot
    [ "$1" != ours ] || program=$OURS/dovecot
    cat >"$SCENE/traced" <<EOT
#!/bin/sh
export ASAN_OPTIONS=detect_leaks=0 # which does not work under ptrace
exec strace -f -y -s 200 -o "$SCENE/trace" -e trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write,writev,sendto,sendmsg "$program" "\$@"
EOT
    chmod 755 "$SCENE/traced"
    scene_run "$SCENE/traced"
    {
        echo 'LHLO tests'
        echo '/^250 '
        for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            printf 'MAIL FROM:<a@example.org>\n/^250\nRCPT TO:<u@example.org>\n/^250\nDATA\n/^354\n'
            printf 'Subject: %s\n\ntext\n.\n/^250\n' $n
        done
        echo QUIT
    } | scene_talk lmtp >/dev/null
    {
        echo 'a LOGIN u pass'
        for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            printf 'b%s APPEND INBOX {16+}\n-Subject: x\\r\\n\\r\\ny\\r\n-\\n\\r\\n\n/^b%s OK\n' $n $n
        done
        echo 'z LOGOUT'
    } | scene_talk imap >/dev/null
    # The server ends with its tracer's child; strace itself does not take the signal.
    kill "$(pgrep -P "$SERVER")" && wait "$SERVER"
    python3 -B "$TOP_SRC/tests/lib/durable.py" "$SCENE/trace" 20 '"250 2.0.0 [^"]*Saved' || atf_fail "LMTP"
    python3 -B "$TOP_SRC/tests/lib/durable.py" "$SCENE/trace" 20 'b[0-9]+ OK \[APPENDUID' || atf_fail "APPEND"
}

traced_head()
{
    atf_set require.user root
    atf_set require.progs "dovecot strace python3 pgrep"
}

atf_test_case ours cleanup
ours_head()
{
    traced_head
}
ours_body()
{
    traced ours
}
ours_cleanup()
{
    scene_end
}

atf_test_case oracle cleanup
oracle_head()
{
    traced_head
}
oracle_body()
{
    traced dovecot
}
oracle_cleanup()
{
    scene_end
}

# The check itself: a trace in which the folder is synced after the answer.
atf_test_case finds
finds_body()
{
    cat >trace <<'END'
1 fdatasync(3</m/tmp/a>) = 0
1 linkat(4</m/tmp>, "a", 5</m/new>, "b", 0) = 0
1 fsync(5</m/new>) = 0
1 write(6<socket:[1]>, "250 2.0.0 Saved\r\n", 17) = 17
1 fdatasync(3</m/tmp/c>) = 0
1 rename("/m/tmp/c", "/m/new/d") = 0
2 fsync(5</m/new> <unfinished ...>
1 write(6<socket:[1]>, "250 2.0.0 Saved\r\n", 17) = 17
2 <... fsync resumed>) = 0
END
    atf_check -s exit:1 -o match:'^answer 2 came too early' -o match:'^2 answers, 1 too early' \
        python3 -B "$TOP_SRC/tests/lib/durable.py" trace 2 Saved
    atf_check -s exit:1 -o match:'1 expected' python3 -B "$TOP_SRC/tests/lib/durable.py" trace 1 Saved
    head -n 4 trace >good
    atf_check -o match:'^1 answers, 0 too early' python3 -B "$TOP_SRC/tests/lib/durable.py" good 1 Saved
}

atf_init_test_cases()
{
    atf_add_test_case finds
    atf_add_test_case ours
    atf_add_test_case oracle
}

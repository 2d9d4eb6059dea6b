# Generated mail, asked of src/mime and of the real server at once: the same bytes in ENVELOPE, BODY, BODYSTRUCTURE and
# thirty BODY[...] sections. A few of a thousand broken mails may differ: values cut inside an unfinished comment, and
# headers of attached messages that a boundary cuts off.

need_dovecot()
{
    for program in python3 doveadm; do
        command -v "$program" > /dev/null || atf_skip "$program is not here"
    done
}

atf_test_case broken
broken_head()
{
    atf_set descr 'broken mail in all the ways that broken mail is'
}
broken_body()
{
    need_dovecot
    for seed in 1 2 3; do
        python3 "$TOP_SRC/tests/mime/oracle.py" compare --show "$TOP_BUILD/tests/mime/mime_show" --seed "$seed" \
            --count 300 --allow 15 > out.$seed 2>&1 || { cat out.$seed; atf_fail "seed $seed: see the differences"; }
    done
}

atf_test_case recorded_again
recorded_again_head()
{
    atf_set descr 'the recordings are what the real server says today'
}
recorded_again_body()
{
    need_dovecot
    python3 - "$TOP_SRC/tests/mime/cases/structure.cases" > mails <<'PYTHON'
import sys
raw = open(sys.argv[1], 'rb').read()
i = 0
while i < len(raw):
    j = raw.index(b'\n', i)
    word, size = raw[i:j].split()
    end = j + 2 + int(size)
    if word == b'MAIL':
        sys.stdout.buffer.write(raw[i:end])
    i = end
PYTHON
    python3 "$TOP_SRC/tests/mime/oracle.py" record mails > again || atf_fail "recording failed"
    cmp again "$TOP_SRC/tests/mime/cases/structure.cases" || atf_fail "the real server answers otherwise now"
}

# Headers and bodies through a whole session: ENVELOPE and structures, previews, BINARY, searches, sorting and threads; about a thousand
# answers a seed. One in ten seeds has a BINARY[] whose last bytes the real server leaves out (docs/compatibility.md, BINARY.SIZE).
atf_test_case odd_mail
odd_mail_head()
{
    atf_set descr 'odd mail, appended and asked for in both servers'
    atf_set require.user root
    atf_set timeout 3600
}
odd_mail_body()
{
    need_dovecot
    count=6 allowed=0
    [ -z "$YARILO_LONG" ] || count=250 allowed=30
    dir=$(mktemp -d)
    python3 -B "$TOP_SRC/tests/imap/odd_mail" "$dir" "$TOP_BUILD/compat/bin/doveadm" doveadm 1 $count $allowed --show >said 2>&1
    status=$?
    rm -rf "$dir"
    [ $status -eq 0 ] || { cat said; atf_fail "see the differences"; }
}

atf_init_test_cases()
{
    atf_add_test_case odd_mail
    atf_add_test_case broken
    atf_add_test_case recorded_again
}

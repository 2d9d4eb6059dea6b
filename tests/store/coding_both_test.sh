# Compressed and encrypted mail and attachments, by the real server and by ours in the same mailboxes: what one has written the
# other reads, copies are readable, expunged attachments are gone. The plain store of the real server says what must be read.

# with real|ours COMMAND ...: what it says of errors goes to err.
with()
{
    scene_doveadm "$@" 2>>err
}

make_mails()
{
    python3 - "$SCENE" <<'END'
import base64, random, sys
random.seed(1)
def part(type, body, coding='base64'):
    return 'Content-Type: %s\nContent-Transfer-Encoding: %s\n\n%s' % (type, coding, body)
def mail(n, *parts):
    text = 'Subject: mail %d\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n' % n
    text += ''.join('--b\n%s\n' % p for p in parts) + '--b--\n'
    open('%s/mail%d' % (sys.argv[1], n), 'w', newline='').write(text.replace('\n', '\r\n'))
blob = bytes(random.randrange(256) for _ in range(70000))
def b64(data, columns):
    text = base64.b64encode(data).decode()
    return '\n'.join(text[i:i + columns] for i in range(0, len(text), columns))
mail(1, part('text/plain', 'hello\n' * 3000, '7bit'), part('application/zip', b64(blob, 76)))
mail(2, part('application/zip', b64(blob, 72)), part('image/png', b64(blob[:5000], 60) + '\n\nbehind'),
     part('application/x-one-line', b64(blob[:30000], 10 ** 6)))
mail(3, part('application/pdf', b64(blob[:5001], 76) + '\nnot base64 !'), part('video/x', 'plain bytes ' * 500, '8bit'),
     part('application/x-long-lines', b64(blob, 5000)))
open(sys.argv[1] + '/mail4', 'w', newline='').write('Subject: small\r\n\r\none\r\n')
END
}

see()
{
    with "$1" fetch 'size.virtual text' mailbox "$2" all >seen || { cat err; atf_fail "$what: $1 does not read $2"; }
    cmp -s seen "$3" || { diff seen "$3" | cut -c1-200 | head -20; atf_fail "$what: $1 reads other bytes in $2"; }
}

# both WHAT STORE OPTIONS
both()
{
    what=$1
    store="$SCENE/$(echo "$1" | tr ' :' '__')"
    options="-o mail_location=$2 $(echo "$3" | sed "s|STORE|$store|")"
    mkdir "$store"
    chown "$MAIL_USER" "$store"
    : >err
    for who in ${order:-real ours}; do # the first makes the store and its keys
        for n in 1 2 3 4; do
            with $who save <"$SCENE/mail$n" || { cat err; atf_fail "$what: $who does not save"; }
        done
        with $who mailbox create "By$who"
    done
    for who in real ours; do
        see $who INBOX expect8
    done
    # Copies by either, of what either has written, read by either.
    for who in real ours; do
        with $who copy "By$who" mailbox INBOX all || { cat err; atf_fail "$what: $who does not copy"; }
    done
    for who in real ours; do
        see $who Byreal expect8
        see $who Byours expect8
    done
    if [ -s err ]; then
        cat err
        atf_fail "$what: something was logged"
    fi
    for who in real ours; do
        with $who expunge mailbox INBOX uid 1:4
        with $who expunge mailbox "By$who" all
    done
    see real INBOX expect4
    with ours expunge mailbox INBOX all
    with ours purge
    if [ -d "$store/att" ] && [ "$(find "$store/att" -type f | wc -l)" != 0 ]; then
        find "$store/att" -type f
        cat err
        atf_fail "$what: attachments are left"
    fi
}

# "mail_location = LOCATION" of dbox keeps its attachments beside it.
prepare()
{
    . "$TOP_SRC/tests/lib/scene.sh"
    scene_make
    {
        printf 'base_dir = %s/run\nmail_location = maildir:~/Maildir\nstats_writer_socket_path =\n' "$SCENE"
        printf 'mail_attribute_dict = file:%%h/attributes\nmail_attachment_min_size = 1k\n'
        printf 'namespace inbox {\n  inbox = yes\n}\nplugin {\n'
        case ${1:-} in rsa) openssl genrsa 2048 2>/dev/null ;; *) openssl ecparam -name prime256v1 -genkey -noout ;; esac | openssl pkcs8 -topk8 -nocrypt >"$SCENE/private.pem"
        openssl pkey -in "$SCENE/private.pem" -pubout >"$SCENE/public.pem"
        [ -z "${1:-}" ] ||
            printf '  mail_crypt_global_private_key = <%s/private.pem\n  mail_crypt_global_public_key = <%s/public.pem\n' "$SCENE" "$SCENE"
        printf '}\n'
    } >"$SCENE/c.conf"
    chmod 644 "$SCENE"/*.pem
    make_mails
    store="$SCENE/plain"
    options=
    mkdir "$store"
    chown "$MAIL_USER" "$SCENE" "$store"
    for round in 1 2; do
        for n in 1 2 3 4; do
            with real save <"$SCENE/mail$n" || { cat err; atf_fail "the plain store cannot be made"; }
        done
    done
    with real fetch 'size.virtual text' all >expect8
    with real fetch 'size.virtual text' 5:8 >expect4
    [ -s expect4 ] || { cat err; atf_fail "nothing to compare with"; }
}

both_head()
{
    atf_set require.progs 'doveadm python3 openssl'
    atf_set timeout 300
}

atf_test_case zlib cleanup
zlib_head() { both_head; }
zlib_body()
{
    prepare
    for format in maildir sdbox mdbox; do
        for method in gz bz2 lz4 zstd; do
            both "$format $method" "$format:~/mail" "-o mail_plugins=zlib -o plugin/zlib_save=$method"
        done
    done
    # Levels that are none are told of, the others are not.
    for method in gz bz2 lz4 zstd; do
        for level in 0 1 9 10 22 23 x; do
            for who in real ours; do
                : >err
                with $who -o mail_plugins=zlib -o plugin/zlib_save=$method -o plugin/zlib_save_level=$level mailbox status messages INBOX >out
                sed -n 's/.*Error: //p' err >level.$who
            done
            cmp level.real level.ours || { cat level.real level.ours; atf_fail "zlib_save_level = $level of $method"; }
            cat level.ours >>levels
        done
    done
    atf_check -o inline:'17\n' grep -c 'Level must be' levels
}
zlib_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case crypt cleanup
crypt_head() { both_head; }
crypt_body()
{
    prepare keys
    for format in maildir sdbox mdbox; do
        both "$format 1" "$format:~/mail" "-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=1"
        both "$format 2" "$format:~/mail" "-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2"
        both "$format 2 gz" "$format:~/mail" "-o mail_plugins=mail_crypt,zlib -o plugin/mail_crypt_save_version=2 -o plugin/zlib_save=gz"
    done
}
crypt_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case rsa cleanup
rsa_head() { both_head; }
rsa_body()
{
    prepare rsa
    for format in maildir sdbox; do
        both "$format rsa" "$format:~/mail" "-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2"
    done
    # Version 1 has elliptic curves only.
    options="-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=1 -o mail_location=maildir:~/old"
    for who in real ours; do
        : >err
        ! with $who save <"$SCENE/mail4" || atf_fail "$who: saved in version 1"
        grep -q 'Only EC key supported' err || atf_fail "$who: $(cat err)"
    done
}
rsa_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case folder_keys cleanup
folder_keys_head() { both_head; }
folder_keys_body()
{
    prepare
    for format in maildir sdbox mdbox; do
        for curve in prime256v1 secp521r1; do
            both "$format $curve" "$format:~/mail" \
                "-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2 -o plugin/mail_crypt_curve=$curve"
        done
        order="ours real"
        both "$format first" "$format:~/mail" \
            "-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2 -o plugin/mail_crypt_curve=secp384r1"
        order=
        both "$format password" "$format:~/mail" "-o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2 -o plugin/mail_crypt_curve=prime256v1 -o plugin/mail_crypt_private_password=secret -o plugin/mail_crypt_require_encrypted_user_key=yes"
    done
}
folder_keys_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

# An RSA key as the user's: set by hand, as the real server only makes curves. It writes keys that are wrapped for it, but ends with
# a segmentation fault when it has to read one, so ours reads what it wrote, and it what can be told without reading.
atf_test_case folder_rsa cleanup
folder_rsa_head() { both_head; }
folder_rsa_body()
{
    prepare
    openssl genrsa -traditional -out user.pem 2048 2>/dev/null
    store=$SCENE/rsa
    mkdir "$store"
    chown "$MAIL_USER" "$store"
    : >err
    options="-o mail_location=sdbox:~/mail -o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2 -o plugin/mail_crypt_curve=prime256v1"
    with real mailbox cryptokey generate -U >out || { cat err out; atf_fail "no key of the user"; }
    python3 - "$store/attributes" user.pem <<'END' || atf_fail "the key cannot be replaced"
import hashlib, subprocess, sys
def der(*how):
    return subprocess.run(('openssl', 'rsa', '-in', sys.argv[2], '-outform', 'DER') + how, capture_output=True, check=True).stdout
public, private = der('-pubout'), der('-traditional')
id = hashlib.sha256(public).hexdigest()
key = next(line for line in open(sys.argv[1]) if 'privkeys/' in line)
at = key[len('priv'):key.index('privkeys/')]
with open(sys.argv[1], 'w') as f:
    f.write('priv%sprivkeys/%s\n2:1.2.840.113549.1.1.1:0:%s:%s\n' % (at, id, private.hex(), id))
    f.write('shared%sactive\n%s\nshared%spubkeys/%s\n2:%s:%s\n' % (at, id, at, id, public.hex(), id))
END
    for who in real ours; do
        with $who mailbox cryptokey export -U >out || atf_fail "$who: export: $(cat err)"
        sed -n 's/.*-----BEGIN/-----BEGIN/; /BEGIN/,/END/p' out >"key.$who"
        with $who mailbox cryptokey list -U >"list.$who"
        with $who mailbox create "By$who"
        with $who save -m "By$who" <"$SCENE/mail4" || atf_fail "$who does not save: $(cat err)"
    done
    cmp key.real key.ours && [ -s key.real ] || atf_fail "exported otherwise"
    cmp list.real list.ours || atf_fail "listed otherwise"
    for who in real ours; do
        with ours fetch text mailbox "By$who" all >seen
        grep -q one seen || atf_fail "what $who saved is not read: $(cat err)"
    done
    # With a password on it.
    with ours mailbox cryptokey password -n secret >out || atf_fail "password: $(cat out err)"
    ! with ours fetch text mailbox Byreal all >seen || atf_fail "read without the password"
    with ours -o plugin/mail_crypt_private_password=secret fetch text mailbox Byreal all >seen
    grep -q one seen || atf_fail "not read with the password: $(cat err)"
}
folder_rsa_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_test_case attachments cleanup
attachments_head() { both_head; }
attachments_body()
{
    prepare keys
    for format in sdbox mdbox; do
        both "$format sis" "$format:~/mail" "-o mail_attachment_dir=STORE/att"
        both "$format posix" "$format:~/mail" "-o mail_attachment_dir=STORE/att -o mail_attachment_fs=posix"
        both "$format hash" "$format:~/mail" "-o mail_attachment_dir=STORE/att -o mail_attachment_hash=%{sha256:80}"
        both "$format zlib" "$format:~/mail" "-o mail_attachment_dir=STORE/att -o mail_plugins=zlib -o plugin/zlib_save=gz"
        both "$format crypt" "$format:~/mail" "-o mail_attachment_dir=STORE/att -o mail_plugins=mail_crypt -o plugin/mail_crypt_save_version=2"
    done
}
attachments_cleanup() { . "$TOP_SRC/tests/lib/scene.sh"; scene_end; }

atf_init_test_cases()
{
    atf_add_test_case zlib
    atf_add_test_case crypt
    atf_add_test_case rsa
    atf_add_test_case folder_keys
    atf_add_test_case folder_rsa
    atf_add_test_case attachments
}

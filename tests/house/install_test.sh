# make install: what is installed where, and that the configuration says the same to both servers.

atf_test_case install
install_head()
{
    atf_set require.progs "make doveconf"
}
install_body()
{
    make -s -C "$TOP_BUILD" install DESTDIR="$PWD/dest" >install.log 2>&1 || { cat install.log; atf_fail "make install"; }
    etc=$(find dest -path '*/etc/dovecot/dovecot.conf')
    for part in conf.d/10-auth.conf conf.d/auth-system.conf.ext; do
        [ -f "$(dirname "$etc")/$part" ] || atf_fail "$part is not installed"
    done
    for program in imap-login imap auth config log anvil lmtp; do
        [ -x "$(find dest -path "*/libexec/yarilo/$program")" ] || atf_fail "$program is not installed"
    done
    for program in sbin/dovecot bin/doveconf bin/doveadm; do
        [ -x "$(find dest -path "*/$program")" ] || atf_fail "$program is not installed"
    done

    # An administrator's file stays.
    echo '# mine' >"$etc"
    make -s -C "$TOP_BUILD" install DESTDIR="$PWD/dest" >install.log 2>&1 || { cat install.log; atf_fail "make install again"; }
    atf_check -o inline:'# mine\n' cat "$etc"

    # The installed configuration, as each doveconf prints it; the certificate that it names exists on no test machine.
    mkdir -p etc/conf.d
    cp "$TOP_SRC/conf.d/dovecot.conf" etc/
    cp "$TOP_SRC"/conf.d/[0-9]*.conf "$TOP_SRC"/conf.d/*.ext etc/conf.d/
    sed -i 's/^ssl_\(cert\|key\) = .*/ssl_\1 = text/' etc/conf.d/10-ssl.conf
    doveconf -n -c etc/dovecot.conf >theirs 2>their.errors
    "$TOP_BUILD/compat/bin/doveconf" -n -c etc/dovecot.conf >ours 2>our.errors
    atf_check cmp their.errors our.errors
    # Our managesieve has no capability text to print yet.
    sed -i '/^# /d; /^managesieve_/d' theirs ours
    atf_check -o match:'^mail_location = maildir' cat theirs
    atf_check diff -u theirs ours
}

atf_init_test_cases()
{
    atf_add_test_case install
}

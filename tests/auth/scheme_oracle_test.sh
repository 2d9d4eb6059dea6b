# Every password scheme against the real doveadm pw: what ours makes, theirs verifies, and the other way round; and what
# neither accepts is refused with the same words.

TOOL=$TOP_BUILD/tests/auth/scheme_tool

ask_dovecot()
{
    timeout -s KILL 20 doveadm pw "$@" 2>&1
}

atf_test_case names
names_head()
{
    atf_set require.progs doveadm
}
names_body()
{
    ask_dovecot -l | tr ' ' '\n' | grep . >wanted
    $TOOL list >ours
    atf_check diff wanted ours
}

atf_test_case ours_to_theirs
ours_to_theirs_head()
{
    atf_set require.progs doveadm
    atf_set timeout 300
}
ours_to_theirs_body()
{
    for scheme in $($TOOL list) SHA256.HEX SSHA.HEX PLAIN.B64 CRAM-MD5.B64 SHA512-CRYPT.HEX PLAIN-MD5.BASE64; do
        for password in secret 'pässwörd with a blank' 0123456789012345678901234567890123456789012345678901234567890123456789; do
            stored=$($TOOL make "$scheme" "$password" user@dom) || atf_fail "$scheme: $stored"
            answer=$(ask_dovecot -t "$stored" -p "$password" -u user@dom)
            [ "$answer" = "$stored (verified)" ] || atf_fail "$scheme: $stored: $answer"
            answer=$(ask_dovecot -t "$stored" -p "wrong" -u user@dom)
            case $answer in *'Password mismatch'*) ;; *) atf_fail "$scheme: wrong password: $answer" ;; esac
        done
    done
}

atf_test_case theirs_to_ours
theirs_to_ours_head()
{
    atf_set require.progs doveadm
    atf_set timeout 300
}
theirs_to_ours_body()
{
    for scheme in $($TOOL list) SHA256.HEX SSHA.HEX PLAIN.B64 CRAM-MD5.B64 SHA512-CRYPT.HEX PLAIN-MD5.BASE64; do
        # The real one writes PLAIN-TRUNC without the length that it wants to see itself.
        [ "$scheme" != PLAIN-TRUNC ] || continue
        stored=$(ask_dovecot -s "$scheme" -p secret -u user@dom)
        atf_check_equal "$scheme match" "$scheme $($TOOL verify "$stored" secret user@dom)"
        atf_check_equal "$scheme mismatch" "$scheme $($TOOL verify "$stored" Secret user@dom)"
    done
}

# Stored forms that are odd or broken. Both must say the same of each.
atf_test_case odd_forms
odd_forms_head()
{
    atf_set require.progs doveadm
    atf_set timeout 300
}
odd_forms_body()
{
    while read -r stored; do
        ours=$($TOOL verify "$stored" secret user@dom)
        theirs=$(ask_dovecot -t "$stored" -p secret -u user@dom)
        case $theirs in
        *'(verified)') theirs=match ;;
        *': Password mismatch') theirs=mismatch ;;
        *'decode check failed: Unknown scheme')
            theirs=invalid
            case $ours in 'invalid: Unknown scheme'*) ours=invalid ;; esac ;;
        'Fatal: Missing '*) theirs="invalid: ${theirs#Fatal: }" ;;
        'Fatal: reverse '*'check failed: '*) theirs="invalid: ${theirs#*check failed: }" ;;
        esac
        [ "$ours" = "$theirs" ] || atf_fail "$stored: ours '$ours', theirs '$theirs'"
    done <<'END'
{FOO}x
{}secret
{PLAIN
secret
{plain}secret
{SHA256}xx
{SHA256}
{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols
{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=
{SHA256.BASE64}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=
{SHA256.FOO}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=
{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
{SHA256}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4
{SHA1}5en6G6MezRroT3XKqkdPOmY/BfQ=
{PLAIN-MD5}5EBE2294ECD0E0F08EAB7690D2A6EE69
{PLAIN-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==
{PLAIN-MD5.hex}Xr4ilOzQ4PCOq3aQ0qbuaQ==
{LDAP-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==
{PLAIN-MD4}67d3dafef63ff00603aeef3769cfbf0d
{PLAIN-MD4}x
{MD5}secret
{MD5}5ebe2294ecd0e0f08eab7690d2a6ee69
{MD5}$1$abc$BXBqpb9BZcZhXLgbee.0s/
$1$abc$BXBqpb9BZcZhXLgbee.0s/
{PLAIN-TRUNC}4-secr
{PLAIN-TRUNC}9-secr
{PLAIN-TRUNC}9-secret
{PLAIN-TRUNC}0-
{PLAIN-TRUNC}secr
{PLAIN-TRUNC}x-secret
{PLAIN-TRUNC}4-secrXYZ
{PLAIN.HEX}736563726574
{PLAIN.B64}c2VjcmV0
{SSHA}xx
{SSHA}eHg=
{SSHA.HEX}5ebe2294ecd0e0f08eab7690d2a6ee695ebe2294ecd0e0f08eab7690d2a6ee69
{CRYPT}x
{CRYPT}!
{CRYPT}*
{CRYPT}
{CRYPT}$1$abc$BXBqpb9BZcZhXLgbee.0s/
{CRYPT.b64}JDUkZ04wcE0ybmtPVmIvYXBqRSREbWRjenlNNDYvTC5QMTIuYmlZM25lNzkvN0d3SS55QlVNdUNTL0ptRDEz
{SHA512-CRYPT}x
{BLF-CRYPT}$2y$05$pVLYjzWpqyPaOzFe9iXYR.VQSTxVnuZk3Rn6Il/TKDtJHqFqY2Ab6
{BLF-CRYPT}$1$abc$BXBqpb9BZcZhXLgbee.0s/
{CRAM-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56
{CRAM-MD5}zTun3qrW5cojRIukLjeXR6ng9/H7wAyKgbuqw5VzG1Y=
{HMAC-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56
{DIGEST-MD5}734c726901e727cce7aec830575f6ac5
{SCRAM-SHA-1}1,2,3,4
{SCRAM-SHA-1}4096,2,3
{SCRAM-SHA-1}x,aaaa,aaaa,aaaa
{SCRAM-SHA-1}4096,aaaa,aaaa,aaaa
{SCRAM-SHA-256}4096,W/jIO3TW8euOGGASWR9VrA==,gucL7qsbVo1SIRiVcCC9rYaUOi9PvX5vPFYoGneRx/I=,K7bFKYwt8Xo3QzxiH4r7WCHj7ZLsWzUYQ7FAbXz38Gk=
{PBKDF2}$1$rdS3g1xxXJS/eWE.$5000$396730dea84392f381dd320f37488c45a726b2c6
{PBKDF2}x
{PBKDF2}$1$a
{PBKDF2}$1$a$5000$cc
{PBKDF2}$2$a$1$1
{OTP}sha1 1024 76823583b697bbee b8bf8bc5b1554da8
{OTP}sha1 1024 abc 1234
{ARGON2I}foo
END
}

atf_init_test_cases()
{
    atf_add_test_case names
    atf_add_test_case ours_to_theirs
    atf_add_test_case theirs_to_ours
    atf_add_test_case odd_forms
}

# Stores made by a real Dovecot, read through src/store; and what the real one says after ours has worked on them.

golden()
{
    format=$1
    dir=$(mktemp -d /tmp/yarilo-store.XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >dir
    python3 "$TOP_SRC/tests/tools/make-golden-store" "$1" "$dir/made" --port "$2" >made.log 2>&1 || { cat made.log; atf_fail "no golden store"; }
    location=$(sed -n 's/^mail_location = //p' "$dir/made/dovecot.conf")
    cp -a "$dir/made" "$dir/copy"
    # The links remember where ALT was: in a copy it is elsewhere.
    find "$dir/copy" -name dbox-alt-root -delete
    # storetool knows one namespace only: what is subscribed to of others would be no name there, and be told of.
    grep -rlZ '^shared/' --include=subscriptions "$dir/copy" | xargs -0 -r sed -i '/^shared\//d'
    set --
    case $format in
    *-zlib) set -- mail_plugins=zlib ;;
    *-attach) set -- "mail_attachment_dir=$dir/copy/attachments" ;;
    esac
    python3 "$TOP_SRC/tests/tools/golden_compare.py" "$TOP_BUILD/tests/tools/storetool" "$dir/copy" "$location" "$@" ||
        atf_fail "differences, see above"
    # Again with nothing cached, and again with what our first look has written.
    rounds='1 2'
    case $format in *-*) [ -n "$YARILO_LONG" ] || rounds= ;; esac
    find "$dir/copy" -name dovecot.index.cache -delete
    for round in $rounds; do
        python3 "$TOP_SRC/tests/tools/golden_compare.py" "$TOP_BUILD/tests/tools/storetool" "$dir/copy" "$location" "$@" ||
            atf_fail "differences in round $round, see above"
    done
    cp "$TOP_BUILD/tests/tools/storetool" "$dir/storetool" # readable for the owner of the mail
    python3 "$TOP_SRC/tests/tools/golden_change.py" "$dir/storetool" "$dir/copy" "$location" "$@" ||
        atf_fail "after changes of ours the real server sees something else"
}

port=25310
for format in maildir maildir-fs maildir-split maildir-zlib sdbox sdbox-alt sdbox-zlib sdbox-attach mdbox mdbox-alt mdbox-attach \
    mdbox-listindex; do
    name=$(echo $format | tr - _)
    atf_test_case $name cleanup # defines empty parts, which the next lines replace
    eval "${name}_head() { atf_set require.progs 'dovecot doveadm python3'; atf_set timeout 300; }
          ${name}_body() { golden $format $port; }
          ${name}_cleanup() { [ ! -f dir ] || rm -rf \"\$(cat dir)\"; }"
    port=$((port + 10))
done

atf_init_test_cases()
{
    atf_add_test_case maildir
    atf_add_test_case maildir_fs
    atf_add_test_case maildir_split
    atf_add_test_case sdbox
    atf_add_test_case sdbox_alt
    atf_add_test_case sdbox_zlib
    atf_add_test_case sdbox_attach
    atf_add_test_case mdbox
    atf_add_test_case mdbox_alt
    atf_add_test_case mdbox_attach
    atf_add_test_case mdbox_listindex
    atf_add_test_case maildir_zlib
}

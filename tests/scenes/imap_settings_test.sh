# Settings of IMAP: what is answered and what is logged, beside the real server (tests/imap/beside_cases.py says under which).

. "$TOP_SRC/tests/lib/scene.sh"

# Cases by name. Each starts both servers for itself.
beside()
{
    scene_make
    python3 -B "$TOP_SRC/tests/imap/beside" "$SCENE/b" "$OURS/dovecot" dovecot "$@" --pids >said || { cat said; atf_fail "answers or logs differ"; }
}

head()
{
    atf_set descr "$1"
    atf_set require.user root
    atf_set require.progs "dovecot python3"
    atf_set timeout 600
}

atf_test_case fetch_failure cleanup
fetch_failure_head()
{
    head "imap_fetch_failure: a message that cannot be read"
}
fetch_failure_body()
{
    beside fetch_failure_disconnect_immediately fetch_failure_disconnect_after fetch_failure_no_after fetch_failure_items
}
fetch_failure_cleanup()
{
    scene_end
}

atf_test_case workarounds cleanup
workarounds_head()
{
    head "imap_client_workarounds, each and all"
}
workarounds_body()
{
    beside no_workaround delay_newmail extra_sep lsub_flags workarounds
}
workarounds_cleanup()
{
    scene_end
}

atf_test_case id cleanup
id_head()
{
    head "imap_id_send, imap_id_log, imap_id_retain, and what a trusted network says of its clients"
}
id_body()
{
    beside id_default id_log id_log_some id_trusted id_retain id_send id_send_empty id_send_odd id_send_nil id_send_open id_send_list id_send_star
}
id_cleanup()
{
    scene_end
}

atf_test_case rest cleanup
rest_head()
{
    head "the list index, BINARY, repeated keywords, access control lists and modseqs, a COPY of what is gone, literals, capabilities, line length, idling, what a session's last line counts, connections of one user, rawlog"
}
rest_body()
{
    beside list_believed list_selected vanished binary_nuls binary_sizes keywords_twice acl_modseqs copy_gone literal_minus capability_plus capability_whole line_length idle_interval logout_format userip rawlog
}
rest_cleanup()
{
    scene_end
}

atf_test_case urlauth cleanup
urlauth_head()
{
    head "imap_urlauth_host, imap_urlauth_port: who may make URLs, what is fetched of one's own, and keys that are taken back"
}
urlauth_body()
{
    beside urlauth_off urlauth_no_dict urlauth_star urlauth_host urlauth_ip urlauth_port urlauth_own
}
urlauth_cleanup()
{
    scene_end
}

# Each case that there is belongs to one of these, and only one.
atf_test_case all
all_head() { atf_set require.progs python3; }
all_body()
{
    (cd "$TOP_SRC/tests/imap" && python3 -B -c 'from beside_cases import CASES; print(*[case["name"] for case in CASES], sep="\n")') | sort >cases
    sed -n 's/^    beside //p' "$TOP_SRC/tests/scenes/imap_settings_test.sh" | tr ' ' '\n' | sort >played
    atf_check diff cases played
}

atf_init_test_cases()
{
    atf_add_test_case all
    atf_add_test_case fetch_failure
    atf_add_test_case workarounds
    atf_add_test_case id
    atf_add_test_case rest
    atf_add_test_case urlauth
}

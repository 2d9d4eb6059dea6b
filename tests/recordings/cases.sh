# The test cases of a door: its sessions in groups, those of one configuration together, since one server serves them all.

here=$TOP_SRC/tests/recordings
group_size=14

play()
{
    # Ten ports below those that the kernel gives out, by pid, so that tests side by side do not meet.
    "$here/$door/record" --workdir "$PWD/work" --port $((10200 + $$ % 2000 * 10)) --check \
        --dovecot "$TOP_BUILD/compat/bin/dovecot" --doveadm "$TOP_BUILD/compat/bin/doveadm" "$@" >out 2>&1 && return
    cat out
    tail -n 20 work/*/log 2>/dev/null
    atf_fail "not the same: $(sed -n 's/^different: //p' out | tr '\n' ' ')"
}

define_case()
{
    case_name=$1
    shift
    atf_test_case "$case_name" cleanup
    eval "${case_name}_head() { atf_set require.user root; atf_set require.progs 'python3 openssl'; }"
    eval "${case_name}_body() { play $*; }"
    eval "${case_name}_cleanup() { python3 -B '$here/stop.py' '$TOP_BUILD/compat/bin/doveadm' work/*; }"
    atf_add_test_case "$case_name"
}

# The list names sessions that exist, each once.
atf_test_case list
list_body()
{
    for file in "$here/$door"/*.json; do
        basename "$file" .json
    done | sort >all
    sort "$here/$door.same" >same
    atf_check comm -13 all same
    atf_check uniq -d same
    # The groups hold them all.
    session_groups | tr ' ' '\n' | grep -v '^[a-z]*_[0-9]*$' | sort >grouped
    atf_check cmp same grouped
}

# Lines "CONFIGURATION_NUMBER SESSION ...": a group each.
session_groups()
{
    awk -v size="$group_size" -v folder="$here/$door/sessions/" '
        {
            profile = "std"
            file = folder $1 ".txt"
            while ((getline line <file) > 0)
                if (line ~ /^profile: /)
                    profile = substr(line, 10)
            close(file)
            number = int(count[profile] / size) + 1
            count[profile]++
            name = profile "_" number
            group[name] = group[name] " " $1
        }
        END { for (name in group) print name group[name] }' "$here/$door.same"
}

atf_init_test_cases()
{
    atf_add_test_case list
    while read -r line; do
        # shellcheck disable=SC2086
        define_case $line
    done <<END
$(session_groups)
END
}

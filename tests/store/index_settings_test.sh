# Each setting of indexes and caches changes what can be seen in the files (index_settings.py says how).

atf_test_case settings
settings_head()
{
    atf_set descr "settings of indexes and caches are obeyed"
    atf_set require.progs python3
    atf_set timeout 900
}
settings_body()
{
    grep -q 'define FAULTS 1' "$TOP_BUILD/config.h" || atf_skip "machine: built without --enable-faults"
    python3 "$TOP_SRC/tests/store/index_settings.py" "$TOP_BUILD/tests/tools/storetool" "$TOP_BUILD/tests/index/index_tool" "$PWD/d" ||
        atf_fail "see above"
}

atf_init_test_cases()
{
    atf_add_test_case settings
}

# Each fuzz target for some seconds, after its seeds and all that once made it crash (fuzz/Makefile.inc).
# YARILO_FUZZ_BUILD is the tree in which `make fuzz` ran; ./check sets it.

seconds=2
[ -z "$YARILO_LONG" ] || seconds=300

run_target()
{
    name=$1
    [ -n "$YARILO_FUZZ_BUILD" ] || atf_skip "YARILO_FUZZ_BUILD is not set; ./check builds the targets"
    target="$YARILO_FUZZ_BUILD/fuzz/${name}_fuzz"
    [ -x "$target" ] || atf_fail "$target was not built"
    mkdir corpus
    for folder in "$TOP_SRC/fuzz/seeds/$name" "$TOP_SRC/fuzz/crashers/$name"; do
        [ ! -d "$folder" ] || cp -R "$folder/." corpus/
    done
    # LeakSanitizer looks only at the end of each input; a target that leaks fails as well.
    if ! "$target" -max_total_time=$seconds -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 corpus >out 2>&1; then
        tail -n 60 out
        for crash in crash-* leak-* timeout-* oom-*; do
            [ ! -f "$crash" ] || { echo "$crash (base64):"; base64 "$crash"; }
        done
        atf_fail "$name: see above"
    fi
    tail -n 8 out
}

atf_init_test_cases()
{
    for source in "$TOP_SRC"/fuzz/*_fuzz.c; do
        name=$(basename "$source" _fuzz.c)
        eval "${name}_body() { run_target $name; }; ${name}_head() { atf_set descr 'fuzz target $name'; }"
        atf_add_test_case "$name"
    done
}

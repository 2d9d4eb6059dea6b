# Each setting reaches a program that reads it, or docs/compatibility.md says that it does not yet.
atf_test_case obeyed
obeyed_head() {
    atf_set descr "Settings that nobody reads are listed in docs/compatibility.md"
}
obeyed_body() {
    atf_check "$TOP_SRC/tools/unobeyed" --check "$TOP_SRC"
}

atf_init_test_cases() {
    atf_add_test_case obeyed
}

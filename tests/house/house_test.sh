# The rules of the house, checked over the whole source: floors, citations, words; and that the checks find faults.

check_house()
{
    atf_check -o save:out -e empty python3 -B "$TOP_SRC/tests/house/$1.py" "$TOP_SRC" || { cat out; atf_fail "$1"; }
}

# A tree with one file at fault must not pass.
check_finds()
{
    mkdir -p tree/src/base tree/tests
    mkdir -p "$(dirname "tree/$2")"
    printf '/* ipc 3 */\n#include "base/base.h"\n' >tree/src/base/base.c
    atf_check -o ignore -e empty python3 -B "$TOP_SRC/tests/house/$1.py" tree
    printf '%b\n' "$3" >"tree/$2"
    atf_check -s exit:1 -o match:"^$2:1: .*$4" -e empty python3 -B "$TOP_SRC/tests/house/$1.py" tree
    rm "tree/$2"
}

atf_test_case floors
floors_body()
{
    check_house floors
}

atf_test_case floors_finds
floors_finds_body()
{
    check_finds floors src/base/up.c '#include "net/net.h"' 'base is on floor 1, net on floor 2'
    mkdir -p tree/src/new
    check_finds floors src/imap/new.c '#include "new/new.h"' 'new has no floor'
    check_finds floors src/index/side.c '#include "rpc/rpc.h"' 'index is on floor 3, rpc on floor 3'
    check_finds floors src/imap/side.c '#include "compat/conf.h"' 'only compat'
}

atf_test_case citations
citations_body()
{
    check_house citations
}

atf_test_case citations_finds
citations_finds_body()
{
    check_finds citations src/base/c.c '/* ipc 99 */' 'ipc has no section 99'
    check_finds citations src/base/c.c '/* index-format 7.99 */' 'index-format has no section 7.99'
    check_finds citations src/base/c.c '/* RFC 3501, 5.1 */' 'write'
}

atf_test_case words
words_body()
{
    check_house words
}

atf_test_case words_finds
words_finds_body()
{
    check_finds words src/base/w.c '/* TO''DO */' 'unfinished'
    check_finds words tests/w_test.sh 'sle''ep 1' 'sleep'
    check_finds words src/auth/w.c 'if (slice_equal(in->password, raw))' 'tells of a secret'
    check_finds words README.md 'see /wo''rk/there' 'a path of one machine'
}

atf_test_case faults
faults_body()
{
    check_house faults
}

atf_test_case faults_finds
faults_finds_body()
{
    mkdir -p tree/docs tree/tests/base
    printf 'ATF_TC_BODY(here, tc)\n' >tree/tests/base/a_test.c
    for row in '`base/a_test:here`' 'no test yet'; do
        printf '| fault |\n| a | %s |\n| b | `base/a_test:here` |\n' "$row" >tree/docs/known-faults.md
        atf_check -o ignore python3 -B "$TOP_SRC/tests/house/faults.py" tree
    done
    for row in '`base/a_test:gone`' '`base/b_test:here`' '' '`house/house_test:gone`' '`fuzz/fuzz_test:gone`'; do
        printf '| fault |\n| a | %s |\n' "$row" >tree/docs/known-faults.md
        atf_check -s exit:1 -o match:'^docs/known-faults.md:2: ' python3 -B "$TOP_SRC/tests/house/faults.py" tree
    done
}

atf_init_test_cases()
{
    for name in floors citations words faults; do
        atf_add_test_case $name
        atf_add_test_case ${name}_finds
    done
}

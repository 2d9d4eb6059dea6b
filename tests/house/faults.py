#!/usr/bin/env python3
"""Every test that docs/known-faults.md names exists: `part/program_test:case`.

usage: faults.py TOP
"""
import os
import re
import sys

from files import lines

DOCUMENT = "docs/known-faults.md"
NAMED = re.compile(r"`(\w+/\w+_test)(?::(\w+))?`")


def has_case(top, program, case):
    path = os.path.join("tests", program)
    if program == "fuzz/fuzz_test":  # a case for each target
        return os.path.exists(os.path.join(top, f"fuzz/{case}_fuzz.c"))
    if program == "house/house_test":  # cases in a list
        return os.path.exists(os.path.join(top, f"tests/house/{case}.py"))
    for end, pattern in (".c", rf"ATF_TC_BODY\({case}, "), (".sh", rf"atf_test_case {case}( cleanup)?$"):
        if os.path.exists(os.path.join(top, path + end)):
            return any(re.match(pattern, line) for line in lines(top, path + end))
    return False


def main(top):
    seen, faults = 0, []
    for number, line in enumerate(lines(top, DOCUMENT), 1):
        row = line.startswith("| ") and not line.startswith("| fault ")
        named = NAMED.findall(line)
        if row and not named and "no test yet" not in line:
            faults.append(f"{DOCUMENT}:{number}: neither a test nor 'no test yet'")
        for program, case in named:
            seen += 1
            if case and not has_case(top, program, case):
                faults.append(f"{DOCUMENT}:{number}: there is no test {program}:{case}")
    print("\n".join(faults))
    print(f"{seen} tests named, {len(faults)} faults")
    return 1 if faults or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

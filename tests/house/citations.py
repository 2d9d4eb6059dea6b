#!/usr/bin/env python3
"""Citations have one form, and what they name exists.

`RFC 9051 section 7.5.2` for RFCs; `index-format 4.3` for the specifications whose headings stand in sections.txt, also
deeper than a heading (the third item of section 24 is 24.3). With --list prints them, file by section.

usage: citations.py TOP [--list]
"""
import collections
import os
import re
import sys

from files import lines, source_files

SPEC_DIR = os.path.dirname(os.path.abspath(__file__))


def load_sections():
    sections = collections.defaultdict(set)
    for line in lines(SPEC_DIR, "sections.txt"):
        if not line.startswith("#"):
            document, number = line.split(" ")[:2]
            sections[document].add(number)
    return sections


def exists(sections, number):
    if number in sections:
        return True
    parent = number.rpartition(".")[0]
    # An item of a section without headings of its own, or one level below the deepest heading.
    return parent in sections and not any(s.startswith(parent + ".") for s in sections)


def main(top, wants_list):
    sections = load_sections()
    names = "|".join(sorted(map(re.escape, sections), key=len, reverse=True))
    spec = re.compile(rf"(?<![\w/.-])({names})(?:\.md)? (\d+[a-z]?(?:\.\d+)*)(?![\w])")
    rfc_good = re.compile(r"RFC ([1-9]\d{2,3}) section ([1-9A-Z]\d*(?:\.\d+)*)")
    rfc_bad = re.compile(r"RFC ?\d{3,4}(?:, ?\d+\.\d| §| sec\.| [1-9]\d*\.\d| Section \d| chapter)")
    seen, faults = collections.defaultdict(list), []
    for name in source_files(top):
        if not name.endswith((".c", ".h", ".sh", ".py")) or name.startswith("tests/house/"):
            continue
        for number, line in enumerate(lines(top, name), 1):
            where = f"{name}:{number}"
            for document, section in spec.findall(line):
                seen[f"{document} {section}"].append(where)
                if not exists(sections[document], section):
                    faults.append(f"{where}: {document} has no section {section}")
            for document, section in rfc_good.findall(line):
                seen[f"RFC {document} section {section}"].append(where)
            for text in rfc_bad.findall(line):
                faults.append(f"{where}: '{text}': write 'RFC N section S'")
    if wants_list:
        for citation, places in sorted(seen.items()):
            print(citation + ": " + " ".join(places))
    print("\n".join(faults))
    print(f"{sum(map(len, seen.values()))} citations of {len(seen)} sections, {len(faults)} faults")
    return 1 if faults or not seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--list" in sys.argv[2:]))

#!/usr/bin/env python3
"""Damages configurations of the corpus at random and compares what two doveconf say about them.

usage: damaged.py CORPUS REAL OURS SEED ROUNDS     prints differences; exit 1 if there is one
"""
import glob
import os
import random
import re
import subprocess
import sys

corpus, real, ours, seed, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
random.seed(seed)
texts = []
for name in sorted(glob.glob(corpus + "/*/dovecot.conf")):
    with open(name, errors="surrogateescape") as file:
        texts.append(file.read())
all_lines = [line for text in texts for line in text.split("\n") if "include" not in line]
keys = sorted({match[1] for line in all_lines if (match := re.match(r"\s*(\w+) = ", line))})
VALUES = ["yes", "no", "0", "1", "5 mins", "10M", "x", "a b", "$mail_plugins x", "", '"q"', "100", "0644", "500ms"]
OPENERS = ["protocol imap {", "}", "plugin {", "service imap {", "namespace inbox {", "remote 10.0.0.0/8 {", "local_name a.b {",
           "passdb {"]
OPTIONS = [["-n"], ["-n"], ["-n"], ["-a"], ["-N", "-x", "-P"], ["-n", "-f", "service=imap", "-f", "remote=10.1.1.1"],
           ["-n", "-f", "lname=a.b"], ["-m", "auth"], ["plugin", "service/imap", "mail_location", "namespace"]]
ENVIRONMENT = {"PATH": os.environ["PATH"], "DUMP_CAPABILITY": "1", "LC_ALL": "C"}
# What is known to differ, with its reason: these words in either message excuse the case.
KNOWN = ["socket listen",          # filters inside sockets of Dovecot 1
         "passdb { passdb"]        # a passdb inside of a passdb


def damage(lines):
    for _ in range(random.randint(1, 4)):
        lines = lines or [""]
        at, kind = random.randrange(len(lines)), random.random()
        if kind < .25:
            lines.insert(at, random.choice(all_lines))
        elif kind < .4:
            del lines[at]
        elif kind < .55:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind < .7 and lines[at]:
            byte = random.randrange(len(lines[at]))
            with_ = random.choice("{}\"'\\# =$</0123 \t")
            lines[at] = lines[at][:byte] + with_ + lines[at][byte + random.randint(0, 1):]
        elif kind < .85:
            lines.insert(at, random.choice(keys) + " = " + random.choice(VALUES))
        else:
            lines.insert(at, random.choice(OPENERS))
    return lines


def run(program, options):
    done = subprocess.run([program, *options, "-c", "x.conf"], env=ENVIRONMENT, capture_output=True, timeout=120)
    out = re.sub(r"^# (\d|Pigeonhole|OS|Hostname).*\n", "", done.stdout.decode("latin1"), flags=re.M)
    return out, done.stderr.decode("latin1"), done.returncode


compared = different = 0
for number in range(rounds):
    # Host names would be looked up, included files belong to the folder of the case.
    lines = [line for line in random.choice(texts).split("\n") if "include" not in line and "localhost" not in line]
    text = "\n".join(damage(lines)) + "\n"
    if "include" in text or re.search(r"(local|remote)\s+[^\d{_]", text) or "host.example" in text:
        continue
    with open("x.conf", "w", errors="surrogateescape") as file:
        file.write(text)
    options = random.choice(OPTIONS)
    theirs, mine = run(real, options), run(ours, options)
    if theirs[2] not in (0, 89):
        continue        # it crashed: nothing to be learned
    compared += 1
    if theirs != mine and not any(word in theirs[1] + mine[1] for word in KNOWN):
        different += 1
        print(f"== seed {seed} round {number} {options}: exit {theirs[2]} and {mine[2]}\n{text}")
        print("-- real:\n" + theirs[1] + theirs[0] + "-- ours:\n" + mine[1] + mine[0])
print(compared, "compared,", different, "different")
sys.exit(1 if different or compared < rounds / 2 else 0)

"""The files of the source tree: those under version control, or all of an unpacked release."""
import os
import subprocess


def source_files(top):
    try:
        out = subprocess.run(["git", "-C", top, "ls-files", "-z"], capture_output=True, check=True).stdout
        names = [os.fsdecode(n) for n in out.split(b"\0") if n]
        if names:
            return sorted(n for n in names if os.path.isfile(os.path.join(top, n)))
    except (OSError, subprocess.CalledProcessError):
        pass
    names = []
    for folder, subfolders, files in os.walk(top):
        subfolders[:] = [s for s in subfolders if not s.startswith((".git", "build", "autom4te"))]
        names += [os.path.relpath(os.path.join(folder, f), top) for f in files]
    return sorted(names)


def lines(top, name):
    with open(os.path.join(top, name), encoding="utf-8", errors="replace") as f:
        return f.read().splitlines()

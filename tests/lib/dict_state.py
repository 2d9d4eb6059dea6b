"""dict_state.py HEARD: what a dictionary holds after the commits that fake_dict.py has noted, a line each."""
import sys

state, user, changes = {}, {}, {}
for line in open(sys.argv[1]):
    fields = line.rstrip("\n").split(" ", 1)[1].split("\t")
    what, number = fields[0][0], fields[0][1:]
    if what == "B":
        user[number], changes[number] = fields[1], []
    elif what in "SU":
        changes[number].append((fields[1], fields[2] if what == "S" else None))
    elif what in "CD":
        for key, value in changes[number]:
            state[user[number], key] = value
for (name, key), value in sorted(state.items()):
    if value is not None:
        print(name, key, value)

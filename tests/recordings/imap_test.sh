# Recordings of the real server that ours must answer alike: those that imap.same names.

door=imap
. "$TOP_SRC/tests/recordings/cases.sh"

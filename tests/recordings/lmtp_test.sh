# Recordings of the real server that ours must answer alike: those that lmtp.same names.

door=lmtp
. "$TOP_SRC/tests/recordings/cases.sh"

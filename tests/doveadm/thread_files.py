"""thread_files.py FILE FOLDER: thread indexes that are cut off, broken, or hold what no server writes, made of a good one."""
import struct
import sys

good = open(sys.argv[1], "rb").read()
head = good[:16]


def write(name, data):
    with open("%s/%s.thread" % (sys.argv[2], name), "wb") as f:
        f.write(data)


def offset(n):
    return bytes(0x80 | n >> shift & 0x7F for shift in (21, 14, 7, 0))


def packed(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def record(uid, n, indexes):
    hashes = b"".join(struct.pack("<I", 0x1000 + i) for i in range(len(indexes)))
    return packed(uid) + packed(n) + hashes + b"".join(struct.pack("<I", i) for i in indexes)


def block(data):
    return offset(len(data)) + data


for size in (0, 4, 8, 12, 16, 18, 20, 21, 24, 28, 100, len(good) - 1):
    write("cut%d" % size, good[:size])
write("version1", b"\1\0\0\0" + good[4:8] + good[16:])
write("version3", b"\3" + good[1:])
write("size", head + b"\1\2\3\4" + good[20:])
write("zero", good + bytes(20))
write("large", head + offset(1000) + good[20:])
write("text", b"hello world, this is no index\n")
for n in (2, 3, 4):
    write("references%d" % n, head + block(record(300, n, range(n))))
write("count", head + block(record(0, 5, range(5))[:-4]))
write("huge", head + block(packed(0) + packed(0xFFFFFFFF) + bytes(24)))
write("wrap", head + block(packed(0xFFFFFFFF) + packed(0) + bytes(14)))
write("long", head + block(b"\xff" * 12 + bytes(8)))
write("uid", head + block(packed(1)))
write("two", head + block(record(3, 0, [1]) * 2) + block(record(3, 0, [1])))
write("broken", head + block(packed(0) + packed(9) + bytes(5)) + block(record(3, 0, [1])))
for index in (6, 7, 50, 0xFFFFFFFF):
    write("index%d" % index, head + block(record(0, 0, [index])))

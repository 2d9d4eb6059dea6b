/* What doveadm-server and doveadm-front say to each other: packets over a SOCK_SEQPACKET pair, the first byte is the kind.
 *
 * The front asks, the server answers; one command at a time. The output of a command does not travel in packets but through
 * two pipes whose ends the front holds: FRONT_FD_OUT (what the command prints, its formatter's form) and FRONT_FD_LOG
 * (records: a byte for the level, prefix and text, LF). All of a command's output is in the pipes when its status comes. */
#ifndef YARILO_DOVEADM_SERVER_WIRE_H
#define YARILO_DOVEADM_SERVER_WIRE_H

enum { WIRE_PACKET_MAX = 128 * 1024, WIRE_DATA_MAX = 32 * 1024 };

enum wire_ask {
    WIRE_PLAIN = 'A',    /* name NUL password NUL */
    WIRE_KEY = 'K',      /* the key of the HTTP API NUL */
    WIRE_OBJECT = 'J',   /* name NUL (parameter NUL value NUL)*: rows as JSON; the value of a stream comes as data */
    WIRE_LIST = 'L',     /* all commands and their parameters, as JSON */
    WIRE_COMMAND = 'C',  /* flags NUL user NUL command NUL (argument NUL)*: rows as the line protocol has them */
    WIRE_DATA = 'D',     /* input for the command that wants it */
    WIRE_DATA_END = 'E',
    WIRE_COPY_IN = 'i',  /* with FRONT_FLAG_COPIES, at any time: what was read from the client, for the raw log ... */
    WIRE_COPY_OUT = 'o'  /* ... and what was written to it. No answer */
};

enum wire_answer {
    WIRE_ACCEPTED = '+', /* the password, or the key */
    WIRE_REFUSED = '-',
    WIRE_WANTS_INPUT = 'I',
    WIRE_STATUS = 'S',   /* one byte: the exit status (enum doveadm_exit) */
    WIRE_UNKNOWN = 'U',  /* no such command here */
    WIRE_INVALID = 'V',  /* a parameter that it does not have, or a number that is none */
    WIRE_FORBIDDEN = 'F', /* not in doveadm_allowed_commands */
    WIRE_END = 'X'       /* the connection shall end: a command ended with Fatal, or what was sent is none */
};

/* The descriptors of doveadm-front. Its arguments: "line" or "http", flags (letters below), the client's address or "". */
enum { FRONT_FD_CLIENT = 3, FRONT_FD_WIRE = 4, FRONT_FD_OUT = 5, FRONT_FD_LOG = 6, FRONT_FD_CONF = 7 };
#define FRONT_FLAG_TLS 't'        /* from the first byte */
#define FRONT_FLAG_TRUSTED 'u'    /* a socket that only its owner may use: no password */
#define FRONT_FLAG_PASSWORD 'p'   /* there is a password ... */
#define FRONT_FLAG_KEY 'k'        /* ... and a key */
#define FRONT_FLAG_COPIES 'r'     /* doveadm_http_rawlog_dir is there: the front, which may write no files, sends copies */

/* The service whose (imagined) part of the configuration the front gets: TLS. */
#define FRONT_CONF_SERVICE "doveadm-front"

#endif

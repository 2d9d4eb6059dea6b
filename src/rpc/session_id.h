/* Names of sessions, as logs have them: 22 characters, base64 without padding of 16 random bytes (doors 2.3). */
#ifndef YARILO_RPC_SESSION_ID_H
#define YARILO_RPC_SESSION_ID_H

enum { SESSION_ID_SIZE = 23 };
void session_id_new(char out[SESSION_ID_SIZE]);

#endif

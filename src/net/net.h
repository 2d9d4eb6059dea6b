/* The face of src/net: addresses, descriptor passing, streams, TLS, the PROXY protocol. */
#ifndef YARILO_NET_NET_H
#define YARILO_NET_NET_H

#include "net/addr.h"
#include "net/fdpass.h"
#include "net/haproxy.h"
#include "net/loop.h"
#include "net/rawlog.h"
#include "net/stream.h"
#include "net/tls.h"

#endif

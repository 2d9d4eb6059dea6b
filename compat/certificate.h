/* What `mode: single` needs beside its file at the first start (config-yaml 4). */
#ifndef YARILO_COMPAT_CERTIFICATE_H
#define YARILO_COMPAT_CERTIFICATE_H

#include "conf/tree.h"

/* When the embedded default holds (mode: single without general.ssl): makes the data folder beside the file and in it
 * a self-signed certificate, once. */
int certificate_prepare_single(const struct conf_tree *, struct error *);

#endif

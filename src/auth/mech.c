/* mech.c - the table of mechanisms, and what they share. */
#include "auth/mech.h"

static const struct mech *const mechs[] = {&mech_plain, &mech_login};

#define ADDED_MOST 32
static const struct mech *added[ADDED_MOST];
static size_t added_count;

void mech_add(const struct mech *m)
{
    if (added_count < ADDED_MOST)
        added[added_count++] = m;
}

const struct mech *mech_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(mechs) / sizeof(mechs[0]); i++)
        if (slice_equal_str_nocase(name, mechs[i]->name))
            return mechs[i];
    for (size_t i = 0; i < added_count; i++)
        if (slice_equal_str_nocase(name, added[i]->name))
            return added[i];
    return NULL;
}

void exchange_challenge(struct exchange *x, struct slice data)
{
    x->challenge(x, data);
}

void exchange_finish(struct exchange *x, enum passdb_result result, struct slice final)
{
    x->finished(x, result, final);
}

static void verified(struct request *r, enum passdb_result result)
{
    struct exchange *x = r->owner;

    if (x != NULL)
        exchange_finish(x, result, SLICE_EMPTY);
    request_unref(r);
}

void exchange_verify(struct exchange *x, char *password)
{
    struct request *r = request_ref(x->request);

    request_set_password(r, password);
    explicit_bzero(password, strlen(password));
    passdb_verify(r, verified);
}

bool exchange_set_user(struct exchange *x, const char *name)
{
    struct error e;

    if (request_set_user(x->request, name, &e) == 0)
        return true;
    exchange_refuse(x, e.admin);
    return false;
}

void exchange_refuse(struct exchange *x, const char *why)
{
    request_info(x->request, "%s", why);
    exchange_finish(x, PASSDB_USER_UNKNOWN, SLICE_EMPTY);
}

/* event.c - imap_command_finished: each command with its reply, for metrics (ipc 8.1).
 *
 * The event has what Dovecot's says but for the text of the arguments, the reasons and how long locks were waited for. */
#include "imap/session.h"
#include "rpc/stats_client.h"

/* What stands around the arguments: a blank before them, CR LF behind. */
enum { AROUND = 3 };

void event_begin(struct session *s, struct request *r)
{
    if (!stats_client_on(worker_stats(s->worker)))
        return;
    r->typed = arena_strdup(r->arena, s->last_command);
    r->taken = s->taken;
    r->written = s->written;
}

/* Is it about the messages of the selected mailbox, or has it selected one? */
static bool about_mailbox(const struct session *s, const struct request *r)
{
    return s->box != NULL && r->command != NULL &&
           ((r->command->flags & (COMMAND_SELECTED | COMMAND_LATE)) != 0 || strcmp(r->name, "SELECT") == 0 || strcmp(r->name, "EXAMINE") == 0);
}

void event_finished(struct session *s, const struct request *r)
{
    static const char *const categories[] = {"service:imap", "imap", NULL};
    uint64_t now = time_monotonic_ns(), in = s->taken - r->taken;
    char state[8] = "";

    if (r->typed == NULL)
        return;
    memcpy(state, r->reply, strcspn(r->reply, " ") < sizeof(state) ? strcspn(r->reply, " ") : 0);
    const struct stats_out_field fields[] = {
        {"user", stats_text(mail_user_name(s->user))},
        {"session", stats_text(s->session_id)},
        {"local_ip", stats_text(s->local_ip)},
        {"remote_ip", stats_text(s->remote_ip)},
        {"cmd_tag", stats_text(r->tag)},
        {"cmd_name", stats_text(r->command == NULL ? "unknown" : r->name)},
        {"cmd_input_name", stats_text(r->typed)},
        {"tagged_reply_state", stats_text(state)},
        {"tagged_reply", stats_text(r->reply)},
        {"running_usecs", stats_number(r->run_ns / 1000)},
        {"bytes_in", stats_number(in > AROUND ? in - AROUND : 0)},
        {"bytes_out", stats_number(s->written - r->written)},
        {"mailbox", stats_text(about_mailbox(s, r) ? mailbox_where(s->box)->vname : NULL)},
    };
    const struct stats_out event = {.name = "imap_command_finished", .categories = categories, .took_ns = now - r->begun_ns,
                                    .file = __FILE__, .line = __LINE__, .fields = fields, .count = sizeof(fields) / sizeof(fields[0])};
    stats_client_send(worker_stats(s->worker), &event);
}

/* progress.c - how far yarilo-migrate is: a bar where somebody looks, JSON lines where a program does. */
#include "migrate/migrate.h"

#include "base/text.h"

#include <stdio.h>
#include <time.h>

enum { BAR = 30, EVERY_MS = 100 };

static void put_json(const char *text)
{
    struct buffer out = {0};

    text_json_escape(&out, slice_from_str(text));
    printf("\"%s\"", buffer_cstr(&out));
    buffer_free(&out);
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void progress_draw(struct migrate *m, const struct migrate_box *box)
{
    unsigned filled = box->total == 0 ? BAR : (unsigned)((uint64_t)box->done * BAR / box->total);

    if (!m->terminal || now_ms() - m->shown_ms < EVERY_MS)
        return;
    m->shown_ms = now_ms();
    printf("\r\033[K[%.*s%.*s] %u/%u %s", (int)filled, "##############################", (int)(BAR - filled),
           "..............................", box->done, box->total, box->name);
    fflush(stdout);
}

void progress_box(struct migrate *m, const struct migrate_box *box)
{
    if (m->terminal) {
        printf("\r\033[K%s: %s%u of %u %s, %u there already", box->name, m->dry_run ? "would look at " : "", box->copied, box->total,
               m->dry_run ? "messages" : "copied", box->present);
        if (box->changed + box->gone + box->extra > 0)
            printf(" (%u changed, %u gone from the target, %u only there)", box->changed, box->gone, box->extra);
        if (box->failed != NULL)
            printf("; failed: %s", box->failed);
        putchar('\n');
    } else {
        printf("{\"mailbox\": ");
        put_json(box->name);
        printf(", \"messages\": %u, \"copied\": %u, \"present\": %u, \"changed\": %u, \"gone\": %u, \"extra\": %u", box->total,
               box->copied, box->present, box->changed, box->gone, box->extra);
        if (box->failed != NULL) {
            printf(", \"error\": ");
            put_json(box->failed);
        }
        printf("}\n");
    }
    fflush(stdout);
}

void progress_end(struct migrate *m, unsigned boxes, unsigned failed, uint64_t copied, unsigned subscribed)
{
    if (m->terminal)
        printf("%u mailboxes, %u failed, %llu messages copied, %u subscriptions added%s\n", boxes, failed,
               (unsigned long long)copied, subscribed, m->dry_run ? " (dry run: nothing was written to the target)" : "");
    else
        printf("{\"mailboxes\": %u, \"failed\": %u, \"copied\": %llu, \"subscribed\": %u, \"dry_run\": %s}\n", boxes, failed,
               (unsigned long long)copied, subscribed, m->dry_run ? "true" : "false");
    fflush(stdout);
}

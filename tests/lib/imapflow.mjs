// A client that keeps a tree of Maildirs in step with the server through imapflow (a package of npm):
//     node imapflow.mjs HOST PORT USER fetch PATH       all folders and messages, as files PATH/FOLDER/cur/UID:2,FLAGS
//     node imapflow.mjs HOST PORT USER change PATH      flags, deletes, moves, appends, and the same in the tree
//     node imapflow.mjs HOST PORT USER wait PATH        says `waiting` and idles until a message comes, then fetches
import { mkdirSync, readdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const { ImapFlow } = createRequire(process.cwd() + "/")("imapflow");
const [host, port, user, command, path] = process.argv.slice(2);
const LETTERS = { "\\Draft": "D", "\\Flagged": "F", "\\Answered": "R", "\\Seen": "S", "\\Deleted": "T" };
const client = new ImapFlow({ host, port: Number(port), secure: false, doSTARTTLS: false, auth: { user, pass: "pass" }, logger: false });

// The folder of a mailbox in the tree that holds its messages.
const messages = name => [path, ...name.split("/"), "cur"].join("/");
const fileOf = (cur, uid) => readdirSync(cur).find(name => name.startsWith(`${uid}:2,`));
const letters = flags => [...flags].map(f => LETTERS[f]).filter(Boolean).sort().join("");

function must(good, what) {
    if (!good) throw new Error(what);
}

async function fetchAll() {
    rmSync(path, { recursive: true, force: true });
    for (const folder of await client.list()) {
        const cur = messages(folder.pathAsListed);
        mkdirSync(cur, { recursive: true });
        mkdirSync(cur.replace(/cur$/, "new"), { recursive: true });
        const lock = await client.getMailboxLock(folder.path);
        try {
            if (client.mailbox.exists === 0) continue;
            for await (const mail of client.fetch("1:*", { uid: true, flags: true, size: true, source: true, envelope: true,
                                                           bodyStructure: true, internalDate: true, headers: ["subject"] })) {
                must(mail.source.length === mail.size, `size of ${mail.uid} in ${folder.path}`);
                must(mail.envelope.subject !== undefined && mail.bodyStructure.type, `structure of ${mail.uid}`);
                must(mail.internalDate instanceof Date && /^subject:/i.test(mail.headers), `date or header of ${mail.uid}`);
                writeFileSync(`${cur}/${mail.uid}:2,${letters(mail.flags)}`, mail.source);
            }
        } finally {
            lock.release();
        }
    }
}

function rename(cur, uid, change) {
    const old = fileOf(cur, uid);
    const flags = new Set(old.split(":2,")[1]);
    change(flags);
    renameSync(`${cur}/${old}`, `${cur}/${uid}:2,${[...flags].sort().join("")}`);
}

async function change() {
    const cur = messages("Work"), deep = messages("Work/Deep");
    const lock = await client.getMailboxLock("Work");
    try {
        const uids = await client.search({ all: true }, { uid: true });
        must(uids.length === 9, "search all");
        await client.messageFlagsAdd(uids.slice(0, 3).join(), ["\\Flagged", "\\Seen"], { uid: true });
        uids.slice(0, 3).forEach(uid => rename(cur, uid, flags => flags.add("F").add("S")));
        await client.messageFlagsRemove(uids.slice(1, 5).join(), ["\\Flagged"], { uid: true });
        uids.slice(1, 5).forEach(uid => rename(cur, uid, flags => flags.delete("F")));
        const found = await client.search({ seen: true, flagged: false, since: "2020-01-01", header: { subject: "Work" } }, { uid: true });
        must(uids.slice(1, 3).every(uid => found.includes(uid)), "search by flags");
        must(await client.messageDelete(uids.slice(5, 7).join(), { uid: true }), "delete");
        for (const uid of uids.slice(5, 7)) unlinkSync(`${cur}/${fileOf(cur, uid)}`);
        const moved = await client.messageMove(uids.slice(7).join(), "Work/Deep", { uid: true });
        must(moved && moved.uidMap.size === 2, "move tells the new UIDs");
        for (const [from, to] of moved.uidMap) {
            const old = fileOf(cur, from);
            renameSync(`${cur}/${old}`, `${deep}/${to}:2,${old.split(":2,")[1]}`);
        }
        const text = "Subject: of imapflow\r\n\r\nsent by imapflow\r\n";
        const sent = await client.append("Work", text, ["\\Seen"]);
        must(sent && sent.uid > 0, "append tells the UID");
        writeFileSync(`${cur}/${sent.uid}:2,S`, text);
    } finally {
        lock.release();
    }
    must((await client.mailboxCreate("By imapflow")).created, "create");
    must(await client.mailboxRename("By imapflow", "Of imapflow"), "rename");
    must((await client.status("Of imapflow", { messages: true, uidNext: true })).messages === 0, "status");
    must(await client.mailboxDelete("Of imapflow"), "delete a mailbox");
    must((await client.list()).every(folder => !folder.path.includes("imapflow")), "list");
}

async function wait() {
    const lock = await client.getMailboxLock("INBOX");
    try {
        const news = new Promise(resolve => client.on("exists", resolve));
        const idle = client.idle();
        console.log("waiting");
        await news;
        await client.noop();
        await idle;
    } finally {
        lock.release();
    }
    await fetchAll();
}

await client.connect();
await { fetch: fetchAll, change, wait }[command]();
await client.logout();

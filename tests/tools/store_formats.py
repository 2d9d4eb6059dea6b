"""Mail formats as the fault runs (crash_store.py) and other store tests know them: one entry each.

To add a format write an entry into FORMATS. `location` is its mail_location ("~" is the home of the run); `settings` go to
storetool and to Dovecot; `more` are operations of its own, or others' with other arguments: name -> (arguments of storetool, ...),
checked as the operation of OPERATIONS in crash_store.py with that name, or as one that changes nothing that can be seen;
`message_files` counts the messages' bytes on the disk after force-resync and purge: a function of the home that returns the number
of messages stored, or None; `migrates_to` is the mail_location that yarilo-migrate converts it to (its files below ~/to);
`attachments` makes each mail's body one; `shares` says that copies have their bytes together; `temporary` matches names that only an
unfinished operation leaves; `conf` is more text of the configuration; `files` are written first: path below the home -> text;
`prepare` are commands of storetool that end the preparation; `mirror` is a mailbox that shows INBOX's messages, with the same UIDs, and that operations use in INBOX's place."""
import os, re

LEFT = re.compile(r'(^|/)(tmp/.*|temp\..*|\.temp\..*|.*\.lock|.*\.newlock|.*\.tmp)$')


class Format:
    def __init__(self, location, settings=(), more=None, without=(), message_files=None, temporary=LEFT, dovecot=True, shares=False,
                 attachments=False, migrates_to=None, conf='', files=None, mirror=None,
                 prepare=()):
        self.conf, self.files, self.mirror, self.prepare = conf, files or {}, mirror, prepare
        self.location, self.settings, self.more, self.without = location, tuple(settings), more or {}, set(without)
        self.attachments, self.migrates_to = attachments, migrates_to
        self.message_files, self.temporary, self.dovecot, self.shares = message_files, temporary, dovecot, shares
        self.separator = '~' if 'LAYOUT=index' in location else '/' if 'LAYOUT=fs' in location or not location.startswith('maildir') else '.'


def files_below(home, match):
    return sum(1 for folder, _, names in os.walk(home) for name in names if re.search(match, os.path.join(folder, name)))


def mdbox_messages(home):
    """Messages in the m.* files, whatever the map says."""
    count = 0
    for folder, _, names in os.walk(home):
        for name in names:
            if re.fullmatch(r'm\.\d+', name):
                with open(os.path.join(folder, name), 'rb') as f:
                    count += len(re.findall(rb'^\x01\x02N {10}', f.read(), re.M))
    return count


def maildir_files(home):
    return files_below(home, r'/(cur|new)/[^/]*$')


def sdbox_files(home):
    return files_below(home, r'/u\.\d+$')


def migrated_files(location):
    return {'maildir': maildir_files, 'sdbox': sdbox_files, 'mdbox': mdbox_messages, 'mbox': mbox_messages}[location.split(':')[0]]


def mbox_messages(home):
    """X-UID headers: one a message."""
    count = 0
    for folder, names, files in os.walk(home):
        names[:] = [n for n in names if n != '.imap']
        for name in files:
            if not name.startswith('.') and not name.endswith('.conf'):
                with open(os.path.join(folder, name), 'rb') as f:
                    count += len(re.findall(rb'^X-UID: ', f.read(), re.M))
    return count


CRYPT = ('mail_plugins=mail_crypt', 'plugin/mail_crypt_save_version=2', 'plugin/mail_crypt_curve=prime256v1',
         'mail_attribute_dict=file:%h/attributes')
ZLIB = ('mail_plugins=zlib', 'plugin/zlib_save=gz')
VIRTUAL = dict(conf='namespace inbox {\n  inbox = yes\n  separator = .\n}\nnamespace virtual {\n  prefix = virtual.\n  separator = .\n'
               '  location = virtual:~/virtual\n}\n', files={'virtual/all/dovecot-virtual': '!INBOX\n  all\n'}, mirror='virtual.all')
PURGE = {'purge': ('purge',)}
ALT = (('altmove', 'INBOX', '2', 'there'),)
ALTMOVE = {'altmove': ('altmove', 'INBOX', '1,3', 'there'), 'altback': ('altmove', 'INBOX', '2', 'back')}
ATTACH = ('mail_attachment_dir=~/att', 'mail_attachment_min_size=1')
FORMATS = {
    'maildir': Format('maildir:~/Maildir', message_files=maildir_files, migrates_to='sdbox:~/to'),
    'maildir-fs': Format('maildir:~/Maildir:LAYOUT=fs', message_files=maildir_files, migrates_to='mdbox:~/to'),
    'maildir-split': Format('maildir:~/Maildir:INDEX=~/index:CONTROL=~/control', message_files=maildir_files),
    'maildir-flock': Format('maildir:~/Maildir', ('lock_method=flock',), message_files=maildir_files, migrates_to='mbox:~/to'),
    'sdbox': Format('sdbox:~/sdbox', message_files=sdbox_files, migrates_to='maildir:~/to'),
    'sdbox-alt': Format('sdbox:~/sdbox:ALT=~/alt', more=ALTMOVE, prepare=ALT, message_files=sdbox_files),
    'mdbox': Format('mdbox:~/mdbox', more=PURGE, message_files=mdbox_messages, shares=True,
                    migrates_to='maildir:~/to:LAYOUT=fs'),
    'mdbox-small': Format('mdbox:~/mdbox', ('mdbox_rotate_size=1k',), more=PURGE, message_files=mdbox_messages, shares=True),
    'mdbox-alt': Format('mdbox:~/mdbox:ALT=~/alt', more={**PURGE, **ALTMOVE}, prepare=ALT,
                        message_files=mdbox_messages, shares=True),
    'maildir-zlib': Format('maildir:~/Maildir', ZLIB, message_files=maildir_files),
    'sdbox-zlib': Format('sdbox:~/sdbox', ZLIB, message_files=sdbox_files),
    'mdbox-zlib': Format('mdbox:~/mdbox', ZLIB, more=PURGE, message_files=mdbox_messages, shares=True),
    'maildir-crypt': Format('maildir:~/Maildir', CRYPT, message_files=maildir_files),
    'sdbox-crypt': Format('sdbox:~/sdbox', CRYPT, message_files=sdbox_files),
    'mdbox-crypt': Format('mdbox:~/mdbox', CRYPT, more=PURGE, message_files=mdbox_messages, shares=True),
    'maildir-private': Format('maildir:~/Maildir:INDEXPVT=~/private', message_files=maildir_files),
    'sdbox-private': Format('sdbox:~/sdbox:INDEXPVT=~/private', message_files=sdbox_files),
    'sdbox-attach': Format('sdbox:~/sdbox', ATTACH, message_files=sdbox_files, attachments=True),
    'mdbox-attach': Format('mdbox:~/mdbox', ATTACH, more=PURGE, message_files=mdbox_messages, shares=True, attachments=True),
    'sdbox-attach-posix': Format('sdbox:~/sdbox', ATTACH + ('mail_attachment_fs=posix',), message_files=sdbox_files, attachments=True),
    'mdbox-attach-queue': Format('mdbox:~/mdbox', ATTACH + ('mail_attachment_fs=sis-queue %h/queue:posix',), more=PURGE,
                                 message_files=mdbox_messages, shares=True, attachments=True),
    'mdbox-attach-coded': Format('mdbox:~/mdbox', ATTACH + ('mail_plugins=zlib', 'mail_attachment_fs=sis compress:gz:6:posix'), more=PURGE,
                                 message_files=mdbox_messages, shares=True, attachments=True),
    'sdbox-index': Format('sdbox:~/sdbox:LAYOUT=index', message_files=sdbox_files),
    'maildir-index': Format('maildir:~/Maildir:LAYOUT=index', message_files=maildir_files),
    'maildir-virtual': Format('maildir:~/Maildir', ('mail_plugins=virtual',), message_files=maildir_files, **VIRTUAL),
    'mbox': Format('mbox:~/mail', message_files=mbox_messages, migrates_to='sdbox:~/to'),
    'mbox-eager': Format('mbox:~/mail:INBOX=~/spool', ('mbox_lazy_writes=no', 'mbox_write_locks=dotlock fcntl'), message_files=mbox_messages),
    'maildir-dotlock': Format('maildir:~/Maildir', ('lock_method=dotlock',), message_files=maildir_files),
}

"""Where the remote side runs no Python: files copied by SFTP, the protocol of version 3 that every server speaks.

A file is written below a temporary name in its own folder, made of its name, size and time, then synced and renamed.
So what an earlier run left under that name is the beginning of the same bytes, and is gone on from; what it left of
another version is removed. SFTP tells times in whole seconds. Nothing is updated by block or verified beyond what ssh
does; symbolic links and hard links are not copied. The command says so.

The client is ours, and not the system's ``sftp`` in batch mode, which was tried against OpenSSH 9.2. That one asks for
passwords and passphrases (``-oBatchMode=no`` before ``-b``), but: its lines cannot name a file with a line break, so
that such a name cannot be given once the file is whole; ``reput`` and ``reget`` append to whatever is there, of another
version too, and end with status 0; ``get`` writes through a link and over the older file in place; ``ls`` tells names
with escapes and times in minutes, so that what is there cannot be known; and of several files that fail none is named.
"""

"""Where the remote side runs no Python: files copied by SFTP, the protocol of version 3 that every server speaks.

A file is written below a temporary name in its own folder, made of its name, size and time, then synced and renamed.
So what an earlier run left under that name is the beginning of the same bytes, and is gone on from; what it left of
another version is removed. SFTP tells times in whole seconds. Nothing is updated by block or verified beyond what ssh
does; symbolic links and hard links are not copied. The command says so.
"""

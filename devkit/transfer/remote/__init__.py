"""The two ends of a transfer, in the standard library of Python 3.6 alone: devkit sends them to the remote side.

The receiver drives. The sender (``offer``) first sends one manifest: every entry's kind, path, size, time and
mode. The receiver (``take``) compares it with what it has, and asks for byte ranges by the entries' numbers, never
by a path, so it cannot name what was not shared. Many requests are on their way at once, and answers come in their
order: small files follow each other in one stream, big ones come a range at a time.

A request is either WANT (a range) or CHECK (a range, with the digest of each block that the receiver already
holds, in what an earlier transfer left half-written or in the file's older version): the answer to CHECK names the
blocks that are the same and carries the others. So a transfer that was stopped at any byte goes on by the same
comparison that updates a changed file, and no state is kept but the half-written file itself.

Each DATA frame carries a checksum of its bytes as the sender read them; a block that fails is asked for again.
What arrives is written below a temporary name in the folder of the file, synced, and renamed.

On the wire: frames of ``!BI`` (kind, length) and that many bytes, at most ``MAX_FRAME``; the kinds are in ``wire``.
"""

"""Back up a guest's OpenClaw state, restore it, and prove that the restore works.

The pure parts: naming (archives and objects), manifest (what an archive contains), retention (which archives may go),
guards (what must hold before a mirror changes), changes (what a restore would change), health (for `inv status`).

From the guest to the mirror: snapshot (SQLite), rsync, owners, local (the mirror's files), mirror (all of it).
From the mirror to an archive: tree (read it safely), tar, crypt (zstd and age), pipe, checksums, archive, and back:
unpack, staging.
Where archives are: repository, directory, signature, probe; the port to S3 is swarm.s3.
A run: now (`inv backup`), store (write, verify, prune), busy (the lock), record, monitor (pings, metrics, commands).
Afterwards: catalog (list, show, verify), recover (where a restore comes from), pick (what of it), restore, swap
and answers (in the guest), emergency (without swarm), drill and rehearsal (into a throwaway VM).
"""

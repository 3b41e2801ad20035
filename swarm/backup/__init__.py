"""Back up a guest's OpenClaw state, restore it, and prove that the restore works.

guards     what must hold before the mirror changes      naming      the names of archives and their objects
snapshot   consistent copies of SQLite databases         manifest    what an archive contains
mirror     rsync into openclaw/NAME/                      repository  where archives are stored: S3 and directories
archive    tar, zstd, age, and back                       retention   which archives may go
restore    put a mirror or an archive back                drill       restore into a throwaway VM
"""

#!/usr/bin/env python3
"""Lists a folder as st_ref.py lists a container, from what the operating system says: os_list.py FOLDER."""
import grp
import json
import os
import pwd
import stat
import sys

from blake3 import blake3

TYPES = {stat.S_IFIFO: "fifo", stat.S_IFCHR: "char", stat.S_IFDIR: "dir", stat.S_IFBLK: "block", stat.S_IFREG: "file"}
TYPES |= {stat.S_IFLNK: "symlink", stat.S_IFSOCK: "socket"}


def paths(root):
    """All paths below, as bytes, and the root as `.`; sorted."""
    yield b"."
    for top, dirs, files in os.walk(root):
        for name in dirs + files:
            yield os.path.relpath(os.path.join(top, name), root)


def hash_of(path):
    hasher = blake3()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def name_of(look_up, number):
    try:
        return look_up(number)[0]
    except (KeyError, OverflowError):
        return None


def subdirectories(path):
    return sum(1 for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))


def line(root, path, first):
    full = os.path.join(root, path)
    at = os.lstat(full)
    kind = TYPES[stat.S_IFMT(at.st_mode)]
    same = path if kind == "dir" else first.setdefault((at.st_dev, at.st_ino), path)
    return dict(
        path=os.fsdecode(path),
        type=kind,
        same=os.fsdecode(same),
        mode=stat.S_IMODE(at.st_mode),
        uid=at.st_uid,
        gid=at.st_gid,
        user=name_of(pwd.getpwuid, at.st_uid),
        group=name_of(grp.getgrgid, at.st_gid),
        mtime=at.st_mtime_ns,
        nlink=2 + subdirectories(full) if kind == "dir" else at.st_nlink,
        size=at.st_size if kind in ("file", "symlink") else 0,
        target=os.fsdecode(os.readlink(full)) if kind == "symlink" else None,
        rdev=[os.major(at.st_rdev), os.minor(at.st_rdev)] if kind in ("char", "block") else None,
        xattrs={n: os.getxattr(full, n, follow_symlinks=False).hex() for n in os.listxattr(full, follow_symlinks=False)},
        b3=hash_of(full) if kind == "file" else None,
    )


def main(root):
    root, first = os.fsencode(root), {}
    for path in sorted(paths(root)):
        print(json.dumps(line(root, path, first), sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])

"""The inner half of the sandbox: confine this very process, then run one program and say how it ended.

Started by `sandbox.py` as `python -I -S -B sandbox_child.py` with one JSON object on standard input; never
imported, and free of our own imports, because the candidate program shares this interpreter. The verdict is
one JSON object on the descriptor that was standard output; the program's own output is discarded.
"""

# Not pathlib: importing it would add a third to the start-up time.
# ruff: noqa: PTH102, PTH103, PTH112, PTH120

import ctypes
import json
import os
import resource
import sys
from typing import Any

_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MS_NOSUID, _MS_NODEV = 2, 4
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 38, 4


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"sandbox: {what}: {os.strerror(ctypes.get_errno())}")


def hide_files(work: str, max_file_bytes: int) -> None:
    """Make `work` the root of the file system: the interpreter's libraries, read-only, and a small `/tmp` to work in.

    What is not there cannot be read, nor talked to: no file of a user's, no socket or pipe of another program, no `/proc`.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
        names = [None if name is None else name.encode() for name in (source, target, kind)]
        _check(libc.mount(*names, flags, options.encode()), f"mount {target}")

    mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    mount("tmpfs", work, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=64k,nr_inodes=64,mode=755")
    for source in _visible_folders():
        os.makedirs(work + source)
        mount(source, work + source, None, _MS_BIND | _MS_REC)
    os.makedirs(f"{work}/dev", exist_ok=True)
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        os.close(os.open(work + device, os.O_CREAT))
        mount(device, work + device, None, _MS_BIND)
    os.mkdir(f"{work}/tmp")
    read_only = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    arguments = (_AT_FDCWD, work.encode(), _AT_RECURSIVE, ctypes.byref(read_only), ctypes.sizeof(read_only))
    _check(libc.syscall(_MOUNT_SETATTR, *arguments), "read-only root")
    options = f"size={max_file_bytes},nr_inodes=256,mode=777"
    mount("tmpfs", f"{work}/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.chroot(work)
    os.chdir("/tmp")


def _visible_folders() -> list[str]:
    """The standard library, with the shared libraries beside it, and the system's shared libraries."""
    wanted = [os.path.dirname(os.path.dirname(os.__file__)), "/usr/lib", "/usr/lib64", "/lib", "/lib64"]
    visible: list[str] = []
    for folder in wanted:
        inside = any(folder == one or folder.startswith(f"{one}/") for one in visible)
        if os.path.isdir(folder) and not inside:
            visible.append(folder)
    return visible


def limit_resources(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def drop_privileges(uid: int) -> None:
    """Become `uid` when it is not 0, and give up what a new program could win back."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # In a user namespace we are still its root: empty every capability set (version 3, two words each).
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())


def run(program: str) -> dict[str, Any]:
    """Run the program as `__main__`; "ok" only when it came to its end by itself."""
    try:
        exec(compile(program, "<candidate>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    except MemoryError:
        return {"ok": False, "error": "MemoryError"}
    except SystemExit:
        return {"ok": False, "error": "the program called exit"}
    except BaseException as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
    return {"ok": True, "error": ""}


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    own_pid = os.getpid()
    verdict_descriptor = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        if order["isolate_files"]:
            hide_files(order["work"], order["max_file_bytes"])
        else:
            os.chdir(order["work"])
        limit_resources(order["limits"])
        drop_privileges(order["uid"])
    except OSError as error:
        verdict = {"ok": False, "setup_error": str(error)}
    else:
        verdict = run(order["program"])
        # The nonce shows that this line was reached: who leaves by os._exit(0) cannot claim success.
        verdict["nonce"] = order["nonce"]
    # A child that the program forked comes through here too, and has nothing to say.
    if os.getpid() == own_pid:
        os.write(verdict_descriptor, json.dumps(verdict).encode())
    os._exit(0)


if __name__ == "__main__":
    main()

"""The inner half of the sandbox: confine this very process, then run one program and say how it ended.

Started by `sandbox.py` as `python -I -S -B sandbox_child.py` with one JSON object on standard input; never
imported, and free of our own imports, because the candidate program shares this interpreter. The verdict is
one JSON object on the descriptor that was standard output; the program's own output is discarded.
"""

# Not pathlib: importing it would add a third to the start-up time.
# ruff: noqa: PTH101, PTH102, PTH118, PTH120

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


def make_files_read_only(work: str, max_file_bytes: int) -> None:
    """In this mount namespace: everything read-only, a small tmpfs at `work`, the library within it."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The standard library may be inside a home that the other user id cannot enter: bind it into view.
    library = os.path.dirname(os.__file__)
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
    options = f"size={max_file_bytes},nr_inodes=256,mode=777".encode()
    _check(libc.mount(b"tmpfs", work.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options), "tmpfs")
    bound = os.path.join(work, ".lib")
    os.mkdir(bound)
    _check(libc.mount(library.encode(), bound.encode(), None, _MS_BIND, None), "bind library")
    os.mkdir(os.path.join(work, "cwd"), 0o777)
    os.chmod(os.path.join(work, "cwd"), 0o777)
    read_only = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    arguments = (_AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(read_only), ctypes.sizeof(read_only))
    _check(libc.syscall(_MOUNT_SETATTR, *arguments), "read-only root")
    read_only.attr_set, read_only.attr_clr = 0, _MOUNT_ATTR_RDONLY
    arguments = (_AT_FDCWD, work.encode(), 0, ctypes.byref(read_only), ctypes.sizeof(read_only))
    _check(libc.syscall(_MOUNT_SETATTR, *arguments), "writable work folder")
    sys.path[:] = [bound, os.path.join(bound, "lib-dynload")]
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):  # packages loaded before the move, such as `encodings`
        if hasattr(module, "__path__"):
            module.__path__ = [path.replace(library, bound, 1) for path in module.__path__]


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
            make_files_read_only(order["work"], order["max_file_bytes"])
            os.chdir(os.path.join(order["work"], "cwd"))
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

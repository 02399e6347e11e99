"""What tells one measured subject from another of the same name: the base's weights, an adapter's files, the delegator's."""

import hashlib
from pathlib import Path

from router.delegator import WEIGHTS
from server.dispatch import BASE
from server.loading import configured_specialists, specialist_folders
from server.settings import Settings
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.base_model import base_sha256

_LENGTH = 16  # hexadecimal digits


def specialist_fingerprint(base: Path, folder: Path | None) -> str:
    """Of a base and, unless None, the adapter in `folder`, wherever that lies: a changed alpha is another subject too."""
    digest = hashlib.sha256((base_sha256(base) or str(base.resolve())).encode())
    paths = [] if folder is None else [folder / CONFIG_FILE, folder / WEIGHTS_FILE]
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_LENGTH]


def fingerprints(settings: Settings, base: Path) -> dict[str, str]:
    """Of each configured specialist, and of the base, by name."""
    folders = configured_specialists(settings, {})
    return {
        BASE: specialist_fingerprint(base, None),
        **{name: specialist_fingerprint(base, folder) for name, folder in folders.items()},
    }


def ensemble_fingerprint(settings: Settings, base: Path) -> str:
    """Of the base, the adapters by folder, and the delegator's trained part and threshold: another one routes otherwise."""
    digest = hashlib.sha256()
    for folder in sorted(specialist_folders(settings, {})):
        digest.update(f"{folder.name}/{specialist_fingerprint(base, folder)}".encode())
    for path in sorted((settings.router_weights or WEIGHTS).glob("router.*")):
        digest.update(path.read_bytes())
    digest.update(str(settings.router_threshold).encode())
    return digest.hexdigest()[:_LENGTH]

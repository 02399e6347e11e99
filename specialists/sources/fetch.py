"""Get the files of an artifact from the first mirror that has them, verified.

Each artifact has a folder of its own under `downloads`. A file under its final name there was verified before
it got that name, and is verified again before use, so the first mirror of all is what is already there.
"""

from contextlib import suppress
from pathlib import Path

from specialists.sources.artifacts import Artifact
from specialists.sources.disk import check_free_space, disk_errors, is_file_with, megabytes
from specialists.sources.errors import MirrorError, SourceError
from specialists.sources.progress import SILENT, Progress


def fetch(artifact: Artifact, downloads: Path, progress: Progress = SILENT) -> Path:
    """The path of the artifact's first file, with its other files beside it; fetches what is missing.

    Raises SourceError when no mirror delivers, a disk is full or not writable: what remains then is only what
    the next attempt goes on with.
    """
    folder = downloads / artifact.sha256[:16]
    with disk_errors(downloads):
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_complete(artifact, folder):
            present = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            check_free_space(folder, max(artifact.fetch_bytes - present, 0) + artifact.imported_size)
            try:
                _fetch_from_mirrors(artifact, folder, progress)
            except BaseException:
                _tidy(folder)
                raise
    return folder / artifact.files[0].path


def _is_complete(artifact: Artifact, folder: Path) -> bool:
    return all(is_file_with(folder / file.path, file.size, file.sha256) for file in artifact.files)


def _fetch_from_mirrors(artifact: Artifact, folder: Path, progress: Progress) -> None:
    progress.notice(f"fetching {artifact.name}, {megabytes(artifact.size)}")
    problems: list[str] = []
    for mirror in artifact.mirrors:
        try:
            mirror.fetch(artifact.files, folder, progress)
            return
        except MirrorError as error:
            problems.append(f"{mirror.name}: {error}")
            progress.notice(problems[-1])
    raise SourceError(f"cannot fetch {artifact.name}: {'; '.join(problems)}")


def _tidy(folder: Path) -> None:
    """Leave only what the next attempt goes on with: complete parts, and a broken-off download of the hub."""
    for empty in (folder / "hub", folder / "parts", folder, folder.parent):
        with suppress(OSError):  # not empty, or not there
            empty.rmdir()

"""The mirror on the Hugging Face hub. Asked first; gives up within seconds when it cannot be reached."""

import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from specialists.sources.disk import is_disk_error, is_file_with, sha256_of
from specialists.sources.errors import MirrorError
from specialists.sources.files import PinnedFile
from specialists.sources.progress import Progress, watched

Result = TypeVar("Result")

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 5.0  # a resolver that hangs does not heed the connect timeout
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SNAPSHOT_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubMirror:
    """A repository on the hub (or at another `endpoint`) that carries the files under their own names."""

    repo: str
    revision: str = "main"
    endpoint: str | None = None

    @property
    def name(self) -> str:
        return f"Hugging Face hub ({self.repo})"

    @property
    def task(self) -> str:
        return "Hugging Face hub"

    def fetch(self, files: Sequence[PinnedFile], folder: Path, progress: Progress) -> None:
        """Put the files into `folder`, verified. A download that breaks off is resumed the next time.

        Raises MirrorError when the hub cannot be reached or has something else under the name.
        """
        present = [file for file in files if is_file_with(folder / file.path, file.size, file.sha256)]
        missing = [file for file in files if file not in present]
        missing = [file for file in missing if not self._take_from_users_cache(file, folder)]
        for file in missing:
            with _hub_errors():
                within_seconds(_ANSWER_SECONDS, partial(self._check_offer, file))
        done = 0
        progress.start(self.task, sum(file.size for file in missing))
        try:
            for file in missing:
                self._fetch_file(file, folder, done, progress)
                done += file.size
        finally:
            progress.finish(self.task)
        shutil.rmtree(folder / "hub", ignore_errors=True)

    def _fetch_file(self, file: PinnedFile, folder: Path, done: int, progress: Progress) -> None:
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils._headers import build_hf_headers

        # hf_hub_download starts anew each time; its own inner function goes on where a file ends.
        partial_file = folder / "hub" / file.path
        partial_file.parent.mkdir(exist_ok=True)
        growth = watched(partial_file.parent, file.path, file.size, (self.task, done), progress)
        try:
            with _hub_errors(), _quiet_hub(), growth, partial_file.open("ab") as target:
                if target.tell() < file.size:
                    http_get(
                        self._url(file),
                        target,
                        resume_size=target.tell(),
                        headers=build_hf_headers(),
                        expected_size=file.size,
                    )
            self._accept(partial_file, file, folder)
        finally:
            if partial_file.exists() and partial_file.stat().st_size == 0:
                partial_file.unlink()

    def _accept(self, fetched: Path, file: PinnedFile, folder: Path) -> None:
        actual = sha256_of(fetched)
        if actual != file.sha256:
            fetched.unlink()
            raise MirrorError(_differs(file, actual))
        fetched.replace(folder / file.path)

    def _check_offer(self, file: PinnedFile) -> None:
        """Ask for the file's hash before its half a gigabyte is fetched; also the test of the connection."""
        from huggingface_hub import get_hf_file_metadata

        offer = get_hf_file_metadata(self._url(file), timeout=_CONNECT_SECONDS, endpoint=self.endpoint)
        # Large files have their sha256 as tag, small ones a git hash that says nothing here.
        if offer.etag and _SHA256.fullmatch(offer.etag) and offer.etag != file.sha256:
            raise MirrorError(_differs(file, offer.etag))
        if offer.size is not None and offer.size != file.size:
            raise MirrorError(f"its {file.path} has {offer.size} bytes, expected {file.size}")

    def _url(self, file: PinnedFile) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repo, file.path, revision=self.revision, endpoint=self.endpoint)

    def _take_from_users_cache(self, file: PinnedFile, folder: Path) -> bool:
        """Copy the file from the hub's own cache on this machine, if it is there and the right one."""
        from huggingface_hub import try_to_load_from_cache

        if self.endpoint is not None:
            return False
        cached = try_to_load_from_cache(self.repo, file.path, revision=self.revision)
        if not isinstance(cached, str) or not is_file_with(Path(cached), file.size, file.sha256):
            return False
        copy = folder / f"{file.path}.partial"
        try:
            shutil.copyfile(cached, copy)
            copy.replace(folder / file.path)
        finally:
            copy.unlink(missing_ok=True)
        return True


def download_snapshot(repo: str, folder: Path, progress: Progress, endpoint: str | None = None) -> None:
    """Fetch a whole model (safetensors, tokenizer and JSON files) into `folder`; resumes.

    Raises MirrorError when the hub cannot be reached or has no such model.
    """
    from huggingface_hub import HfApi, snapshot_download

    with _hub_errors(), _quiet_hub():
        api = HfApi(endpoint=endpoint)
        info = within_seconds(
            _ANSWER_SECONDS,
            lambda: api.model_info(repo, files_metadata=True, timeout=_CONNECT_SECONDS),
        )
        wanted = [file for file in info.siblings or () if _is_wanted(file.rfilename)]
        size = sum(file.size or 0 for file in wanted)
        progress.start(repo, size)
        try:
            with watched(folder, "download", size, (repo, 0), progress):
                snapshot_download(
                    repo,
                    revision=info.sha,
                    local_dir=folder,
                    endpoint=endpoint,
                    allow_patterns=[file.rfilename for file in wanted],
                )
        finally:
            progress.finish(repo)
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _is_wanted(path: str) -> bool:
    # Only the top folder: sub-folders hold the same weights in other formats.
    return "/" not in path and any(Path(path).match(pattern) for pattern in _SNAPSHOT_PATTERNS)


def _differs(file: PinnedFile, actual: str) -> str:
    return f"its {file.path} has another content (sha256 {actual[:16]}..., expected {file.sha256[:16]}...)"


@contextmanager
def _hub_errors() -> Iterator[None]:
    """Name the many exceptions of the hub's client and of the HTTP library under it by one."""
    try:
        yield
    except MirrorError:
        raise
    except TimeoutError as error:
        raise MirrorError(f"no answer within {_ANSWER_SECONDS:.0f} s") from error
    except Exception as error:
        if is_disk_error(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = re.sub(r"^\[Errno -?\d+\] ", "", lines[0]).rstrip(".")
        raise MirrorError(f"not available ({reason})") from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """The hub's client keeps its own bars and retry messages to itself meanwhile."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, were_disabled = logger.level, are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not were_disabled:
            enable_progress_bars()


def within_seconds(seconds: float, call: Callable[[], Result]) -> Result:
    """The call's result; TimeoutError when it takes longer (it is then left to itself)."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="hub-answer", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]

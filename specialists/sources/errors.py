"""The errors of fetching and importing weights. Each message is one sentence that can be shown to a user."""


class SourceError(RuntimeError):
    """Weights cannot be fetched: no mirror has them, a hash differs, the disk is full."""


class MirrorError(SourceError):
    """One mirror cannot deliver; the next one may."""


class BaseModelError(RuntimeError):
    """Weights are not imported, are damaged, or are of a kind that we do not serve."""


class DamagedCacheError(BaseModelError):
    """An imported folder is not what was written into it; importing it anew repairs it."""

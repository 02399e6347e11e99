"""How the store can fail; each message is one sentence."""


class StoreError(Exception):
    """The database or the state folder cannot be used."""


class StoreConflictError(StoreError):
    """Somebody else, here or on another server, changed the record since it was read."""

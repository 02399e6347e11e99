"""One log line for each admin action, refused ones too: who, what, on which specialist, how it ended.

The line bears the request's id, as every line does. It is told at every log level.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request

from server.api.adapter_errors import to_client_error
from server.errors import PolymathError, shortened
from server.keys import fingerprint

logger = logging.getLogger("server.audit")


@dataclass(slots=True)
class Action:
    """What is known of an action while it goes on; it fills in what it learns."""

    specialist: str | None
    generation: int | None = None
    outcome: str = "done"


@contextmanager
def audited(request: Request, action: str, specialist: str | None = None) -> Iterator[Action]:
    """Note how the block ends, and raise what went wrong as what a client is told."""
    noted = Action(specialist)
    code = None
    try:
        yield noted
    except Exception as error:
        told = to_client_error(error)
        noted.outcome = "refused" if isinstance(told, PolymathError) and told.status < 500 else "failed"
        code = told.code if isinstance(told, PolymathError) else type(error).__name__
        raise told from error
    except BaseException:
        noted.outcome = "aborted"
        raise
    finally:
        audit(request, action, noted.outcome, noted.specialist, noted.generation, code)


def audit(
    request: Request,
    action: str,
    outcome: str,
    specialist: str | None = None,
    generation: int | None = None,
    code: str | None = None,
) -> None:
    _, _, token = request.headers.get("authorization", "").partition(" ")
    extra = {
        "who": f"key:{fingerprint(token.strip())}" if token.strip() else "nobody",
        "action": action,
        "specialist": None if specialist is None else shortened(specialist),
        "generation": generation,
        "outcome": outcome,
        "code": code,
    }
    logger.info("admin action", extra=extra)

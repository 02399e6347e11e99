"""`/admin/adapters`: load, look at, change and retire specialists while the server serves.

Operations are done one after the other, so each finds what the one before it left: of two loads of one name the second is
a 409 (or, with `replace`, the next generation), of two unloads the second is a 404, and a load after an unload succeeds at
once, while the requests of the unloaded generation still run on it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from server.api.admin_answers import adapter_body, adapter_list, just_loaded_body
from server.api.admin_refusals import CLOSED, LOADING, OTHERS_FIRST, UNKNOWN, any_of
from server.api.admin_schemas import (
    AdapterBody,
    AdapterListBody,
    LoadAdapterRequest,
    LoadedBody,
    UnloadedBody,
    UpdateAdapterRequest,
)
from server.api.audit import audited
from server.api.body import json_body
from server.api.deps import LifecycleDep, ServicesDep
from server.api.openapi import load_body, request_body
from server.api.upload import MULTIPART, received
from server.errors import InvalidRequestError
from server.roster_request import LoadRequest
from server.services import Services
from server.store.record import Source

if TYPE_CHECKING:
    from specialists.adapters.loaded import LoadedAdapter

router = APIRouter(prefix="/adapters")

MAX_WAIT_SECONDS = 3600.0
_POLL_SECONDS = 0.01
_ENDED = "The specialist was unloaded by the operator before this answer was finished."


@router.get(
    "", summary="All specialists: where they are, who is using them, what was refused", responses=CLOSED
)
async def list_adapters(services: ServicesDep) -> AdapterListBody:
    return adapter_list(services)


@router.get("/{name}", summary="One specialist", responses=any_of(CLOSED, UNKNOWN))
async def get_adapter(services: ServicesDep, name: str) -> AdapterBody:
    return adapter_body(services, name)


@router.post(
    "",
    status_code=201,
    summary="Load a specialist, or put another in the place of one",
    responses=any_of(CLOSED, LOADING, UNKNOWN),
    openapi_extra=load_body(LoadAdapterRequest),
)
async def load_adapter(request: Request, services: ServicesDep, response: Response) -> LoadedBody:
    """From a folder of the server's machine (JSON with `path`), from the configured folders (JSON without), or from an
    upload (multipart: the fields as form fields, and the files as they are or as one .zip, .tar.gz or .tar).

    It can be asked when the answer comes, not before; a refused one leaves everything as it was.
    """
    with audited(request, "load") as action:
        async with _load_request(request, services) as (asked, upload):
            action.specialist = asked.name
            started = time.perf_counter()
            asked_of_roster = _to_roster(asked, upload)
            status = await services.roster.load(asked_of_roster)
            milliseconds = (time.perf_counter() - started) * 1000
        action.generation = status.generation
        response.headers["location"] = f"/admin/adapters/{asked.name}"
        body = just_loaded_body(services, status, asked_of_roster.source)
        return LoadedBody(**body.model_dump(), milliseconds=round(milliseconds, 1))


@router.patch(
    "/{name}",
    summary="Pin or unpin a specialist, let routing choose it or not",
    responses=any_of(CLOSED, UNKNOWN, OTHERS_FIRST),
    openapi_extra=request_body(UpdateAdapterRequest),
)
async def update_adapter(
    request: Request,
    services: ServicesDep,
    name: str,
    body: Annotated[UpdateAdapterRequest, Depends(json_body(UpdateAdapterRequest))],
) -> AdapterBody:
    with audited(request, "update", name) as action:
        await services.roster.update(name, body.pinned, body.routable, body.expected_generation)
        told = adapter_body(services, name)
        action.generation = told.generation
        return told


@router.delete(
    "/{name}",
    summary="Unload a specialist",
    responses={
        **any_of(CLOSED, UNKNOWN, OTHERS_FIRST),
        202: {"model": UnloadedBody, "description": "Unloaded; some answers still run on it"},
    },
)
async def unload_adapter(
    request: Request,
    services: ServicesDep,
    lifecycle: LifecycleDep,
    response: Response,
    name: str,
    timeout: Annotated[
        float | None, Query(ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait for running answers")
    ] = None,
    force: Annotated[bool, Query(description="at the deadline, end them with an error")] = False,
    expected_generation: Annotated[int | None, Query(ge=0)] = None,
) -> UnloadedBody:
    """The name is gone at once: later requests for it are a 404, and routing goes past it.

    Running answers may finish until `timeout` (by default POLYMATH_UNLOAD_SECONDS; with `force` none). Then, without
    `force`, the answer is a 202 and they finish all the same; with `force` each ends with the error `specialist_unloaded`.
    """
    started = time.perf_counter()
    if timeout is None:
        timeout = 0.0 if force else lifecycle.settings.unload_seconds
    with audited(request, "unload --force" if force else "unload", name) as action:
        loaded = await services.roster.unload(name, expected_generation)
        action.generation = None if loaded is None else loaded.generation
        in_flight = 0 if loaded is None else await _drain(services, loaded, timeout, force)
        action.outcome = "draining" if in_flight else "done"
    response.status_code = 202 if in_flight else 200
    return UnloadedBody(
        name=name,
        generation=action.generation,
        status="draining" if in_flight else "unloaded",
        in_flight=in_flight,
        milliseconds=round((time.perf_counter() - started) * 1000, 1),
    )


async def _drain(services: Services, adapter: "LoadedAdapter", timeout: float, force: bool) -> int:
    """Wait for the answers that run on an unloaded generation; returns how many still do."""
    deadline = time.monotonic() + timeout
    while not services.registry.wait_idle(adapter, 0):
        if time.monotonic() >= deadline:
            if not force:
                return _in_flight(services, adapter)
            # Again and again: one that was let in before the unload may reach the engine only now.
            services.engine.end_requests(adapter.generation, _ENDED)
        await asyncio.sleep(_POLL_SECONDS)
    return 0


def _in_flight(services: Services, adapter: "LoadedAdapter") -> int:
    statuses = services.registry.statuses()
    return sum(status.in_flight for status in statuses if status.generation == adapter.generation)


@asynccontextmanager
async def _load_request(
    request: Request, services: Services
) -> AsyncIterator[tuple[LoadAdapterRequest, Path | None]]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MULTIPART:
        yield await json_body(LoadAdapterRequest)(request), None
        return
    limit = services.settings.max_upload_bytes
    async with received(request, LoadAdapterRequest, services.roster.content, limit) as (asked, folder):
        if asked.path is not None:
            raise InvalidRequestError("path: cannot be given together with uploaded files", param="path")
        yield asked, folder


def _to_roster(asked: LoadAdapterRequest, upload: Path | None) -> LoadRequest:
    source = Source.CATALOG if asked.path is None else Source.PATH
    said: dict[str, Any] = asked.model_dump(exclude={"path", "examples"})
    return LoadRequest(
        **said,
        source=source if upload is None else Source.UPLOAD,
        path=asked.path or "",
        upload=upload,
        examples=None if asked.examples is None else tuple(asked.examples),
    )

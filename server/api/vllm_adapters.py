"""vLLM's two endpoints for adapters, for the controllers that call them: its bodies, its answers, its statuses.

The only answers of this server that are plain text, and whose errors have a number as their `code`. Who may call them is
decided by the admin key, where vLLM has an environment variable; everything else is what `/admin/adapters` does.
"""

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse, PlainTextResponse

from server.api.admin_refusals import Responses
from server.api.admin_schemas import VllmLoadRequest, VllmUnloadRequest
from server.api.audit import audited
from server.api.body import json_body
from server.api.deps import ServicesDep
from server.api.openapi import request_body
from server.errors import PolymathError
from server.roster_request import LoadRequest
from server.store.record import Source

router = APIRouter()

_ERRORS: Responses = {status: {"description": "vLLM's error body"} for status in (400, 404, 500)}
_NOT_FOUND = frozenset({"folder_missing", "outside_roots", "adapter_not_found"})


class InvalidUserInputError(PolymathError):
    """What vLLM says of a request that it refuses before it tries anything."""

    status = 400
    type = code = "InvalidUserInput"


@router.post(
    "/load_lora_adapter",
    summary="vLLM: load an adapter",
    response_class=PlainTextResponse,
    responses={
        **_ERRORS,
        200: {"content": {"text/plain": {"example": "Success: LoRA adapter 'sql' added successfully."}}},
    },
    openapi_extra=request_body(VllmLoadRequest),
)
async def load_lora_adapter(request: Request, services: ServicesDep) -> Response:
    """From a folder below one of POLYMATH_ADAPTER_ROOTS; with `load_inplace` in the place of one of the same name."""
    name = path = ""
    try:
        with audited(request, "load") as action:
            asked = await json_body(VllmLoadRequest)(request)
            name = action.specialist = asked.lora_name
            path = asked.lora_path
            if not name or not path:
                raise InvalidUserInputError("Both 'lora_name' and 'lora_path' must be provided.")
            if asked.is_3d_lora_weight:
                raise InvalidUserInputError("'is_3d_lora_weight' is not supported by this server.")
            load = LoadRequest(name=name, source=Source.PATH, path=path, replace=asked.load_inplace)
            action.generation = (await services.roster.load(load)).generation
    except PolymathError as error:
        return _load_refusal(error, name, path)
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


@router.post(
    "/unload_lora_adapter",
    summary="vLLM: unload an adapter",
    response_class=PlainTextResponse,
    responses={
        **_ERRORS,
        200: {"content": {"text/plain": {"example": "Success: LoRA adapter 'sql' removed successfully."}}},
    },
    openapi_extra=request_body(VllmUnloadRequest),
)
async def unload_lora_adapter(request: Request, services: ServicesDep) -> Response:
    """The name is gone when the answer comes; answers that run on it go on to their end."""
    name = ""
    try:
        with audited(request, "unload") as action:
            name = action.specialist = (await json_body(VllmUnloadRequest)(request)).lora_name
            if not name:
                raise InvalidUserInputError("'lora_name' needs to be provided to unload a LoRA adapter.")
            unloaded = await services.roster.unload(name, None)
            action.generation = None if unloaded is None else unloaded.generation
    except PolymathError as error:
        if error.code == "adapter_not_found":
            return _error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        return _refusal(error)
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


def _load_refusal(error: PolymathError, name: str, path: str) -> Response:
    if error.code == "name_taken":
        message = (
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            "'load_inplace' to True."
        )
        return _error(400, "InvalidUserInput", message)
    if error.code in _NOT_FOUND:
        return _error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
    return _refusal(error)


def _refusal(error: PolymathError) -> Response:
    if isinstance(error, InvalidUserInputError):
        return _error(400, "InvalidUserInput", error.message)
    if error.status == 400 and error.param is not None:  # the body is not as it should be
        return _error(400, "BadRequestError", error.message)
    if error.status in (413, 415, 429, 503):
        return _error(error.status, type(error).__name__, error.message)
    # vLLM answers whatever its engine says of an adapter with a 500, and controllers tell a bad path by the 404.
    return _error(500, "InternalServerError", error.message)


def _error(status: int, kind: str, message: str) -> Response:
    body = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": body}, status)

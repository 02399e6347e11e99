"""What the admin endpoints refuse, as the OpenAPI page shows it: by status, with an example for each code."""

from typing import Any, TypeAlias

from server.api.admin_schemas import ErrorBody

Responses: TypeAlias = dict[int | str, dict[str, Any]]

_INVALID = "invalid_request_error"


def _refusals(*refusals: tuple[int, str, str]) -> Responses:
    responses: Responses = {}
    for status, code, message in refusals:
        kind = "permission_error" if status == 403 and code.startswith("admin") else _INVALID
        kind = "server_error" if status >= 500 else kind
        response = responses.setdefault(
            status, {"model": ErrorBody, "description": "", "content": {"application/json": {"examples": {}}}}
        )
        response["description"] += f"{', ' if response['description'] else ''}{code}"
        response["content"]["application/json"]["examples"][code] = {
            "value": {"error": {"message": message, "type": kind, "param": None, "code": code}}
        }
    return responses


CLOSED = _refusals(
    (401, "invalid_api_key", "You did not provide an API key; send Authorization: Bearer KEY."),
    (403, "admin_closed", "This server's specialists cannot be administered: no admin key is set."),
    (403, "admin_key_required", "A client key does not open this; send the admin key."),
    (503, "store_unavailable", "The database postgresql+psycopg://db/polymath cannot be used: refused."),
)
UNKNOWN = _refusals(
    (404, "adapter_not_found", "There is no specialist 'sql'; GET /admin/adapters lists them.")
)
OTHERS_FIRST = _refusals(
    (409, "generation_mismatch", "The name 'sql' stands for generation 7, expected generation 6."),
    (409, "changed_elsewhere", "The record of 'sql' was changed by another server."),
)
LOADING = _refusals(
    (400, "unsupported_feature", "/srv/adapters/sql/adapter_config.json: use_dora = True is not supported."),
    (
        400,
        "file_not_allowed",
        "The upload: 'x.so' is no part of an adapter; expected adapter_config.json, ...",
    ),
    (400, "not_safetensors", "The upload: 'optimizer.pt' may be a pickle, which is never opened; ..."),
    (400, "archive_invalid", "'../adapter_config.json' is no name inside the archive."),
    (
        400,
        "base_mismatch",
        "/srv/adapters/sql: it was trained on the base 0f3c..., this server's base is 1d96...",
    ),
    (400, "no_effect", "/srv/adapters/sql: the model's answers under it are those of the base."),
    (403, "outside_roots", "'/etc' is not inside one of the folders that adapters may come from."),
    (404, "folder_missing", "'/srv/adapters/sql' is not a folder."),
    (409, "name_taken", "/srv/adapters/sql: an adapter named 'sql' is already loaded (generation 7)."),
    (409, "generation_mismatch", "The name 'sql' stands for generation 7, expected generation 6."),
    (409, "changed_elsewhere", "The record of 'sql' was changed by another server."),
    (413, "upload_too_large", "The upload holds more than the 1073741824 bytes this server takes."),
    (507, "no_room", "There is no room in memory for adapter 'sql': it takes 8798208 bytes; ..."),
)


def any_of(*responses: Responses) -> Responses:
    """Several of the above for one route; a status in two of them has the examples of both."""
    merged: Responses = {}
    for response in responses:
        for status, told in response.items():
            if status not in merged:
                merged[status] = told
                continue
            known = merged[status]
            examples = (side["content"]["application/json"]["examples"] for side in (known, told))
            both = {code: example for side in examples for code, example in side.items()}
            merged[status] = {
                "model": ErrorBody,
                "description": ", ".join(both),
                "content": {"application/json": {"examples": both}},
            }
    return merged

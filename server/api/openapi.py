"""The request schemas in the OpenAPI page.

Bodies are read by `body.py`, so FastAPI does not see their types itself.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_TEMPLATE = "#/components/schemas/{model}"


def request_body(schema: type[BaseModel]) -> dict[str, Any]:
    """For a route's `openapi_extra`."""
    reference = {"$ref": _TEMPLATE.format(model=schema.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def load_body(schema: type[BaseModel]) -> dict[str, Any]:
    """The same, or as a form beside uploaded files."""
    reference = {"$ref": _TEMPLATE.format(model=schema.__name__)}
    file = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
    content = {
        "application/json": {"schema": reference},
        "multipart/form-data": {"schema": {"allOf": [reference, file]}},
    }
    return {"requestBody": {"required": True, "content": content}}


def install_openapi(app: FastAPI, *schemas: type[BaseModel]) -> None:
    """Add `schemas` to the page that FastAPI generates."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = generate()
            _, definitions = models_json_schema(
                [(schema, "validation") for schema in schemas], ref_template=_TEMPLATE
            )
            components = page.setdefault("components", {}).setdefault("schemas", {})
            components.update(definitions["$defs"])
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the page

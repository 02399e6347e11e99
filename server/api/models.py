"""`GET /v1/models`: the names a request may give as its `model`. Never a path of this machine."""

from typing import Any

from fastapi import APIRouter

from server.api.deps import ServicesDep
from server.dispatch import AUTO, BASE
from server.errors import ModelNotFoundError
from server.services import Services

router = APIRouter()


@router.get("/models", summary="All models: auto, base, and each specialist")
async def list_models(services: ServicesDep) -> dict[str, Any]:
    names = [AUTO, BASE, *services.registry.names()]
    return {"object": "list", "data": [_model(services, name) for name in names]}


@router.get("/models/{model_id:path}", summary="One model")
async def get_model(services: ServicesDep, model_id: str) -> dict[str, Any]:
    name = BASE if model_id == services.base_id else model_id
    if name not in (AUTO, BASE, *services.registry.names()):
        raise ModelNotFoundError(model_id)
    return _model(services, name)


def _model(services: Services, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": services.created,
        "owned_by": "polymath",
        "root": services.base_id if name == BASE else name,
        "parent": None if name in (AUTO, BASE) else BASE,
        "max_model_len": services.engine.max_model_len,
    }

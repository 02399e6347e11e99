"""Puts the app together: lifecycle, routes, error bodies, request ids.

The list of routers is the API's table of contents.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import Depends, FastAPI

from server.api import admin, chat, health, models, routing, vllm_adapters
from server.api.admin_schemas import (
    LoadAdapterRequest,
    UpdateAdapterRequest,
    VllmLoadRequest,
    VllmUnloadRequest,
)
from server.api.auth import require_admin_key, require_client_key
from server.api.error_handlers import install_error_handlers
from server.api.middleware import RequestContextMiddleware
from server.api.openapi import install_openapi
from server.api.schemas import ChatCompletionRequest, RouteRequest
from server.lifecycle import Lifecycle


def create_app(lifecycle: Lifecycle) -> FastAPI:
    """The ASGI app. Loading begins when it starts up; until that is done requests get a 503."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        lifecycle.start()
        try:
            yield
        finally:
            await lifecycle.close()

    app = FastAPI(title="Polymath", version=_version(), lifespan=lifespan, redirect_slashes=False)
    app.state.lifecycle = lifecycle
    app.add_middleware(RequestContextMiddleware, metrics=lifecycle.metrics)
    install_error_handlers(app)
    install_openapi(
        app,
        ChatCompletionRequest,
        RouteRequest,
        LoadAdapterRequest,
        UpdateAdapterRequest,
        VllmLoadRequest,
        VllmUnloadRequest,
    )
    app.include_router(health.router, tags=["operations"])
    for resource in (chat, routing, models):
        app.include_router(
            resource.router, prefix="/v1", tags=["v1"], dependencies=[Depends(require_client_key)]
        )
    for operators, prefix in ((admin, "/admin"), (vllm_adapters, "/v1")):
        app.include_router(
            operators.router, prefix=prefix, tags=["admin"], dependencies=[Depends(require_admin_key)]
        )
    return app


def _version() -> str:
    try:
        return version("polymath")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0+unknown"

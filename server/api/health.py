"""`/health` (is the process alive), `/ready` (may requests come), `/metrics`.

Open to everybody: they tell no content.
"""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

from server.api.deps import LifecycleDep, MetricsDep

router = APIRouter()


@router.get("/health", summary="200 while the process can do its work, from its first moment on")
async def health(lifecycle: LifecycleDep) -> JSONResponse:
    services = lifecycle.services
    is_dead = services is not None and not services.is_healthy
    return JSONResponse({"status": "dead" if is_dead else "ok"}, 503 if is_dead else 200)


@router.get("/ready", summary="200 once everything is loaded; 503 before, and while the server ends")
async def ready(lifecycle: LifecycleDep) -> dict[str, Any]:
    services = lifecycle.require_services()
    return {"status": "ready", "specialists": services.registry.names(), "refused": sorted(services.refused)}


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(metrics: MetricsDep) -> Response:
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

"""What routes may ask for, as annotated types, so that a route's needs are visible in its signature."""

from typing import Annotated, cast

from fastapi import Depends, Request

from server.lifecycle import Lifecycle
from server.metrics import Metrics
from server.services import Services


def lifecycle_of(request: Request) -> Lifecycle:
    return cast(Lifecycle, request.app.state.lifecycle)


def services_of(request: Request) -> Services:
    """Raises UnavailableError unless everything is loaded and nothing is ending."""
    return lifecycle_of(request).require_services()


def metrics_of(request: Request) -> Metrics:
    return lifecycle_of(request).metrics


LifecycleDep = Annotated[Lifecycle, Depends(lifecycle_of)]
ServicesDep = Annotated[Services, Depends(services_of)]
MetricsDep = Annotated[Metrics, Depends(metrics_of)]

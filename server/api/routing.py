"""`POST /v1/route`: who would answer, and why, without an answer. The code path is the one that serves."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from server.api.answers import route_body, route_headers
from server.api.body import json_body
from server.api.deps import ServicesDep
from server.api.openapi import request_body
from server.api.schemas import RouteRequest
from server.api.wishes import wishes_of

router = APIRouter()


@router.post(
    "/route", openapi_extra=request_body(RouteRequest), summary="Name the specialist that would answer"
)
async def route_messages(
    request: Request,
    services: ServicesDep,
    body: Annotated[RouteRequest, Depends(json_body(RouteRequest))],
    response: Response,
) -> dict[str, Any]:
    messages = [message.to_prompt() for message in body.messages]
    wishes = replace(wishes_of(body, request), explain=True)
    route = await services.dispatcher.resolve(body.model, messages, wishes)
    response.headers.update(route_headers(route))
    return route_body(route)

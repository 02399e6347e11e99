"""The page that documents the API."""

from tests.server.conftest import Stand

MESSAGES = [{"role": "user", "content": "3 times 4"}]


async def test_the_openapi_page_shows_the_requests(stand: Stand):
    page = (await stand.client.get("/openapi.json")).json()
    schemas = page["components"]["schemas"]
    assert {"ChatCompletionRequest", "RouteRequest", "ChatMessage", "TextPart"} <= set(schemas)
    body = page["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    reference = body["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/ChatCompletionRequest"
    assert (await stand.client.get("/docs")).status_code == 200

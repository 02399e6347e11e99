"""Streams and an operator at the same time, over HTTP: what the streams say must not depend on what the operator does.

Each stream is compared with what the same prompt got alone from the same adapter, by the generation that the answer names.
Used by `bench.adapter_lifecycle` on the real base and by a test on a tiny one.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PROMPTS = (
    "What is the sum of twelve and thirty?",
    "Write a function that adds two numbers.",
    "Tell me about the capital of Spain.",
)
BASE = "base"
_PROBE = "churn-probe"
_OPERATIONS = ("load", "replace", "replace", "pin", "unpin", "routable", "unload")
_DEFINED = frozenset({200, 201, 202, 404, 409, 507})  # of an operation among others; 507 is too many pins


@dataclass(slots=True)
class Churn:
    """What happened. `wrong` are answers other than the expected, `failures` those that should not have come at all."""

    operations: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    num_streams: int = 0
    num_compared: int = 0
    num_gone: int = 0  # the name was unloaded at the same moment
    wrong: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)  # of each load


@dataclass(frozen=True, slots=True)
class _Answer:
    name: str
    generation: int
    prompt: str
    text: str


class Churner:
    """`http` bears the admin key; `folders` are adapters that the server may load, each under any of `names`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        folders: Sequence[Path],
        names: Sequence[str],
        *,
        num_tokens: int,
        seed: int,
    ) -> None:
        self._http = http
        self._folders = list(folders)
        self._names = list(names)
        self._num_tokens = num_tokens
        self._random = random.Random(seed)
        self._expected: dict[tuple[str, str], str] = {}  # (folder or base, prompt) -> text
        self._content: dict[int, str] = {0: BASE}  # generation -> folder
        self._present: set[str] = set()
        self._answers: list[_Answer] = []
        self.found = Churn()

    async def run(self, num_streams: int, num_operations: int) -> Churn:
        """Learn what each prompt gets alone; then operate while streams run; then compare."""
        await self._learn_alone()
        for name in self._names:
            await self._load(name, replace=True)
        ended = asyncio.Event()
        streams = [asyncio.create_task(self._stream_on(ended)) for _ in range(num_streams)]
        for _ in range(num_operations):
            await self._operate()
        ended.set()
        await asyncio.gather(*streams)
        for name in self._names:
            await self._http.delete(f"/admin/adapters/{name}")
        self._compare()
        return self.found

    async def _learn_alone(self) -> None:
        for prompt in PROMPTS:
            self._expected[BASE, prompt] = (await self._ask(BASE, prompt)).text
        for folder in self._folders:
            body = {"name": _PROBE, "path": str(folder), "replace": True}
            (await self._http.post("/admin/adapters", json=body)).raise_for_status()
            for prompt in PROMPTS:
                self._expected[str(folder), prompt] = (await self._ask(_PROBE, prompt)).text
        await self._http.delete(f"/admin/adapters/{_PROBE}")

    async def _stream_on(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            name = self._random.choice([*sorted(self._present), BASE])
            self.found.num_streams += 1
            try:
                self._answers.append(await self._ask(name, self._random.choice(PROMPTS)))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    self.found.failures.append(f"{name}: {error.response.status_code}")
                self.found.num_gone += 1
                await asyncio.sleep(0.01)

    async def _ask(self, name: str, prompt: str) -> _Answer:
        body = {
            "model": name,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        text = ""
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    self.found.failures.append(f"{name}: {event['error']['message']}")
                    continue
                text += event["choices"][0]["delta"].get("content") or ""
            return _Answer(name, int(response.headers["x-polymath-generation"]), prompt, text)

    async def _operate(self) -> None:
        kind, name = self._random.choice(_OPERATIONS), self._random.choice(self._names)
        place = f"/admin/adapters/{name}"
        if kind in ("load", "replace"):
            response = await self._load(name, replace=kind == "replace")
        elif kind == "unload":
            self._present.discard(name)
            response = await self._http.delete(place, params={"timeout": 0})
        elif kind == "routable":
            response = await self._http.patch(place, json={"routable": self._random.random() < 0.5})
        else:
            response = await self._http.patch(place, json={"pinned": kind == "pin"})
        self.found.operations[kind] += 1
        self.found.statuses[response.status_code] += 1
        if response.status_code not in _DEFINED:
            self.found.failures.append(f"{kind} {name}: {response.status_code} {response.text}")

    async def _load(self, name: str, *, replace: bool) -> httpx.Response:
        folder = str(self._random.choice(self._folders))
        body = {"name": name, "path": folder, "replace": replace}
        response = await self._http.post("/admin/adapters", json=body)
        if response.status_code == httpx.codes.CREATED:
            loaded = response.json()
            self._content[loaded["generation"]] = folder
            self._present.add(name)
            self.found.milliseconds.append(loaded["milliseconds"])
        return response

    def _compare(self) -> None:
        for answer in self._answers:
            content = self._content[answer.generation]
            expected = self._expected[content, answer.prompt]
            self.found.num_compared += 1
            if answer.text != expected:
                wrong = {"name": answer.name, "content": content, "found": answer.text, "expected": expected}
                self.found.wrong.append(wrong)

"""500 operations while 16 streams run: every stream says what it would have said alone, and nothing leaks."""

from pathlib import Path

import httpx
import pytest

from bench.churn import Churner
from tests.server.api.operator import ADMIN_KEY, operating, wait_for

pytestmark = pytest.mark.slow

# The server closes a connection that was idle for 5 s, at which moment the client must not be using it.
LIMITS = httpx.Limits(keepalive_expiry=1)


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("max_resident", [256, 4])
async def test_streams_among_operations(tiny_qwen2: Path, tmp_path: Path, max_resident: int):
    """With room for all adapters, and with room for few, so that they come and go."""
    limits = {"max_num_seqs": 24, "max_resident_adapters": max_resident, "max_adapters": 4}
    with operating(tmp_path, tiny_qwen2, **limits) as operator:
        folders = [operator.write(f"a{number}", seed=40 + number) for number in range(4)]
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        registry, engine = operator.services.registry, operator.services.engine._engine
        names = ["one", "two", "three", "four"]
        async with httpx.AsyncClient(
            base_url=operator.http.base_url, headers=headers, timeout=120, limits=LIMITS
        ) as http:
            warm = Churner(http, folders, names, num_tokens=24, seed=1)
            await warm.run(num_streams=16, num_operations=10)
            files_before = num_open_files()
            churner = Churner(http, folders, names, num_tokens=24, seed=2)
            found = await churner.run(num_streams=16, num_operations=500)
            wait_for(lambda: not any(s.in_flight for s in registry.statuses()), "nothing is in flight")
            files_after = num_open_files()
        assert found.failures == []
        assert found.wrong == []
        assert sum(found.operations.values()) == 500 and found.num_compared > 100
        registry.check_integrity()
        assert sorted(registry.names()) == ["code", "loner", "math"]
        assert files_after <= files_before + 2, "connections of the client's pool may differ, nothing else"
        wait_for(lambda: not engine.has_unfinished, "the engine is idle")
        engine.scheduler.check_integrity()

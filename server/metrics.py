"""What the server counts and times, in Prometheus' form.

Decides names and labels. Each app has a registry of its own, so two apps in one process (tests) do not add
up.
"""

import time
from collections.abc import Iterator
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.decision import RoutingReason
from server.dispatch import Route
from server.errors import ClientDisconnectedError, OverloadedError, PolymathError
from server.services import Services

if TYPE_CHECKING:
    from specialists.adapters.registry import AdapterRegistry

UNROUTED = "none"  # the specialist label of a request that failed before it had one
_LATENCY = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
_TTFT = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
_LOADING = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
_CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_ROUTING = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)


class Metrics:
    """The counters of one app."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time, open files
        self.requests = Counter(
            "polymath_requests", "Completions by how they ended", ("specialist", "outcome"), registry=registry
        )
        self.http_responses = Counter(
            "polymath_http_responses", "Answers of any kind by status", ("status",), registry=registry
        )
        self.prompt_tokens = Counter(
            "polymath_prompt_tokens", "Tokens read", ("specialist",), registry=registry
        )
        self.generation_tokens = Counter(
            "polymath_generation_tokens", "Tokens written", ("specialist",), registry=registry
        )
        self.time_to_first_token = Histogram(
            "polymath_time_to_first_token_seconds",
            "From the request to its first token",
            ("specialist",),
            buckets=_TTFT,
            registry=registry,
        )
        self.latency = Histogram(
            "polymath_e2e_request_latency_seconds",
            "From the request to the end of its answer",
            ("specialist",),
            buckets=_LATENCY,
            registry=registry,
        )
        self.routing_decisions = Counter(
            "polymath_routing_decisions", "Routing decisions", ("intent", "reason"), registry=registry
        )
        self.routing_seconds = Histogram(
            "polymath_routing_seconds", "Time the delegator took", buckets=_ROUTING, registry=registry
        )
        self.routing_confidence = Histogram(
            "polymath_routing_confidence",
            "The delegator's confidence in its decisions",
            buckets=_CONFIDENCE,
            registry=registry,
        )
        self.routing_fallbacks = Counter(
            "polymath_routing_fallbacks",
            "Decisions that fell back to the general base; over the decisions, the fallback rate",
            ("reason",),
            registry=registry,
        )
        self.running = Gauge(
            "polymath_requests_running", "Completions that have begun to answer", registry=registry
        )
        self.adapter_operations = Counter(
            "polymath_adapter_operations",
            "Loads, updates and unloads by how they ended",
            ("operation", "outcome"),
            registry=registry,
        )
        self.adapter_load_seconds = Histogram(
            "polymath_adapter_load_seconds",
            "From the request to the specialist that can be asked, upload not included",
            buckets=_LOADING,
            registry=registry,
        )
        self.waiting = Gauge(
            "polymath_requests_waiting", "Completions that wait for their first token", registry=registry
        )

    def watch(self, services: Services) -> None:
        """Tell of this server's specialists from now on."""
        self.registry.register(SpecialistCollector(services.registry))
        services.roster.observe = self.observe_operation

    def observe_operation(self, operation: str, outcome: str, seconds: float) -> None:
        """One load, update or unload of a specialist. Called on the roster's thread."""
        self.adapter_operations.labels(operation, outcome).inc()
        if (operation, outcome) == ("load", "done"):
            self.adapter_load_seconds.observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def observe_request(self) -> "RequestObservation":
        return RequestObservation(self)


class SpecialistCollector(Collector):
    """What there is of specialists at the moment somebody asks: each by name, the idle ones too."""

    def __init__(self, specialists: "AdapterRegistry") -> None:
        self._specialists = specialists

    def collect(self) -> Iterator[Metric]:
        statuses = self._specialists.statuses()
        by_state = GaugeMetricFamily("polymath_adapters", "Specialists by where they are", labels=["state"])
        for state in ("registered", "resident", "active"):
            by_state.add_metric([state], sum(1 for s in statuses if s.state == state and not s.draining))
        by_state.add_metric(["draining"], sum(1 for s in statuses if s.draining))
        yield by_state
        size = GaugeMetricFamily(
            "polymath_adapter_bytes", "Bytes of each in memory; 0 is not resident", labels=["specialist"]
        )
        in_flight = GaugeMetricFamily(
            "polymath_adapter_requests", "Requests in flight on each", labels=["specialist"]
        )
        for name, generations in groupby(statuses, key=lambda status: status.name):  # sorted by name
            found = list(generations)
            size.add_metric([name], sum(s.num_bytes for s in found if s.state != "registered"))
            in_flight.add_metric([name], sum(s.in_flight for s in found))
        yield size
        yield in_flight


class RequestObservation:
    """One completion, from arrival to end. A context manager: whatever ends the block is the outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started = 0.0
        self._specialist = UNROUTED
        self._stage = metrics.waiting
        self.prompt_tokens = 0
        self.generation_tokens = 0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._stage.inc()
        return self

    def routed(self, route: Route[Any]) -> None:
        self._specialist = route.specialist
        decision = route.decision
        self._metrics.routing_decisions.labels(decision.intent, decision.reason.value).inc()
        if decision.reason is not RoutingReason.REQUESTED:
            self._metrics.routing_seconds.observe(decision.route_ms / 1000)
            self._metrics.routing_confidence.observe(decision.confidence)
            if route.adapter is None:
                self._metrics.routing_fallbacks.labels(decision.reason.value).inc()

    def first_token(self) -> None:
        self._stage.dec()
        self._stage = self._metrics.running
        self._stage.inc()
        elapsed = time.perf_counter() - self._started
        self._metrics.time_to_first_token.labels(self._specialist).observe(elapsed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stage.dec()
        specialist = self._specialist
        self._metrics.requests.labels(specialist, _outcome(error)).inc()
        self._metrics.prompt_tokens.labels(specialist).inc(self.prompt_tokens)
        self._metrics.generation_tokens.labels(specialist).inc(self.generation_tokens)
        if error is None:
            self._metrics.latency.labels(specialist).observe(time.perf_counter() - self._started)


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "finished"
    if isinstance(error, OverloadedError):
        return "overloaded"
    if isinstance(error, PolymathError):
        return "refused" if error.status < 500 else "failed"
    if isinstance(error, ClientDisconnectedError) or not isinstance(error, Exception):
        return "aborted"  # disconnected, cancelled, or the generator was closed
    return "failed"

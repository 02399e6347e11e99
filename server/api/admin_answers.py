"""What is told about specialists, out of the registry, the roster and the dispatcher."""

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from server.api.admin_schemas import AdapterBody, AdapterListBody, Draining
from server.errors import SpecialistNotFoundError
from server.services import Services
from server.store.record import Source, SpecialistRecord

if TYPE_CHECKING:
    from specialists.adapters.loaded import AdapterStatus

Routing = Literal["routed", "shadowed", "by_name_only", "off"]


def adapter_list(services: Services) -> AdapterListBody:
    limits = services.registry.limits
    return AdapterListBody(
        data=_bodies(services),
        draining=_draining(services.registry.statuses()),
        resident_bytes=services.registry.num_resident_bytes,
        max_resident_bytes=limits.max_resident_bytes,
        max_resident=limits.max_resident,
    )


def adapter_body(services: Services, name: str) -> AdapterBody:
    """Raises SpecialistNotFoundError."""
    for body in _bodies(services):
        if body.name == name:
            return body
    raise SpecialistNotFoundError(name)


def _bodies(services: Services) -> list[AdapterBody]:
    found: dict[str, AdapterBody] = {}
    for name, generations in groupby(services.registry.statuses(), key=lambda status: status.name):
        current, *old = generations  # the current generation comes first, if the name has one
        draining = _draining((current, *old))
        if not current.draining:
            record = services.roster.record(name)
            source = Source.CATALOG if record is None else record.source
            found[name] = _loaded(services, current, source, draining)
    for name, reason in services.refused.items():
        if name in found:  # the older generation serves on
            found[name] = found[name].model_copy(update={"error": reason})
        else:
            found[name] = _refused(name, services.roster.record(name), reason)
    return [found[name] for name in sorted(found)]


def just_loaded_body(services: Services, status: "AdapterStatus", source: Source) -> AdapterBody:
    """What a load answers. Not looked up by name: by now that may be another's, or nobody's."""
    generations = [other for other in services.registry.statuses() if other.name == status.name]
    return _loaded(services, status, source, _draining(generations))


def _draining(statuses: "Iterable[AdapterStatus]") -> list[Draining]:
    return [
        Draining(name=status.name, generation=status.generation, in_flight=status.in_flight)
        for status in statuses
        if status.draining
    ]


def _loaded(
    services: Services, status: "AdapterStatus", source: Source, draining: list[Draining]
) -> AdapterBody:
    return AdapterBody(
        name=status.name,
        status=status.state.value,
        routing=_routing(services, status),
        generation=status.generation,
        sha256=status.sha256,
        rank=status.rank,
        targets=list(status.targets),
        bytes=status.num_bytes,
        source=source.value,
        intent=status.manifest.intent,
        description=status.manifest.description,
        num_examples=len(status.manifest.examples),
        pinned=status.pinned,
        routable=status.routable,
        in_flight=status.in_flight,
        last_used=status.last_used,
        draining=draining,
    )


def _refused(name: str, record: SpecialistRecord | None, reason: str) -> AdapterBody:
    return AdapterBody(
        name=name,
        status="refused",
        routing="off",
        generation=None,
        sha256=None if record is None else record.sha256,
        rank=None,
        targets=[],
        bytes=None,
        source=(Source.CATALOG if record is None else record.source).value,
        intent=None if record is None else record.intent,
        description="" if record is None else record.description or "",
        num_examples=0 if record is None else len(record.examples or ()),
        pinned=record is not None and record.pinned,
        routable=record is None or record.routable,
        in_flight=0,
        last_used=None,
        draining=[],
        error=reason,
    )


def _routing(services: Services, status: "AdapterStatus") -> Routing:
    intent = status.manifest.intent
    if not status.routable:
        return "off"
    if intent is None or not services.roster.intents.knows(intent):
        return "by_name_only"
    return "routed" if services.dispatcher.serving(intent) == status.name else "shadowed"

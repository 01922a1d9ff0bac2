"""Containers: each of one person, so many of them, until they were idle for too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.orchestrator.scripted import CONTEXT

from regate_orchestrator.ports import CodeOutcome, KernelId
from regate_orchestrator.principal import Context
from regate_orchestrator.responses.tools.containers import Containers


@dataclass
class Kernels:
    """Notes what is stopped; stands for the server."""

    stopped: list[KernelId] = field(default_factory=list)

    async def start(self, context: Context, files: Mapping[str, bytes]) -> KernelId:
        raise NotImplementedError

    async def run(self, context: Context, kernel: KernelId, code: str) -> CodeOutcome:
        raise NotImplementedError

    async def stop(self, context: Context, kernel: KernelId) -> None:
        self.stopped.append(kernel)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock, *ids: str) -> tuple[Containers, Kernels]:
    kernels = Kernels()
    containers = Containers(kernels, most=3, most_each=2, idle_s=10, clock=clock)
    for name in ids:
        with containers.using(CONTEXT, name, is_new=True) as made:
            assert made is not None
            made.kernel = KernelId(f"k-{name}")
    return containers, kernels


async def test_what_was_idle_for_too_long_is_ended_and_what_is_used_is_not() -> None:
    clock = Clock()
    containers, kernels = opened(clock, "a", "b")
    clock.now = 11
    with containers.using(CONTEXT, "b", is_new=False):
        await containers.sweep()
    clock.now = 21
    await containers.sweep()
    before = list(kernels.stopped)
    clock.now = 22
    await containers.sweep()

    assert (before, kernels.stopped) == (["k-a"], ["k-a", "k-b"])
    with containers.using(CONTEXT, "b", is_new=False) as gone:
        assert gone is None


async def test_a_container_is_found_by_its_owner_alone_even_where_it_may_be_new() -> None:
    containers, _ = opened(Clock(), "a")
    others = [
        replace(CONTEXT, principal=replace(CONTEXT.principal, id="other")),
        replace(CONTEXT, principal=replace(CONTEXT.principal, tenant="other")),
    ]
    for other in others:
        for is_new in (False, True):
            with containers.using(other, "a", is_new=is_new) as found:
                assert found is None


async def test_there_are_no_more_than_may_be_of_one_person_and_in_all() -> None:
    containers, _ = opened(Clock(), "a", "b")
    other = replace(CONTEXT, principal=replace(CONTEXT.principal, id="other"))
    found = []
    for who, name in ((CONTEXT, "c"), (other, "d"), (other, "e")):
        with containers.using(who, name, is_new=True) as made:
            found.append(made is not None)

    assert found == [False, True, False]


async def test_who_waits_for_a_container_that_is_ended_finds_it_over() -> None:
    containers, kernels = opened(Clock(), "a")
    with (
        containers.using(CONTEXT, "a", is_new=False) as one,
        containers.using(CONTEXT, "a", is_new=False) as other,
    ):
        assert one is not None
        await containers.discard(one)
        await containers.discard(one)

    assert (other is one, one.is_over, one.context.credential, kernels.stopped) == (True, True, None, ["k-a"])


async def test_closing_ends_all() -> None:
    containers, kernels = opened(Clock(), "a", "b")
    await containers.close()

    assert sorted(kernels.stopped) == ["k-a", "k-b"]

"""Work that is done at the same time: all of it, or a few pieces at a time, so that many questions neither
wait for their turn past their deadline, nor crowd out everybody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


async def few_at_once(work: Sequence[Callable[[], Awaitable[Result]]], *, most: int) -> list[Result]:
    """Return what each piece of work returns, in their order; at most so many of them run at a time, begun in
    that order.

    The first failure ends those that run, and is raised as it was; what was not begun is not begun any more.
    """
    if len(work) == 1:
        return [await work[0]()]
    found: dict[int, Result] = {}
    waiting = iter(enumerate(work))

    async def one_after_another() -> None:
        for place, piece in waiting:
            found[place] = await piece()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(most, len(work))):
                group.create_task(one_after_another())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [found[place] for place in range(len(work))]


async def all_settled(
    work: Mapping[Key, Awaitable[Result]],
) -> tuple[dict[Key, Result], list[BaseException]]:
    """Return what each piece of work returned, by its key, and how the others failed. No failure ends
    another piece.
    """
    answers = await asyncio.gather(*work.values(), return_exceptions=True)
    returned = {
        key: answer
        for key, answer in zip(work, answers, strict=True)
        if not isinstance(answer, BaseException)
    }
    return returned, [answer for answer in answers if isinstance(answer, BaseException)]

"""What `/readyz` says while a part of the gateway is away, and what the log says of it."""

from __future__ import annotations

import logging

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World

pytestmark = only_on("embedded")

_LOGGER = "regate.health"


async def test_part_that_goes_away_is_named_to_anybody_and_its_cause_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, _LOGGER)
    there = world.settings.data_dir / "files"
    away = there.with_name("elsewhere")
    answers = []
    async with world.http() as anyone:
        for put in (None, (there, away), None, (away, there)):
            if put is not None:
                put[0].rename(put[1])
            answer = await anyone.get(f"{world.url}/readyz")
            answers.append((answer.status_code, answer.json()["checks"]["files"]))
    logged = [
        (one.message, one.__dict__["part"], one.__dict__.get("code"), one.__dict__.get("cause"))
        for one in caplog.records
        if one.name == _LOGGER
    ]

    assert answers == [(200, "ok"), *[(503, "state_unavailable")] * 2, (200, "ok")]
    assert logged == [
        ("part_does_not_answer", "files", "state_unavailable", "files: the directory takes no files"),
        ("part_answers_again", "files", None, None),
    ]

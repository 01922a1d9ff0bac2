"""A gateway knows its predecessor in the data directory only when that one has ended."""

from __future__ import annotations

import os
from pathlib import Path

from regate_gateway.composition.succession import succession
from regate_orchestrator.values import GatewayId, mint


def test_who_held_the_directory_is_known_once_it_has_let_go(tmp_path: Path) -> None:
    first, second = GatewayId(mint("gw_")), GatewayId(mint("gw_"))
    with succession(tmp_path) as held:
        found = [held.before]
        held.take(first)
        with succession(tmp_path) as beside:  # which takes it for no predecessor, since it lives
            found.append(beside.before)
            beside.take(second)
    with succession(tmp_path) as held:
        found.append(held.before)

    assert found == [None, None, first]


def test_each_worker_has_a_predecessor_of_its_own(tmp_path: Path) -> None:
    one, two = GatewayId(mint("gw_")), GatewayId(mint("gw_"))
    with succession(tmp_path, 1) as held, succession(tmp_path, 2) as beside:
        held.take(one)
        beside.take(two)
        with succession(tmp_path, 1) as again:
            found = [again.before]
    with succession(tmp_path, 2) as held, succession(tmp_path, 1) as beside, succession(tmp_path) as alone:
        found += [held.before, beside.before, alone.before]

    assert found == [None, two, one, None]


def test_directory_whose_lock_holds_something_else_or_cannot_be_had_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "gateway.lock").write_bytes(b"gw_ or 1=1\xff")
    with succession(tmp_path) as held:
        found = [held.before]
    (tmp_path / "file").touch()
    with succession(tmp_path / "file") as held:
        held.take(GatewayId(mint("gw_")))
        found.append(held.before)

    assert found == [None, None]


def test_lock_is_of_this_process_alone(tmp_path: Path) -> None:
    with succession(tmp_path) as held:
        assert held._descriptor is not None
        inheritable = os.get_inheritable(held._descriptor)

    assert not inheritable

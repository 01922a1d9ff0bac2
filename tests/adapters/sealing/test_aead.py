"""What is sealed opens for its purpose, under its secret, unaltered; and for nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_adapters.sealing.aead import AeadSealer
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import NOTHING_READ, ChunkSource, FileSource, Lineage
from regate_orchestrator.responses.context.sealing import kept_text, seal, unseal
from regate_orchestrator.values import FileId, StoreId

SEALER = AeadSealer(b"s" * 32)
READ = Lineage.of(
    [
        ChunkSource(StoreId("vs_1"), FileId("file-1"), "acme/1", {"tenant": "acme", "labels": ["hr-only"]}),
        ChunkSource(StoreId("vs_1"), FileId("file-1"), "acme/2", {"tenant": "acme", "labels": ["hr-only"]}),
        FileSource(FileId("file-2"), {"tenant": "acme"}),
    ]
)
ANN = {"tenant": "acme", "owner": "ann"}


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.lists(st.text())), st.text())
def test_payload_comes_back_as_it_was(payload: dict[str, object], purpose: str) -> None:
    sealed = SEALER.seal(payload, purpose=purpose)  # type: ignore[arg-type]

    assert SEALER.unseal(sealed, purpose=purpose) == payload


def test_payload_cannot_be_read_from_the_sealed_text() -> None:
    sealed = SEALER.seal({"text": "plover"}, purpose="p")

    assert b"plover" not in base64.urlsafe_b64decode(sealed)


def test_one_payload_is_never_sealed_twice_alike() -> None:
    assert SEALER.seal({}, purpose="p") != SEALER.seal({}, purpose="p")


def test_every_altered_byte_is_noticed() -> None:
    raw = bytearray(base64.urlsafe_b64decode(SEALER.seal({"a": 1}, purpose="p")))
    altered = []
    for place in range(len(raw)):
        changed = bytes(raw[:place]) + bytes([raw[place] ^ 1]) + bytes(raw[place + 1 :])
        altered.append(SEALER.unseal(base64.urlsafe_b64encode(changed).decode(), purpose="p"))

    assert altered == [None] * len(raw)


@pytest.mark.parametrize("text", ["", "AQ", "é", "not base64!", "A" * 60, "\x00"])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    assert SEALER.unseal(text, purpose="p") is None


def test_another_secret_and_another_purpose_do_not_open() -> None:
    sealed = SEALER.seal({"a": 1}, purpose="p")

    assert (SEALER.unseal(sealed, purpose="q"), AeadSealer(b"t" * 32).unseal(sealed, purpose="p")) == (
        None,
        None,
    )


def test_sealed_item_brings_its_lineage_back() -> None:
    body = {
        "type": "compaction",
        "encrypted_content": seal(SEALER, "compaction", "summary", READ, **ANN, model="m"),
    }
    found = unseal(SEALER, body, **ANN, model="another")

    assert (found.text, found.lineage, found.lineage.labels) == ("summary", READ, {"hr-only"})


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("reasoning", {"model": "other"}),
        ("reasoning", {"tenant": "globex"}),
        ("reasoning", {"owner": "bob"}),
        ("compaction", {"tenant": "globex"}),
        ("compaction", {"owner": "bob"}),
        ("compaction", {"owner": "ann\0"}),
    ],
)
def test_sealed_item_opens_only_for_its_person_and_reasoning_for_its_model(
    kind: str, other: dict[str, str]
) -> None:
    body = {"type": kind, "encrypted_content": seal(SEALER, kind, "t", NOTHING_READ, **ANN, model="m")}
    with pytest.raises(InvalidRequest) as refused:
        unseal(SEALER, body, **{**ANN, "model": "m", **other})

    assert refused.value.code == "invalid_encrypted_content"


def test_item_that_was_sealed_for_no_person_is_not_taken_from_a_client_but_is_read_where_it_is_stored() -> (
    None
):
    sealed = SEALER.seal(
        {"text": "old", "lineage": [["vs_1", "file-1", "acme/1", {}]]}, purpose="compaction\0acme\0"
    )
    body = {"type": "compaction", "encrypted_content": sealed}
    with pytest.raises(InvalidRequest):
        unseal(SEALER, body, **ANN, model="m")

    assert kept_text(SEALER, body, tenant="acme", model="m") == "old"


def test_one_kind_of_item_is_not_taken_for_another() -> None:
    body = {
        "type": "compaction",
        "encrypted_content": seal(SEALER, "reasoning", "t", NOTHING_READ, **ANN, model=""),
    }
    with pytest.raises(InvalidRequest):
        unseal(SEALER, body, **ANN, model="")

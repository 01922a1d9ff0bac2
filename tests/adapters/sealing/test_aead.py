"""What is sealed opens for its purpose, under its secret, unaltered; and for nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regate_adapters.sealing.aead import AeadSealer
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.sealing import seal, unseal
from regate_orchestrator.rows import ChunkRef
from regate_orchestrator.values import FileId, StoreId

SEALER = AeadSealer(b"s" * 32)
REF = ChunkRef(StoreId("vs_1"), FileId("file-1"), "acme/1", {"tenant": "acme", "labels": ["hr-only"]})


@settings(deadline=None)
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

    assert (SEALER.unseal(sealed, purpose="q"), AeadSealer(b"t" * 32).unseal(sealed, purpose="p")) == (None, None)


def test_sealed_item_brings_its_lineage_back() -> None:
    body = {"type": "compaction", "encrypted_content": seal(SEALER, "compaction", "summary", [REF], tenant="acme", model="m")}
    found = unseal(SEALER, body, tenant="acme", model="another")

    assert (found.text, found.lineage) == ("summary", (REF,))


@pytest.mark.parametrize(
    ("kind", "tenant", "model"), [("reasoning", "acme", "other"), ("reasoning", "globex", "m"), ("compaction", "globex", "m")]
)
def test_sealed_item_opens_only_for_its_tenant_and_reasoning_for_its_model(kind: str, tenant: str, model: str) -> None:
    body = {"type": kind, "encrypted_content": seal(SEALER, kind, "t", [], tenant="acme", model="m")}
    with pytest.raises(InvalidRequest) as refused:
        unseal(SEALER, body, tenant=tenant, model=model)

    assert refused.value.code == "invalid_encrypted_content"


def test_one_kind_of_item_is_not_taken_for_another() -> None:
    body = {"type": "compaction", "encrypted_content": seal(SEALER, "reasoning", "t", [], tenant="acme", model="")}
    with pytest.raises(InvalidRequest):
        unseal(SEALER, body, tenant="acme", model="")

"""The form of an upload beside its file."""

from __future__ import annotations

import pytest

from regate_gateway.routes.files.form import PURPOSES, FileForm, read_file_form
from regate_orchestrator.errors import InvalidRequest

DAY = 86_400


def fields(**changes: str) -> dict[str, str]:
    return {"purpose": "user_data"} | {
        name.replace("__", "[") + ("]" if "__" in name else ""): value for name, value in changes.items()
    }


def test_a_file_stays_unless_it_is_said_to_expire_and_a_batch_file_stays_thirty_days() -> None:
    assert PURPOSES
    assert {purpose: read_file_form({"purpose": purpose}).expires_in_s for purpose in PURPOSES} == {
        purpose: 30 * DAY if purpose == "batch" else None for purpose in PURPOSES
    }


@pytest.mark.parametrize("seconds", [3_600, 3_601, DAY, 30 * DAY])
def test_a_file_expires_between_an_hour_and_thirty_days_after_it_was_made(seconds: int) -> None:
    form = read_file_form(fields(expires_after__anchor="created_at", expires_after__seconds=str(seconds)))

    assert form == FileForm("user_data", seconds)


def test_what_is_said_of_a_batch_file_comes_before_the_default() -> None:
    said = fields(purpose="batch", expires_after__anchor="created_at", expires_after__seconds="3600")

    assert read_file_form(said).expires_in_s == 3_600


@pytest.mark.parametrize(
    "seconds", ["", "3599", "2592001", "-3600", "3600.0", "1e4", " 3600", "٣٦٠٠", "9" * 5_000, "null"]
)
def test_any_other_number_of_seconds_is_refused(seconds: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_file_form(fields(expires_after__anchor="created_at", expires_after__seconds=seconds))
    assert refusal.value.param == "expires_after.seconds"


@pytest.mark.parametrize("anchor", [None, "", "last_active_at"])
def test_the_anchor_must_be_the_creation(anchor: str | None) -> None:
    said = fields(expires_after__seconds="3600") | (
        {} if anchor is None else {"expires_after[anchor]": anchor}
    )
    with pytest.raises(InvalidRequest) as refusal:
        read_file_form(said)
    assert refusal.value.param == "expires_after.anchor"


def test_the_anchor_alone_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_file_form(fields(expires_after__anchor="created_at"))
    assert refusal.value.param == "expires_after.seconds"


@pytest.mark.parametrize("name", ["expires_after[other]", "expires_after[seconds][x]", "metadata", "Purpose"])
def test_other_fields_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_file_form({"purpose": "user_data", name: "x"})
    assert (refusal.value.param, refusal.value.code) == (name, "unknown_parameter")


@pytest.mark.parametrize("purpose", ["", "Assistants", "assistants_output", "fine-tune-results"])
def test_other_purposes_are_refused(purpose: str) -> None:
    with pytest.raises(InvalidRequest, match="'purpose' must be one of"):
        read_file_form({"purpose": purpose})


@pytest.mark.parametrize(
    "text", ['{"anchor": "created_at", "seconds": 3600}', '{"seconds":3600,"anchor":"created_at"}']
)
def test_the_expiry_may_be_written_as_json(text: str) -> None:
    assert read_file_form(fields(expires_after=text)).expires_in_s == 3_600


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"expires_after": "in a while"}, "expires_after"),
        ({"expires_after": "3600"}, "expires_after"),
        ({"expires_after": "{}"}, "expires_after.anchor"),
        ({"expires_after": '{"anchor": "created_at"}'}, "expires_after.seconds"),
        ({"expires_after": '{"anchor": "created_at", "seconds": "3600"}'}, "expires_after.seconds"),
        ({"expires_after": '{"anchor": "created_at", "seconds": 3600, "days": 1}'}, "expires_after.days"),
        (
            {"expires_after": '{"anchor": "created_at", "seconds": 3600}', "expires_after[seconds]": "3600"},
            "expires_after",
        ),
    ],
)
def test_an_expiry_in_json_that_does_not_say_both_is_refused_where_it_is_wrong(
    said: dict[str, str], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_file_form({"purpose": "user_data", **said})
    assert (refusal.value.param, bool(refusal.value.code)) == (param, True)


def test_a_misspelt_field_is_answered_with_what_was_meant() -> None:
    with pytest.raises(InvalidRequest, match="Did you mean 'purpose'"):
        read_file_form({"purpos": "user_data"})

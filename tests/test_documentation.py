"""Documentation is a gate: what the code says of itself and what the documents say must agree, and
what they show must work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml
from click.testing import CliRunner

from regate_adapters.opa.install import require_opa
from regate_adapters.opa.policies.source import read_source
from regate_adapters.opa.policies.vetting import vet
from regate_gateway.app import ROUTES
from regate_gateway.cli.main import main
from regate_gateway.config.loading import load_settings
from regate_gateway.workbench.directory import assemble
from regate_orchestrator.authz.points import asked_rules
from regate_orchestrator.ports import GUARD_STEPS
from regate_orchestrator.responses.diagram import diagram

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
TOPICS: Final = sorted((ROOT / "docs").glob("*.md"))

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`[^`\n]*`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_COMMAND: Final = re.compile(r"(?:^|[\s(/$])regate ([a-z][^\n#)|;&]*)")
_EXAMPLE: Final = re.compile(
    r"^`(overlay/[\w/.-]+\.json)`[^\n]*\n\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
_MAX_LINES: Final = 250
_SHORT: Final = 60


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return _CODE.sub("", _FENCE.sub("", path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).lower().replace(" ", "-")
        for heading in headings
    }


def broken_links(path: Path) -> Iterator[str]:
    for link in _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_link_within_the_repository_leads_to_what_is_there(path: Path) -> None:
    assert list(broken_links(path)) == []


def test_a_link_to_nothing_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n\n[a](#one-thing) [b](#another) [c](absent.md) [d](https://example.com/#x)\n"
    )

    assert list(broken_links(page)) == ["#another", "absent.md"]


@pytest.mark.parametrize("path", [path for path in TOPICS if path.name != "README.md"], ids=named)
def test_every_page_is_in_the_table_of_contents(path: Path) -> None:
    listed = {
        link.partition("#")[0]
        for link in _LINK.findall((ROOT / "docs/README.md").read_text(encoding="utf-8"))
    }

    assert path.name in listed


@pytest.mark.parametrize("path", TOPICS, ids=named)
def test_a_page_is_short_or_begins_with_its_sections(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    beginning = "\n".join(lines).partition("\n## ")[0]
    sections = [line for line in lines if line.startswith("## ")]
    listed = set(re.findall(r"\(#([^)]+)\)", beginning))
    expected = {
        re.sub(r"[^\w\- ]", "", section.removeprefix("## ")).lower().replace(" ", "-") for section in sections
    }

    assert len(lines) <= _MAX_LINES or path.name == "settings.md"  # which has a row for each setting
    assert path.name == "README.md" or len(lines) <= _SHORT or expected - listed <= {"reference"}


@pytest.mark.parametrize(
    "folder", ["orchestrator", "adapters", "gateway", "rego", "policy-tests", "tests", "deploy", "bench"]
)
def test_code_names_pages_that_are_there(folder: str) -> None:
    files = [
        path
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".rego", ".md", ".yaml", ".service"}
    ]
    mentioned = {
        (named(path), page)
        for path in files
        for page in re.findall(r"docs/[\w-]+\.md", path.read_text(encoding="utf-8"))
    }

    assert files
    assert [(file, page) for file, page in sorted(mentioned) if not (ROOT / page).exists()] == []


def overlay_examples() -> list[tuple[str, str, str]]:
    """Return the page, the file and its content, of each example of a file in an overlay."""
    return [
        (path.name, *example)
        for path in TOPICS
        for example in _EXAMPLE.findall(path.read_text(encoding="utf-8"))
    ]


def test_each_document_that_may_be_filled_has_an_example() -> None:
    shown = {name.split("/")[2] for _, name, _ in overlay_examples()}
    documents = {path.stem for path in (ROOT / "rego/schemas/operators").glob("*.json")}

    # It is a plain number, which can only be replaced.
    assert documents - shown == {"max_tool_result_bytes"}


@pytest.mark.parametrize(
    ("page", "name", "content"), overlay_examples(), ids=lambda value: value if len(value) < 60 else ""
)
def test_an_overlay_takes_each_example_as_it_is_printed(
    page: str, name: str, content: str, tmp_path: Path
) -> None:
    example = tmp_path / name
    example.parent.mkdir(parents=True)
    example.write_text(content)
    assemble(ROOT / "rego", tmp_path / "overlay", tmp_path / "policy")

    opa = require_opa()

    assert re.fullmatch(r"overlay/regate/\w+/data\.json", name)
    source = read_source(tmp_path / "policy")
    assert vet(opa, source, frozenset(), frozenset(GUARD_STEPS), within=tmp_path).has_authz


def test_the_shape_that_the_documentation_warns_of_is_refused_in_those_words(tmp_path: Path) -> None:
    (words,) = re.findall(
        r'"policy_problem": "(.*)"', (ROOT / "docs/operators-data.md").read_text(encoding="utf-8")
    )
    example = tmp_path / "overlay/regate/deny_labels/data.json"
    example.parent.mkdir(parents=True)
    example.write_text('{"regate": {"deny_labels": {"board": "director"}}}')
    assemble(ROOT / "rego", tmp_path / "overlay", tmp_path / "policy")

    source = read_source(tmp_path / "policy")
    with pytest.raises(Exception, match="Invalid type") as refused:
        vet(require_opa(), source, frozenset(), frozenset(GUARD_STEPS), within=tmp_path)

    assert str(refused.value) == words


def settings_examples() -> list[tuple[str, str]]:
    """Return the page and the text of each example of a configuration."""
    return [
        (path.name, text)
        for path in TOPICS
        for language, text in _FENCE.findall(path.read_text(encoding="utf-8"))
        if language == "yaml" and path.name != "prompts.md"
    ]


@pytest.mark.parametrize(
    ("page", "text"), settings_examples(), ids=lambda value: value if value.endswith(".md") else ""
)
def test_each_example_of_a_configuration_is_accepted(page: str, text: str, tmp_path: Path) -> None:
    settings = yaml.safe_load(text)
    if "upstreams" not in settings:  # an excerpt: what it names is configured elsewhere in the file
        settings["upstreams"] = [{"name": "vllm", "base_url": "http://127.0.0.1:8000/v1"}]
    if settings.get("listen", {}).get("host") == "0.0.0.0":
        assert "auth" in settings
    file = tmp_path / "regate.yaml"
    file.write_text(yaml.safe_dump(settings))

    assert page
    assert load_settings(file).upstreams


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_each_command_and_option_of_regate_that_is_shown_exists(path: Path) -> None:
    blocks = [text for _, text in _FENCE.findall(path.read_text(encoding="utf-8"))]
    shown = [line for text in blocks for line in _COMMAND.findall(text)]
    unknown = []
    for line in shown:
        words = line.split()
        if words[0] not in main.commands:
            continue  # what another program is told, such as the name of a container's image
        own = (
            [["verify"], ["show"], ["receipt"], ["key"]] if words[0] == "audit" else []
        )  # it reads records itself
        is_group = words[0] in {"policy", "config", "prompt", "key", "store"} or words[1:2] in own
        command = words[: 2 if is_group else 1]
        helped = CliRunner().invoke(main, [*command, "--help"])
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        unknown += [line for option in options if helped.exit_code or option not in helped.output]

    assert unknown == []


def test_every_test_that_the_threat_model_names_exists() -> None:
    mentioned = set(
        re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / "docs/threat-model.md").read_text(encoding="utf-8"))
    )
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }

    assert mentioned
    assert mentioned <= defined


@pytest.mark.parametrize("path", asked_rules())
def test_every_rule_that_is_asked_for_is_documented(path: str) -> None:
    package, _, rule = path.rpartition("/")
    rows = [
        line
        for line in (ROOT / "docs/decision-points.md").read_text().splitlines()
        if f"`{package.replace('/', '.')}`" in line
    ]

    assert any(f"`{rule}`" in row for row in rows)


def test_every_operators_document_is_in_the_reference() -> None:
    reference = (ROOT / "docs/operators-data.md").read_text(encoding="utf-8").partition("\n## Reference")[2]
    documents = json.loads((ROOT / "rego/data.json").read_text())["regate"]

    assert [name for name in documents if f"| `{name}` |" not in reference] == []


def test_every_route_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()

    assert [f"{method} {path}" for method, path, _ in ROUTES if f"`{method} {path}`" not in text] == []


def test_diagram_of_the_machine_is_drawn_from_its_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in (ROOT / "docs/responses.md").read_text()


def test_no_file_names_a_path_of_a_machine() -> None:
    files = [
        path
        for folder in ("orchestrator", "adapters", "gateway", "rego", "docs", "bench")
        for path in (ROOT / folder).rglob("*")
    ]
    texts = [path for path in files if path.suffix in {".py", ".rego", ".md", ".json", ".toml"}]
    assert texts

    assert [path for path in texts if re.search(r"/root/|/work/|/home/[a-z]", path.read_text())] == []

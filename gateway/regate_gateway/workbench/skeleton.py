"""`regate policy init`: a security team's own repository, to lay over the shipped policies. Its files are in
`templates/`.

The team never copies a shipped rule: it adds rules that the shipped ones consult, and gets the others with
each version of Regate.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

from regate_orchestrator.errors import ConfigurationError

TEMPLATES: Final = Path(__file__).parent / "templates"

_FILES: Final = {
    "README.md": "README.md",
    "Makefile": "Makefile",
    "gitignore": ".gitignore",
    "policy.yml": ".github/workflows/policy.yml",
    "chunk.rego": "overlay/custom/chunk/chunk.rego",
    "deny_labels.json": "overlay/regate/deny_labels/data.json",
    "chunk_test.rego": "tests/custom/chunk/chunk_test.rego",
}


def write_skeleton(directory: Path) -> list[str]:
    """Write the repository into a new or empty directory and return the names of its files.

    Raises `ConfigurationError` when the directory holds anything, hidden files included, or cannot be
    written.
    """
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigurationError(
                f"{directory} is not empty: name a new directory, so that nothing of yours is overwritten"
            )
        for template, name in _FILES.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            text = (TEMPLATES / template).read_text(encoding="utf-8")
            target.write_text(text.replace("@VERSION@", version("regate")), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be written: {error}") from error
    return list(_FILES.values())

"""Renders the report of a verification as one self-contained HTML file.

Most of its content comes from the module and is untrusted: every text is escaped, and the page runs no scripts.
"""

import base64
from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

import jinja2
from markupsafe import Markup

from hubexport.errors import printable
from hubexport.verify.report.error_plot import error_plot
from hubexport.verify.report.figures import (
    LIMIT_PERCENT,
    LimitBar,
    limit_bar,
    percent,
    probability_percent,
    readable_figure,
    seconds,
)
from hubexport.verify.result import CheckResult, Proof, Verification

# The groups of checks, by the part of a check's name before the dot, in the report's order.
_SUBJECTS = {
    "rebuild": "Every file compared with a second build",
    "structure": "Files, signatures, operations and collections",
    "weights": "Variables compared with the checkpoint",
    "numbers": "Outputs compared with independent computations",
    "behaviour": "What training and inference change",
    "consumers": "Loading with the libraries people use",
}
_PROOFS: dict[Proof, str] = {
    "rebuild": "by rebuild",
    "computation": "by independent computation",
    "program": "by a program",
}
_STATUS_WORDS = {"fail": "failed", "pass": "passed", "not applicable": "not applicable"}
# Labels of facts whose own names read badly.
_LABELS = {
    "input_height_px": "input height (px)",
    "input_width_px": "input width (px)",
    "num_features": "features",
    "num_classes": "classes",
    "checkpoint sha256": "checkpoint SHA-256",
    "checkpoint published": "checkpoint as published",
    "hubexport_version": "built by hubexport",
}
# Facts from hubexport have up to three levels, for the digests of a checkpoint's files.
_MAX_FACT_LEVELS = 3


@dataclasses.dataclass(frozen=True)
class _Check:
    """A check in the report; `anchor` is its id."""

    result: CheckResult
    bar: LimitBar | None
    anchor: str

    @property
    def has_floors(self) -> bool:
        """Whether it speaks of float32 floors."""
        return "floor" in self.result.unit or "floor" in self.result.explanation


@dataclasses.dataclass(frozen=True)
class _Group:
    name: str
    subject: str
    checks: tuple[_Check, ...]

    @property
    def proof(self) -> str:
        """What proves the group's promises."""
        return ", ".join(dict.fromkeys(_PROOFS[check.result.proof] for check in self.checks))

    @property
    def has_floors(self) -> bool:
        """Whether a check of the group speaks of float32 floors."""
        return any(check.has_floors for check in self.checks)

    def count(self, status: str) -> int:
        return sum(check.result.status == status for check in self.checks)


def render(verification: Verification) -> str:
    """Returns the report of a verification: a whole HTML document, to be written as UTF-8.

    The report refers to nothing outside itself, and is the same for the same verification.
    """
    checks = [
        _Check(result, limit_bar(result.measured, result.limit), f"check-{number}")
        for number, result in enumerate(verification.results, start=1)
    ]
    handle = verification.facts.get("handle")
    return _ENVIRONMENT.get_template("report.html").render(
        verification=verification,
        name=handle if handle and isinstance(handle, str) else verification.path,
        failures=[check for check in checks if check.result.status == "fail"],
        failures_have_floors=any(check.has_floors for check in checks if check.result.status == "fail"),
        groups=list(_groups(checks)),
        has_bars=any(check.bar for check in checks),
        counts={status: sum(check.result.status == status for check in checks) for status in _STATUS_WORDS},
        plot=Markup(error_plot(verification.layers)) if verification.layers else None,
        facts=[row for key, fact in verification.facts.items() if key != "sha256" for row in _rows(key, fact)],
        files=list(_rows("", verification.facts.get("sha256", {}))),
    )


def _groups(checks: list[_Check]) -> Iterator[_Group]:
    """Yields the groups of checks in the report's order, each with its failed checks first."""
    groups: dict[str, list[_Check]] = {}
    for check in checks:
        groups.setdefault(check.result.check.partition(".")[0], []).append(check)
    for name in sorted(groups, key=[*_SUBJECTS, *groups].index):
        members = sorted(groups[name], key=lambda check: check.result.status != "fail")
        yield _Group(name, _SUBJECTS.get(name, ""), tuple(members))


def _rows(key: str, fact: object, level: int = 1) -> Iterator[tuple[str, str]]:
    """Yields labels and values of facts, those of nested facts with all keys that lead to them; None is left out."""
    if isinstance(fact, Mapping) and level < _MAX_FACT_LEVELS:
        for name, inner in fact.items():
            yield from _rows(f"{key} {name}".strip(), inner, level + 1)
    elif fact is not None:
        yield _LABELS.get(key, key.replace("_", " ") if level == 1 else key), _fact_text(fact)


def _fact_text(fact: object) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, float):
        return f"{fact:g}"
    return str(fact) if isinstance(fact, (str, int)) else "…"


def _breakable(text: object) -> Markup:
    """Lets lines break after the slashes of a path or name."""
    return Markup("/<wbr>").join(printable(str(text)).split("/"))


def _shown(value: Any) -> Any:
    """Escapes control characters and marks of text direction, so that they are seen; see `printable`."""
    return value if isinstance(value, Markup) else printable(str(value))


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("hubexport.verify.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    breakable=_breakable,
    figure=readable_figure,
    jpeg_uri=lambda jpeg: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}",
    percent=percent,
    probability_percent=probability_percent,
    seconds=seconds,
    shape=lambda shape: " × ".join(f"{length:,}" for length in shape),
)
_ENVIRONMENT.globals.update(status_words=_STATUS_WORDS, limit_percent=LIMIT_PERCENT)

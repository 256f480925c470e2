"""The report of a verification as one HTML file that needs nothing but itself.

Most of what it shows was written by whoever made the module: every text is escaped, and nothing runs in the page.
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
    figure,
    limit_bar,
    percent,
    probability_percent,
    seconds,
)
from hubexport.verify.result import CheckResult, Verification

# The parts of check names before the dot, in the order in which the report shows them.
_SUBJECTS = {
    "structure": "Files, signatures, operations and collections",
    "weights": "Variables compared with the checkpoint",
    "numbers": "Outputs compared with independent computations",
    "behaviour": "What training and inference change",
    "consumers": "Loading with the libraries people use",
}
# Of facts that would not read well under their own names.
_LABELS = {
    "input_height_px": "input height (px)",
    "input_width_px": "input width (px)",
    "num_features": "features",
    "num_classes": "classes",
    "checkpoint sha256": "checkpoint SHA-256",
    "checkpoint published": "checkpoint as published",
    "hubexport_version": "built by hubexport",
}
# Ours are three levels deep, with the digests of a checkpoint's files.
_MAX_FACT_LEVELS = 3


@dataclasses.dataclass(frozen=True)
class _Check:
    """One check in the report; `anchor` is what links lead to."""

    result: CheckResult
    bar: LimitBar | None
    anchor: str


@dataclasses.dataclass(frozen=True)
class _Group:
    name: str
    subject: str
    checks: tuple[_Check, ...]

    @property
    def has_bars(self) -> bool:
        return any(check.bar for check in self.checks)

    def count(self, status: str) -> int:
        return sum(check.result.status == status for check in self.checks)


def render(verification: Verification) -> str:
    """Returns the report of a verification.

    Returns:
        A whole HTML document, which refers to nothing outside itself; the same for the same verification. It is to be
        written as UTF-8.
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
        groups=list(_groups(checks)),
        counts={status: sum(check.result.status == status for check in checks) for status in _STATUS_WORDS},
        plot=Markup(error_plot(verification.layers)) if verification.layers else None,
        facts=[row for key, fact in verification.facts.items() if key != "sha256" for row in _rows(key, fact)],
        files=list(_rows("", verification.facts.get("sha256", {}))),
        limit_percent=LIMIT_PERCENT,
    )


_STATUS_WORDS = {"fail": "failed", "pass": "passed", "not applicable": "not applicable"}


def _groups(checks: list[_Check]) -> Iterator[_Group]:
    """Yields the checks by the part of their name before the dot, those that failed first."""
    found = dict.fromkeys(check.result.check.partition(".")[0] for check in checks)
    for name in sorted(found, key=[*_SUBJECTS, *found].index):
        members = [check for check in checks if check.result.check.partition(".")[0] == name]
        members.sort(key=lambda check: check.result.status != "fail")
        yield _Group(name, _SUBJECTS.get(name, ""), tuple(members))


def _rows(key: str, fact: object, level: int = 1) -> Iterator[tuple[str, str]]:
    """Yields facts with their names, nested ones with all that lead to them; None stands for what was left out."""
    if isinstance(fact, Mapping) and level < _MAX_FACT_LEVELS:
        for name, inner in fact.items():
            yield from _rows(f"{key} {name}".strip(), inner, level + 1)
    elif fact is not None:
        yield _LABELS.get(key, key.replace("_", " ") if level == 1 else key), _plain(fact)


def _plain(fact: object) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, float):
        return f"{fact:g}"
    return str(fact) if isinstance(fact, (str, int)) else "…"


def _breakable(text: object) -> Markup:
    """Lets a path or name go on in the next line after its slashes."""
    return Markup("/<wbr>").join(printable(str(text)).split("/"))


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{length:,}" for length in shape)


def _jpeg_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _shown(value: Any) -> Any:
    """Makes visible what a page would obey, hide or not be able to hold, like the marks that turn text around."""
    return value if isinstance(value, Markup) else printable(str(value))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubexport.verify.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable,
        figure=figure,
        jpeg_uri=_jpeg_uri,
        percent=percent,
        probability_percent=probability_percent,
        seconds=seconds,
        shape=_shape,
    )
    environment.globals.update(status_words=_STATUS_WORDS)
    return environment


_ENVIRONMENT = _environment()

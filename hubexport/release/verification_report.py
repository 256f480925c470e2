"""The report of `hubexport verify` that a release publishes with each artifact."""

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from hubexport.release.facts import VerificationProof
from hubexport.verify.checks import deployment
from hubexport.verify.result import Verification

# This check measures random numbers, which differ from one verification to the next.
_RANDOM_CHECK = "behaviour.dropout"
# These compare the outputs of deployments with those of the network.
_COMPARING = {check.name for check in deployment.OUTPUTS.checks}


class ReportedCheck(pydantic.BaseModel):
    """The result of one check; see `hubexport.verify.result.CheckResult` for the attributes."""

    model_config = ConfigDict(strict=True, frozen=True)

    check: str
    status: Literal["pass", "fail", "not applicable"]
    explanation: str
    # Counts of problems are whole numbers, and stay such.
    measured: int | float | None
    limit: int | float | None
    unit: str
    details: tuple[str, ...] = Field(strict=False)

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "ReportedCheck":
        """Returns what does not differ from one verification to the next: neither times nor random numbers."""
        facts = {name: result[name] for name in cls.model_fields}
        return cls.model_validate(facts | {"measured": None} if result["check"] == _RANDOM_CHECK else facts)


class VerificationReport(pydantic.BaseModel):
    """The results of all checks of one packed module.

    Attributes:
        handle: the artifact's handle.
        archive_sha256: the digest of its archive, or of a deployment's manifest, in lower-case hexadecimal.
        passed: whether no check failed.
        checks: the result of each check, in the order in which they ran.
        versions: the versions of the software that took part, by name.
        graph_sha256: the digest of the module's graph; None in reports from before there was this field.
        graph_proved_by: see `VerificationProof`.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    handle: str
    archive_sha256: str
    passed: bool
    checks: tuple[ReportedCheck, ...] = Field(strict=False)
    versions: dict[str, str]
    graph_sha256: str | None = None
    graph_proved_by: str | None = None

    @classmethod
    def of(
        cls,
        handle: str,
        archive_sha256: str,
        verification: Verification,
        *,
        graph_sha256: str,
        graph_proved_by: str | None,
    ) -> "VerificationReport":
        """Returns the report of a verification; see the attributes."""
        return cls(
            handle=handle,
            archive_sha256=archive_sha256,
            passed=verification.passed,
            checks=tuple(map(ReportedCheck.of, verification.as_json()["results"])),
            versions=dict(verification.versions),
            graph_sha256=graph_sha256,
            graph_proved_by=graph_proved_by,
        )

    @property
    def outputs_compared(self) -> bool:
        """Whether a check compared a deployment's outputs with those of the network."""
        return any(check.check in _COMPARING and check.status == "pass" for check in self.checks)

    def proof(self) -> VerificationProof:
        """Sums up the report for the index and the pages.

        Raises:
            pydantic.ValidationError: no check passed.
        """
        statuses = [check.status for check in self.checks]
        return VerificationProof(
            passed=statuses.count("pass"),
            not_applicable=statuses.count("not applicable"),
            tensorflow=self.versions.get("TensorFlow"),
            graph_sha256=self.graph_sha256,
            graph_proved_by=self.graph_proved_by,
        )

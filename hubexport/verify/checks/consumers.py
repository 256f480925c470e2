"""Checks by programs that know nothing of hubexport: the real hub.Module, hub.load and hub.KerasLayer."""

from collections.abc import Sequence
import functools

from hubexport.consumers.registry import Consumer, PinnedConsumer, why_not_applicable
from hubexport.consumers.use_module import ConsumerFindings, use_module
from hubexport.progress import Progress
from hubexport.verify.check import Check, CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong

GROUP = CheckGroup("consumers", needs_tensorflow=True)


@GROUP.check
def installed_tensorflow(evidence: VerificationContext) -> Finding:
    """The installed tensorflow_hub loads the module, predicts the same, and shares variables in two applications."""
    return _judged(evidence.installed_use.findings())


def checks_in(consumers: Sequence[PinnedConsumer], progress: Progress) -> tuple[Check, ...]:
    """Returns a check for each of these consumers: they try all that programs do with modules."""
    return tuple(
        Check(
            f"consumers.{one.name}",
            f"TensorFlow {one.tensorflow} with tensorflow_hub {one.tensorflow_hub} predicts and trains as promised.",
            functools.partial(_thoroughly, one, progress),
        )
        for one in consumers
    )


def _thoroughly(consumer: Consumer, progress: Progress, evidence: VerificationContext) -> Finding:
    format_, version = evidence.report.format, evidence.subject.spec.version
    if reason := why_not_applicable(consumer, format_, version):
        raise NotApplicable(reason)
    images = evidence.training_pictures
    findings = use_module(
        consumer,
        evidence.subject.directory,
        images,
        evidence.promise(images),
        thorough=True,
        progress=progress,
        shown_as=evidence.subject.shown_as,
    )
    return _judged(findings)


def _judged(findings: ConsumerFindings) -> Finding:
    used = f"{', '.join(findings.apis)} in tensorflow_hub {findings.tensorflow_hub}, TensorFlow {findings.tensorflow}"
    explanation = f"{used}; outputs are off by up to {findings.largest_error:.1e}"
    return nothing_wrong(findings.problems, explanation)

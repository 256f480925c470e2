"""Checks by programs that know nothing of hubexport: they use the real hub.Module, hub.load and hub.KerasLayer."""

from collections.abc import Sequence
import functools
import itertools

import numpy as np

from hubexport.consumers.judge import judge_application
from hubexport.consumers.registry import PinnedConsumer, installed, why_not_applicable
from hubexport.consumers.use_module import ConsumerFindings, start_use
from hubexport.progress import Progress
from hubexport.verify.check import Check, CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong

GROUP = CheckGroup("consumers", proof="program", needs_runtime=True)


@GROUP.check
def installed_tensorflow(context: VerificationContext) -> Finding:
    """The installed tensorflow_hub loads the module, predicts the same, and shares variables in two applications."""
    consumer = installed()
    contract = context.contract(context.random_images.images)
    batches = [batch for batch in (contract.images, contract.other_images) if batch is not None]
    applications = context.apply_by_every_api(batches)
    judgements = [judge_application(api, one, contract) for api, one in applications.items()]
    return _judged(
        ConsumerFindings(
            consumer.name,
            consumer.tensorflow,
            consumer.tensorflow_hub,
            tuple(applications),
            float(np.max([judgement.largest_error for judgement in judgements])),
            tuple(itertools.chain.from_iterable(judgement.problems for judgement in judgements)),
        )
    )


def checks_in(consumers: Sequence[PinnedConsumer], progress: Progress) -> tuple[Check, ...]:
    """Returns one check per consumer. It tries everything that programs do with modules."""
    return tuple(
        Check(
            f"consumers.{consumer.name}",
            f"TensorFlow {consumer.tensorflow} with tensorflow_hub {consumer.tensorflow_hub} predicts and trains as "
            "promised.",
            functools.partial(_use_thoroughly, consumer, progress),
            proof="program",
        )
        for consumer in consumers
    )


def _use_thoroughly(consumer: PinnedConsumer, progress: Progress, context: VerificationContext) -> Finding:
    module = context.module
    if reason := why_not_applicable(consumer, context.report.format, module.spec.version):
        raise NotApplicable(reason)
    contract = context.contract(context.training_images)
    progress.step(f"using {module.shown_as} with TensorFlow {consumer.tensorflow}")
    use = start_use(consumer, module.directory, contract, shown_as=module.shown_as)
    with use as wait_for_findings:
        return _judged(wait_for_findings())


def _judged(findings: ConsumerFindings) -> Finding:
    used = f"{', '.join(findings.apis)} in tensorflow_hub {findings.tensorflow_hub}, TensorFlow {findings.tensorflow}"
    explanation = f"{used}; outputs are off by up to {findings.largest_error:.1e}"
    return nothing_wrong(findings.problems, explanation)

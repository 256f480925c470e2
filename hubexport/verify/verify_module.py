"""One module, all checks: what `hubexport verify` does."""

from collections.abc import Iterable, Sequence
import contextlib
import dataclasses
import io
from pathlib import Path
import platform
import sys
import time
from typing import Any

import numpy as np

from hubexport.arrays import Array
from hubexport.consumers.registry import PinnedConsumer
from hubexport.errors import HubexportError, TemporaryFileError, UsageError
from hubexport.extras import require_extras
from hubexport.images.image_files import find_images
from hubexport.labels import module_labels, read_labels
from hubexport.modules.identity import ModuleIdentity, identify
from hubexport.modules.opening import opened_module_directory
from hubexport.progress import Progress
from hubexport.variants import ModuleSpec, Variant, check_variant, module_spec
from hubexport.verify.check import Check
from hubexport.verify.checks.consumers import checks_in, installed_tensorflow
from hubexport.verify.checks.registry import CHECKS, needs_tensorflow, select_checks
from hubexport.verify.context import VerificationContext
from hubexport.verify.expected_values import read_trained
from hubexport.verify.finding import Finding, NotApplicable
from hubexport.verify.layer_errors import PictureErrors
from hubexport.verify.result import CheckResult, LayerError, Photograph, Status, Verification
from hubexport.verify.sample_images import photographs
from hubexport.version import __version__

# Classes of a photograph that are shown.
_TOP = 5
# Of what TensorFlow says of a damaged module.
_MAX_LINES = 20


def verify_module(
    path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    images: str | Path | Iterable[str | Path] = (),
    labels: Sequence[str] | str | Path | None = None,
    variant: Variant | None = None,
    spec: ModuleSpec | str | None = None,
    checks: Sequence[Check | str] | None = None,
    consumers: Sequence[PinnedConsumer] = (),
    progress: Progress | None = None,
) -> Verification:
    """Runs checks over one module.

    Args:
        path: a module's directory, a packed one, or its address on a hub server.
        checkpoint: what it should have been made from, see `hubexport.checkpoints.sources`; without it the module is
            held against its own values.
        images: photographs: one or more files, folders and patterns, as `hubexport.classify` takes them.
        labels: the names of the classes in the order of their indices, or the path of a text file in UTF-8 with one
            name a line. Defaults to the module's `assets/labels.txt`, if there is one.
        variant: the variant that it should be of. Defaults to the manifest's.
        spec: the kind and version that it should have, as a `ModuleSpec` or as text like `feature_vector/2`. Defaults
            to the manifest's.
        checks: names like `weights.equal`, groups like `weights`, or patterns like `numbers.*`. The checks run in the
            order of `hubexport verify --list_checks`. Defaults to all of them.
        consumers: other TensorFlows in which the module is tried, too, which takes minutes.
        progress: hears of each step.
    Raises:
        CheckpointError: the checkpoint cannot be read.
        ImageError: a photograph cannot be found or read.
        MissingExtraError: a check needs TensorFlow, or photographs need Pillow, and it is not installed.
        ModuleError: there is no module, or nobody says what it should be.
        TemporaryFileError: there is no room to unpack it, or for what a check leaves.
        UsageError: there are more or fewer labels than classes, the labels cannot be read, there are no checks to run,
            a check, kind or version does not exist, or `variant` is only a name.
    """
    chosen = _chosen(checks)
    if needs_tensorflow(chosen) or images or labels:
        require_extras("hubexport verify", "tensorflow")
    started = time.perf_counter()
    progress = progress or Progress()
    if variant is not None:
        check_variant(variant)
    spec = None if spec is None else module_spec(spec)
    files = find_images(images)
    if isinstance(labels, (str, Path)):
        labels = read_labels(Path(labels))
    with opened_module_directory(path, progress) as artifact:
        subject = identify(artifact.directory, str(artifact.shown_as), variant, spec)
        labels = _labels(labels, subject) if files else None
        trained = read_trained(str(checkpoint), subject, progress) if checkpoint else None
        pictures = photographs(files, *subject.network.image_shape[:2]) if files else None
        with VerificationContext(subject, trained, pictures, progress) as evidence:
            if any(check.run is installed_tensorflow for check in chosen):
                _start_installed_use(evidence)
            results = tuple(_run(check, evidence, progress) for check in (*chosen, *checks_in(consumers, progress)))
            return Verification(
                path=str(artifact.shown_as),
                checkpoint=trained.shown_as if trained else None,
                facts=_facts(subject),
                results=results,
                layers=_layers(evidence),
                photographs=_photographs(evidence, labels),
                versions=_versions(evidence),
                seconds=time.perf_counter() - started,
            )


def _chosen(checks: Sequence[Check | str] | None) -> tuple[Check, ...]:
    if checks is None:
        return CHECKS
    if not checks:
        raise UsageError(
            "no checks to run",
            why=f"checks is {checks!r}",
            fix="name some, like ['weights'], or leave checks out to run all",
        )
    return select_checks(checks)


def _labels(labels: Sequence[str] | None, subject: ModuleIdentity) -> Sequence[str] | None:
    """Returns the names of the classes that the user named, or else the module has."""
    classes = subject.network.num_classes
    if classes is None:
        return None
    from hubexport.images.classification import check_labels  # Needs Pillow, as photographs do.

    labels = module_labels(subject.directory) if labels is None else labels
    check_labels(labels, classes, subject.shown_as)
    return labels


def _start_installed_use(evidence: VerificationContext) -> None:
    """Lets the installed tensorflow_hub begin, which then takes next to no time of its own: it has its own process."""
    with contextlib.suppress(HubexportError):  # Its check will meet it again.
        evidence.installed_use  # pylint: disable=pointless-statement


def _run(check: Check, evidence: VerificationContext, progress: Progress) -> CheckResult:
    progress.step(f"checking {check.name}")
    started = time.perf_counter()
    try:
        finding = check.run(evidence)
        status: Status = "pass" if finding.passed else "fail"
        result = CheckResult(check.name, status, **_fields(finding))
    except NotApplicable as reason:
        result = CheckResult(check.name, "not applicable", str(reason))
    except TemporaryFileError:
        raise  # It tells nothing about the module.
    except HubexportError as error:
        result = CheckResult(check.name, "fail", f"{error.what}: {error.why}", details=error.details)
    # Whatever TensorFlow raises when it is given a damaged module tells against the module, and is of any kind.
    except Exception as error:  # pylint: disable=broad-exception-caught
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        result = CheckResult(check.name, "fail", f"{type(error).__name__}: {lines[0]}", details=(*lines[1:_MAX_LINES],))
    return dataclasses.replace(result, seconds=time.perf_counter() - started)


def _fields(finding: Finding) -> dict[str, Any]:
    return {field.name: getattr(finding, field.name) for field in dataclasses.fields(finding) if field.name != "passed"}


def _facts(subject: ModuleIdentity) -> dict[str, Any]:
    if subject.manifest is None:
        return {}
    return {**subject.manifest.model_dump(mode="json"), "sha256": subject.manifest.sha256}


def _layers(evidence: VerificationContext) -> tuple[LayerError, ...]:
    """Returns what was measured of each layer, over all pictures that were tried."""
    measured = evidence.measured
    if not measured:
        return ()
    network = evidence.network
    return tuple(
        LayerError(
            name=layer.name,
            operation=layer.operation,
            shape=network.shapes[layer.name],
            parameters=sum(variable.size for variable in layer.variables(*network.input_shapes(layer))),
            multiply_adds=layer.multiply_adds(*network.input_shapes(layer)),
            **_worst(layer.name, measured),
        )
        for layer in network.layers
    )


def _worst(layer: str, measured: Sequence[PictureErrors]) -> dict[str, Any]:
    errors = [one.layers[layer] for one in measured]
    return {
        "largest": max(one.largest for one in errors),
        "error": None if errors[0].error is None else max(one.error or 0.0 for one in errors),
        "floor": max(one.floor for one in errors),
    }


def _photographs(evidence: VerificationContext, labels: Sequence[str] | None) -> tuple[Photograph, ...]:
    """Returns the classes that the module gives to the photographs, if it did look at them."""
    measured = evidence.photograph_errors
    classes = evidence.network.num_classes
    # What a damaged module gives may be anything.
    if not classes or not measured or any(one.output.shape != (classes,) for one in measured):
        return ()
    from hubexport.images.classification import best_classes, softmax  # Needs Pillow, as photographs do.

    probabilities = softmax(np.stack([one.output for one in measured]))
    if not np.isfinite(probabilities).all():
        return ()
    best = [best_classes(row, labels, _TOP) for row in probabilities]
    return tuple(
        Photograph(one.picture, _jpeg(image), tuple((score.index, score.label, score.probability) for score in scores))
        for one, image, scores in zip(measured, evidence.photographs.images, best, strict=True)
    )


def _jpeg(image: Array) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def _versions(evidence: VerificationContext) -> dict[str, str]:
    """Returns the versions of what took part; of TensorFlow only if some check needed it."""
    versions = {"hubexport": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
    if evidence.used_tensorflow:
        versions["TensorFlow"] = sys.modules["tensorflow"].__version__
    return versions

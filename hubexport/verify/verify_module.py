"""What `hubexport verify` does: opens one module, runs the checks, and gathers what they found."""

from collections.abc import Iterable, Sequence
import dataclasses
import itertools
from pathlib import Path
import platform
import time

import numpy as np

from hubexport.consumers.registry import PinnedConsumer
from hubexport.deployment_spec import DeploymentSpec
from hubexport.deployments.registry import DEPLOYMENTS, deployment_at, deployment_in
from hubexport.errors import ModuleError, UsageError
from hubexport.extras import require_extras
from hubexport.formats.manifest import MANIFEST
from hubexport.images.image_files import find_images
from hubexport.labels import module_labels, read_labels
from hubexport.modules.identity import ModuleIdentity, identify
from hubexport.modules.opening import is_address, opened_artifact_directory
from hubexport.networks.costs import multiply_adds
from hubexport.progress import Progress
from hubexport.variants import ModuleSpec, Variant, check_variant, module_spec
from hubexport.verify.check import Check, run_check
from hubexport.verify.checks.consumers import checks_in
from hubexport.verify.checks.registry import CHECKS, DEPLOYMENT_CHECKS, checks_to_run, need_runtime, select_checks
from hubexport.verify.classified_photographs import classified_photographs
from hubexport.verify.context import VerificationContext
from hubexport.verify.deployment_context import DeploymentContext
from hubexport.verify.duration import warning_of_length
from hubexport.verify.expected_values import read_expected_values
from hubexport.verify.layer_errors import worst_deviation
from hubexport.verify.result import LayerError, Verification
from hubexport.verify.sample_images import read_photographs
from hubexport.version import __version__


def verify_module(
    path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    scope: str | None = None,
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
        path: a module's directory, a packed module, or its address on a hub server.
        checkpoint: the checkpoint that the module should have been made from, in any of the forms that
            `hubexport.checkpoints.sources` lists, or a directory of archives with the variant's. Without it, the module
            is compared with its own values.
        scope: what the names of the network's variables begin with in the checkpoint. Defaults to the manifest's scope,
            or else to what the names tell.
        images: photographs: one or more files, folders and patterns, as for `hubexport.classify`.
        labels: the names of the classes in the order of their indices, or the path of a text file in UTF-8 with one
            name per line. Defaults to the module's `assets/labels.txt`, if there is one.
        variant: the variant that the module should be of. Defaults to the manifest's.
        spec: the kind and version that it should have, as a `ModuleSpec` or as text like `feature_vector/2`. Defaults
            to the manifest's.
        checks: names like `weights.equal`, groups like `weights`, or patterns like `numbers.*`. The checks run in the
            order of `hubexport verify --list-checks`. Defaults to all of them.
        consumers: other TensorFlows to try the module in, which takes minutes.
        progress: is told of each step.
    Raises:
        CheckpointError: the checkpoint is missing or damaged, or does not fit the network.
        ImageError: a photograph is missing or cannot be read.
        MissingExtraError: a check needs TensorFlow, or photographs need Pillow, and it is not installed.
        ModuleError: there is no module, or neither its manifest nor the caller says what it should be.
        TemporaryFileError: there is no room to unpack the module, or for a check's temporary files.
        UsageError: the number of labels differs from the number of classes, the labels cannot be read, there are no
            checks to run, a check, kind or version does not exist, or `variant` is only a name.
    """
    if checks is not None and not checks:
        raise UsageError(
            "no checks to run",
            why=f"checks is {checks!r}",
            fix="name some, like ['weights'], or leave checks out to run all",
        )
    selected = select_checks(checks or ())
    is_deployment = not is_address(path) and deployment_in(Path(path)) is not None
    if images or labels or (need_runtime(selected) and not is_deployment):
        require_extras("hubexport verify", "tensorflow")
    started = time.perf_counter()
    progress = progress or Progress()
    if variant is not None:
        check_variant(variant)
    spec = None if spec is None else module_spec(spec)
    image_files = find_images(images)
    if isinstance(labels, (str, Path)):
        labels = read_labels(Path(labels))
    _check_is_built(path)
    with opened_artifact_directory(path, progress) as opened:
        module = identify(opened.directory, str(opened.shown_as), variant, spec)
        deployed = isinstance(module.spec, DeploymentSpec)
        if deployed and consumers:
            raise UsageError(
                f"{module.shown_as} runs in no TensorFlow",
                why="it is a deployment, and --consumers tries modules",
                fix="leave the consumers out; the checks run it in the runtime of its format",
            )
        available = DEPLOYMENT_CHECKS if deployed else CHECKS
        selected = checks_to_run(checks or (), module.shown_as, "deployment" if deployed else "module")
        if deployed:
            _require_packages(module, runs=need_runtime(selected))
        if (consumers or need_runtime(selected)) and (long := warning_of_length(module, consumers)):
            progress.note(long)
        manifest = module.manifest
        labels = _labels(labels, module) if image_files else None
        expected = read_expected_values(str(checkpoint), module, progress, scope) if checkpoint else None
        photographs = read_photographs(image_files, *module.network.default_image_size) if image_files else None
        opened_context: type[DeploymentContext] | type[VerificationContext]
        opened_context = DeploymentContext if deployed else VerificationContext
        with opened_context(module, expected, photographs, progress) as context:
            all_checks = (*selected, *checks_in(consumers, progress))
            results = tuple(run_check(check, context, progress) for check in all_checks)
            return Verification(
                path=str(opened.shown_as),
                checkpoint=expected.shown_as if expected else None,
                facts={**manifest.model_dump(mode="json"), "sha256": manifest.sha256} if manifest else {},
                results=results,
                layers=_layers(context) if isinstance(context, VerificationContext) else (),
                photographs=classified_photographs(context, labels),
                versions=_versions(context),
                seconds=time.perf_counter() - started,
                not_selected=tuple(check.name for check in available if check not in selected),
            )


def _require_packages(module: ModuleIdentity, *, runs: bool) -> None:
    """Checks that the packages which write a deployment are there, and those that run it if a check does."""
    from hubexport.runtime.deployment_runners import RUNNERS

    assert isinstance(module.spec, DeploymentSpec)
    deployment = module.spec.deployment
    extras = {deployment.extra, RUNNERS[module.spec.format].extra if runs else None}
    require_extras(f"hubexport verify of a deployment for {deployment.title}", *filter(None, extras))


def _check_is_built(path: str | Path) -> None:
    """Refuses a deployment that says not what it should be."""
    if is_address(path):
        return
    found = deployment_at(Path(path))
    if found is None:
        return
    deployment, file = found
    folder = file if file.is_dir() else file.parent
    if Path(path) == file or not (folder / MANIFEST).is_file():
        name = next(name for name, one in DEPLOYMENTS.items() if one == deployment)
        raise ModuleError(
            f"cannot tell what {path} should be",
            why=f"verify judges the folder of a deployment, by its {MANIFEST}",
            fix=f"build one with `hubexport build --deployment {name}`, and verify that folder; or compare this one's "
            "values with `hubexport diff`",
        )


def _labels(labels: Sequence[str] | None, module: ModuleIdentity) -> Sequence[str] | None:
    """Returns the user's names of the classes, or else the module's own; None for a feature vector."""
    classes = module.network.num_classes
    if classes is None:
        return None
    from hubexport.images.classification import check_labels  # Needs Pillow, as photographs do.

    labels = module_labels(module.directory) if labels is None else labels
    check_labels(labels, classes, module.shown_as)
    return labels


def _layers(context: VerificationContext) -> tuple[LayerError, ...]:
    """Returns each layer with its largest errors over all images that were measured."""
    errors = [*itertools.chain(*context.measurements.values())]
    if not errors:
        return ()
    network = context.network.at_default_size()
    costs = multiply_adds(network)
    return tuple(
        LayerError(
            name=layer.name,
            operation=layer.operation,
            shape=network.shapes[layer.output],
            parameters=sum(variable.size for variable in layer.variables),
            multiply_adds=sum(costs[op.name] for op in layer.ops),
            **dataclasses.asdict(worst_deviation(errors, layer.output)),
        )
        for layer in network.layers
    )


def _versions(context: VerificationContext | DeploymentContext) -> dict[str, str]:
    """Returns the versions of the software that took part, with those of the runtime if a check used it."""
    versions = {"hubexport": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
    return versions | context.runtime_versions

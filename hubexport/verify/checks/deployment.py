"""Checks of deployments: their files, what they take and give, and what they compute.

Outputs are compared with the unfolded network in float64. Limits are a number of float32 floors, see
`hubexport.verify.layer_errors`; for quantized deployments, a number of the floors that the steps of the format give is
added, see `hubexport.verify.quantization_steps`.
"""

from collections.abc import Sequence
from importlib import metadata

import numpy as np

from hubexport.build import write_module
from hubexport.deployments.inference_model import INPUT
from hubexport.formats.manifest import MANIFEST
from hubexport.readable_numbers import counted
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.verify.check import CheckGroup
from hubexport.verify.deployment_context import DeploymentContext
from hubexport.verify.file_differences import file_differences
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong, within
from hubexport.verify.layer_errors import LIMIT_IN_FLOORS, layer_difference, worst_deviation
from hubexport.verify.manifest_differences import manifest_differences
from hubexport.verify.sample_images import SampleImages, extreme_images, random_images

REBUILD = CheckGroup("deployment", proof="rebuild", subject="deployment")
FILES = CheckGroup("deployment", proof="computation", subject="deployment")
OUTPUTS = CheckGroup("deployment", proof="computation", needs_runtime=True, subject="deployment")

_ODD_BATCH = 3


@FILES.counterpart_of("structure.digests")
def digests(context: DeploymentContext) -> Finding:
    """The files are exactly those listed in hubexport.json, with the same SHA-256 digests."""
    return context.listed_digests()


@FILES.counterpart_of("rebuild.manifest")
def manifest(context: DeploymentContext) -> Finding:
    """hubexport.json says what hubexport writes: of the network, and of the checkpoint if one is given."""
    if context.module.manifest is None:
        raise NotApplicable(f"there is no {MANIFEST}")
    expected = context.expected
    provenance = None
    if expected:
        # A module that was built with it tells of the checkpoint that both are from.
        provenance = expected.provenance_of_module() or expected.provenance()
    problems = manifest_differences(context.module, context.module.config, provenance)
    explanation = f"it describes a deployment from {expected.shown_as}" if expected else "its fields fit each other"
    return nothing_wrong((f"{MANIFEST}: {problem}" for problem in problems), explanation, "differences")


@REBUILD.counterpart_of("rebuild.files")
def rebuild(context: DeploymentContext) -> Finding:
    """Every file is the one that hubexport writes from the checkpoint."""
    module, values = context.module, context.values
    written_with = module.manifest.deployment.written_with if module.manifest and module.manifest.deployment else {}
    if other := [f"{name} {version}" for name, version in written_with.items() if metadata.version(name) != version]:
        raise NotApplicable(f"it was written with {' and '.join(other)}, and bytes depend on that")
    if (missing := context.spec.options.missing) is not None:
        raise NotApplicable(f"it was written with {missing}, which are not here")
    variant = context.module.config or module.variant
    names = context.report.metadata.get("class_names")
    if context.module.config is None and names:
        # Only a config tells what the classes are called.
        variant = variant.model_copy(update={"labels": names})
    what = f"cannot write {module.shown_as} again"
    with temporary_directory(what) as scratch, temporary_failures_reported(what):
        rebuilt = scratch / "deployment"
        write_module(rebuilt, variant, module.spec, module.network, values)
        problems = [*file_differences(module.directory, rebuilt, same_revision=False)]
    assert context.expected
    return nothing_wrong(problems, f"what is written from {context.expected.shown_as} is the same", "differences")


@FILES.counterpart_of("structure.signatures")
def interface(context: DeploymentContext) -> Finding:
    """It takes `images`, and gives the outputs that were asked for, under their names."""
    report, spec, network = context.report, context.spec, context.network
    problems = [*report.problems]
    height, width, channels = network.image_shape
    nchw = getattr(spec.options, "layout", "nhwc") == "nchw"
    shape = (None, channels, height, width) if nchw else (None, height, width, channels)
    takes = [(one.name, one.dtype, one.shape) for one in report.inputs]
    wanted = [(INPUT, spec.deployment.pixels[spec.options.pixels], shape)]
    if takes != wanted:
        problems.append(f"it takes {_shown(takes)}, not {_shown(wanted)}")
    gives = {one.name: one.shape for one in report.outputs}
    for name, op in context.outputs.items():
        lengths = network.shapes[op]
        axes = (lengths[2], *lengths[:2]) if nchw and len(lengths) > 2 else lengths
        if gives.pop(name, ()) != (None, *axes):
            problems.append(f"it does not give {name} {[None, *axes]}")
    problems += [f"it gives {name}, too" for name in gives]
    config = context.module.config
    wanted_names = config.class_names() if config and spec.kind == "classification" else None
    if wanted_names is not None and report.metadata.get("class_names") != wanted_names:
        problems.append("the names of its classes are not those of its config")
    return nothing_wrong(problems, f"{_shown(takes)} to {', '.join(context.outputs)}")


def _shown(tensors: Sequence[tuple[str, str, tuple[int | None, ...] | None]]) -> str:
    return " and ".join(f"{name} {dtype} {list(shape or ())}" for name, dtype, shape in tensors)


@OUTPUTS.counterpart_of("numbers.random")
def random(context: DeploymentContext) -> Finding:
    """On noise and soft clouds, every output matches the float64 network."""
    return _outputs(context, random_images(*context.network.default_image_size))


@OUTPUTS.counterpart_of("numbers.extremes")
def extremes(context: DeploymentContext) -> Finding:
    """On images of all 0 and all 1, every output matches the float64 network."""
    return _outputs(context, extreme_images(*context.network.default_image_size))


@OUTPUTS.counterpart_of("numbers.sizes")
def sizes(context: DeploymentContext) -> Finding:
    """On images of another size and shape, every output matches the float64 network, if it takes them."""
    height, width = context.network.default_image_size
    if None not in context.network.image_shape:
        raise NotApplicable(f"it takes images of {height} x {width} pixels alone")
    # One even and one odd length: a padding may be right for one of them alone.
    return _outputs(context, random_images(height * 3 // 8 * 2, width // 4 * 2 + 1), kept=False)


@OUTPUTS.counterpart_of("numbers.photographs")
def photographs(context: DeploymentContext) -> Finding:
    """On photographs, every output matches the float64 network."""
    return _outputs(context, context.photographs)


def _outputs(context: DeploymentContext, samples: SampleImages, *, kept: bool = True) -> Finding:
    errors = context.errors(samples) if kept else context.measured(samples)
    in_floors = {}
    for name, op in context.outputs.items():
        worst = worst_deviation(errors, op)
        assert worst.error is not None, "every output was compared"
        in_floors[name] = worst.error / worst.floor
    name = max(in_floors, key=lambda name: in_floors[name])
    which = f"{name} is the worst of {counted(len(in_floors), 'output')}" if len(in_floors) > 1 else name
    explanation = f"{which} of {counted(len(errors), 'image')}"
    if context.spec.kind == "classification":
        [main, *_] = context.outputs.values()
        same = sum(int(image.output.argmax()) == int(image.exact[main].argmax()) for image in errors)
        explanation += f"; the same best class for {same} of {len(errors)}"
    return within(in_floors[name], LIMIT_IN_FLOORS, explanation, "floors")


@OUTPUTS.counterpart_of("numbers.batches")
def batches(context: DeploymentContext) -> Finding:
    """An image's output does not depend on its batch: alone, or with 2 others."""
    height, width = context.network.default_image_size
    images = np.concatenate([random_images(height, width).images, extreme_images(height, width).images])[:_ODD_BATCH]
    together = context.inference.run(images)["default"]
    alone = np.concatenate([context.inference.run(image[np.newaxis])["default"] for image in images])
    errors = context.errors(random_images(height, width))
    [main, *_] = context.outputs.values()
    in_floors = layer_difference(together, alone) / worst_deviation(errors, main).floor
    return within(in_floors, LIMIT_IN_FLOORS, f"batches of 1 and {_ODD_BATCH} compared", "floors")

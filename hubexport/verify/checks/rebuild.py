"""Checks that build the module again, and compare what hubexport writes with what is there.

A build is deterministic, so nothing in a module that hubexport built goes unseen. Whether hubexport itself is right,
they cannot tell; the other groups prove that.
"""

from hubexport.build import write_module
from hubexport.formats.manifest import MANIFEST, Manifest
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.labels import MODULE_LABELS, module_labels
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.variants import LabelFile
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.file_differences import file_differences
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong
from hubexport.verify.manifest_differences import manifest_differences

GROUP = CheckGroup("rebuild", proof="rebuild")


@GROUP.check
def files(context: VerificationContext) -> Finding:
    """Every file is the one that hubexport builds from the checkpoint, or else from the module's own values."""
    module, revision = context.module, _manifest(context).format_revision
    directory, variant, classes = module.directory, module.config or module.variant, module.network.num_classes
    problems, remarks = [], []
    if revision != FORMAT_REVISION:
        remarks.append(f"compared part by part: it has format revision {revision}, not {FORMAT_REVISION}")
    if module.config is None and classes and (names := module_labels(directory)):
        # Only a config tells what the classes are called.
        variant = variant.model_copy(update={"labels": LabelFile(file=str(directory / MODULE_LABELS))})
        remarks.append(f"the names of classes are its own: give --variant {variant.name}")
        if len(names) != classes:
            problems.append(f"{MODULE_LABELS} names {len(names)} classes, not {classes}")
    what = f"cannot build {module.shown_as} again"
    with temporary_directory(what) as scratch, temporary_failures_reported(what):
        rebuilt = scratch / "module"
        write_module(rebuilt, variant, module.spec, module.network, context.reference_values)
        problems += file_differences(directory, rebuilt, same_revision=revision == FORMAT_REVISION)
    source = context.expected.shown_as if context.expected else "its own values"
    return nothing_wrong(problems, "; ".join([f"a build from {source} is the same", *remarks]), "differences")


@GROUP.check
def manifest(context: VerificationContext) -> Finding:
    """hubexport.json says what hubexport writes: of the network, and of the checkpoint if one is given."""
    _manifest(context)
    expected = context.expected
    problems = manifest_differences(context.module, context.module.config, expected.provenance() if expected else None)
    explanation = "its fields fit each other; no checkpoint was given (--checkpoint)"
    if expected:
        explanation = f"it describes a module from {expected.shown_as}"
    return nothing_wrong((f"{MANIFEST}: {problem}" for problem in problems), explanation, "differences")


def _manifest(context: VerificationContext) -> Manifest:
    if context.module.manifest is None:
        raise NotApplicable(f"hubexport did not build it: there is no {MANIFEST}")
    return context.module.manifest

"""One module, all labelled images: what `hubexport evaluate` does."""

from collections.abc import Callable, Sequence
import os
from pathlib import Path

from hubexport.beam.options import Beam
from hubexport.errors import check_choice, check_positive
from hubexport.evaluation.classes import read_classes
from hubexport.evaluation.datasets import find_data
from hubexport.evaluation.pipeline import EvaluationOptions
from hubexport.evaluation.preprocessing import CENTRAL_CROP, PREPROCESSINGS
from hubexport.evaluation.result import Evaluation, conclude
from hubexport.evaluation.run import count_dataset, evaluation_key
from hubexport.evaluation.state import opened_state
from hubexport.extras import require_extras
from hubexport.modules.image_interface import InterfaceHints, OutputKind
from hubexport.modules.opening import opened_module_directory
from hubexport.progress import Progress


def evaluate(
    module: str | Path,
    data: str | Path,
    *,
    labels: Sequence[str] | str | Path | None = None,
    labels_offset: int = 0,
    limit: int | None = None,
    preprocessing: str = CENTRAL_CROP,
    batch_size: int = 64,
    input_range: tuple[float, float] | None = None,
    output_kind: OutputKind | None = None,
    state: str | Path | None = None,
    beam: Beam | None = None,
    config_dir: str | Path | None = None,
    report: Callable[[Evaluation], None] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures the accuracy of a classification module on labelled images.

    The module gets float32 [batch, height, width, 3], RGB, with intensities in [0, 1] or in `input_range`. Results
    are kept in `state` while images are classified: after an interruption, the same call continues where the last one
    stopped.

    Args:
        module: the module's directory, a gzipped tar of it, or its http or https address on a hub server.
        data: a folder with one subfolder of images a class, named by the class's number or label; or TFRecords like
            those of TF-Slim's ImageNet: a file, a folder, or a pattern such as `imagenet/validation-*-of-00128`.
        labels: the labels by which subfolders may be named, in the order of the data's class numbers, or the path of a
            text file in UTF-8 with one label a line. Defaults to the module's `assets/labels.txt`, if there is one.
        labels_offset: subtracted from a class number of the data to get the index in the module's output: 1 if the data
            have a background class 0 and the module has none, -1 in the opposite case.
        limit: the largest number of images to classify: an even spread of folders, the first of TFRecords. Defaults to
            all.
        preprocessing: `central_crop` (the middle 0.875 of height and width, resized as TensorFlow 1 does; the published
            accuracies were measured so) or `whole` (the whole image, resized as `hubexport.classify` does).
        batch_size: the number of images that the module computes at once.
        input_range: the intensities of black and white that the module takes, like `(-1, 1)`. Defaults to (0, 1), as in
            the common signatures for images; a SavedModel without these, such as one of Keras, needs it.
        output_kind: what the module's output is: `logits` or `probabilities`. Defaults to what the module tells; a
            SavedModel without the common signatures needs it.
        state: the folder in which results are kept until the evaluation is finished. With `beam`, all workers must have
            it. Defaults to a folder of its own in the cache folder.
        beam: the Apache Beam runner that does the work. Defaults to this process.
        config_dir: a folder with configs of your own variants; the published accuracy comes from a variant's config.
        report: called with the result before the kept results are removed. If it raises, they stay, and the next call
            has nothing left to classify.
        progress: hears of each step, and a warning for each image that cannot be read.
    Returns:
        The top-1 and top-5 accuracy, with the published ones.
    Raises:
        DataError: the images cannot be found or read, or their labels do not fit the module.
        ImageError: the folder of a class cannot be read.
        ModuleError: the module cannot be opened, is not a classification module, or does not tell how to run it.
        OutputError: results cannot be kept.
        UsageError: an argument is wrong, `state` belongs to another evaluation, or Beam is not installed.
        HubexportError: Beam's runner failed.
    Example:
        >>> path = "modules/google/imagenet/mobilenet_v2_035_96/classification/5"
        >>> evaluation = hubexport.evaluate(path, "classes")
        >>> evaluation.counts.images, evaluation.top1.percent
        (1, 0.0)
    """
    check_positive(batch_size=batch_size, limit=1 if limit is None else limit)
    check_choice("preprocessing", preprocessing, tuple(PREPROCESSINGS))
    if beam:
        require_extras("evaluating with Beam", "beam")
        # The workers have working directories of their own.
        state = state and os.path.abspath(state)
    progress = progress or Progress()
    told = InterfaceHints(input_range, output_kind)
    told.check()
    options = EvaluationOptions(preprocessing, batch_size, told=told)
    with opened_module_directory(module, progress) as artifact:
        classes = read_classes(labels, artifact.directory, labels_offset)
        progress.step(f"looking through {data}")
        dataset = find_data(os.path.abspath(data) if beam else str(data), classes, limit, progress)
        with opened_state(state, evaluation_key(artifact, dataset, options)) as kept:
            measured = count_dataset(artifact, dataset, options, kept, beam=beam, progress=progress)
            evaluation = conclude(artifact, str(data), options, measured, config_dir, progress)
            if report:
                report(evaluation)
            kept.remove()
    return evaluation

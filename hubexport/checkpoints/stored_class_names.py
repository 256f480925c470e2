"""The names of the classes that come with trained values."""

from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint
from hubexport.checkpoints.sources import Source
from hubexport.errors import UsageError
from hubexport.progress import Progress


def stored_class_names(
    source: Source, opened: OpenedCheckpoint, num_classes: int, progress: Progress
) -> list[str] | None:
    """Returns the names of the classes in a Hugging Face model's settings, or in the module that holds the values.

    Args:
        source: where the values come from.
        opened: the same, opened.
        num_classes: how many names there must be.
        progress: receives a warning about names that cannot be used.
    Returns:
        None if there are no names, or none that can be used.
    """
    try:
        settings = opened.settings and opened.settings.config
        names = settings.class_names if settings else source.class_names()
    except UsageError as error:
        progress.warn(f"leaving out the names of the classes: {error.what}: {error.why}")
        return None
    if names is not None and len(names) != num_classes:
        progress.warn(f"leaving out the names of the classes: {source.shown_as} has {len(names):,} for {num_classes:,}")
        return None
    return names

"""What a module's page says in words: what the module is, what it is not for, and what to cite."""

from collections.abc import Iterator, Mapping
import re
import unicodedata

from hubexport.readable_numbers import two_decimals
from hubexport.release.index import ArtifactRecord
from hubexport.release.page_facts import IMAGENET, UNNAMED_DATASET
from hubexport.site.markdown import ShownElsewhere
from hubexport.variants import BUILTIN_PUBLISHER, is_known_dataset


def first_sentence(record: ArtifactRecord) -> str:
    """Returns what a module is, of which network, and what it was trained on, in one sentence.

    For example: `MobileNet V2 (depth multiplier 0.75) for 192 × 192 images, trained on ImageNet by Google; returns
    scores of 1,001 classes.`
    """
    return f"{_network(record)} for {_images(record)}, {_training(record)}; {_results(record)}."


def limits(record: ArtifactRecord) -> list[str]:
    """Returns what a module is not for, one sentence each."""
    return list(_limits(record))


def citation(record: ArtifactRecord) -> str:
    """Returns the paper of a module's network as an entry of BibTeX."""
    paper = record.family.paper
    authors = re.split(r", | and ", paper.authors)
    first = unicodedata.normalize("NFKD", authors[0].split()[-1]).encode("ascii", "ignore").decode()
    key = f"{first}{paper.year}{re.sub('[^A-Za-z0-9]', '', record.family.title)}".lower()
    fields = {
        "title": f"{{{paper.title}}}",
        "author": " and ".join(authors),
        "year": str(paper.year),
        "url": paper.url,
    }
    entries = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@misc{{{key},\n{entries}}}\n"


def shown_elsewhere(record: ArtifactRecord, figures: Mapping[str, float | None]) -> ShownElsewhere:
    """Returns what the HTML page of a module or deployment shows in other places than the text of its Markdown page.

    Args:
        record: the module or deployment.
        figures: the published figures that the page shows.
    """
    sections = {"", "citation", "proof"}
    if record.values == "synthetic":
        sections.add("untrained")
    if record.deployment:
        return ShownElsewhere(sections, programs={"usage"})
    sections |= {"overview", "hub.module for tensorflow 1", "tf2 savedmodel", "module", "usage"}
    if record.measured:
        sections.add("measured accuracy")
    if record.sample:
        sections.add("sample result")
    if any(figure is not None for figure in figures.values()):
        sections.add("published figures")
    return ShownElsewhere(sections)


def _network(record: ArtifactRecord) -> str:
    parameters = ", ".join(
        f"{name.replace('_', ' ')} {two_decimals(value)}" for name, value in record.family_parameters
    )
    return f"{record.family.title} ({parameters})" if parameters else record.family.title


def _images(record: ArtifactRecord) -> str:
    size = f"{record.image_size} × {record.image_size}"
    return f"images of any size, {size} by default" if _any_size(record) else f"{size} images"


def _any_size(record: ArtifactRecord) -> bool:
    return record.deployment is None and record.family.takes_any_size(record.version)


def _training(record: ArtifactRecord) -> str:
    if record.values == "synthetic":
        return "untrained: its values are made up"
    trained = f"trained on {_dataset(record) or UNNAMED_DATASET}"
    if record.publisher != BUILTIN_PUBLISHER:
        return f"{trained}, published by {record.publisher}"
    if not record.inputs.checkpoint.get("published"):
        return f"{trained}, from a checkpoint that is not proved to be the published one"
    published = record.family.pretrained
    return f"{trained} by {published.trained_by}" if published else trained


def _dataset(record: ArtifactRecord) -> str | None:
    """Returns what people call the dataset that a module was trained on; None if its config does not tell."""
    if not is_known_dataset(record.dataset):
        return None
    return "ImageNet" if record.dataset == IMAGENET else record.dataset


def _results(record: ArtifactRecord) -> str:
    if record.num_classes is None:
        return f"returns feature vectors of {record.num_features:,} numbers"
    return f"returns scores of {record.num_classes:,} classes"


def _limits(record: ArtifactRecord) -> Iterator[str]:
    if record.values == "synthetic":
        yield "It is untrained: its outputs mean nothing. It is for trying programs that load, serve or train modules."
    size = f"{record.image_size} × {record.image_size}"
    if _any_size(record):
        smallest = record.family.smallest_size
        least = f"must have at least {smallest} × {smallest} pixels" if smallest > 1 else "may have any size"
        yield f"Images {least}, but it was made for {size} pixels: in other sizes, results may be worse."
    else:
        yield f"Images must have {size} pixels, with red, green and blue. Resizing others to a square distorts them."
    if record.values == "synthetic":
        return
    if dataset := _dataset(record):
        yield f"It learned from {dataset} alone, and was not tested on other kinds of images for this release."
    else:
        yield "This release does not say what it was trained on. Test it on your own kind of images first."
    if record.dataset == IMAGENET:
        yield "ImageNet's photographs come from the web, and do not show all regions, cultures and people alike."
    if record.num_classes is not None:
        yield (
            f"It always ranks its own {record.num_classes:,} classes, even if none fits the image, and it can be "
            "confident in a wrong one. It names what an image shows, not where."
        )
    if record.format == "hub":
        yield "It can be trained with hub.Module alone; everything else that loads it runs it for inference."

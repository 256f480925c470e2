"""Writes what people read about a released module: its page in tfhub.dev's format, a model card, a publisher's page.

Pages pass the validator of tensorflow/tfhub.dev.
"""

from typing import Any

import jinja2
import yaml

from hubexport.release.facts import ModuleFacts
from hubexport.release.page_facts import PageFacts
from hubexport.release.page_metadata import front_matter, page_tags


def module_page(facts: ModuleFacts) -> str:
    """Returns the page of an artifact, in Markdown as tfhub.dev wants it. The same facts give the same page."""
    m = PageFacts(facts)
    template = "deployment_page.md" if m.parent else "module_page.md"
    return _render(template, m=m, metadata=page_tags(m))


def model_card(facts: ModuleFacts) -> str:
    """Returns a module's model card: the facts of its page, in the form that Hugging Face and Kaggle want.

    Returns:
        YAML between lines of dashes, then Markdown. The key `kaggle` has the fields of Kaggle's
        `model-instance-metadata.json`. The same facts give the same card.
    """
    m = PageFacts(facts)
    head = yaml.safe_dump(
        front_matter(m), sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=False
    )
    return _render("deployment_card.md" if m.parent else "model_card.md", m=m, front_matter=head)


def publisher_page(publisher: str) -> str:
    """Returns a publisher's page, in Markdown. Without it, tfhub.dev refuses the pages of the publisher's modules."""
    return _render("publisher_page.md", publisher=publisher)


def _render(template: str, **context: Any) -> str:
    return _ENVIRONMENT.get_template(template).render(**context)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("hubexport.release"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

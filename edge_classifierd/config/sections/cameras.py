"""The section `cameras[]`, and how a pipeline gets the source of its camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from edge_classifierd.config.sections.base import Name, Section
from edge_classifierd.config.sections.sources import Source  # noqa: TC001 - pydantic evaluates the annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_classifierd.config.sections.pipeline import PipelineSection


class CameraSection(Section):
    """A camera that several pipelines use, each with its own region, rate, model and watches. It is read once."""

    name: Name = Field(description="Name for `pipelines[].camera`; unique.")
    source: Source = Field(description="Where frames come from; `type` selects the keys.")


def with_source(pipeline: PipelineSection, cameras: Iterable[CameraSection]) -> PipelineSection:
    """Return a pipeline that names a camera with the source of that camera, another one unchanged."""
    for camera in cameras:
        if camera.name == pipeline.camera:
            return pipeline.model_copy(update={"source": camera.source})
    return pipeline

"""The open cameras. Pipelines that name the same camera share its thread and its decoder."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.frames.camera import Camera
from edge_classifierd.frames.capture import Capture
from edge_classifierd.frames.factory import make_source
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.frames.base import Frame, FrameGate, FrameSource, Needs
    from edge_classifierd.frames.camera import CaptureStatus
    from edge_classifierd.pipeline.observation.tap import FrameTap
    from edge_classifierd.pipeline.planning.plan import AnyPlan

    T = TypeVar("T")
    MakeSource = Callable[[Source, Clock, Region, Needs], FrameSource]


class Cameras:
    """Opens a camera for the first pipeline that uses it, and a new one after it has ended. Any thread."""

    def __init__(self, clock: Clock, make_source: MakeSource = make_source, tap: FrameTap | None = None) -> None:
        """Open no camera yet.

        Args:
            clock: The clock.
            make_source: Makes the source of a section; tests and benches replace it with a fake camera.
            tap: Receives every frame of every pipeline's camera.
        """
        self._clock = clock
        self._make_source = make_source
        self._tap = tap
        self._lock = threading.Lock()
        self._shared: dict[str, tuple[Source, Camera]] = {}
        self._needs: dict[str, tuple[Needs, ...]] = {}

    def set_plans(self, plans: Iterable[AnyPlan]) -> None:
        """Set the plans of all pipelines. A camera that scales pictures itself chooses the sizes for all of them."""
        needs: dict[str, tuple[Needs, ...]] = {}
        for plan in plans:
            if plan.section.camera is not None and isinstance(plan, Plan):
                needs[plan.section.camera] = (*needs.get(plan.section.camera, ()), plan.preprocessor().needs)
        with self._lock:
            self._needs = needs

    def capture(
        self,
        plan: Plan,
        prepare: Callable[[Frame], T],
        on_status: Callable[[CaptureStatus, str], None],
        *,
        lanes: int,
        gate: FrameGate | None = None,
        beside: Capture[T] | None = None,
    ) -> Capture[T]:
        """Return a new capture of the pipeline's camera, attached and not started.

        With `beside`, an earlier capture of the pipeline, it is that one's camera unless it has ended.

        A camera of the pipeline's own prepares each frame in the camera's thread while the classifier, which has one
        lane, classifies the previous one. A shared camera leaves this to the workers of the models, and so does each
        camera where a classifier has several lanes, because no frame is prepared then that a newer one replaces.
        """
        name = plan.section.name
        with self._lock:
            while True:
                camera = self._camera(plan) if beside is None else beside.camera
                capture = Capture(
                    camera,
                    prepare,
                    name=name,
                    prepare_when_taken=plan.section.camera is not None or lanes > 1,
                    max_fps=plan.section.max_fps,
                    gate=gate,
                    on_status=on_status,
                    on_frame=None if self._tap is None else partial(self._tap.offer, name),
                )
                if camera.attach(capture):
                    return capture
                if beside is None:
                    self._shared.pop(str(plan.section.camera), None)
                beside = None

    def _camera(self, plan: Plan) -> Camera:
        section = plan.section
        if section.camera is None:
            return self._make(section.source, section.name, plan.region, plan.preprocessor().needs)
        source, camera = self._shared.get(section.camera, (None, None))
        if camera is None or source != section.source:
            needs = partial(self._needs_of_all, section.camera, plan.preprocessor().needs)
            pipelines = len(self._needs.get(section.camera, ()))
            camera = self._make(section.source, f"camera {section.camera}", Region(), needs, wait_for=pipelines)
            self._shared[section.camera] = (section.source, camera)
        return camera

    def _make(self, source: Source, name: str, region: Region, needs: Needs, *, wait_for: int = 1) -> Camera:
        return Camera(
            self._make_source(source, self._clock, region, needs),
            name=name,
            clock=self._clock,
            stall_timeout_s=getattr(source, "stall_timeout", 10.0),
            wait_for=wait_for,
        )

    def _needs_of_all(self, camera: str, first: Needs, width: int, height: int) -> tuple[int, int]:
        with self._lock:
            needs = self._needs.get(camera) or (first,)
        return common_size([each(width, height) for each in needs], width, height)


def common_size(sizes: Iterable[tuple[int, int]], width: int, height: int) -> tuple[int, int]:
    """Return the size of a second, smaller picture that serves as many models as possible.

    Args:
        sizes: The smallest picture that each model needs.
        width: Width of the camera's picture.
        height: Height of the camera's picture.

    Returns:
        A size that is enough for all models that need at most half the pixels of the picture, if there are any.
    """
    smallest_first = sorted(sizes, key=lambda size: size[0] * size[1])
    common = smallest_first[0]
    for size in smallest_first[1:]:
        both = (max(common[0], size[0]), max(common[1], size[1]))
        if 2 * both[0] * both[1] <= width * height:
            common = both
    return common

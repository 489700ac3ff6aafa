"""Makes the frame source that a configuration section describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.sources import FolderSection, Picamera2Section, Source, StreamSection
    from edge_classifierd.frames.base import FrameSource, Needs
    from edge_classifierd.preprocess import Region


def make_source(section: Source, clock: Clock, region: Region | None = None, needs: Needs | None = None) -> FrameSource:
    """Return the source, closed; nothing is opened. What a kind of source needs is imported only when it is used.

    Args:
        section: The configuration.
        clock: The clock that frames carry the time of.
        region: The part of the upright picture that is used, for sources that can cut it out.
        needs: How small a picture may be for the model, for sources that can scale it.
    """
    if section.type == "folder":
        return _folder(section, clock)
    if section.type == "snapshot":
        from edge_classifierd.frames.network.snapshot import SnapshotSource as Snapshot  # noqa: PLC0415

        return Snapshot(
            section.url,
            interval_s=section.interval,
            verify=section.verify,
            ca_file=section.ca_file,
            stall_timeout_s=section.stall_timeout,
            clock=clock,
        )
    if section.type == "picamera2":
        return _picamera2(section, clock, region, needs)
    if section.type == "stream":
        return _stream(section, clock)
    if section.type == "v4l2":
        from edge_classifierd.frames.v4l2 import V4l2Source as Camera  # noqa: PLC0415

        return Camera(
            section.device,
            width=section.width,
            height=section.height,
            fps=section.fps,
            input_format=section.input_format,
            stall_timeout_s=section.stall_timeout,
            clock=clock,
        )
    assert_never(section.type)


def _folder(section: FolderSection, clock: Clock) -> FrameSource:
    if section.watch:
        from edge_classifierd.frames.watch.folder_watch import FolderWatch as Watch  # noqa: PLC0415

        return Watch(
            section.path,
            fps=section.fps,
            recursive=section.includes_below,
            delete=section.after == "delete",
            clock=clock,
        )
    from edge_classifierd.frames.folder import FolderSource as Folder  # noqa: PLC0415

    return Folder(section.path, fps=section.fps, loop=section.loop, recursive=section.recursive, clock=clock)


def _picamera2(section: Picamera2Section, clock: Clock, region: Region | None, needs: Needs | None) -> FrameSource:
    from edge_classifierd.frames.picamera.controls import CameraControls  # noqa: PLC0415
    from edge_classifierd.frames.picamera.source import WHOLE  # noqa: PLC0415
    from edge_classifierd.frames.picamera.source import Picamera2Source as Camera  # noqa: PLC0415

    return Camera(
        section.camera,
        width=section.width,
        height=section.height,
        fps=section.fps,
        rotation=section.rotation,
        mirror=section.mirror,
        region=region if region is not None and section.region_in_camera else WHOLE,
        look=CameraControls(
            exposure=section.exposure,
            exposure_time_s=section.exposure_time,
            gain=section.gain,
            white_balance=section.white_balance,
            focus=section.focus,
        ),
        needs=needs,
        stall_timeout_s=section.stall_timeout,
        clock=clock,
    )


def _stream(section: StreamSection, clock: Clock) -> FrameSource:
    if "://" in section.url:
        from edge_classifierd.frames.network.stream_source import NetworkSource  # noqa: PLC0415

        return NetworkSource(
            section.url,
            transport=section.transport,
            verify=section.verify,
            ca_file=section.ca_file,
            stall_timeout_s=section.stall_timeout,
            clock=clock,
        )
    from edge_classifierd.frames.stream import VideoFileSource  # noqa: PLC0415

    return VideoFileSource(Path(section.url), paced=section.paced, loop=section.loop, clock=clock)

"""Lets the real picamera2 drive libcamera's virtual camera, which has no raw stream and allocates its own buffers.

Found through PYTHONPATH in the test's drop-in only. Nothing of what the project itself calls is replaced.
"""

# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, ANN204, ANN206, ARG003

from __future__ import annotations

import importlib.util
import mmap
import sys


class _AdaptPicamera2:
    """A finder that lets picamera2.picamera2 load as it is and adapts it afterwards."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "picamera2.picamera2":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_adapt(module):
            load(module)
            adapt(module)

        spec.loader.exec_module = load_and_adapt
        return spec


def adapt(module):
    import libcamera
    from picamera2.allocators import LibcameraAllocator

    class Mapped:
        """A buffer's memory; libcamera 0.4.0 leaves the planes' used bytes at 0, so their lengths count."""

        def __init__(self, _allocator, buffer, _write):
            self._buffer = buffer

        def __enter__(self):
            length = sum(plane.length for plane in self._buffer.planes)
            self._memory = mmap.mmap(self._buffer.planes[0].fd, length, mmap.MAP_SHARED)
            return self._memory

        def __exit__(self, *_):
            self._memory.close()

    class VirtualAllocator(LibcameraAllocator):
        def __init__(self):
            super().__init__(None)
            self.sync = Mapped

    def init(self, camera_num=0, **options):
        real_init(self, camera_num, **options)
        self.allocator.camera = self.camera

    def modes(self):
        found = self.camera.generate_configuration([libcamera.StreamRole.Viewfinder]).at(0).formats
        return [
            {"format": str(pixels), "size": (size.width, size.height)}
            for pixels in found.pixel_formats
            for size in found.sizes(pixels)
        ]

    module.DmaAllocator = VirtualAllocator  # there is no /dev/dma_heap here
    real_init = module.Picamera2.__init__
    module.Picamera2.__init__ = init
    module.Picamera2._get_raw_modes = modes


sys.meta_path.insert(0, _AdaptPicamera2)

"""Stands in for Raspberry Pi OS's python3-kms++, which picamera2 imports for previews on a screen."""


class _AnyFormat(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class PixelFormat(metaclass=_AnyFormat):
    pass

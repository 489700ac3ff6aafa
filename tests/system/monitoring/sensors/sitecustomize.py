"""Lets a daemon read the board's sensors and the clock's state from the folder $EDGE_CLASSIFIERD_ROOT.

Found through PYTHONPATH by one device of the test only.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_classifierd import clock
from edge_classifierd.health.board import Board

_ROOT = Path(os.environ["EDGE_CLASSIFIERD_ROOT"])
Board.__init__.__kwdefaults__["root"] = _ROOT  # type: ignore[index] # it has keyword arguments
clock._TIMESYNC_MARKER = _ROOT / "synchronized"  # type: ignore[misc] # for this process
clock._kernel_clock_synchronised = lambda: False

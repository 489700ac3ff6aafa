"""The child process of a training: `python -m edge_classifierd.teaching.training.child`, with a plan as JSON on stdin.

It answers on stdout with one line of JSON for each step. It has the lowest priority and pauses where others want the
processor, is the first process that the kernel ends for want of memory, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from edge_classifierd.errors import EdgeClassifierError, failure_sentence
from edge_classifierd.teaching.training.child_plan import (
    ChildAnswer,
    ChildFailure,
    ChildFinished,
    ChildProgress,
    decode_plan,
    encode_answer,
)
from edge_classifierd.teaching.training.pace import Pace

_PR_SET_PDEATHSIG: Final = 1
_LOWEST_PRIORITY: Final = 19
_MOST_LIKELY_ENDED: Final = "1000"


def main(parent: int) -> int:
    """Train according to the plan on stdin. `parent` is the process that started this one."""
    _end_with_parent(parent)
    _yield_to_others()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(one: ChildAnswer) -> None:
        print(encode_answer(one), file=answers, flush=True)

    def progress(stage: str, done: int, of: int) -> None:
        answer(ChildProgress(stage, done, of))
        pace.step()

    pace = Pace()
    plan = decode_plan(sys.stdin.buffer.readline())
    tempfile.tempdir = str(plan.folder)  # removed with the rest when this process is killed
    try:
        from edge_classifierd.teaching.training.version_maker import make_version  # noqa: PLC0415 - imports numpy

        make_version(plan, progress)
    except EdgeClassifierError as error:
        answer(ChildFailure(str(error)))
        return 1
    except MemoryError:
        answer(ChildFailure("the training needs more memory than there is; stop other programs, or use fewer pictures"))
        return 1
    except OSError as error:
        answer(ChildFailure(f"{error.filename or plan.folder}: {error.strerror or error}; check the disk"))
        return 1
    except Exception as error:
        answer(ChildFailure(failure_sentence(error)))
        raise
    answer(ChildFinished())
    return 0


def _end_with_parent(parent: int) -> None:
    """Make the kernel kill this process when the thread that started it ends; that thread waits for this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _yield_to_others() -> None:
    """Take the lowest priority, and be the first to be ended when memory runs out; as far as this is allowed."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_MOST_LIKELY_ENDED)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

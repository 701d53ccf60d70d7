"""Ctrl-C and SIGTERM while a server works for this process: what was begun is ended before the process leaves.

Knows no server. Only the main thread is ever interrupted, so elsewhere everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["held", "tidied"]


class _Terminated(SystemExit):
    """SIGTERM, on its way through the blocks that have something to end."""


@contextlib.contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Interrupts wait until the function is called that this answers, or the block is left.

    For a question whose answer is needed to undo what it began.
    """
    with contextlib.ExitStack() as handlers:
        waiting: list[Callable[[], object]] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            former = signal.getsignal(number)
            if _main_thread() and callable(former):  # else it interrupts nobody here
                signal.signal(number, lambda which, frame, act=former: waiting.append(lambda: act(which, frame)))
                handlers.callback(signal.signal, number, former)

        def release() -> None:
            handlers.close()
            while waiting:
                waiting.pop(0)()

        try:
            yield release
        finally:
            release()


@contextlib.contextmanager
def tidied() -> Iterator[None]:
    """SIGTERM, where it would end the process on the spot, ends it once the blocks within have been left.

    A second one does not wait for that. A handler of the program's own stays as it is.
    """
    if not _main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated(128 + number)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

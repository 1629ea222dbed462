"""Says what a stage waits for when it makes no progress, and ends the wait for what never comes.

Ray waits without a word, and without end, for a resource that no node has any more.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping

from fusionrec.errors import ResourceError
from pipelines.runtime import interrupts, resources
from pipelines.runtime.workspace import StageRun

log = logging.getLogger("fusionrec")

SILENCE = 60.0
"""Seconds without progress after which it is said, and again and again, what is waited for."""

AGAIN = 30.0
"""Seconds after which a stage that is given up and goes on is interrupted again.

An exception can be lost in a library's code. Tasks that are cancelled have 20 seconds to end.
"""


@contextlib.contextmanager
def watching(run: StageRun, patience: float) -> Iterator[None]:
    """Watch over a stage's work while the block runs.

    Parameters
    ----------
    patience
        Seconds without progress after which a wait for what fits into no node is given up.

    Raises
    ------
    ResourceError
        It was given up.
    """
    watch = _Watch(run, patience)
    _watches.append(watch)
    watch.start()
    try:
        with _can_be_interrupted():
            yield
    except KeyboardInterrupt:
        if watch.error is not None:
            raise watch.error from None
        raise
    finally:
        watch.over.set()
        watch.join()
        _watches.remove(watch)
        if _watches:  # it has waited for this one, and not for nothing
            _watches[-1].run_.pulse.beat("")


@contextlib.contextmanager
def _can_be_interrupted() -> Iterator[None]:
    """While it lasts, what is given up can be ended where SIGINT is ignored, as by nohup or "&"."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    ):
        yield
        return

    def on_interrupt(number: int, frame: object) -> None:
        if any(watch.error is not None for watch in _watches):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


_watches: list[_Watch] = []
"""Of stages at work in this process, each within the one before: the last is the one to tell."""


class _Watch(threading.Thread):
    def __init__(self, run: StageRun, patience: float) -> None:
        super().__init__(daemon=True)
        self.run_ = run
        self.patience = patience
        self.over = threading.Event()
        self.error: ResourceError | None = None
        self.owner = threading.current_thread()

    def run(self) -> None:
        told = time.monotonic()
        while not self.over.wait(SILENCE / 10):
            if _watches[-1] is not self:
                continue
            now = time.monotonic()
            silent = now - self.run_.pulse.last
            if silent < SILENCE or now - told < SILENCE:
                continue
            told = now
            where = f" ({self.run_.pulse.where})" if self.run_.pulse.where else ""
            gpus = f", with {self.run_.gpus:g} GPU for each worker" if self.run_.gpus else ""
            line = f"{self.run_.stage}: no progress for {silent:.0f} s{where}{gpus}"
            try:
                self._look(line, silent)
            except Exception as error:  # Ray ends, or has another API
                log.info("%s; Ray does not say why: %s", line, type(error).__name__)

    def _look(self, line: str, silent: float) -> None:
        waiting, free = resources.waiting(), resources.free()
        if not waiting:
            # Long work, or workers that stand still: who looks at them can tell.
            log.info("%s; Ray has placed all there is to do, free: %s", line, free)
            return
        line += f"; Ray has yet to place {', '.join(f'{n} x {_shown(b)}' for b, n in waiting)}"
        log.info("%s; free: %s", line, free)
        never = [bundle for bundle, _ in waiting if not resources.fits_a_node(bundle)]
        if never and silent >= self.patience and self.owner is threading.main_thread():
            less = " (under num_gpus: auto, run the command again)" if "GPU" in never[0] else ""
            self.error = ResourceError(
                f"{line}: no node has {_shown(never[0])}; it was waited for cluster.patience "
                f"seconds: bring such a node back, or ask for less{less}"
            )
            with interrupts.not_by_the_user():
                ended = False
                while not ended:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    ended = self.over.wait(AGAIN)


def _shown(bundle: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name} {amount:g}" for name, amount in sorted(bundle.items())) + "}"

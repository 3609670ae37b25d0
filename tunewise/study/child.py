"""A process that runs trials and fits of a study for another one: `python -m tunewise.study.child RUN`.

It reads what to run as lines of JSON on standard input, and writes events and outcomes as lines of JSON on
standard output. When nobody speaks to it any more, because the study has ended or was killed, it ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any


class _Speaker:
    """Hands events to who keeps the journal."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def write(self, event: str, trial: str, **fields: Any) -> None:
        """Have one recorded."""
        self.say({"write": event, "trial": trial, "fields": fields})

    def tell(self, event: dict[str, Any]) -> None:
        """Have one shown."""
        self.say({"tell": event})

    def say(self, message: dict[str, Any]) -> None:
        """One line."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


class _Listener:
    """What the other process says, as it says it."""

    def __init__(self, source: IO[str]) -> None:
        self.late = False
        self.wanted: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, args=(source,), daemon=True).start()

    def _listen(self, source: IO[str]) -> None:
        for line in source:
            message = json.loads(line)
            if "run" in message:
                self.late |= message["late"]
                self.wanted.put(message)
            else:
                self.late = True
        os._exit(0)  # not a trial's to delay: what it kept is enough to go on from


def main() -> None:
    """Run what is asked for, until nobody asks."""
    speaker = _Speaker(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what libraries print, also while they are imported, is no message
    listener = _Listener(sys.stdin)

    import torch

    from tunewise.study.executors import unpacked
    from tunewise.study.ground import attempts_of, prepare, refits_of
    from tunewise.study.refits import Refit
    from tunewise.study.stored import read_stored

    stored = read_stored(Path(sys.argv[1]))
    ground = prepare(stored.task, stored.request, rates=stored.rates, expected=stored.checksum)
    attempts = attempts_of(stored.folder, stored.request, ground)
    attempts.sink, attempts.must_end = speaker, lambda: listener.late
    refits = refits_of(stored.folder, stored.request, ground)
    refits.sink = speaker
    speaker.say({"ready": True})
    while True:
        message = listener.wanted.get()
        torch.set_num_threads(message["threads"])
        asked = unpacked(message["run"])
        outcome = refits.run(asked) if isinstance(asked, Refit) else attempts.run(asked, message["recorded"])
        speaker.say({"outcome": asdict(outcome)})


if __name__ == "__main__":
    main()

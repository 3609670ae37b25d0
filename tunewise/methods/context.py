"""Whether a method's real prompts fit the model: asked before work is spent on any of them.

That the task's plain prompt fits says nothing of demonstrations and learned embeddings, which make it longer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from tunewise.errors import TrialError
from tunewise.prompt import Renderer

Tokens = Sequence[int]


def check_fits(renderer: Renderer, prompts: Iterable[Tokens], answers: Iterable[Tokens] | None = None) -> None:
    """Refuse prompts that the model cannot read together with their answers.

    Args:
        renderer: what made the prompts.
        prompts: token ids of each.
        answers: token ids of each answer, where they are known; room for the task's longest is kept anyway.

    Raises:
        TrialError: with the length of the longest, and what makes it long.
    """
    room = renderer.answer_room
    known = itertools.repeat(()) if answers is None else answers
    rows = zip(prompts, known, strict=answers is not None)
    longest = max((len(prompt) + max(room, len(answer)) for prompt, answer in rows), default=0)
    longest += renderer.soft_tokens
    if longest > renderer.model.context:
        added = " and ".join(_additions(renderer))
        mend = "Use fewer, or shorten" if added else "Shorten"
        raise TrialError(
            f"{f'with {added} ' if added else ''}the longest prompt and its answer take {longest:,} tokens; "
            f"the model reads {renderer.model.context:,}. {mend} the inputs."
        )


def _additions(renderer: Renderer) -> list[str]:
    """What makes these prompts longer than the task's plain one."""
    counts = {"demonstrations": len(renderer.prompt.demonstrations), "learned embeddings": renderer.soft_tokens}
    return [f"{count} {what}" for what, count in counts.items() if count]

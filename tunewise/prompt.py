"""A prompt and how it becomes tokens: template, demonstrations, turns, and safety from the user's text.

The words of a prompt are rendered by a sandboxed Jinja template, turn by turn; turns are put together by the
tokenizer's chat template where the model has one, as plain text otherwise. Whatever stands in a field is text
and stays text: a control string in it is encoded as the characters it shows, never as a control token.

>>> Prompt("Classify the ticket.").template == TEMPLATE
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from tunewise.errors import SettingError
from tunewise.task import Choices, Input, TaskSpec

if TYPE_CHECKING:
    from tunewise.engine.answers import Pairs
    from tunewise.engine.model import LanguageModel

TEMPLATE = """\
{%- if first -%}
{{ instruction }}
{%- if labels %} Answer with one of: {{ labels | join(", ") }}.{% endif %}

{% endif -%}
{%- for name, value in fields.items() -%}
{{ name | replace("_", " ") | capitalize }}: {{ value }}
{% endfor -%}
"""
"""One user turn; `first` is true for the first turn of the prompt."""

OPEN, CLOSE = "\ue000", "\ue001"
"""Private-use characters around the place of a turn in a rendered chat."""


@dataclass(frozen=True)
class Demonstration:
    """A solved example shown in the prompt."""

    inputs: Mapping[str, str]
    target: str


@dataclass(frozen=True)
class Prompt:
    """The text around an input."""

    instruction: str
    template: str = TEMPLATE
    demonstrations: tuple[Demonstration, ...] = ()
    list_labels: bool = True
    """Whether the labels of a closed answer are named in the first turn."""
    truncate: bool = False
    """Whether inputs longer than the model's context are cut rather than refused."""

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        return {
            "instruction": self.instruction,
            "template": self.template,
            "list_labels": self.list_labels,
            "truncate": self.truncate,
            "demonstrations": [{"inputs": dict(d.inputs), "target": d.target} for d in self.demonstrations],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        """The inverse of `to_json`; raises KeyError when a field is missing."""
        shown = tuple(Demonstration(dict(d["inputs"]), d["target"]) for d in data["demonstrations"])
        return cls(data["instruction"], data["template"], shown, data["list_labels"], data["truncate"])


class Renderer:
    """Turns the inputs of one task into the tokens of one model, by one prompt."""

    def __init__(self, prompt: Prompt, spec: TaskSpec, model: LanguageModel, soft_tokens: int = 0) -> None:
        self.prompt = prompt
        self.spec = spec
        self.model = model
        self.soft_tokens = soft_tokens

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a generated answer: what stands before the next turn, where turns are plain text."""
        return () if self.model.has_chat_template else ("\n\n",)

    @property
    def answer_room(self) -> int:
        """Tokens to keep free for the answer."""
        if isinstance(self.spec.answer, Choices):
            return 1 + max(len(self.answer(word)) for word in self.spec.answer.words)
        return 1 + self.spec.answer.max_tokens

    @property
    def room(self) -> int:
        """Longest prompt in tokens that leaves place for the answer and the soft prompt."""
        return self.model.context - self.answer_room - self.soft_tokens

    def tokens(self, inputs: Sequence[Input]) -> list[list[int]]:
        """Token ids of the prompt of each input, ending where the answer begins.

        Longer than `room` only where the prompt does not say to truncate.
        """
        return [self._fitting(fields) for fields in self.spec.rows(inputs)]

    def answer(self, word: str) -> list[int]:
        """Token ids of an answer, without its end token."""
        # Without a chat template the prompt ends in a colon, and the space belongs to the answer's first token.
        return self._plain(word if self.model.has_chat_template else f" {word}")

    def pairs(self, inputs: Sequence[Input], targets: Sequence[str]) -> Pairs:
        """Prompts with their closed answers, for learning or for scoring."""
        from tunewise.engine.answers import Pairs

        answers = [[*self.answer(self.spec.answer.word(target)), self.model.end_id] for target in targets]
        return Pairs(self.tokens(inputs), answers)

    def _fitting(self, fields: Mapping[str, str]) -> list[int]:
        tokens = self._encode(self._pieces(fields))
        while self.prompt.truncate and len(tokens) > self.room and any(fields.values()):
            # The longest field loses its last tenth, and a character at least, until the prompt fits.
            name = max(fields, key=lambda one: len(fields[one]))
            kept = min(len(fields[name]) - 1, int(len(fields[name]) * 0.9))
            fields = {**fields, name: fields[name][:kept]}
            tokens = self._encode(self._pieces(fields))
        return tokens

    def _pieces(self, fields: Mapping[str, str]) -> list[tuple[str, bool]]:
        """The whole prompt in pieces: (text, whether control strings in it are meant)."""
        pieces = list(self._before)
        pieces.append((self._turn(fields, first=not self.prompt.demonstrations), False))
        pieces.append((self._after, True))
        return pieces

    def _encode(self, pieces: Sequence[tuple[str, bool]]) -> list[int]:
        chat = self.model.has_chat_template
        hostile = any(mark in text for text, meant in pieces if not meant for mark in self._control_strings)
        if not hostile:
            # The whole at once, so that tokens are those of any other server of this model.
            return self.model.encode("".join(text for text, _ in pieces), special=True, start=not chat)
        ids = [] if chat else self.model.encode("", special=True, start=True)
        for text, meant in pieces:
            ids += self.model.encode(text, special=True) if meant else self._plain(text)
        return ids

    def _plain(self, text: str) -> list[int]:
        """Tokens of somebody's text, where no string of a control token may become that token.

        Tokenizers split the strings of special tokens on request, but not those of other added tokens, such as
        `<tool_call>`: each is cut behind its first character, and the parts are encoded apart.
        """
        parts = [text]
        for mark in self._control_strings:
            parts = [piece for part in parts for piece in _cut_apart(part, mark)]
        return [token for part in parts if part for token in self.model.encode(part)]

    @cached_property
    def _control_strings(self) -> tuple[str, ...]:
        return self.model.control_strings

    @cached_property
    def _before(self) -> list[tuple[str, bool]]:
        """Everything before the turn that holds the input."""
        pieces: list[tuple[str, bool]] = []
        shown = [
            text
            for number, demonstration in enumerate(self.prompt.demonstrations)
            for text in (
                self._turn(demonstration.inputs, first=number == 0),
                self.spec.answer.word(demonstration.target),
            )
        ]
        frame = self._frame
        for text, between in zip([*shown, None], frame, strict=False):
            pieces.append((between, True))
            if text is not None:
                pieces.append((text, False))
        return pieces

    @property
    def _after(self) -> str:
        return self._frame[-1]

    @cached_property
    def _frame(self) -> list[str]:
        """What stands around the turns' texts: one piece before each turn, and one after the last."""
        turns = 2 * len(self.prompt.demonstrations) + 1
        marks = [f"{OPEN}{number}{CLOSE}" for number in range(turns)]
        if self.model.has_chat_template:
            roles = ("user", "assistant")
            messages = [{"role": roles[n % 2], "content": mark} for n, mark in enumerate(marks)]
            text = self.model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        else:
            answered = [
                f"{ask}\nAnswer: {answer}\n\n" for ask, answer in zip(marks[::2], marks[1::2], strict=False)
            ]
            text = "".join(answered) + f"{marks[-1]}\nAnswer:"
        frame = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found:
                raise SettingError("the model's chat template leaves out a turn; it cannot hold this prompt.")
            frame.append(before)
        return [*frame, text]

    def _turn(self, fields: Mapping[str, str], *, first: bool) -> str:
        labels = self.spec.answer.words if isinstance(self.spec.answer, Choices) else ()
        context = {
            **{name: value for name, value in fields.items() if name.isidentifier()},
            "first": first,
            "instruction": self.prompt.instruction,
            "labels": labels if self.prompt.list_labels else (),
            "fields": dict(fields),
        }
        # A prompt never ends with a space, and chat templates trim turns or not: trim them all.
        return _rendered(self.prompt.template, context).strip()


def _rendered(template: str, context: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    try:
        text: str = _compiled(template).render(context)
    except TemplateError as error:
        raise SettingError(f"the prompt template cannot be rendered: {error}.") from error
    return text


def _cut_apart(text: str, mark: str) -> list[str]:
    """`text` in pieces, cut behind the first character of every `mark` in it."""
    first, *rest = text.split(mark)
    pieces = [first]
    for piece in rest:
        pieces[-1] += mark[0]
        pieces.append(mark[1:] + piece)
    return pieces


@cache
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template)

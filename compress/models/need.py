"""What data and task ask of a network."""

from __future__ import annotations

from dataclasses import dataclass

from compress.errors import UsageError

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TextNeed:
    """What the tokenizer gives: its size, its special tokens (None where it has no such), the longest text in tokens.

    `start_id` is what a decoder reads first.
    """

    vocabulary_size: int
    max_length: int
    pad_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    start_id: int | None = None


@dataclass(frozen=True)
class Need:
    """What a network must take and give.

    `input_shapes` are those of one example, without the batch axis, and empty for texts; `output_size` is the number
    of values for each example (for each token, where the task answers tokens), or their shape.
    """

    input_shapes: Shapes
    output_size: int | tuple[int, ...]
    task: str = "image-classification"
    input_names: tuple[str, ...] = ("input",)
    text: TextNeed | None = None

    def one_image(self, name: str) -> tuple[int, int, int]:
        """Channels, height and width, for the network called `name`.

        Raises:
            UsageError: the data are something else than one image an example.
        """
        if self.text is not None:
            raise UsageError(
                f"{name} takes images, and the data are texts; networks for texts are those of transformers "
                "(`transformers: {model_type: bert, ...}`) and your own (`python:`)"
            )
        if len(self.input_shapes) != 1 or len(self.input_shapes[0]) != 3:
            found = ", ".join(map(str, self.input_shapes))
            raise UsageError(f"{name} takes one image (channels, height, width); the data give {found}")
        channels, height, width = self.input_shapes[0]
        return channels, height, width

    def vector(self, name: str) -> int:
        """The length of the vector that the task asks of the network called `name`.

        Raises:
            UsageError: it asks for something of more axes.
        """
        if isinstance(self.output_size, int):
            return self.output_size
        if len(self.output_size) != 1:
            raise UsageError(
                f"{name} gives one vector for each example; the targets have shape {self.output_size}: use a network "
                "of your own (`python: file.py:function`) or targets of shape (n,)"
            )
        return self.output_size[0]

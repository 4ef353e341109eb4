"""What an engine's own configuration tells of a model's indexer: read from it, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.policy.request import Request

if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    Family: TypeAlias = Literal["dsa", "v4"]

__all__ = ["IndexerModel", "of_config"]


@dataclass(frozen=True)
class IndexerModel:
    """The indexer of one model.

    Attributes:
        family: `dsa` (DeepSeek-V3.2, GLM-5 and their kin) or `v4` (DeepSeek-V4: pages of 64 of compressed keys).
        heads: `index_n_heads`.
        head_dim: `index_head_dim`.
        index_kpool: tokens that share one index key.
    """

    family: Family = "dsa"
    heads: int = 64
    head_dim: int = 128
    index_kpool: int = 1

    def request(self, page_size: int | None = None) -> Request:
        """Return what to ask for this model.

        Args:
            page_size: index slots a page, where the user gave one.
        """
        return Request(heads=self.heads, head_dim=self.head_dim, index_kpool=self.index_kpool, page_size=page_size)


def of_config(config: Any) -> IndexerModel | None:
    """Return the indexer that a Hugging Face configuration describes; None: the model has none.

    Args:
        config: an object or a dict with the fields of the model's `config.json`.
    """
    architectures = _field(config, "architectures") or ()
    if any(str(name).startswith("DeepseekV4") for name in architectures):
        return IndexerModel("v4", _number(config, "index_n_heads", 64), _number(config, "index_head_dim", 128))
    if _field(config, "index_topk") is None:
        return None
    return IndexerModel(
        "dsa",
        _number(config, "index_n_heads", 64),
        _number(config, "index_head_dim", 128),
        _number(config, "index_kpool", 1),
    )


def _field(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)


def _number(config: Any, name: str, default: int) -> int:
    value = _field(config, name)
    return default if value is None else int(value)

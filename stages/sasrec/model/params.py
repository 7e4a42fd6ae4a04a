"""The section `sasrec` of params.yaml, apart from the model, so that it is checked without PyTorch."""

from typing import Annotated, Literal

import msgspec

from sasrec.core.params import about


class SasrecParams(msgspec.Struct, frozen=True):
    """Section `sasrec` of params.yaml."""

    max_len: Annotated[int, msgspec.Meta(ge=1, le=2**16), about("the latest books that the model sees")]
    hidden_units: Annotated[int, msgspec.Meta(ge=1, le=2**16), about("width of every embedding and layer")]
    num_heads: Annotated[int, msgspec.Meta(ge=1, le=2**16), about("attention heads; a divisor of `hidden_units`")]
    num_layers: Annotated[int, msgspec.Meta(ge=0, le=1000), about("attention blocks")]
    dropout_rate: Annotated[float, msgspec.Meta(ge=0, lt=1), about("rounded to a multiple of 1/256")]
    norm_first: Annotated[bool, about("LayerNorm before each sublayer, and once at the end, instead of after it")]
    init_std: Annotated[
        float,
        msgspec.Meta(gt=0, le=100),
        about("standard deviation of the embeddings that are drawn; the notebook's, 1, is too large"),
    ]
    init: Annotated[
        Literal["normal", "counts"],
        about("the initial item embeddings: `normal`: drawn · `counts`: from which books training users read close by"),
    ] = "normal"

    def __post_init__(self) -> None:
        if self.hidden_units % self.num_heads:
            raise ValueError(
                f"sasrec.num_heads is {self.num_heads}, which does not divide "
                f"sasrec.hidden_units, {self.hidden_units}; choose a divisor"
            )

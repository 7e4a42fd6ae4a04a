"""The section `card` of params.yaml."""

from typing import Annotated

import msgspec

from sasrec.core.params import about

Line = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^\S(.{0,198}\S)?$", extra={"allowed": "give a line of text of at most 200 characters, or null"}
    ),
]


class CardParams(msgspec.Struct, frozen=True):
    """Section `card` of params.yaml."""

    data_name: Annotated[Line | None, about("the name of your data in the model card; null: as `fetch.source` says")]
    data_licence: Annotated[
        Line | None, about("the licence of your data in the model card; null: as `fetch.source` says")
    ]

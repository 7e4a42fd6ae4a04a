"""Prints the books nearest to a book."""

import argparse
import json
from collections.abc import Sequence

from sasrec.commands import options


def main(words: Sequence[str]) -> None:
    """Print both lists of neighbours; raise UserError if the model does not know the book."""
    parser = argparse.ArgumentParser(
        prog="sasrec similar",
        description="Lists the books nearest to one: by the network's embeddings (cosine), and by what the training "
        "users read soon after it (the sum of 1 / distance).",
    )
    parser.add_argument("book", type=options.identifier, metavar="ID", help="the book")
    options.add_model(parser)
    options.add_k(parser)
    options.add_titles(parser)
    options.add_format(parser)
    asked = parser.parse_args(words)
    recommender = options.load(asked)
    found = recommender.similar(asked.book, asked.k)

    import msgspec

    from sasrec.serving import listing

    if asked.format == "json":
        print(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    print(f"by the embeddings\n{listing.as_table(found.by_embedding)}\n")
    print(f"read soon after it\n{listing.as_table(found.by_transitions)}")

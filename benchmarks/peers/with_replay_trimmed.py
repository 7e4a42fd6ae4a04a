"""SASRec of RePlay, with its options that spare the padding of short histories."""

from replay.nn.sequential import LengthBucketedQueryEncoder
from replay.nn.transform import AdaptiveTrimTransform, TargetAwareAdaptiveTrimTransform
from with_replay import Data, model_of, prepare, schema_of, train, transforms_of
from work import Recommend

__all__ = ["fit", "prepare"]
BUCKET_SIZE = 32  # users of about the same length that are computed together


def fit(data: Data, num_epochs: int, loss: str) -> Recommend:
    """Train on batches that are cut to their longest history, in buckets of about the same length."""
    schema = schema_of(data)
    transforms = transforms_of(schema, data, loss)
    after_renaming = 2  # the default ones shift the items, rename the masks, and go on
    transforms["train"].insert(after_renaming, TargetAwareAdaptiveTrimTransform(["item_id", "positive_labels"]))
    transforms["predict"].insert(-1, AdaptiveTrimTransform(["item_id"]))
    model = model_of(schema, loss)
    model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, BUCKET_SIZE)
    return train(model, transforms, data, num_epochs)

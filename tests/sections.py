"""The sections of params.yaml, each with the struct that the code reads it into."""

import msgspec

from sasrec.dump.fetching import FetchParams
from sasrec.dump.reviews import ParseGzipParams
from sasrec.interactions.reindex import FilterReindexParams
from sasrec.io.spark import SparkParams
from sasrec.io.storage import StorageParams
from sasrec.model.sasrec import SasrecParams
from sasrec.split.params import EvaluationParams, SplitParams
from sasrec.training.params import TrainParams

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "fetch": FetchParams,
    "parse_gzip": ParseGzipParams,
    "filter_reindex": FilterReindexParams,
    "spark": SparkParams,
    "storage": StorageParams,
    "split": SplitParams,
    "evaluation": EvaluationParams,
    "sasrec": SasrecParams,
    "train": TrainParams,
}

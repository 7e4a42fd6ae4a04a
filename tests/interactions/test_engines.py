"""The engines give the same files."""

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, parse_gzip_params, review, set_params, write_dump
from hypothesis import given, settings
from hypothesis import strategies as st

import filter_reindex
from sasrec.core.errors import UserError
from sasrec.dump import columns, reviews
from sasrec.dump.formats import PRESETS
from sasrec.interactions import engines
from sasrec.interactions.params import FilterReindexParams
from sasrec.io import files, parquet, spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLES = [filter_reindex.USERS, filter_reindex.BOOKS, filter_reindex.INTERACTIONS]
PLOTS = [filter_reindex.RATINGS_PER_READER, filter_reindex.RATINGS_PER_BOOK]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_reviews(*batches: pa.RecordBatch, schema: pa.Schema = reviews.REVIEWS) -> None:
    files.make_folders(filter_reindex.REVIEWS, filter_reindex.USERS, filter_reindex.RATINGS_PER_READER)
    with files.atomic_write(filter_reindex.REVIEWS) as partial, parquet.writer(partial, schema) as rows:
        for batch in batches:
            rows.write(batch)


def written(section: FilterReindexParams, engine: engines.Engine) -> list[bytes] | str:
    """What the stage writes, or says, with the engine."""
    try:
        filter_reindex.write_tables(section, engine, None)
    except UserError as error:
        return str(error)
    return [path.read_bytes() for path in TABLES + PLOTS]


def assert_same_files(section: FilterReindexParams, spark_session: "SparkSession", scratch: Path) -> None:
    with engines.on_duckdb(filter_reindex.REVIEWS, None, scratch) as engine:
        expected = written(section, engine)
    with files.scratch(scratch) as folder, engines.on_spark(filter_reindex.REVIEWS, spark_session, folder) as engine:
        assert written(section, engine) == expected


ROWS = st.tuples(st.sampled_from("abcdé"), st.integers(0, 3), st.sampled_from("tuvwxyz"))


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    st.lists(ROWS, min_size=1, max_size=60),
    st.integers(1, 5),
    st.sampled_from(["newest_first", "oldest_first", "book_idx"]),
)
def test_spark_writes_what_duckdb_writes(
    spark_session: "SparkSession",
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, int, str]],
    min_ratings: int,
    order: str,
) -> None:
    users, days, books = zip(*rows, strict=True)
    dates = [datetime.date(2015, 1, 1) + datetime.timedelta(day) for day in days]
    values = [users, dates, books, [3] * len(rows)]
    arrays = [pa.array(column, field.type) for column, field in zip(values, reviews.REVIEWS, strict=True)]
    folder = tmp_path_factory.mktemp("property")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(parquet, "ROWS_PER_GROUP", 7)
        write_reviews(pa.record_batch(arrays, schema=reviews.REVIEWS))
        spark_session.conf.set("spark.sql.files.maxPartitionBytes", "1kb")  # reads the file in several parts
        assert_same_files(FilterReindexParams(min_ratings, order), spark_session, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"same_day_order": "oldest_first", "duplicates": "first"},
        {"same_day_order": "newest_first", "duplicates": "last", "min_item_ratings": 4},
        {"same_day_order": "book_idx", "min_item_ratings": 4, "k_core": True},
    ],
)
def test_spark_writes_what_duckdb_writes_of_seconds_duplicates_and_cores(
    spark_session: "SparkSession", folder: Path, changes: dict[str, object]
) -> None:
    rng = np.random.default_rng(0)
    users, books = ([f"{n}" for n in rng.geometric(0.1, 200)] for _ in range(2))
    seconds = pa.array(rng.integers(-100_000, 100_000, 200) // 20_000 * 20_000_500).cast(pa.timestamp("ms"))
    schema = columns.schema(PRESETS["movielens_csv"])
    batch = pa.record_batch([pa.array(users), seconds, pa.array(books), pa.nulls(200, pa.float32())], schema=schema)
    write_reviews(batch, schema=schema)
    section = FilterReindexParams(min_ratings=5, **changes)
    assert_same_files(section, spark_session, folder)
    assert pq.ParquetFile(filter_reindex.INTERACTIONS).schema_arrow.field("timestamp").type == pa.date32()


@pytest.mark.parametrize(("name", "order"), [("golden/ties", "book_idx"), ("data/goodbooks", "newest_first")])
def test_spark_writes_what_duckdb_writes_of_real_reviews(
    shared: Path, folder: Path, spark_session: "SparkSession", name: str, order: str
) -> None:
    write_reviews(*[good for good, _ in reviews.read(shared / f"{name}.json.gz", parse_gzip_params())])
    spark_session.conf.set("spark.sql.files.maxPartitionBytes", "256kb")
    assert_same_files(FilterReindexParams(10, order), spark_session, folder)


def test_a_failure_of_spark_is_one_line(folder: Path, spark_session: "SparkSession") -> None:
    with pytest.raises(UserError, match=r"Spark failed; .*Path does not exist: file:.*nowhere.parquet") as caught:
        engines.on_spark(folder / "nowhere.parquet", spark_session, folder).__enter__()
    assert "\n" not in str(caught.value)


def test_java_that_is_missing_is_named(
    folder: Path, spark_session: "SparkSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(folder))
    with pytest.raises(UserError, match=r"parse_gzip.engine is spark, which needs Java 17"):
        spark.session("local", "parse_gzip.engine", folder).__enter__()


def test_pyspark_that_is_missing_is_named_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    set_params(tmp_path, parse_gzip={"engine": "spark"})
    write_dump(tmp_path / "data/raw/reviews.json.gz", [review()])
    (tmp_path / "hides/pyspark").mkdir(parents=True)
    (tmp_path / "hides/pyspark/__init__.py").touch()  # found first, and without the module that is needed
    stage, environment = ROOT / "stages/parse_gzip.py", os.environ | {"PYTHONPATH": str(tmp_path / "hides")}
    done = subprocess.run([sys.executable, stage], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: parse_gzip.engine is spark, but PySpark is not installed; ")
    assert "`pip install -c constraints.txt -e '.[spark]'`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_of_spark_is_imported_without_it() -> None:
    code = "import sys, parse_gzip, filter_reindex; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "stages").returncode == 0


def many_reviews(number: int) -> pa.RecordBatch:
    """Random reviews of about 100 bytes."""
    rng = np.random.default_rng(0)
    ids = pa.array([f"{i:040}" for i in range(number // 20)])
    values = [
        ids.take(pa.array(rng.integers(0, number // 20, size=number))),
        pa.array(rng.integers(0, 9_000, size=number).astype(np.int32)),
        ids.take(pa.array(rng.integers(0, 20_000, size=number))),
        pa.array(rng.integers(0, 6, size=number).astype(np.int8)),
    ]
    arrays = [column.cast(field.type) for column, field in zip(values, reviews.REVIEWS, strict=True)]
    return pa.record_batch(arrays, schema=reviews.REVIEWS)


def test_what_exceeds_the_memory_limit_goes_to_the_scratch_folder_and_the_rows_are_the_same(folder: Path) -> None:
    write_reviews(many_reviews(500_000))
    found = []
    for limit in (None, "50MB"):
        with files.scratch(folder) as scratch, engines.on_duckdb(filter_reindex.REVIEWS, limit, scratch) as engine:
            engine.reviews.get_backend().raw_sql("SET threads TO 1")  # each takes some memory
            rows = engine.batches(engine.reviews.order_by("book_id", "timestamp", "position"))
            first = rows.read_next_batch()
            assert scratch.exists() == (limit is not None)
            found.append(pa.Table.from_batches([first, *rows]))
    assert found[0].equals(found[1])

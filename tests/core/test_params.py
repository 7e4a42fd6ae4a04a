import math
from pathlib import Path
from typing import Annotated, Literal

import fsspec
import msgspec
import pytest
import yaml
from conftest import ROOT, set_params, train_params
from ruamel.yaml import YAML

from check_params import SECTIONS
from sasrec.core import params
from sasrec.core.errors import UserError
from sasrec.dump.params import FetchParams
from sasrec.training.params import TrainParams


class Oven(msgspec.Struct, frozen=True):
    heat: Annotated[int, msgspec.Meta(ge=1)]
    mode: Literal["grill", "fan"]
    gain: float
    dry: bool
    made: str | None


GOOD = "oven:\n  heat: 200\n  mode: fan\n  gain: 1e-5\n  dry: true\n  made: HK5\n"


def load(tmp_path: Path, text: str) -> Oven:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return params.load(path, "oven", Oven)


def test_values_are_read_as_yaml_1_2_as_dvc_reads_them(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Oven(200, "fan", 0.00001, dry=True, made="HK5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("heat: 200", "heat: 0"), r"params.yaml:2: oven.heat is 0: Expected `int` >= 1"),
        (("heat: 200", "heat: hot"), r"params.yaml:2: oven.heat is 'hot': Expected `int`, got `str`"),
        (("heat: 200", "heat: 200.5"), r"oven.heat is 200.5: Expected `int`, got `float`"),
        (("mode: fan", "mode: steam"), r"params.yaml:3: oven.mode is 'steam': choose one of grill, fan"),
        (("mode: fan", "mode: null"), r"oven.mode is null: choose one of grill, fan"),
        (("heat: 200", "heat: 2016-12-31"), r'params.yaml:2: oven.heat is a day without quotes.*write "2016-12-31"$'),
        (("dry: true", "dry: no"), r"params.yaml:5: oven.dry is 'no': .*; write true or false$"),
        (("made: HK5", "made: 0012"), r"oven.made is 12: .*got `int`; write text in quotes, here and as -S"),
        (("made: HK5", "made: 12e9"), r"oven.made is 12000000000.0: .*; write text in quotes"),
        (("heat: 200", "heat: 200\n  heet: 3"), r"params.yaml:3: unknown key oven.heet; did you mean oven.heat\?"),
        (("  heat: 200\n", ""), r"key oven.heat is missing"),
        (("oven:", "stove:"), r"section oven is missing"),
        (("  made: HK5", "stove:"), r"section stove is missing: it has no keys"),
        (
            ("mode: fan", "mode: ???"),
            r"params.yaml:3: oven.mode is \?\?\?, which `dvc exp run` takes for .*write ./\?\?\?",
        ),
        (("heat: 200", "heat: ["), r"params.yaml:\d: not valid YAML"),
        (("heat: 200", "heat: 200\n  heat: 3"), r"not valid YAML: .*duplicate key"),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, GOOD.replace(*change))


def test_a_wrong_key_that_another_section_lends_is_named_without_a_line(tmp_path: Path) -> None:
    lent = GOOD.replace("oven:", "lent: &lent") + "oven:\n  <<: *lent\n"
    assert load(tmp_path, lent) == load(tmp_path, GOOD)
    with pytest.raises(UserError, match=r"params.yaml: oven.heat is 0: "):
        load(tmp_path, lent.replace("heat: 200", "heat: 0"))


def test_what_a_reader_changes_is_not_read_by_the_next_one() -> None:
    params.parse(GOOD.encode(), "params.yaml")["oven"]["heat"] = 1
    assert params.parse(GOOD.encode(), "params.yaml")["oven"]["heat"] == 200


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params.yaml: not found; run from the folder that holds dvc.yaml"):
        params.load(tmp_path / "params.yaml", "oven", Oven)


COMMITTED = YAML(typ="safe").load(ROOT / "params.yaml")

REFUSED: dict[str, list[object]] = {
    "fetch.source": ["files", None, True],
    "fetch.file": [
        *[
            5,
            [],
            [5],
            {"a.json.gz": 1},
            "file:///etc/a.json.gz",
            "nosuch://books/a.json.gz",
            ["a.json.gz", "memory://a"],
        ],
        *["dir://.::file:///etc/a.json.gz", "s3://books/a::file:///etc/a.json.gz", "simplecache::s3://books/a.json.gz"],
    ],
    "fetch.gdrive_id": ["../id", "a b", "", None],
    "fetch.mirror_url": ["ftp://mirror/dump", "file:///dump", "/dump", "https://", None],
    "fetch.sha256": ["abc", "g" * 64, 0],
    "fetch.demo_users": [0, -1, 1.5],
    "fetch.demo_seed": [-1, 0.5, None],
    "parse_gzip.max_rejected_fraction": [-0.1, 1.1, None],
    "parse_gzip.max_line_bytes": [999, 1 << 31, 5000.5, None],
    "parse_gzip.max_expansion": [0, 1.5, None],
    "parse_gzip.engine": ["processes", None],
    "parse_gzip.num_processes": [0, -1, 1.5, 5000],
    "dump_format.preset": ["movielens", None, 5],
    "dump_format.file": ["json", True],
    "dump_format.user": [0, 1.5, True, "", 1],
    "dump_format.item": [0, 1.5, [], "", "user_id"],
    "dump_format.time": [-1, "", 4],
    "dump_format.rating": [0, 5.5, "", "user_id"],
    "dump_format.time_format": ["seconds", "%Q", "%d%d", "", 5],
    "dump_format.delimiter": ["", "x" * 11, 5, ";"],
    "dump_format.header": ["yes", 1, True],
    "dump_format.line_order": ["newest", True],
    "filter_reindex.min_ratings": [0, -1, 2.5, None],
    "filter_reindex.same_day_order": ["random", None],
    "filter_reindex.duplicates": ["first_first", False, None],
    "filter_reindex.min_item_ratings": [0, -1, 2.5, None],
    "filter_reindex.k_core": ["true", 0, None],
    "filter_reindex.engine": ["polars", None],
    "filter_reindex.memory_limit": [4, "4", "0GB", "80%", "4GB;"],
    "spark.master": ["", "localhost", "http://host", None],
    "storage.url": [
        *["", "s3:", "bucket/prefix", "file:///etc", "local:///etc", "simplecache::file:///etc", 3],
        *[
            "dir://.::file:///etc",
            "memory://tables",
            "s3://books::file:///etc",
            "https://host/tables",
            "s3://b\nfile:///",
        ],
    ],
    "split.protocol": ["random", None],
    "split.cutoff": ["31.12.2016", "2016-13-01", 2016],
    "split.seed": [-1, 0.5, None],
    "split.num_validation_users": [0, -5, None],
    "evaluation.num_user_sample": [0, -5, 2.5],
    "evaluation.num_item_sample": [0, -5, 2.5, None],
    "evaluation.k": [0, -1, 2.5, None, True, math.nan, 10**30, "10", [], [10, 0], [10, "20"], {"k": 10}],
    "evaluation.padding": ["left", 1, None],
    "sasrec.max_len": [0, -1, None],
    "sasrec.hidden_units": [0, -1, 2.5, None],
    "sasrec.num_heads": [0, -1, None],
    "sasrec.num_layers": [-1, 2.5, None],
    "sasrec.dropout_rate": [-0.1, 1, None],
    "sasrec.norm_first": ["true", 0, None],
    "sasrec.init_std": [0, -0.02, None],
    "sasrec.init": ["svd", None],
    "train.loss": ["bpr", None],
    "train.num_negatives": [0, -1, 1.5, None],
    "train.negatives": ["popular", None],
    "train.gbce_t": [-0.1, 1.1, None],
    "train.window": ["first", None],
    "train.lr": [0, -0.001, 2, None],
    "train.warmup_steps": [-1, 0.5, None],
    "train.schedule": ["linear", None],
    "train.weight_decay": [-0.1, None],
    "train.clip_norm": [0, -1],
    "train.batch_size": [0, -1, 1.5, None],
    "train.num_epochs": [0, -1, 1.5, None],
    "train.keep": ["first", None],
    "train.select": ["both", None],
    "train.patience": [0, -1, 1.5],
    "train.seed": [-1, 0.5, None],
    "train.device": ["gpu", None],
    "train.processes": [0, -1, 1.5, 1025, None],
    "train.reproducibility": ["exact", None],
    "train.precision": ["float16", None],
    "machine.num_threads": [0, -1, 1025, "all", None],
    "card.data_name": ["", " ", "two\nlines", "x" * 201, 5],
    "card.data_licence": ["", "two\nlines", "x" * 201, 5],
}
NUMBERS = {f"{section}.{key}" for section, keys in COMMITTED.items() for key in keys if type(keys[key]) in (int, float)}
NUMBERS |= {"parse_gzip.num_processes", "train.clip_norm", "train.patience"}  # null, if not set
NUMBERS -= {"evaluation.k"}  # may be a list
NO_NUMBERS = [True, math.nan, math.inf, 10**30, "10", [10]]


def load_with(tmp_path: Path, key: str, value: object) -> msgspec.Struct:
    """The section of `key` of the committed params, with another value there; PyYAML writes it the fastest."""
    section, name = key.split(".")
    needed = {"source": "file"} if key == "fetch.file" else {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({section: COMMITTED[section] | needed | {name: value}}))
    return params.load(tmp_path / "params.yaml", section, SECTIONS[section])


def test_every_key_has_values_that_are_refused() -> None:
    assert list(REFUSED) == [f"{section}.{key}" for section, keys in COMMITTED.items() for key in keys]


@pytest.mark.parametrize(("section", "struct"), SECTIONS.items())
def test_the_committed_params_are_valid(section: str, struct: type[msgspec.Struct]) -> None:
    assert params.load(ROOT / "params.yaml", section, struct)


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in REFUSED.items() for value in values]
    + [(key, value) for key in sorted(NUMBERS) for value in NO_NUMBERS],
)
def test_a_value_that_makes_no_sense_is_refused_with_its_key_and_line(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"params.yaml:\d+: {key} is "):
        load_with(tmp_path, key, value)


@pytest.mark.parametrize("key", REFUSED)
def test_a_misspelt_key_is_named_with_the_right_one(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    with pytest.raises(UserError, match=rf"params.yaml:\d+: unknown key {key}x; did you mean {key}\?"):
        load_with(tmp_path, f"{section}.{name}x", 1)


LOCAL = ["arrow_hdfs", "asyncwrapper", "cached", "dir", "file", "generic", "local", "memory", "reference", "tar", "zip"]


@pytest.mark.parametrize("scheme", LOCAL)
@pytest.mark.parametrize("key", ["fetch.file", "storage.url"])
def test_a_scheme_of_fsspec_that_may_be_of_this_machine_is_refused(tmp_path: Path, key: str, scheme: str) -> None:
    assert scheme in fsspec.available_protocols()
    with pytest.raises(UserError, match=f"{key} is '{scheme}://a': give .* s3://"):
        load_with(tmp_path, key, f"{scheme}://a")


SECRET = "hUnter2"
WITH_CREDENTIALS = [
    f"https://user:{SECRET}@host/a.json.gz",
    f"https://{SECRET}@host/a.json.gz",
    f"sftp://user:{SECRET}@host:22/a.json.gz",
    f"sftp://user%3A{SECRET}@host/a.json.gz",
    f"smb://user:{SECRET}@host/a.json.gz",
    f"s3://AKIA5:{SECRET}/with/slashes@bucket/a.json.gz",
    f"https://bucket.s3.amazonaws.com/a.json.gz?X-Amz-Expires=60&X-Amz-Signature={SECRET}",
    f"https://bucket.s3.amazonaws.com/a.json.gz?AWSAccessKeyId=AKIA5&Signature={SECRET}&Expires=60",
    f"https://storage.googleapis.com/bucket/a.json.gz?X-Goog-Signature={SECRET}",
    f"https://account.blob.core.windows.net/a.json.gz?sv=2022-11-02&sp=r&sig={SECRET}",
    f"https://host/a.json.gz?token={SECRET}",
    f"https://host/a.json.gz?page=1&API_KEY={SECRET}",
    f"https://host/a.json.gz#access_token={SECRET}",
    f"nosuch://user:{SECRET}@host",
]


@pytest.mark.parametrize("url", WITH_CREDENTIALS)
@pytest.mark.parametrize("key", ["fetch.file", "fetch.mirror_url", "storage.url", "spark.master"])
def test_credentials_in_a_url_are_refused_and_not_shown(tmp_path: Path, key: str, url: str) -> None:
    for value in (url, ["a.json.gz", url], {"url": url}):
        with pytest.raises(
            UserError, match=rf"params.yaml:\d+: {key} has credentials in a URL.*environment"
        ) as refused:
            load_with(tmp_path, key, value)
        assert SECRET not in str(refused.value)


def test_no_message_about_a_key_that_comes_twice_shows_its_credentials(tmp_path: Path) -> None:
    url = f"  file: s3://user:{SECRET}@bucket/a.json.gz\n"
    (tmp_path / "params.yaml").write_text(f"fetch:\n{url}{url}")
    with pytest.raises(UserError, match=r'params.yaml:\d: not valid YAML: found duplicate key "file"') as refused:
        params.load(tmp_path / "params.yaml", "fetch", FetchParams)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "abfs://container@account.dfs.core.windows.net/part-?.json.gz",
        "sftp://user@host:22/a:b@c.json.gz",
        "sftp://[2001:db8:1:2:3:4:5:6]/a@b.json.gz",
        "hdfs://host:8020/a@b.json.gz",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/books/a@b.json.gz",
        "s3://books/dumps-?/key=5/*.json.gz",
        "https://host:8080/@author/a.json.gz?id=5&author=b@c&design=2&keyword=3",
    ],
)
def test_a_url_without_credentials_is_taken(tmp_path: Path, url: str) -> None:
    assert load_with(tmp_path, "fetch.file", url).file == url
    assert load_with(tmp_path, "fetch.file", ["a.json.gz", url]).file == ["a.json.gz", url]


@pytest.mark.parametrize("unseen", ["\n", "\x1b", "\x7f", "\x9b", "\u061c", "\u200e", "\u202e", "\u2028", "\u2067"])
@pytest.mark.parametrize("key", ["fetch.file", "fetch.mirror_url", "storage.url", "spark.master", "train.loss"])
def test_a_character_that_is_not_seen_is_refused_and_shown_as_its_escape(tmp_path: Path, key: str, unseen: str) -> None:
    with pytest.raises(UserError) as refused:
        load_with(tmp_path, key, f"s3://a{unseen}b")
    escape = unseen.encode("unicode_escape").decode()
    assert f"{key} is 's3://a{escape}b', which has a character that is not seen" in str(refused.value)


@pytest.mark.parametrize("master", ["spark://a:7077,b:7077", "k8s://https://host:6443", "sc://host:15002/;user_id=me"])
def test_a_master_without_credentials_is_taken(tmp_path: Path, master: str) -> None:
    assert load_with(tmp_path, "spark.master", master).master == master


def test_letters_of_any_script_are_taken(tmp_path: Path) -> None:
    name = (
        "a/\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 ü 👩\u200d💻.json.gz"  # joiners are part of their spelling
    )
    assert load_with(tmp_path, "fetch.file", name).file == name


def test_a_misspelt_section_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("\ntrain:", "\ntrian:"))
    with pytest.raises(UserError, match=r"section train is missing; is trian meant to be it\?"):
        params.load(tmp_path / "params.yaml", "train", TrainParams)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sasrec.num_heads", 3, "sasrec.num_heads is 3, which does not divide sasrec.hidden_units, 50"),
        ("train.loss", "bpr", "train.loss is 'bpr': choose one of bce, gbce, sampled_softmax, softmax"),
        ("train.loss", "bce", "train.num_negatives is 1024, which train.loss bce would draw for each positive"),
        ("train.loss", "softmax", "train.num_negatives is 1024, but train.loss softmax takes none"),
        ("evaluation.k", 102, "evaluation.k is 102, but only 101 books are ranked"),
        ("evaluation.k", [5, 102], r"evaluation.k is \[5, 102\], but only 101 books are ranked"),
        ("evaluation.num_item_sample", 8, "evaluation.k is 10, but only 9 books are ranked"),
        ("split.cutoff", "2016-13-01", 'split.cutoff is .2016-13-01.: give a day in quotes, such as "2016-12-31"'),
        ("fetch.source", "file", "fetch.source is file, but fetch.file is null"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_with(tmp_path, key, value)


def test_a_file_that_the_source_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_params(tmp_path, fetch={"file": "a.json.gz"})
    with pytest.raises(UserError, match=r"params.yaml:4: fetch.file is set, but fetch.source is demo, which does not"):
        params.load(tmp_path / "params.yaml", "fetch", FetchParams)


def test_one_cutoff_is_a_list_of_one(tmp_path: Path) -> None:
    assert load_with(tmp_path, "evaluation.k", 10).cutoffs == [10]
    assert load_with(tmp_path, "evaluation.k", [5, 20]).cutoffs == [5, 20]


def test_the_cutoff_may_be_the_whole_list(tmp_path: Path) -> None:
    assert load_with(tmp_path, "evaluation.k", 101).k == 101


def test_negatives_of_a_loss_that_takes_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_params(tmp_path, train={"loss": "softmax", "num_negatives": 2})
    with pytest.raises(UserError, match=r"train\.num_negatives is 2, but train\.loss softmax takes none"):
        params.load(tmp_path / "params.yaml", "train", TrainParams)


def test_negatives_of_the_batch_need_a_loss_that_shares_them() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"in_batch, which train\.loss bce cannot take"):
        train_params(loss="bce", negatives="in_batch")

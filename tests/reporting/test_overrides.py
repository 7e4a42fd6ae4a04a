"""The arguments of `dvc exp run -S` that the report gives lead to the same values, and run nothing else."""

import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, runner, set_params
from dvc.utils.hydra import apply_overrides
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.core import params, visible
from sasrec.reporting import overrides

VALUES = [
    *[None, True, False, 0, -1, 2**62, 0.5, 1e-05, 1e22, -0.001, [], ["a.json.gz"], ["a'b", "ü, x", "null", "[c]"]],
    *["null", "NULL", "true", "False", "1", "-1", "1e5", "0x10", "1_000", ".inf", "nan", "yes", "~", "2016-12-31"],
    *["", " ", " a ", "a b", "a,b", "[a]", "{a: b}", "a=b", "a:b", "(a)", "a(b)", "choice(1,2)", "range(3)", "glob(*)"],
    *[
        "'",
        '"',
        "O'Reilly",
        'say "no"',
        "'\"'",
        "`id`",
        "$(id)",
        "$HOME",
        "a;b",
        "a&b",
        "a|b",
        "a>b",
        "!x",
        "#x",
        "*",
        "?",
    ],
    *[
        "\\",
        "\\\\",
        "a\\",
        "C:\\new",
        "a\\'",
        'a\\"',
        "\\\\'",
        "${a}",
        "$${a}",
        "\\${a}",
        "\\\\${a}\\",
        "${",
        "}",
        "${oc.env:HOME}",
    ],
    *[
        "ü",
        "日本語",
        "\u05d0\u05d1",
        "👩\u200d💻",
        "\ufeff",
        "-",
        "--",
        "@a",
        "+a",
        "~a",
        "%",
        "&a",
        "*a",
        "|",
        ">",
        "!!str",
        "a: b",
    ],
    "dumps/O'Reilly'; touch PWNED; echo '.json.gz",
]


def read_back(folder: Path, word: str) -> object:
    """What DVC writes to params.yaml for a word of the shell."""
    path = folder / "params.yaml"
    path.write_text("fetch:\n  file: before\n")
    [argument] = shlex.split(word)
    apply_overrides(str(path), [argument])
    return params.read(path)["fetch"]["file"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_dvc_reads_a_param_as_the_value_that_it_is(tmp_path: Path, value: object) -> None:
    [word] = overrides.words({"fetch.file": value})
    found = read_back(tmp_path, word)
    assert (found, type(found)) == (value, type(value))


SHOWN = st.text(
    st.sampled_from("\\\\\\$${}'\"`[](),:=?~ aüé日א1e-.") | st.characters(codec="utf-8"), max_size=12
).filter(lambda text: text != "???" and not visible.UNSEEN.search(text) and "://" not in text)


@settings(max_examples=300, deadline=None)
@given(value=SHOWN | st.lists(SHOWN, max_size=3))
def test_dvc_reads_any_text_and_list_as_it_is(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    [word] = overrides.words({"fetch.file": value})
    assert read_back(tmp_path_factory.getbasetemp(), word) == value


@pytest.mark.parametrize("value", [value for value in VALUES if isinstance(value, str)], ids=repr)
def test_a_shell_runs_nothing_of_what_is_quoted(tmp_path: Path, value: str) -> None:
    [word] = overrides.words({"fetch.file": value})
    [argument] = shlex.split(word)
    done = subprocess.run(["sh", "-c", f"printf %s {word}"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == argument
    assert list(tmp_path.iterdir()) == []


def test_the_whole_command_runs_an_experiment_with_the_params_as_they_were(tmp_path: Path) -> None:
    changed = {
        "fetch": {"source": "file", "file": ["O'Reilly'; touch PWNED; echo '.gz", "ü\\${x}"]},
        "train": {"lr": 1e-05},
    }
    run = runner(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo done > done\n    params: [train.lr]\n    outs: [done]\n"
    )
    for command in ("git init -q", "dvc init -q", "git add -A", "git commit -qm one"):
        run(*command.split())
    words = overrides.words(
        {f"{section}.{key}": value for section, keys in changed.items() for key, value in keys.items()}
    )
    run("sh", "-c", f"dvc exp run {' '.join(f'-S {word}' for word in words)}")
    found = params.read(tmp_path / "params.yaml")
    set_params(tmp_path, **changed)
    assert found == params.read(tmp_path / "params.yaml")
    assert (tmp_path / "done").exists()
    assert not (tmp_path / "PWNED").exists()

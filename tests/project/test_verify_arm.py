"""The comparison with an emulated ARM processor, as far as it can be tried without one."""

import pytest
import verify_arm
import verify_cpus
from conftest import ROOT


def test_a_missing_emulator_is_named_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "qemu-aarch64" else f"/usr/bin/{tool}")
    with pytest.raises(SystemExit, match=r"^error: needs qemu-aarch64, .*apt-get install qemu-user$"):
        verify_arm.main()


def test_what_is_built_for_one_processor_is_asked_for_in_the_pinned_version() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    compiled = verify_arm.compiled_requirements()
    assert {"torch", "duckdb", "isal", "pyarrow"} <= {each.partition("==")[0] for each in compiled}
    assert [each for each in compiled if not any(pin.startswith(each) for pin in pins)] == []


def test_files_that_one_run_lacks_differ() -> None:
    assert verify_cpus.differing({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == ["b", "c", "d"]

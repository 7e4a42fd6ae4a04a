"""The look-up of the pinned packages among the known vulnerabilities, on reports in pip-audit's format."""

import audit


def package(name: str, *vulns: dict[str, object]) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": list(vulns)}


def vulnerability(*fix_versions: str) -> dict[str, object]:
    return {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-2"], "fix_versions": list(fix_versions), "description": "…"}


def test_a_package_without_a_finding_is_no_problem() -> None:
    assert audit.problems([package("torch")], {}) == []


def test_a_finding_says_which_version_mends_it() -> None:
    found = audit.problems([package("torch"), package("requests", vulnerability("1.1", "2.0"))], {})
    assert found == ["requests 1.0: PYSEC-2026-1, mended in 1.1, 2.0: run `make constraints`"]


def test_a_finding_that_no_version_mends_asks_for_an_explanation() -> None:
    [found] = audit.problems([package("requests", vulnerability())], {})
    assert "explain it in checks/audit.py" in found


def test_an_explained_finding_is_no_problem_by_its_id_or_by_an_alias() -> None:
    for name in ("PYSEC-2026-1", "CVE-2026-2"):
        assert audit.problems([package("requests", vulnerability("1.1"))], {name: "we never call it"}) == []


def test_packages_that_were_not_looked_up_are_a_problem() -> None:
    report = [package("torch"), {"name": "private", "skip_reason": "not found"}]
    [found] = audit.problems(report, {})
    assert found.startswith("1 of 2 packages were not looked up, private first")


def test_every_pin_names_one_exact_version() -> None:
    pins = [line for line in audit.PINS.read_text().splitlines() if not line.startswith("#")]
    assert pins
    assert all(pin.partition(";")[0].strip().count("==") == 1 for pin in pins)

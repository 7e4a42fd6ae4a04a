"""Starts Spark or connects to it, and reports its failures in one line."""

import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from sasrec.core.errors import UserError
from sasrec.core.params import about

PACKAGE = Path(__file__).parents[1]

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkParams(msgspec.Struct, frozen=True):
    """Section `spark` of params.yaml, for the stages whose engine is spark."""

    master: Annotated[
        str,
        msgspec.Meta(pattern=r"^(local(\[.+\])?|yarn|(spark|sc|k8s)://.+)$"),
        about(
            "where Spark runs, for the stages whose engine is `spark`: `local[*]`: this machine · `spark://…`, `yarn`, "
            "`k8s://…`: a cluster · `sc://…`: a Spark Connect server"
        ),
    ]


@contextmanager
def session(master: str, key: str, scratch: Path) -> Iterator["SparkSession"]:
    """Make the folder `scratch` and yield a session of the Spark at `master`; `key` is the param that asks for it.

    Raises:
        UserError: PySpark or Java is missing, or no session can be started.

    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise UserError(
            f"params.yaml: {key} is spark, but PySpark is not installed; "
            "`pip install -c constraints.txt -e '.[spark]'`, or set the key to its default"
        ) from None
    scratch.mkdir(exist_ok=True)
    builder = SparkSession.builder.appName(key)
    if master.startswith("sc://"):
        builder = builder.remote(master)
    else:
        _require_java(key)
        builder = builder.master(master).config("spark.ui.showConsoleProgress", "false")
    if master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else Spark runs the python3 on the PATH
        builder = builder.config("spark.ui.enabled", "false").config("spark.local.dir", str(scratch.resolve()))
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    with _errors(f"params.yaml: no Spark at spark.master, {master}; start it, or correct the key"):
        started = builder.getOrCreate()
    if not master.startswith("sc://"):
        started.sparkContext.setLogLevel("ERROR")
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def working() -> Iterator[None]:
    """Turn any exception of Spark in the block into a UserError that gives the cause in one line."""
    with _errors("Spark failed; the machines of a cluster must see this folder under the same path"):
        yield


def uri(path: Path) -> str:
    """Return `path` as a file:// URL: without a scheme, Spark would look in the cluster's file system."""
    return f"file://{path.resolve()}"


def ship(session: "SparkSession", scratch: Path) -> None:
    """Make this package importable in Spark's Python processes; its dependencies must be installed there."""
    package = scratch / "sasrec.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for module in sorted(PACKAGE.rglob("*.py")):
            archive.write(module, module.relative_to(PACKAGE.parent))
    session.addArtifacts(str(package.resolve()), pyfile=True)  # Java's working folder may differ


@contextmanager
def _errors(message: str) -> Iterator[None]:
    """Turn any exception of Spark into a UserError with `message` and the line that gives the cause."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException, PythonException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        lines = str(getattr(error, "java_exception", None) or error).strip().splitlines()
        cause = lines[-1] if isinstance(error, PythonException) else lines[0]  # a traceback ends with its cause
        raise UserError(f"{message}: {cause}") from None


def _require_java(key: str) -> None:
    home = os.environ.get("JAVA_HOME")
    if not (Path(home, "bin/java").is_file() if home else shutil.which("java")):
        raise UserError(
            f"params.yaml: {key} is spark, which needs Java 17 or newer, but there is none; install it and set "
            "JAVA_HOME to its folder, or set the key to its default"
        )

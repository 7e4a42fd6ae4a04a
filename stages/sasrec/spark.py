"""Starts Spark, or reaches it, and says in one line what goes wrong with it."""

import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from sasrec.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkParams(msgspec.Struct, frozen=True):
    """Section `spark` of params.yaml, for the stages whose engine is spark."""

    # local[...]: this machine; spark://, yarn, k8s://: a cluster; sc://: a Spark Connect server
    master: Annotated[str, msgspec.Meta(pattern=r"^(local(\[.+\])?|yarn|(spark|sc|k8s)://.+)$")]


@contextmanager
def session(master: str, key: str, scratch: Path) -> Iterator["SparkSession"]:
    """Yield a session of the Spark at `master`, which the param `key` asks for; the folder `scratch` is made.

    Raises:
        UserError: PySpark or Java is missing, or no session can be had.

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
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else Spark takes the python3 that is on the PATH
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
    """Raise UserError, with the cause in one line, for whatever Spark raises in the block."""
    with _errors("Spark failed; the machines of a cluster must see this folder under the same path"):
        yield


def uri(path: Path) -> str:
    """Return `path` as Spark takes it on any machine: without the scheme, as a path of the cluster's file system."""
    return f"file://{path.resolve()}"


def ship(session: "SparkSession", scratch: Path) -> None:
    """Let the Python processes of Spark import this package; what it imports must be installed there."""
    package = scratch / "sasrec.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for module in sorted(Path(__file__).parent.glob("*.py")):
            archive.write(module, f"sasrec/{module.name}")
    session.addArtifacts(str(package.resolve()), pyfile=True)  # Java's working folder may be another one


@contextmanager
def _errors(message: str) -> Iterator[None]:
    """Raise UserError, with `message` and the line that matters of what is said, for whatever Spark raises."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException, PythonException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        said = str(getattr(error, "java_exception", None) or error).strip().splitlines()
        line = said[-1] if isinstance(error, PythonException) else said[0]  # a traceback ends with its cause
        raise UserError(f"{message}: {line}") from None


def _require_java(key: str) -> None:
    home = os.environ.get("JAVA_HOME")
    if not (Path(home, "bin/java").is_file() if home else shutil.which("java")):
        raise UserError(
            f"params.yaml: {key} is spark, which needs Java 17 or newer, but there is none; install it and set "
            "JAVA_HOME to its folder, or set the key to its default"
        )

"""Runs Arrow's own Flight clients against examples/conformance and prints what each of them said.

    python3 tests/conformance/run.py --server target/release/examples/conformance

The clients are the ones that Arrow's implementations are tested with against each other. They are fetched as Go's and
Maven's own tools fetch them and built into a directory that git does not see; docs/conformance.md says which they are.
A client whose toolchain is missing is passed over, and said to be. Exits nonzero when a client fails a scenario.

Needs Python's standard library alone; the client in C++ also needs pyarrow, from the Python that runs this.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import gzip
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

GO_VERSION = "v18.8.0"
GO_CLIENT = "github.com/apache/arrow-go/v18/arrow/internal/flight_integration/cmd/arrow-flight-integration-client"
GO_MINIMUM = (1, 25)
GO_AS_IT_IS = {**os.environ, "GOTOOLCHAIN": "local"}

JAVA_VERSION = "18.3.0"
JAVA_MAIN = "org.apache.arrow.flight.integration.tests.IntegrationTestClient"
JAVA_SOURCES = "flight/flight-integration-tests/src/main/java/"
# Written by Arrow C++ 1.0.0 and read by every implementation since.
FILES = "testing/data/arrow-ipc-stream/integration/1.0.0-littleendian/"
# Maven's copy of one artifact, named with its version so that the first run does not look for a newer one.
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"

SCENARIOS = [
    "auth:basic_proto",
    "middleware",
    "alignment",
    "ordered",
    "expiration_time:do_get",
    "expiration_time:list_actions",
    "expiration_time:cancel_flight_info",
    "expiration_time:renew_flight_endpoint",
    "location:reuse_connection",
    "session_options",
    "poll_flight_info",
    "app_metadata_flight_info_endpoint",
    "do_exchange:echo",
    "flight_sql",
    "flight_sql:extension",
    "flight_sql:ingestion",
]

# Volary answers the values of a dictionary, not the dictionary; Java compares schemas, Go what was taken.
DIFFERENCES = {
    (file, "Java"): "Different schemas"
    for file in [
        "generated_dictionary",
        "generated_dictionary_unsigned",
        "generated_extension",
        "generated_nested_dictionary",
    ]
}

# For a client that hangs; the slowest takes seconds.
PATIENCE = 120


@dataclasses.dataclass
class Client:
    """How one client is run, and what it has no scenario for."""

    name: str
    command: list[str]
    without: set[str]
    # The option that names a file for the scenario without a name; empty when there is none.
    file_option: str = ""

    def run(self, port: int, arguments: list[str]) -> str:
        """What went wrong, or nothing."""
        command = [*self.command, "-host", "127.0.0.1", "-port", str(port), *arguments]
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return f"it did not end within {PATIENCE} s"
        return "" if done.returncode == 0 else done.stdout.strip() or f"exit code {done.returncode}"


def check(*command: str | pathlib.Path, **options) -> None:
    """Runs a command whose words are of interest only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")


def go_client(cache: pathlib.Path) -> Client | None:
    if not has_go():
        return None
    folder = cache / f"go-{GO_VERSION}"
    program = folder / "arrow-flight-integration-client"
    if not program.exists():
        print(f"building Arrow's client for Go, {GO_VERSION}", flush=True)
        check("go", "install", f"{GO_CLIENT}@{GO_VERSION}", env={**GO_AS_IT_IS, "GOBIN": str(folder)}, cwd="/")
    return Client("Go", [str(program)], {"alignment", "do_exchange:echo"}, "-path")


def has_go() -> bool:
    """A toolchain is not fetched: one that is too old counts as none."""
    if shutil.which("go") is None:
        return False
    found = subprocess.run(["go", "env", "GOVERSION"], stdout=subprocess.PIPE, text=True, check=True, env=GO_AS_IT_IS)
    major, minor = re.match(r"go(\d+)\.(\d+)", found.stdout).groups()
    return (int(major), int(minor)) >= GO_MINIMUM


def java_client(cache: pathlib.Path) -> Client | None:
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        return None
    folder = cache / f"java-{JAVA_VERSION}"
    classes, jars = folder / "classes", folder / "jars"
    if not jars.exists():
        sources = java_sources(cache)
        print(f"building Arrow's client for Java, {JAVA_VERSION}", flush=True)
        building = cache / f"java-{JAVA_VERSION}.building"
        shutil.rmtree(building, ignore_errors=True)
        build = ["mvn", "-q", "-B", "-f", HERE / "java" / "pom.xml", f"-Darrow.version={JAVA_VERSION}"]
        check(*build, f"-Dclient.sources={sources / JAVA_SOURCES}", f"-Dclient.output={building}", "compile")
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    command = ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-XX:TieredStopAtLevel=1"]
    # Without it, a struct loses a field whose name another one has.
    command += ["-Darrow.struct.conflict.policy=CONFLICT_APPEND"]
    command += ["-cp", f"{classes}{os.pathsep}{jars}/*", JAVA_MAIN]
    return Client("Java", command, {"alignment"}, "-j")


def java_sources(cache: pathlib.Path) -> pathlib.Path:
    """The client is in no jar, but in the release's sources, which Maven Central has: 558 MB, of which 2 MB are kept."""
    sources = cache / f"java-sources-{JAVA_VERSION}"
    if sources.exists():
        return sources
    print(f"fetching the sources of Arrow Java {JAVA_VERSION}, 558 MB, once", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        artifact = f"org.apache.arrow:arrow-java-root:{JAVA_VERSION}:zip:source-release"
        copy = ["mvn", "-q", "-B", MAVEN_COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
        check(*copy, f"-Dmaven.repo.local={folder}/repository")
        (archive,) = pathlib.Path(folder).glob("*.zip")
        kept = pathlib.Path(folder) / "kept"
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                _, _, path = name.partition("/")
                if path.startswith((JAVA_SOURCES, FILES)) and not path.endswith("/"):
                    target = kept / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read(name))
        kept.rename(sources)
    return sources


def cpp_client(_: pathlib.Path) -> Client | None:
    """Arrow's scenario client in C++ is in no package; pyarrow drives the same C++ client through our own scenarios."""
    if importlib.util.find_spec("pyarrow") is None:
        return None
    without = {"session_options", "poll_flight_info", "flight_sql", "flight_sql:extension", "flight_sql:ingestion"}
    return Client("C++", [sys.executable, str(HERE / "pyarrow_client.py")], without)


CLIENTS = {"Go": go_client, "Java": java_client, "C++": cpp_client}


@contextlib.contextmanager
def serving(program: pathlib.Path, scenario: str):
    """A server of one scenario; gives its port."""
    server = subprocess.Popen([str(program), scenario], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            sys.exit(f"{program} {scenario} did not start")
        yield int(line.rsplit(":", 1)[1])
    finally:
        server.terminate()
        server.wait()


def run_scenario(program: pathlib.Path, clients: list[Client], scenario: str) -> dict[str, str | None]:
    """By client: what went wrong, nothing, or None for a client without this scenario."""
    with serving(program, scenario) as port:
        return {
            client.name: None if scenario in client.without else client.run(port, ["-scenario", scenario])
            for client in clients
        }


def run_file(program: pathlib.Path, clients: list[Client], file: pathlib.Path) -> dict[str, str | None]:
    with serving(program, "round_trip") as port:
        return {
            client.name: client.run(port, [client.file_option, str(file)]) if client.file_option else None
            for client in clients
        }


def verdict(name: str, client: str, said: str | None) -> tuple[str, str]:
    """A word for the table, and the problem if there is one."""
    known = DIFFERENCES.get((name, client))
    if said is None:
        return "-", ""
    if known is None:
        return ("FAILED", said) if said else ("passed", "")
    if known in said:
        return "differs", ""
    return "FAILED", said or f"it passed: {known!r} is no difference any more, take it from the list"


def unpacked(cache: pathlib.Path) -> list[pathlib.Path]:
    """Arrow's files for the scenario without a name, if the sources that they come with were fetched."""
    folder = cache / "files"
    folder.mkdir(parents=True, exist_ok=True)
    for packed in (cache / f"java-sources-{JAVA_VERSION}" / FILES).glob("*.json.gz"):
        file = folder / packed.stem
        if not file.exists():
            file.write_bytes(gzip.decompress(packed.read_bytes()))
    return sorted(folder.glob("*.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--server", type=pathlib.Path, required=True, help="the program built from examples/conformance"
    )
    parser.add_argument(
        "--cache", type=pathlib.Path, default=REPOSITORY / "target" / "conformance", help="for the clients"
    )
    parser.add_argument("--only", action="append", help="a scenario or a file by name; may be given several times")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="a client; may be given several times")
    parser.add_argument("--files", action="store_true", help="also the scenario without a name, with Arrow's files")
    options = parser.parse_args()
    cache = options.cache.resolve()

    clients = []
    for name, find in CLIENTS.items():
        if options.client and name not in options.client:
            continue
        client = find(cache)
        if client is None:
            print(f"{name} passed over: its toolchain is not here")
        else:
            clients.append(client)

    work = [(scenario, run_scenario, scenario) for scenario in SCENARIOS]
    if options.files:
        work += [(file.stem, run_file, file) for file in unpacked(cache)]
    if options.only:
        work = [row for row in work if row[0] in options.only]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        rows = [(name, pool.submit(run, options.server, clients, what)) for name, run, what in work]
        rows = [(name, row.result()) for name, row in rows]

    width = max((len(name) for name, _ in rows), default=0)
    print(f"{'':{width}}  " + "  ".join(f"{client.name:7}" for client in clients))
    failures = []
    for name, row in rows:
        verdicts = {client: verdict(name, client, said) for client, said in row.items()}
        print(f"{name:{width}}  " + "  ".join(f"{word:7}" for word, _ in verdicts.values()))
        failures += [(name, client, problem) for client, (_, problem) in verdicts.items() if problem]
    for name, client, problem in failures:
        print(f"\n{name}, {client}:\n{problem}")
    total = sum(said is not None for _, row in rows for said in row.values())
    print(f"\n{total - len(failures)} of {total} as they should be in {time.monotonic() - began:.0f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

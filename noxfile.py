"""Sessions: each is one command of the toolchain or a standard tool. Needs nox and nothing else."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests"]
nox.options.error_on_external_run = True

PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """Install dependency groups of pyproject.toml; all versions are pinned there."""
    session.install(*nox.project.dependency_groups(PYPROJECT, *groups))


def toolchain(session: nox.Session, verb: str) -> None:
    """Run one verb of the toolchain."""
    install(session, "ci")
    session.run("python", "-m", "ci", verb, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build, repair, check and prove the wheel of one backend: nox -s build -- --backend cpu."""
    toolchain(session, "build")


@nox.session
def vendor(session: nox.Session) -> None:
    """Bring the pinned llama.cpp to vendor/llama.cpp."""
    toolchain(session, "vendor")


@nox.session
def smoke(session: nox.Session) -> None:
    """Prove the wheels in dist/ on every Python that is found."""
    toolchain(session, "smoke")


@nox.session
def check(session: nox.Session) -> None:
    """Compare the wheels in dist/ with the table."""
    toolchain(session, "check")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Build the wheels in dist/ again in another folder and compare every byte."""
    toolchain(session, "reproduce")


@nox.session
def emulate(session: nox.Session) -> None:
    """Smoke-test the wheels in dist/ on CPUs without AVX and others (needs qemu-user)."""
    toolchain(session, "emulate")


@nox.session(name="fresh-root")
def fresh_root(session: nox.Session) -> None:
    """Run the README's commands as a new user on a fresh Debian (needs root and debootstrap)."""
    toolchain(session, "fresh-root")


@nox.session
def bump(session: nox.Session) -> None:
    """Move the pins to newer releases: nox -s bump -- --llama-cpp --tools --toolkits."""
    toolchain(session, "bump")


@nox.session
def pin(session: nox.Session) -> None:
    """Pin a release of a toolkit in ci/toolkits.toml: nox -s pin -- cuda 12.8.1."""
    toolchain(session, "pin")


@nox.session
def matrix(session: nox.Session) -> None:
    """Print every target of the table."""
    toolchain(session, "matrix")


@nox.session
def proof(session: nox.Session) -> None:
    """Print how far each target was proven; nox -s proof -- add takes the reports in dist/."""
    toolchain(session, "proof")


@nox.session
def generate(session: nox.Session) -> None:
    """Write the ABI, the licences and the tables of the READMEs anew."""
    toolchain(session, "generate")
    if not session.posargs:
        session.run("python", "-m", "bench", "table")


@nox.session
def index(session: nox.Session) -> None:
    """Relabel the wheels in dist/ for auto/, add all to a catalogue, build the index into site/."""
    install(session, "ci", "index")
    if session.posargs:
        session.run("python", "-m", "index", *session.posargs)
        return
    session.run("python", "-m", "ci", "auto")
    a_try = ["--anew", "--catalogue", "build/catalogue.jsonl"]
    wheels = ["--wheels", "dist", "--wheels", "dist/auto"]
    session.run("python", "-m", "index", "update", *a_try, *wheels)


@nox.session
def serve(session: nox.Session) -> None:
    """Serve site/ on loopback for a try."""
    install(session, "ci", "index")
    session.run("python", "-m", "index", "serve", *session.posargs)


@nox.session
def publish(session: nox.Session) -> None:
    """Publish site/ and install from there: nox -s publish -- --to FOLDER|rsync:…|s3://…|pages:…."""
    install(session, "ci", "index")
    session.run("python", "-m", "index", "publish", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Make all that this machine can of a release, unpublished: nox -s release -- --dry-run."""
    install(session, "release")
    session.run("python", "-m", "ci", "release", *session.posargs)


@nox.session
def upload(session: nox.Session) -> None:
    """Upload to PyPI what belongs there: the CPU wheels without label, Metal's for Apple silicon."""
    install(session, "ci", "upload")
    session.run("python", "-m", "ci", "upload", *session.posargs)


@nox.session
def installers(session: nox.Session) -> None:
    """Install from the index with every installer and print the matrix."""
    install(session, "tests")
    session.run("python", "-m", "tests.installers", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Build the CPU wheel (seconds where the compiler cache is warm), then test everything."""
    install(session, "tests")
    # on this machine, where the compiler cache is
    session.run("python", "-m", "ci", "build", "--backend", "cpu", "--engine", "host")
    session.run(
        "python", "-m", "pytest", "--numprocesses", "auto", "--dist", "worksteal", *session.posargs
    )


@nox.session(name="binding-tests")
def binding_tests(session: nox.Session) -> None:
    """Test the binding on the oldest, the newest and a free-threaded Python: -- --python 3.9."""
    install(session, "tests")
    session.run("python", "-m", "ci", "build", "--backend", "cpu", "--engine", "host")
    session.run("python", "-m", "tests.binding", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: style and format; the workflows: actionlint, zizmor, GitHub's schema."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("actionlint")
    session.run("zizmor", "--offline", "--quiet", "--min-severity", "low", ".github")
    schema = ("check-jsonschema", "--builtin-schema")
    github = Path(".github")
    session.run(*schema, "vendor.github-workflows", *map(str, github.glob("workflows/*.yml")))
    session.run(*schema, "vendor.github-actions", *map(str, github.glob("actions/*/action.yml")))
    session.run(*schema, "vendor.dependabot", ".github/dependabot.yml")
    session.run(*schema, "vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/problem.yml")


@nox.session
def cibuildwheel(session: nox.Session) -> None:
    """Build as plain users of cibuildwheel do: nox -s cibuildwheel -- --only cp311-manylinux_x86_64."""
    install(session, "ci")
    out = ("--output-dir", "build/cibuildwheel")
    session.run("python", "-m", "cibuildwheel", *out, *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    install(session, "types")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure ratios, side by side in one run: nox -s bench -- speed."""
    install(session, "tests")
    session.run("python", "-m", "bench", *session.posargs)

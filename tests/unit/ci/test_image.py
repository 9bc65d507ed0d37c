"""Toolkits out of container images: the machine's own one, its folder, and everything that goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from ci import paths
from ci.__main__ import main
from ci.errors import (
    DiskError,
    NetworkError,
    TableError,
    ToolMissingError,
    UsageError,
    VendorError,
)
from ci.image import Part, bring_image, resolve
from ci.pins import load_pins
from ci.process import run
from ci.progress import Progress
from ci.provision import PINNED, bring_toolkit
from ci.registry import Reference, parse_reference
from ci.table import Machine, load_table
from tests.image_registry import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    ImageRegistry,
    digest_of,
    image_registry,
    layer,
    layer_of,
)

PROGRESS = Progress(Console(width=2000, file=io.StringIO()))
TABLE = load_table()
VULKAN = TABLE.target("vulkan", "manylinux_x86_64")
CU128 = TABLE.target("cu128", "manylinux_x86_64")
SYSTEM = {"etc/passwd": "root", "usr/bin/sh": "sh"}
TOOLKIT = {
    "usr/local/cuda": "-> /etc/alternatives/cuda",
    "etc/alternatives/cuda": "-> /usr/local/cuda-12.8",
    "usr/local/cuda-12.8/bin/nvcc": "nvcc",
    "usr/local/cuda-12.8/lib64": "-> targets/x86_64-linux/lib",
    "usr/local/cuda-12.8/targets/x86_64-linux/lib/libcudart.so": "cudart",
    "usr/local/cuda-12.8/targets/x86_64-linux/lib/libcufft_static.a": "large",
}
CUDA = Part(root="/usr/local/cuda", left_out=["libcufft*"])


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    for variable in ("VULKAN_SDK", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def served() -> Iterator[ImageRegistry]:
    with image_registry() as registry:
        yield registry


def named(served: ImageRegistry, digest: str) -> Reference:
    return parse_reference(f"{served.host}/nvidia/cuda@{digest}")


def bring(
    served: ImageRegistry,
    digest: str,
    cache: Path,
    *parts: Part,
    machine: Machine = "x86_64",
    variables: Sequence[str] = (),
) -> Path:
    return bring_image(
        PROGRESS, named(served, digest), machine, parts or [CUDA], cache, variables=variables
    )


def files_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize(
    ("index", "manifest"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)]
)
def test_the_image_of_the_machine_is_taken(
    served: ImageRegistry, tmp_path: Path, index: str, manifest: str
) -> None:
    others = {name: text.replace("x86_64", "sbsa") for name, text in TOOLKIT.items()}
    packings = ["gzip", "zstd", "tar"]
    images = {
        "amd64": served.add_image(
            [layer(SYSTEM), layer(TOOLKIT, "zstd"), layer({"tmp/": ""}, "tar")],
            media_type=manifest,
            packings=packings,  # type: ignore[arg-type]
        ),
        "arm64": served.add_image(
            [layer(SYSTEM), layer(others)], architecture="arm64", media_type=manifest
        ),
    }
    digest = served.add_index(images, media_type=index, tag="12.8")
    folder = bring(served, digest, tmp_path)
    assert folder.name == "cuda-12.8"
    assert files_in(folder) == {
        "bin/nvcc": "nvcc",
        "targets/x86_64-linux/lib/libcudart.so": "cudart",
    }
    assert (folder / "lib64/libcudart.so").read_text(encoding="utf-8") == "cudart"
    arm = bring(served, digest, tmp_path, machine="aarch64")
    assert arm.parents[2] != folder.parents[2]
    note = json.loads((folder.parents[2] / ".image.json").read_text(encoding="utf-8"))
    assert note == {"image": str(named(served, digest)), "root": "usr/local/cuda-12.8"}
    # the layers are gone, and nobody is asked again
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        name for place in (folder, arm) for name in (place.parents[2].name, f"{place.parents[2].name}.lock")
    )  # fmt: skip
    served.asked.clear()
    assert bring(served, digest, tmp_path) == folder
    assert served.asked == []


def test_a_tag_is_looked_up_once_and_its_digest_said(served: ImageRegistry) -> None:
    digest = served.add_image([layer(TOOLKIT)], tag="12.8")
    out = io.StringIO()
    reference = parse_reference(f"{served.host}/nvidia/cuda:12.8")
    exact = resolve(Progress(Console(width=2000, file=out)), reference)
    assert str(exact) == f"{served.host}/nvidia/cuda:12.8@{digest}"
    assert out.getvalue().endswith(f" write it down, for a tag may change: {exact}\n")
    served.asked.clear()
    assert resolve(PROGRESS, exact) == exact
    assert served.asked == []


def test_an_image_says_itself_where_its_toolkit_is(served: ImageRegistry, tmp_path: Path) -> None:
    files = {"opt/sdk/x86_64/bin/glslc": "glslc", "usr/local/cuda/a": "another"}
    env = ["EMPTY=", "VULKAN_SDK=/opt/sdk/x86_64"]
    digest = served.add_image([layer(files)], env=env)
    variables = ["CUDA_HOME", "EMPTY", "VULKAN_SDK"]
    folder = bring(served, digest, tmp_path, variables=variables)
    assert files_in(folder) == {"bin/glslc": "glslc"}
    assert bring(served, digest, tmp_path).name == "cuda"


def test_a_part_of_a_system(served: ImageRegistry, tmp_path: Path) -> None:
    files = {"usr/include/a.h": "a", "usr/bin/b": "b", "usr/share/c": "c"}
    digest = served.add_image([layer(files)])
    part = Part(root="/", folders=["/usr/include", "/usr/bin"])
    folder = bring(served, digest, tmp_path, part)
    del files["usr/share/c"]
    assert {name: text for name, text in files_in(folder).items() if name != ".image.json"} == files
    missing = Part(root="/", folders=["/usr/include", "/usr/lib64"])
    with pytest.raises(UsageError) as caught:
        bring(served, digest, tmp_path, missing)
    assert caught.value.what == f"{named(served, digest)} has no /usr/include, /usr/lib64"


def test_an_image_without_the_folder(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add_image([layer(SYSTEM)])
    with pytest.raises(UsageError) as caught:
        bring(served, digest, tmp_path, Part(root="/usr/local/cuda-12.8"), CUDA)
    assert str(caught.value) == (
        f"{named(served, digest)} has no /usr/local/cuda-12.8, /usr/local/cuda\n  -> name the toolkit's"
        " folder in the image with --toolkit FOLDER; for CUDA an image with `devel` in its tag"
    )
    # what is whole is kept: the next command need not bring it again
    served.asked.clear()
    assert bring(served, digest, tmp_path, Part(root="/etc")).name == "etc"


def test_an_index_without_the_machine(served: ImageRegistry, tmp_path: Path) -> None:
    images = {
        name: served.add_image([layer(TOOLKIT)], architecture=name) for name in ("ppc64le", "amd64")
    }
    digest = served.add_index(images)
    with pytest.raises(UsageError) as caught:
        bring(served, digest, tmp_path, machine="aarch64")
    assert caught.value.what == (
        f"{named(served, digest)} has no image for linux/arm64; it has linux/amd64, linux/ppc64le"
    )
    with pytest.raises(UsageError) as caught:
        bring(served, images["amd64"], tmp_path, machine="aarch64")
    assert str(caught.value) == (
        f"{named(served, images['amd64'])} is for linux/amd64, not for linux/arm64\n  -> name the"
        " digest of its index, which has one image per machine, or another image"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is no image: it has neither layers nor images, or has both"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "is no image: it has neither"),
        (b'{"layers": [], "manifests": []}', "is no image: it has neither layers nor images, or has both"),
        (b'{"layers": []}', "is malformed:\n  config: Field required"),
        (b'{"manifests": [{}]}', "is malformed:\n  manifests.0.size: Field required"),
    ],
)  # fmt: skip
def test_what_is_no_image(served: ImageRegistry, tmp_path: Path, content: bytes, said: str) -> None:
    digest = served.add(content, OCI_MANIFEST)
    with pytest.raises(VendorError) as caught:
        bring(served, digest, tmp_path)
    assert said in caught.value.what


def changed(served: ImageRegistry, digest: str, changes: Mapping[str, object]) -> str:
    manifest = json.loads(served.manifests[digest][0])
    manifest["layers"][0].update(changes)
    return served.add(json.dumps(manifest).encode(), OCI_MANIFEST)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}, "has what cannot be unpacked: application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        ({"digest": "../../etc/passwd"}, "has what cannot be unpacked: ../../etc/passwd"),
        ({"size": -1}, "is malformed:\n  layers.0.size: Input should be greater than or equal to 0"),
        ({"size": 3}, "is longer than the 3 bytes that its manifest says"),
    ],
)  # fmt: skip
def test_layers_that_are_none(
    served: ImageRegistry, tmp_path: Path, changes: Mapping[str, object], said: str
) -> None:
    digest = changed(served, served.add_image([layer(TOOLKIT)]), changes)
    with pytest.raises(VendorError) as caught:
        bring(served, digest, tmp_path)
    assert said in caught.value.what


def test_an_artefact_that_is_no_image(served: ImageRegistry, tmp_path: Path) -> None:
    config = served.add_blob(b"{}")
    manifest = {
        "config": {"digest": config, "size": 2, "mediaType": "application/vnd.oci.empty.v1+json"},
        "layers": [],
    }
    digest = served.add(json.dumps(manifest).encode(), OCI_MANIFEST)
    with pytest.raises(VendorError) as caught:
        bring(served, digest, tmp_path)
    assert caught.value.what == (
        f"the configuration of {named(served, digest)} is malformed:\n  os: Field required\n"
        "  architecture: Field required"
    )


def test_an_index_that_leads_to_itself(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add_image([layer(TOOLKIT)])
    for _ in range(3):
        digest = served.add_index({"amd64": digest})
    assert bring(served, digest, tmp_path).name == "cuda-12.8"
    deeper = served.add_index({"amd64": digest})
    with pytest.raises(VendorError, match=r" is an index of indexes of indexes\n"):
        bring(served, deeper, tmp_path)


def test_a_layer_that_was_replaced(served: ImageRegistry, tmp_path: Path) -> None:
    content = layer(TOOLKIT)
    digest = served.add_image([content])
    served.blobs[digest_of(content)] = content[:-1] + b"x"
    with pytest.raises(
        VendorError, match=r"^layer 1 of 1 of nvidia/cuda, sha256:.* is something else"
    ):
        bring(served, digest, tmp_path)
    served.blobs[digest_of(content)] = content
    assert bring(served, digest, tmp_path).name == "cuda-12.8"


def test_an_image_that_breaks_off_goes_on(served: ImageRegistry, tmp_path: Path) -> None:
    noise = {"usr/local/cuda/noise": os.urandom(300_000).hex()}
    content = layer(noise, "tar")
    digest = served.add_image([layer(SYSTEM), content], packings=["gzip", "tar"])
    # the configuration, the first layer, then a break and a storage that is gone
    served.cuts = [1000, 10_000, 100_000, 0]
    with pytest.raises(NetworkError, match=r"^layer 2 of 2 of nvidia/cuda could not be downloaded"):
        bring(served, digest, tmp_path)
    (layers,) = tmp_path.glob(".image-cuda-x86_64-*.layers")
    served.asked.clear()
    assert files_in(bring(served, digest, tmp_path)) == {"noise": noise["usr/local/cuda/noise"]}
    assert [line for line in served.asked if line.startswith("/data")] == [
        f"/data/{digest_of(content)}?signature=abc bytes=65536-"
    ]
    assert not layers.exists()


def test_a_full_disk_leaves_nothing_half_written(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add_image([layer({"usr/local/cuda/zeros": "0" * 2_000_000})])
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(DiskError) as caught:
            bring(served, digest, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.what == f"there is no room left for {tmp_path}"
    assert list(tmp_path.glob("*.part")) == list(tmp_path.glob(".*.part")) == []
    served.asked.clear()
    assert bring(served, digest, tmp_path).name == "cuda"
    assert not any(line.startswith("/data") for line in served.asked)


# ---- the way of a toolkit -------------------------------------------------------------------------


def write_vulkan(folder: Path) -> Path:
    """Write what Debian's packages of Vulkan's SDK amount to, with a program that says its version."""
    files = {
        "usr/include/vulkan/vulkan.hpp": "",
        "usr/include/vulkan/vulkan_core.h": "#define VK_HEADER_VERSION 309\n#define"
        " VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, 4, VK_HEADER_VERSION)\n",
        "usr/lib/x86_64-linux-gnu/libvulkan.so.1": "",
        # stands for the C library's loader: runs what it is given after its own option
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": '#!/bin/sh\nshift 2\nexec "$@"\n',
        "usr/share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake": "",
        "usr/bin/glslc": "#!/bin/sh\necho a shader compiler\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return folder


def test_a_distributions_packages_in_an_image_are_a_toolkit(
    served: ImageRegistry, tmp_path: Path
) -> None:
    content = layer_of(write_vulkan(tmp_path / "root"), ".")
    digest = served.add_image([content], tag="trixie")
    image = parse_reference(f"{served.host}/team/vulkan:trixie")
    toolkit = bring_toolkit(PROGRESS, VULKAN, image=image)
    assert toolkit.source == f"the image {served.host}/team/vulkan:trixie@{digest}"
    assert toolkit.label(VULKAN) == "Vulkan SDK 1.4.309"
    assert toolkit.folder.parent == tmp_path / "cache" / "toolkits"
    # run by the image's own loader
    assert toolkit.defines["Vulkan_GLSLC_EXECUTABLE"] == f"{toolkit.folder}/bin/glslc"
    assert bring_toolkit(PROGRESS, VULKAN, image=image.at(digest)) == toolkit


def test_a_pinned_image_is_the_last_source(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add_image([layer_of(write_vulkan(tmp_path / "root"), "opt/sdk")])
    path = tmp_path / "toolkits.toml"
    path.write_text(
        'schema = 2\ntoolkit = []\n[[image]]\nname = "Vulkan SDK"\nversion = "1.4.309"\n'
        '[image.part]\nroot = "/opt/sdk"\n[image.host]\n'
        f'linux_x86_64 = "{served.host}/team/vulkan@{digest}"\n',
        encoding="utf-8",
    )
    toolkit = bring_toolkit(PROGRESS, VULKAN, pins=load_pins(path))
    assert (toolkit.source, toolkit.version) == (PINNED, "1.4.309")
    assert toolkit.folder.name == "sdk"
    served.asked.clear()
    assert bring_toolkit(PROGRESS, VULKAN, pins=load_pins(path)) == toolkit
    assert served.asked == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        (f"@sha256:{'0' * 64}", ":12.8", "  CUDA 12.8.1: no image with its digest, or no folder of one: nvidia/cuda:12.8"),
        ('"/usr', '"usr', "  CUDA 12.8.1: no image with its digest, or no folder of one: usr/local/cuda"),
        ('"/usr', '"/../usr', "no folder of one: /../usr/local/cuda"),
        ("root", "roots", "  image.0.part.roots: Unexpected keyword argument"),
        ("linux_x86_64", "amd64", "  image.0.host.amd64.[key]: Input should be 'linux_x86_64'"),
    ],
)  # fmt: skip
def test_a_wrong_pin_is_said(tmp_path: Path, old: str, new: str, problem: str | None) -> None:
    path = tmp_path / "toolkits.toml"
    text = (
        'schema = 2\ntoolkit = []\n[[image]]\nname = "CUDA"\nversion = "12.8.1"\n'
        'part = { root = "/usr/local/cuda" }\n'
        f'host = {{ linux_x86_64 = "nvidia/cuda@sha256:{"0" * 64}" }}\n'
    )
    path.write_text(text.replace(old, new), encoding="utf-8")
    if problem is None:
        assert str(load_pins(path).image[0].reference("linux_x86_64")).startswith(
            "docker.io/nvidia/"
        )
        return
    with pytest.raises(TableError) as caught:
        load_pins(path)
    assert problem in caught.value.what


NVCC = "#!/bin/sh\necho Cuda compilation tools, release 12.6, V12.6.85\n"
WHOLE = {
    **{f"bin/{name}": "x" for name in ("cudafe++", "fatbinary", "ptxas")},
    "bin/nvcc": NVCC,
    "nvvm/bin/cicc": "x",
    **{f"include/{name}": "" for name in ("cuda_runtime.h", "cublas_v2.h", "crt/host_config.h")},
    "include/cub/cub.cuh": "",
    "lib64/libcudart.so": "",
    "lib64/libcublas.so": "",
}


def no_compiler(folder: Path) -> Path:
    path = folder / "toolkits.toml"
    path.write_text("schema = 2\ntoolkit = []\n", encoding="utf-8")
    return path


def test_another_version_than_the_images_name_says(served: ImageRegistry, tmp_path: Path) -> None:
    files = {f"usr/local/cuda-12.6/{name}": text for name, text in WHOLE.items()}
    files["usr/local/cuda"] = "-> cuda-12.6"
    image = named(served, served.add_image([layer(files)]))
    pins = load_pins(no_compiler(tmp_path))
    with pytest.raises(UsageError) as caught:
        bring_toolkit(PROGRESS, CU128, image=image, pins=pins)
    assert re.fullmatch(
        rf"the image {re.escape(str(image))}: {tmp_path}/cache/toolkits/image-cuda-x86_64-[0-9a-f]{{12}}"
        r"/usr/local/cuda-12.6 is CUDA 12.6.85; cu128 is built with CUDA 12.8",
        caught.value.what,
    )
    cu126 = TABLE.target("cu126", "manylinux_x86_64")
    toolkit = bring_toolkit(PROGRESS, cu126, image=image, pins=pins)
    assert (toolkit.version, toolkit.folder.name) == ("12.6.85", "cuda-12.6")
    # the folder can be named, too
    folder = Path("/usr/local/cuda-12.6/nvvm")
    with pytest.raises(UsageError, match="is not a whole CUDA toolkit, it lacks bin/nvcc, "):
        bring_toolkit(PROGRESS, cu126, image=image, installed=folder, pins=pins)


def test_without_any_pin_an_image_is_a_cure(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError) as caught:
        bring_toolkit(PROGRESS, CU128, pins=load_pins(no_compiler(tmp_path)))
    assert caught.value.cure == (
        "pin a release of it (python -m ci pin cuda 12.8.0), or install CUDA 12.8 and name its folder"
        " with --toolkit PATH, or an image that holds it with --toolkit-image REFERENCE"
    )


def test_toolkits_in_images_are_for_linux(served: ImageRegistry) -> None:
    with pytest.raises(UsageError) as caught:
        bring_toolkit(
            PROGRESS, TABLE.target("cu128", "win_amd64"), image=named(served, digest_of(b""))
        )
    assert caught.value.what == "cu128-win_amd64: toolkits in images are for Linux"
    assert served.asked == []


def test_the_verb_says_what_is_wrong(
    served: ImageRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ["build", "--backend", "vulkan", "--toolkit-image"]
    assert main([*build, "nvidia/cuda"]) == UsageError.exit_code
    assert (
        "'nvidia/cuda' is not the name of an image with a tag or a digest"
        in capsys.readouterr().err
    )
    if not paths.TREE.exists():
        pytest.skip("llama.cpp is not in vendor/")
    assert main([*build, f"{served.host}/a/b:none"]) == NetworkError.exit_code
    assert f"has no {served.host}/a/b:none (manifest unknown)" in capsys.readouterr().err


def real_toolkit(pattern: str) -> Path:
    folder = Path.home() / ".cache" / "llama-cpp-python" / "toolkits"
    found = sorted(path for path in folder.glob(pattern) if path.is_dir())
    if not found:
        pytest.skip(f"needs {pattern} in the cache")
    return found[-1]


def test_the_real_vulkan_packages_in_an_image(served: ImageRegistry, tmp_path: Path) -> None:
    root = real_toolkit("vulkan-sdk-1.4.309-linux_x86_64-*")
    base = layer({"etc/passwd": "root", "usr/bin/glslc": "an older one"})
    image = named(
        served,
        served.add_image([base, layer_of(root / "usr", "usr", "zstd")], packings=["gzip", "zstd"]),
    )
    toolkit = bring_toolkit(PROGRESS, VULKAN, image=image)
    assert (toolkit.name, toolkit.version) == ("Vulkan SDK", "1.4.309")
    pinned = bring_toolkit(PROGRESS, VULKAN, installed=root)
    assert {
        name: value.replace(str(toolkit.folder), "") for name, value in toolkit.defines.items()
    } == {name: value.replace(str(root), "") for name, value in pinned.defines.items()}
    shader = tmp_path / "a.comp"
    shader.write_text("#version 450\nvoid main() {}\n", encoding="utf-8")
    run([toolkit.defines["Vulkan_GLSLC_EXECUTABLE"], shader, "-o", tmp_path / "a.spv"])
    assert (tmp_path / "a.spv").read_bytes()[:4] == b"\x03\x02\x23\x07"
    shutil.rmtree(tmp_path / "cache")

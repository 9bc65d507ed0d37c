from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci import abi, paths
from ci.abi import headers
from ci.abi.taken import TAKEN, Taken
from ci.errors import VendorError
from ci.vendor import load_pin

EVERYTHING = ("*",)


def generated(
    folder: Path,
    header: str,
    *,
    taken: Taken | None = None,
    member_names: dict[str, tuple[str, ...]] | None = None,
) -> dict[str, str]:
    """Return the generated files for one header, all of which is taken."""
    (folder / "toy.h").write_text(header, encoding="utf-8")
    declarations = headers.read([folder], ["toy.h"], member_names=member_names or {})
    taken = taken or Taken(
        library="toy", header="toy.h", functions=EVERYTHING, types=EVERYTHING, macros=EVERYTHING
    )
    return abi.render(declarations, [taken], included=["toy.h"], commit="0" * 40)


def module(
    folder: Path, header: str, *, member_names: dict[str, tuple[str, ...]] | None = None
) -> str:
    """Return the generated module from the constants on."""
    text = generated(folder, header, member_names=member_names)["llama_cpp/_abi.py"]
    return text.split(f'COMMIT = "{"0" * 40}"\n\n')[1]


def stub(
    folder: Path, header: str, *, member_names: dict[str, tuple[str, ...]] | None = None
) -> str:
    """Return the generated stub from the constants on."""
    text = generated(folder, header, member_names=member_names)["llama_cpp/_abi.pyi"]
    return text.split("COMMIT: Final[str]\n\n")[1]


def compiler() -> list[str]:
    """Return the system's C compiler, or zig's."""
    found = shutil.which("cc")
    return [found] if found else [sys.executable, "-m", "ziglang", "cc"]


def compiled(folder: Path, check: str) -> subprocess.CompletedProcess[str]:
    """Compile a generated C file against the headers in `folder`."""
    source = folder / "abi_check.c"
    source.write_text(check, encoding="utf-8")
    return subprocess.run(
        [*compiler(), "-std=c11", f"-I{folder}", "-c", str(source), "-o", f"{source}.o"],
        capture_output=True,
        text=True,
        check=False,
    )


NO_FUNCTIONS = """


class Functions:
    \"\"\"The bound functions: one attribute for each name in PROTOTYPES.\"\"\"


# C name: (library, result, parameters)
PROTOTYPES = {
}
"""

UNION = """\
#include <stdbool.h>
#include <stdint.h>
struct toy_value {
    char key[16];
    int64_t shape[4];
    union {
        int64_t whole;
        double  real;
        char    text[8];
    };
};
"""


def test_structure_with_arrays_and_a_named_anonymous_union(tmp_path: Path) -> None:
    assert module(tmp_path, UNION, member_names={"toy_value": ("value",)}) == (
        """

class toy_value_value(Union):
    \"\"\"without a name in C\"\"\"

    __slots__ = ()
    _fields_ = (
        ("whole", c_int64),
        ("real", c_double),
        ("text", c_char * 8),
    )


class toy_value(Structure):
    \"\"\"struct toy_value\"\"\"

    __slots__ = ()
    _anonymous_ = ("value",)
    _fields_ = (
        ("key", c_char * 16),
        ("shape", c_int64 * 4),
        ("value", toy_value_value),
    )"""
        + NO_FUNCTIONS
    )


def test_anonymous_union_is_reached_by_its_given_name_and_without_one(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    files = generated(tmp_path, UNION, member_names={"toy_value": ("value",)})
    exec(files["llama_cpp/_abi.py"], names)
    toy_value = names["toy_value"]
    assert callable(toy_value)
    value = toy_value()
    value.value.whole = 7
    assert (value.whole, value.value.whole) == (7, 7)


def test_misspelt_field_is_an_error(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(generated(tmp_path, "struct toy { int a; };")["llama_cpp/_abi.py"], names)
    toy = names["toy"]
    assert callable(toy)
    with pytest.raises(AttributeError):
        toy().b = 1


def test_anonymous_member_without_a_given_name_is_numbered(tmp_path: Path) -> None:
    text = module(tmp_path, "struct toy { union { int a; float b; }; struct { int c; }; };")
    assert '    _anonymous_ = ("anonymous_0", "anonymous_1",)\n' in text


def test_stub_of_an_anonymous_union_shows_both_ways(tmp_path: Path) -> None:
    assert stub(tmp_path, UNION, member_names={"toy_value": ("value",)}) == (
        """
class toy_value_value(Union):
    whole: int
    real: float
    text: bytes

class toy_value(Structure):
    key: bytes
    shape: Array[c_int64]
    value: toy_value_value
    whole: int
    real: float
    text: bytes

class Functions:
    ...

PROTOTYPES: Final[Mapping[str, tuple[str, Any, tuple[Any, ...]]]]
"""
    )


CALLBACKS = """\
#include <stdbool.h>
#include <stddef.h>
struct toy;
struct pair { int a; int b; };
typedef bool (*toy_progress)(float done, void * data);
typedef struct pair (*toy_pair)(void * data);
typedef const char * (*toy_name)(const struct toy * toy);
struct toy_hooks {
    toy_progress progress;
    toy_pair     pair;
    toy_name     name;
    void (*visit)(struct toy * toy, const struct pair * pairs, size_t n);
};
void toy_set(toy_progress progress, void * data);
"""


def test_callback_types(tmp_path: Path) -> None:
    assert module(tmp_path, CALLBACKS) == (
        """

class pair(Structure):
    \"\"\"struct pair\"\"\"

    __slots__ = ()
    _fields_ = (
        ("a", c_int),
        ("b", c_int),
    )


toy_progress = CFUNCTYPE(c_bool, c_float, c_void_p)

toy_name = CFUNCTYPE(c_void_p, c_void_p)

toy_hooks_visit = CFUNCTYPE(None, c_void_p, POINTER(pair), c_size_t)


class toy_hooks(Structure):
    \"\"\"struct toy_hooks\"\"\"

    __slots__ = ()
    _fields_ = (
        ("progress", toy_progress),
        ("pair", c_void_p),
        ("name", toy_name),
        ("visit", toy_hooks_visit),
    )


class Functions:
    \"\"\"The bound functions: one attribute for each name in PROTOTYPES.\"\"\"


# C name: (library, result, parameters)
PROTOTYPES = {
    # void toy_set(toy_progress progress, void *data)
    "toy_set": ("toy", None, (toy_progress, c_void_p)),
}
"""
    )


def test_stub_of_callback_types(tmp_path: Path) -> None:
    header = "#include <stdbool.h>\ntypedef bool (*done)(float f, void * p);\nvoid set(done d);\n"
    assert stub(tmp_path, header) == (
        """
class done(_CFunctionType):
    def __init__(self, function: Callable[[float, int | None], bool] | int = ..., /) -> None: ...
    def __call__(self, argument_0: float, argument_1: _Address, /) -> bool: ...

class Functions:
    def set(self, d: done, /) -> None: ...

PROTOTYPES: Final[Mapping[str, tuple[str, Any, tuple[Any, ...]]]]
"""
    )


def test_enumerations_and_macros(tmp_path: Path) -> None:
    header = """\
#define TOY_SEED 0xFFFFFFFF
#define TOY_NULL -1
#define TOY_MAX (-2)
#define TOY_MAGIC 0x67676c61u // 'ggla'
#define TOY_AGAIN TOY_MAGIC
#define TOY_NAME "toy.name"
#define TOY_OCTAL 010
#define TOY_LOOP TOY_LOOP
#define TOY_CALL(x) (x)
#define TOY_ATTRIBUTE __attribute__((unused))
#define TOY_GUARD
enum toy_level { TOY_LOW = -2, TOY_MIDDLE, TOY_HIGH = 1 << 4, TOY_TOP = TOY_HIGH };
enum { TOY_LOOSE };
"""
    assert module(tmp_path, header) == (
        """\
TOY_SEED = 4294967295
TOY_NULL = -1
TOY_MAX = -2
TOY_MAGIC = 1734831201
TOY_AGAIN = 1734831201
TOY_NAME = "toy.name"
TOY_OCTAL = 8

# enum toy_level
TOY_LOW = -2
TOY_MIDDLE = -1
TOY_HIGH = 16
TOY_TOP = 16

# unnamed enum
TOY_LOOSE = 0"""
        + NO_FUNCTIONS
    )


POINTERS = """\
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
struct toy;
typedef struct toy * toy_handle;
typedef int32_t toy_token;
enum toy_mode { TOY_ON };
struct toy_params { bool fast; };
struct toy * toy_open(const char * path, struct toy_params params, enum toy_mode mode);
struct toy_params toy_defaults(void);
int32_t toy_piece(const struct toy * toy, toy_token token, char * buf, size_t n, bool lstrip);
const toy_token * toy_tokens(toy_handle toy, size_t * n, const char ** names, toy_handle * all);
void toy_apply(struct toy * toy, struct toy_params * params, const uint8_t data[4], FILE * from);
int32_t toy_sum(const int32_t values[], size_t n);
__attribute__((deprecated("use toy_open"))) toy_handle toy_old(int64_t);
"""


def test_functions(tmp_path: Path) -> None:
    text = module(tmp_path, POINTERS)
    assert text[text.index("PROTOTYPES = ") :] == (
        """\
PROTOTYPES = {
    # struct toy *toy_open(const char *path, struct toy_params params, enum toy_mode mode)
    "toy_open": ("toy", c_void_p, (c_char_p, toy_params, c_int)),
    # struct toy_params toy_defaults(void)
    "toy_defaults": ("toy", toy_params, ()),
    # int32_t toy_piece(const struct toy *toy, toy_token token, char *buf, size_t n, bool lstrip)
    "toy_piece": ("toy", c_int32, (c_void_p, c_int32, c_char_p, c_size_t, c_bool)),
    # const toy_token *toy_tokens(toy_handle toy, size_t *n, const char **names, toy_handle *all)
    "toy_tokens": (
        "toy",
        POINTER(c_int32),
        (c_void_p, POINTER(c_size_t), POINTER(c_char_p), POINTER(c_void_p)),
    ),
    # void toy_apply(struct toy *toy, struct toy_params *params, const uint8_t data[4], FILE *from)
    "toy_apply": ("toy", None, (c_void_p, POINTER(toy_params), POINTER(c_uint8), c_void_p)),
    # int32_t toy_sum(const int32_t values[], size_t n)
    "toy_sum": ("toy", c_int32, (POINTER(c_int32), c_size_t)),
    # toy_handle toy_old(int64_t) [deprecated]
    "toy_old": ("toy", c_void_p, (c_int64,)),
}
"""
    )


def test_stub_of_functions(tmp_path: Path) -> None:
    text = stub(tmp_path, POINTERS)
    assert text[text.index("class toy_params") :] == (
        """\
class toy_params(Structure):
    fast: bool

class Functions:
    def toy_open(self, path: _Text, params: toy_params, mode: int, /) -> int | None: ...
    def toy_defaults(self) -> toy_params: ...
    def toy_piece(self, toy: int, token: int, buf: _Buffer, n: int, lstrip: bool, /) -> int: ...
    def toy_tokens(
        self,
        toy: int,
        n: _To[c_size_t],
        names: _To[c_char_p],
        all: _To[c_void_p],
        /,
    ) -> _Pointer[c_int32]: ...
    def toy_apply(
        self,
        toy: int,
        params: _To[toy_params],
        data: _To[c_uint8],
        from_: int,
        /,
    ) -> None: ...
    def toy_sum(self, values: _To[c_int32], n: int, /) -> int: ...
    def toy_old(self, argument_0: int, /) -> int | None: ...

PROTOTYPES: Final[Mapping[str, tuple[str, Any, tuple[Any, ...]]]]
"""
    )


@pytest.mark.parametrize(
    ("declaration", "comment", "prototype"),
    [
        pytest.param(
            "void toy(int (*compare)(const void * a, const void * b));",
            "# void toy(int (*compare)(const void *, const void *))",
            '"toy": ("toy", None, (toy_compare,)),',
            id="callback without a typedef",
        ),
        pytest.param(
            "void toy(int (*table)[4]);",
            "# void toy(int (*table)[4])",
            '"toy": ("toy", None, (POINTER(c_int * 4),)),',
            id="pointer to an array",
        ),
        pytest.param(
            "int *const *toy(char **const *lines);",
            "# int *const *toy(char **const *lines)",
            '"toy": ("toy", POINTER(POINTER(c_int)), (POINTER(POINTER(c_char_p)),)),',
            id="pointers to pointers",
        ),
        pytest.param(
            "void toy(unsigned char, signed char, short, unsigned short, long long, double);",
            "# void toy(unsigned char, signed char, short, unsigned short, long long, double)",
            '"toy": ("toy", None, (c_uint8, c_int8, c_int16, c_uint16, c_int64, c_double)),',
            id="plain types without names",
        ),
    ],
)
def test_declarators(tmp_path: Path, declaration: str, comment: str, prototype: str) -> None:
    assert f"    {comment}\n    {prototype}\n" in module(tmp_path, declaration)


def test_functions_without_a_symbol_or_a_fixed_signature_are_left_out(tmp_path: Path) -> None:
    header = """\
void toy_log(const char * format, ...);
static inline int toy_inline(int a) { return a; }
static int toy_static(int a);
inline int toy_defined(int a) { return a; }
int toy_real(int a);
"""
    text = module(tmp_path, header)
    assert text[text.index("PROTOTYPES = ") :] == (
        'PROTOTYPES = {\n    # int toy_real(int a)\n    "toy_real": ("toy", c_int, (c_int,)),\n}\n'
    )


def test_structures_may_point_to_themselves_and_ahead(tmp_path: Path) -> None:
    header = "struct a { struct b * b; struct a * next; };\nstruct b { struct a a; };\n"
    assert module(tmp_path, header) == (
        """

class b(Structure):
    \"\"\"struct b\"\"\"

    __slots__ = ()


class a(Structure):
    \"\"\"struct a\"\"\"

    __slots__ = ()


a._fields_ = (
    ("b", POINTER(b)),
    ("next", POINTER(a)),
)

b._fields_ = (("a", a),)"""
        + NO_FUNCTIONS
    )
    exec(generated(tmp_path, header)["llama_cpp/_abi.py"], {})


def test_bit_fields_and_keywords(tmp_path: Path) -> None:
    text = module(tmp_path, "struct toy { unsigned int low : 3; unsigned int async : 5; };\n")
    assert '        ("low", c_uint, 3),\n        ("async_", c_uint, 5),\n' in text


def test_handle_is_an_address_although_its_fields_are_known(tmp_path: Path) -> None:
    header = (
        "struct llama_sampler { int a; };\nstruct llama_sampler * toy(struct llama_sampler * s);"
    )
    text = module(tmp_path, header)
    assert '"toy": ("toy", c_void_p, (c_void_p,)),' in text
    assert "class llama_sampler(Structure):" in text


def test_parameter_that_may_be_null_says_so_in_the_stub(tmp_path: Path) -> None:
    header = """\
struct chunk;
void mtmd_decode_use_non_causal(const struct chunk * ctx, const struct chunk * chunk);
"""
    line = "    def mtmd_decode_use_non_causal(self, ctx: int, chunk: int | None, /) -> None: ...\n"
    assert line in stub(tmp_path, header)


def test_only_what_is_named_and_what_it_needs_is_taken(tmp_path: Path) -> None:
    header = """\
#define TOY_ONE 1
#define OTHER_TWO 2
enum needed { NEEDED };
enum other { OTHER };
struct inner { enum needed n; };
struct outer { const struct inner * inner; };
struct unneeded { int a; };
void toy_use(struct outer * o);
void other_use(struct unneeded * u);
"""
    taken = Taken(library="toy", header="toy.h", functions=("toy_*",), macros=("TOY_*",))
    text = generated(tmp_path, header, taken=taken)["llama_cpp/_abi.py"]
    found = [word for word in ("ONE", "TWO", "NEEDED", "OTHER", "inner", "outer") if word in text]
    assert found == ["ONE", "NEEDED", "inner", "outer"]
    assert "unneeded" not in text
    assert "other_use" not in text


def test_pattern_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    taken = Taken(library="toy", header="toy.h", functions=("toy_a", "toy_gone_*"))
    with pytest.raises(VendorError) as caught:
        generated(tmp_path, "void toy_a(void);", taken=taken)
    assert str(caught.value) == (
        "toy.h declares nothing like 'toy_gone_*'\n"
        "  -> upstream renamed or removed it: change TAKEN in ci/abi/taken.py and what uses it"
    )


@pytest.mark.parametrize(
    ("header", "what"),
    [
        pytest.param(
            "long toy(void);",
            "toy_result: the C type 'long' has no fixed meaning on all platforms",
            id="long differs on Windows",
        ),
        pytest.param(
            "struct toy { long double a; };",
            "toy_a: the C type 'long double' has no fixed meaning on all platforms",
            id="long double differs on ARM",
        ),
        pytest.param(
            "struct toy { int n; int rest[]; };",
            "toy_rest: the C type 'int[]' has no fixed meaning on all platforms",
            id="flexible array",
        ),
    ],
)
def test_type_that_differs_between_platforms_is_an_error(
    tmp_path: Path, header: str, what: str
) -> None:
    with pytest.raises(VendorError) as caught:
        generated(tmp_path, header)
    assert caught.value.what == what
    assert caught.value.cure == (
        "leave it out in ci/abi/taken.py, or teach ci/abi/headers.py this type"
    )


def test_type_that_differs_between_platforms_may_be_left_out(tmp_path: Path) -> None:
    taken = Taken(library="toy", header="toy.h", functions=("toy_good",))
    header = "long toy_bad(void);\nint toy_good(void);\n"
    text = generated(tmp_path, header, taken=taken)["llama_cpp/_abi.py"]
    assert '"toy_good": ("toy", c_int, ()),' in text
    assert "toy_bad" not in text


def test_enumeration_wider_than_an_int_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VendorError, match=r"toy\.h: TOY = 4294967295 does not fit an int"):
        generated(tmp_path, "enum toy { TOY = 0xFFFFFFFF };")


def test_missing_header_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(VendorError) as caught:
        abi.generate(tmp_path, "0" * 40)
    assert str(caught.value) == (
        f"the header llama.h is in none of {tmp_path / 'include'}, {tmp_path / 'ggml/include'}, "
        f"{tmp_path / 'tools/mtmd'}\n"
        "  -> run `nox -s vendor`; if upstream has moved the header, name its new place in "
        "ci/abi/taken.py"
    )


def test_stale_entry_of_the_tables_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    for entry in TAKEN:
        has_sampler = entry.header == "llama.h"
        (tmp_path / "include" / entry.header).write_text(
            "struct llama_sampler { int a; };\n" if has_sampler else "", encoding="utf-8"
        )
    with pytest.raises(VendorError) as caught:
        abi.generate(tmp_path, "0" * 40)
    assert str(caught.value) == (
        "the headers no longer declare chunk of mtmd_decode_use_non_causal, ggml_tensor, "
        "llama_model_kv_override, smpl of llama_set_sampler, threadpool of "
        "llama_attach_threadpool, threadpool_batch of llama_attach_threadpool\n"
        "  -> change HANDLES, NULLABLE or MEMBER_NAMES in ci/abi/taken.py"
    )


def test_header_that_does_not_parse_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VendorError) as caught:
        generated(tmp_path, "#include <complex.h>\n")
    assert caught.value.what == f"{tmp_path / 'toy.h'}:1: 'complex.h' file not found"


CHECKED = """\
#ifndef TOY_H
#define TOY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#define TOY_SEED 0xFFFFFFFF
#define TOY_NULL -1
#define TOY_NAME "toy"
enum toy_mode { TOY_ON = -1, TOY_OFF };
struct toy;
typedef bool (*toy_progress)(float done, void * data);
struct toy_inner { int64_t id; bool last; };
struct toy_params {
    struct toy_inner inner;
    char key[8];
    union { int64_t whole; double real; };
    struct { float a; float b; } pair;
    toy_progress progress;
    void (*hooks[2])(struct toy * toy);
    const char * const * names;
    enum toy_mode mode;
    unsigned int low : 3;
    bool fast;
};
struct toy * toy_open(const char * path, const struct toy_params params);
void toy_close(struct toy * toy, FILE * log, int (*compare)(const void * a, const void * b));
__attribute__((deprecated("use toy_open"))) int32_t toy_old(int32_t (*table)[4], const int32_t row[4], int64_t n);
#endif
"""


def test_check_compiles_against_the_headers_it_was_made_of(tmp_path: Path) -> None:
    outcome = compiled(tmp_path, generated(tmp_path, CHECKED)["vendor/abi_check.c"])
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            "char key[8];", "char key[9];", "the size of struct toy_params", id="longer array"
        ),
        pytest.param(
            "float a; float b;",
            "float b; float a;",
            "the offset of struct toy_params pair.a",
            id="fields swapped",
        ),
        pytest.param(
            "double real;", "uint64_t real;", "the type of struct toy_params real", id="field type"
        ),
        pytest.param(
            "bool fast;",
            "bool fast; bool slow;",
            "missing",
            id="new field where the padding was",
        ),
        pytest.param(
            "float done, void", "double done, void", "progress", id="parameter of a callback"
        ),
        pytest.param("TOY_ON = -1", "TOY_ON = -2", "the value of TOY_ON", id="enumeration"),
        pytest.param("0xFFFFFFFF", "0xFFFFFFFE", "the value of TOY_SEED", id="macro"),
        pytest.param('"toy"', '"boys"', "the length of TOY_NAME", id="text macro"),
        pytest.param(
            "int64_t n)", "int32_t n)", "the type of toy_old", id="parameter of a function"
        ),
        pytest.param("void toy_close", "int toy_close", "the type of toy_close", id="result"),
        pytest.param("toy_open(", "toy_opened(", "toy_open", id="function gone"),
    ],
)
def test_check_does_not_compile_against_changed_headers(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    check = generated(tmp_path, CHECKED)["vendor/abi_check.c"]
    changed = CHECKED.replace(old, new)
    assert changed != CHECKED
    (tmp_path / "toy.h").write_text(changed, encoding="utf-8")
    outcome = compiled(tmp_path, check)
    assert outcome.returncode != 0
    assert message in outcome.stderr


def test_message_of_the_check_names_the_cure(tmp_path: Path) -> None:
    check = generated(tmp_path, "int toy(void);")["vendor/abi_check.c"]
    (tmp_path / "toy.h").write_text("void toy(void);", encoding="utf-8")
    assert (
        "the type of toy differs from llama_cpp/_abi.py: run 'nox -s generate' after a vendor bump "
        "and read the diff"
    ) in compiled(tmp_path, check).stderr.replace("\\'", "'")


def test_check_lets_new_functions_pass(tmp_path: Path) -> None:
    check = generated(tmp_path, "int toy(void);")["vendor/abi_check.c"]
    (tmp_path / "toy.h").write_text("int toy(void);\nint more(void);", encoding="utf-8")
    assert compiled(tmp_path, check).returncode == 0


def test_same_tree_gives_the_same_text(tmp_path: Path) -> None:
    assert generated(tmp_path, CHECKED) == generated(tmp_path, CHECKED)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("llama_cpp/_abi.py", id="module"),
        pytest.param("llama_cpp/_abi.pyi", id="stub"),
        pytest.param("llama_cpp/_functions.pyi", id="stub of the functions"),
        pytest.param("vendor/abi_check.c", id="check"),
    ],
)
@pytest.mark.build
def test_checked_in_files_are_what_the_vendored_tree_gives(path: str) -> None:
    if not paths.TREE.is_dir():
        pytest.fail(f"{paths.TREE} is missing: run `nox -s vendor`")
    expected = abi.generate(paths.TREE, load_pin().commit)[path]
    if (paths.ROOT / path).read_text(encoding="utf-8") != expected:
        pytest.fail(f"{path} is stale: run `nox -s generate` and read the diff")


@pytest.mark.build
def test_vendored_headers_pass_the_check(tmp_path: Path) -> None:
    if not paths.TREE.is_dir():
        pytest.fail(f"{paths.TREE} is missing: run `nox -s vendor`")
    outcome = subprocess.run(
        [
            *compiler(),
            *("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"),
            *(f"-I{paths.TREE / folder}" for folder in ("include", "ggml/include", "tools/mtmd")),
            *("-c", str(paths.VENDOR / "abi_check.c"), "-o", str(tmp_path / "abi_check.o")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")

"""MXNet's files of arrays in the emitted file: every version and type is read, and no bytes break it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import DIGITS
from mxnet_programs import DECLARATIONS, build_program, run

from dlpack.pipeline import Options, build

PROGRAM = """\
// Prints name, shape and elements of each array of a file; or the error.
static int dump(const char* path) {
  const Bytes data = read(path);
  NDListHandle list = nullptr;
  mx_uint size = 0;
  if (MXNDListCreate(data.data(), static_cast<int>(data.size()), &list, &size) != 0) return puts(MXGetLastError()), 0;
  const char* key;
  const mx_float* values;
  const mx_uint* dims;
  mx_uint rank;
  for (mx_uint k = 0; k < size; ++k) {
    OK(MXNDListGet(list, k, &key, &values, &dims, &rank));
    printf("%s\\t", key);
    size_t n = 1;
    for (mx_uint d = 0; d < rank; ++d) printf("%u ", dims[d]), n *= dims[d];
    printf("\\t");
    for (size_t i = 0; i < n; ++i) printf("%a ", static_cast<double>(values[i]));
    printf("\\n");
  }
  FAILS(MXNDListGet(list, size, &key, &values, &dims, &rank), "there is no array");
  FAILS(MXNDListGet(list, 0, &key, nullptr, &dims, &rank), "is null");
  OK(MXNDListFree(list));
  return 0;
}

// Parses exactly these bytes, at the end of an allocation, and touches all that comes out.
static bool parse(const char* from, size_t size) {
  char* const data = static_cast<char*>(malloc(size + 1)) + 1;  // misaligned, too
  if (size != 0) memcpy(data, from, size);
  NDListHandle list = nullptr;
  mx_uint count = 0;
  const bool good = MXNDListCreate(data, static_cast<int>(size), &list, &count) == 0;
  REQUIRE(good == (list != nullptr) && (good || strstr(MXGetLastError(), "MXNDListCreate: ") == MXGetLastError()));
  double sum = 0;
  for (mx_uint k = 0; good && k < count; ++k) {
    const char* key;
    const mx_float* values;
    const mx_uint* dims;
    mx_uint rank;
    OK(MXNDListGet(list, k, &key, &values, &dims, &rank));
    size_t n = 1;
    for (mx_uint d = 0; d < rank; ++d) n *= dims[d];
    if (n != 0) sum += static_cast<double>(values[0]) + static_cast<double>(values[n - 1]);
    sum += static_cast<double>(strlen(key));
  }
  volatile double keep = sum;
  (void)keep;
  OK(MXNDListFree(list));
  free(data - 1);
  return good;
}

// Every truncation and thousands of mutations of a file; of a large one, a sample.
static int fuzz(const char* path) {
  Bytes data = read(path);
  REQUIRE(parse(data.data(), data.size()));
  const size_t stride = data.size() < 8192 ? 1 : data.size() / 16;
  for (size_t n = 0; n < data.size(); n += stride) REQUIRE(!parse(data.data(), n));
  unsigned seed = 1;
  const auto random = [&seed] { return (seed = seed * 1664525u + 1013904223u) >> 8; };
  const unsigned char values[] = {0, 1, 2, 0x7f, 0x80, 0xc8, 0xc9, 0xca, 0xff};
  for (size_t i = 0; i < data.size(); i += stride)
    for (unsigned char v : values) {
      const char before = data[i];
      data[i] = static_cast<char>(v);
      parse(data.data(), data.size());
      data[i] = before;
    }
  for (int round = 0; round < (stride == 1 ? 5000 : 10); ++round) {
    Bytes copy = data;
    for (unsigned k = random() % 6 + 1; k != 0; --k) {
      const size_t at = random() % copy.size();
      if (random() % 3 == 0) copy[at] = static_cast<char>(random());
      else for (size_t i = at; i < copy.size() && i < at + 8; ++i) copy[i] = static_cast<char>(random() % 2 ? 0xff : 0);
    }
    parse(copy.data(), random() % 4 == 0 ? random() % copy.size() : copy.size());
  }
  return 0;
}

static int errors() {
  mx_uint rank = 77;
  int mark = 0;
  NDListHandle list = &mark;
  FAILS(MXNDListCreate(nullptr, 0, &list, &rank), "is null");
  FAILS(MXNDListCreate("", -1, &list, &rank), "is null, or nd_file_size is negative");
  FAILS(MXNDListCreate("", 0, nullptr, &rank), "is null");
  FAILS(MXNDListCreate("", 0, &list, nullptr), "is null");
  FAILS(MXNDListCreate("", 0, &list, &rank), "does not begin with 0x112");
  FAILS(MXNDListGet(nullptr, 0, nullptr, nullptr, nullptr, nullptr), "is null");
  OK(MXNDListFree(nullptr));
  REQUIRE(list == nullptr && rank == 0);
  return 0;
}

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "dump") return dump(argv[2]);
  if (what == "fuzz") return fuzz(argv[2]);
  return what == "errors" ? errors() : 2;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    bundle = build(DIGITS, folder / "digits", Options("source", mxnet_api=True))
    return build_program(folder, DECLARATIONS + PROGRAM, bundle / "digits.cc")


def test_wrong_calls_say_what_is_wrong_and_give_nothing(program: Path) -> None:
    run(program, "errors")


TYPES = [np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64, np.bool_, np.int16, np.uint16,
         np.uint32, np.uint64]  # fmt: skip
BFLOAT16 = 12


def list_file(arrays: list[bytes], names: list[str]) -> bytes:
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays)), *arrays, struct.pack("<Q", len(names))]
    for name in names:
        parts.append(struct.pack("<Q", len(name.encode())) + name.encode())
    return b"".join(parts)


def array(version: int, shape: tuple[int, ...], flag: int, raw: bytes) -> bytes:
    head = [b"", struct.pack("<I", 0xF993FAC8), struct.pack("<Ii", 0xF993FAC9, 0), struct.pack("<Ii", 0xF993FACA, 0)]
    rank = struct.pack("<i", len(shape))
    dims = struct.pack(f"<{len(shape)}{'I' if version == 0 else 'q'}", *shape)
    return head[version] + rank + dims + struct.pack("<iii", 1, 0, flag) + raw


def some_values(kind: type) -> np.ndarray:
    """Extremes of a type: 2 x 3, or for half precision every bit pattern."""
    if kind is np.float16:
        return np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    if np.dtype(kind).kind == "f":
        return np.array([[0, -0.0, 1.1], [-1e-40, 3e38, -np.inf]], kind)
    if kind is np.bool_:
        return np.array([[True, False, True], [False, False, True]])
    limits = np.iinfo(kind)
    return np.array([[0, 1, limits.max], [limits.min, limits.max - 1, 77]], kind)


def dump(program: Path, path: Path) -> list[tuple[str, np.ndarray]]:
    found = []
    for line in run(program, "dump", path).splitlines():
        name, dims, values = line.split("\t")
        floats = np.array([float.fromhex(v) for v in values.split()], np.float32)
        found.append((name, floats.reshape([int(d) for d in dims.split()])))
    return found


@pytest.mark.parametrize("version", range(4))
def test_lists_of_every_version_and_type(tmp_path: Path, program: Path, version: int) -> None:
    """Every type becomes float as a C cast makes it; half precision exactly."""
    values = [some_values(kind) for kind in TYPES]
    arrays = [array(version, v.shape, flag, v.tobytes()) for flag, v in enumerate(values)]
    brain = np.array([1.5, -2, np.inf, 1e-40], np.float32).view(np.uint32) >> 16
    arrays.append(array(version, (4,), BFLOAT16, brain.astype(np.uint16).tobytes()))
    values.append((brain.astype(np.uint32) << 16).view(np.float32))
    names = [f"arg:tensor {k} é" for k in range(len(arrays))]
    (tmp_path / "list").write_bytes(list_file(arrays, names))
    found = dump(program, tmp_path / "list")
    assert [name for name, _ in found] == names
    for (name, got), v in zip(found, values, strict=True):
        want = v.astype(np.float32)
        assert got.shape == want.shape, name
        np.testing.assert_array_equal(got, want, name)
        numbers = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]), name)


def test_scalars_nothing_and_no_names(tmp_path: Path, program: Path) -> None:
    """In version 3 rank 0 is a scalar and -1 nothing; before, 0 is nothing. Names may be left out."""
    one = np.float32(2.5).tobytes()
    nothing = [struct.pack("<I", 0), struct.pack("<Ii", 0xF993FAC8, 0), struct.pack("<Iii", 0xF993FAC9, 0, 0),
               struct.pack("<Iii", 0xF993FACA, 0, -1)]  # fmt: skip
    scalars = [array(3, (), 0, one), array(3, (3, 0, 1 << 31), 0, b""), array(2, (1,), 0, one)]
    (tmp_path / "list").write_bytes(list_file([*scalars], []))
    found = dump(program, tmp_path / "list")
    assert [(n, v.shape) for n, v in found] == [("", ()), ("", (3, 0, 1 << 31)), ("", (1,))]
    assert found[0][1] == 2.5 and found[2][1] == 2.5
    (tmp_path / "list").write_bytes(list_file(nothing + scalars, []))
    run(program, "fuzz", tmp_path / "list")


def test_files_that_mxnet_wrote(models_dir: Path, program: Path) -> None:
    """The oldest version, and a real model's weights: the values that the exporter reads."""
    from dlpack.exporters.mxnet.files import read_arrays

    for path in ("legacy/legacy_ndarray.v0", "squeezenet1.1/squeezenet1.1-0000.params"):
        file = models_dir / "mxnet" / path
        want = read_arrays(file.read_bytes())
        found = dump(program, file)
        assert len(found) == len(want) > 0
        for (name, got), (key, array_) in zip(found, want.items(), strict=True):
            assert name == key or name == ""
            np.testing.assert_array_equal(got, array_.astype(np.float32))
        run(program, "fuzz", file)


@pytest.mark.parametrize("version", range(4))
def test_cut_and_mutated_lists_break_nothing(tmp_path: Path, program: Path, version: int) -> None:
    """Every truncation, every byte with telling values, and thousands of random changes; under the sanitizers."""
    arrays = [array(version, (2, 3), flag, some_values(k).tobytes()) for flag, k in enumerate(TYPES) if flag != 2]
    (tmp_path / "list").write_bytes(list_file(arrays, [f"arg:{k}" for k in range(len(arrays))]))
    run(program, "fuzz", tmp_path / "list")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\3\4" + bytes(60), "does not begin with 0x112"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 40) + bytes(64), "claims 1099511627776 arrays and has 88 bytes"),
        (list_file([array(2, (1 << 31, 1 << 31), 0, b"")], [""]), "array 0 goes beyond the end"),
        (list_file([array(2, (1 << 31, 1 << 31, 1 << 31), 5, b"")], [""]), "array 0 goes beyond the end"),
        (list_file([array(1, (-1,), 0, bytes(8))], [""]), "claims -1 elements in dimension 0"),
        (list_file([array(1, (1 << 40, 0), 0, bytes(8))], [""]), "claims 1099511627776 elements in dimension 0"),
        (list_file([struct.pack("<I", 0x7FFFFFFF) + bytes(64)], [""]), "the shape of array 0 goes beyond the end"),
        (list_file([struct.pack("<I", 0xFFFFFFFF) + bytes(64)], [""]), "the shape of array 0 goes beyond the end"),
        (list_file([struct.pack("<Ii", 0xF993FAC8, -2) + bytes(64)], [""]), "the shape of array 0 goes beyond the end"),
        (list_file([array(2, (1,), 13, bytes(8))], [""]), "array 0 has the unknown element type 13"),
        (list_file([array(2, (1,), -1, bytes(8))], [""]), "array 0 has the unknown element type -1"),
        (list_file([struct.pack("<Ii", 0xF993FAC9, 1) + bytes(64)], [""]), "array 0 is sparse (storage type 1)"),
        (list_file([array(2, (1,), 0, bytes(4))], ["a", "b"]), "has 1 arrays and 2 names"),
        (list_file([array(2, (1,), 0, bytes(4))], ["abc"])[:-1], "name 0 goes beyond the end"),
    ],
)
def test_damaged_lists_say_what_is_wrong(tmp_path: Path, program: Path, data: bytes, message: str) -> None:
    (tmp_path / "list").write_bytes(data)
    assert message in run(program, "dump", tmp_path / "list")

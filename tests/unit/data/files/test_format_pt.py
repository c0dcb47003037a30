"""Tensors of PyTorch's files without PyTorch; hostile files run nothing."""

import os
import pickle
import zipfile

import numpy as np
import pytest
from hit_files import assert_refused, read, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from places import REFERENCE
from torch_files import (
    Hostile,
    assert_not_loaded,
    bundle,
    load,
    number,
    numbers,
    tensor,
    tensor_pickle,
    text,
)

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.data.files.format_pt import load_tensors
from tofae_jax.data.files.pt_errors import NOT_SAVED

PROGRAM = "holds an object of a program"


def test_read_predecessor_bundle_matches_reference():
    detector = Detector()
    expected = np.loadtxt(REFERENCE / "small_bundle_hits.csv", int, delimiter=",", skiprows=1)
    events = read(REFERENCE / "small_bundle.pt", detector=detector)
    assert np.array_equal(rows_of(events), expected)
    assert events.counts.tolist() == [81, 23, 63, 31]
    assert np.array_equal(rows_of(read(REFERENCE / "small_bundle.pt", detector=detector, chunk_hits=1)), expected)
    assert np.array_equal(rows_of(read(REFERENCE / "small_bundle_hits.csv", detector=detector)), expected)
    assert_refused(REFERENCE / "small_bundle.pt", r"images of shape \[4, 1, 128, 88\]; \[n, 3, 4\]")


def test_read_other_than_one_tensor_raises(tmp_path):
    path = tmp_path / "a.pt"
    images = np.zeros((2, 3, 4), "<f4")
    images[1, 2, 3] = 7
    stored = {"0": images.tobytes()}
    one = tensor("FloatStorage", (2, 3, 4))
    for data in (one + b".", b"}" + text("images") + one + b"s.", b"](" + one + text("note") + b"e."):
        path.write_bytes(bundle(b"\x80\x02" + data, stored))
        assert np.array_equal(rows_of(read(path)), [[1, 3, 2, 7]])
    path.write_bytes(bundle(b"\x80\x02(" + one + one + b"t.", stored))
    assert_refused(path, "holds 2 tensors; one tensor of images is read")
    path.write_bytes(bundle(b"\x80\x02}.", stored))
    assert_refused(path, "holds 0 tensors; one tensor of images is read")
    path.write_bytes(bundle(tensor_pickle("BoolStorage", (2, 3, 4)), {"0": bytes(24)}))
    assert_refused(path, "images of type bool; integer or float allowed")


@pytest.mark.parametrize(
    ("storage", "dtype"),
    [
        ("FloatStorage", "f4"),
        ("DoubleStorage", "f8"),
        ("HalfStorage", "f2"),
        ("LongStorage", "i8"),
        ("IntStorage", "i4"),
        ("ShortStorage", "i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_load_tensors_all_types_and_byte_orders(tmp_path, storage, dtype, order):
    values = np.array([[0, 1, 2], [3, 4, 100]]).astype(dtype)
    stored = values.astype(values.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
    found = load(tmp_path / "a.pt", tensor_pickle(storage, (2, 3)), {"0": stored}, byteorder=order.encode())
    assert isinstance(found, np.ndarray)
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)
    assert not found.flags.writeable


def test_load_tensors_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 3e38, np.inf], np.float32)
    stored = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    found = load(tmp_path / "a.pt", tensor_pickle("BFloat16Storage", (4,)), {"0": stored})
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert np.allclose(found, values, rtol=2**-7)


def test_load_tensors_views_of_a_storage(tmp_path):
    stored = {"0": np.arange(24, dtype="<i8").tobytes()}
    values = np.arange(24)

    def view(shape, strides, offset) -> np.ndarray:
        data = tensor_pickle("LongStorage", shape, strides=strides, offset=offset, count=24)
        found = load(tmp_path / "a.pt", data, stored, byteorder=None)
        assert isinstance(found, np.ndarray)
        return found

    assert np.array_equal(view((4, 6), (1, 4), 0), values.reshape(6, 4).T)
    assert np.array_equal(view((2, 3), (12, 2), 5), values[5:].take([[0, 2, 4], [12, 14, 16]]))
    assert view((), (), 23) == 23
    assert view((3, 0, 2), (0, 2, 1), 24).shape == (3, 0, 2)
    assert view((5,), (0,), 7).tolist() == [7] * 5


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((25,), {"count": 24}),
        ((24,), {"count": 24, "offset": 1}),
        ((2, 2), {"count": 24, "strides": (23, 1), "offset": 0}),
        ((1, 1), {"count": 24, "strides": (1, 1), "offset": 24}),
        ((10**6, 10**6), {"count": 24, "strides": (0, 0)}),
        ((25,), {"count": 24, "strides": (0,)}),
        ((2**40, 2**40), {"count": 24, "strides": (2**40, 1)}),
        ((2**62, 2**62, 4), {"count": 24}),
        ((24,), {"count": 24, "strides": (-1,), "offset": 23}),
        ((-1,), {"count": 24, "strides": (1,)}),
        ((24,), {"count": 24, "offset": -1}),
        ((24,), {"count": 24, "strides": (1, 1)}),
        ((24,), {"count": 25}),
        ((24,), {"count": -1}),
        ((1,) * 40, {"count": 24}),
        ((0, 2**40, 2**40), {"count": 24}),
        ((24,), {"count": 24, "key": "1"}),
        ((24,), {"count": 24, "key": "../../../etc/passwd"}),
    ],
)
def test_load_tensors_view_outside_storage_raises(tmp_path, shape, options):
    data = tensor_pickle("LongStorage", shape, **options)
    assert_not_loaded(tmp_path / "a.pt", data, "tensor|storage|member", {"0": bytes(24 * 8)})


def test_load_tensors_nested_values_come_back(tmp_path):
    plain = {"a": [1, 2.5, None, True, -(2**70)], 3: ("text ü", (), (1,), (1, 2), b"bytes"), "empty": {}}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        if protocol == 2:  # there bytes are made by a call
            del (plain := dict(plain))[3]
        found = load(tmp_path / "a.pt", pickle.dumps(plain, protocol))
        assert found == plain
        plain = {"a": [1, 2.5, None, True, -(2**70)], 3: ("text ü", (), (1,), (1, 2), b"bytes"), "empty": {}}


def test_load_tensors_weights_of_a_module(tmp_path):
    """Module weights are an OrderedDict with an attribute, which BUILD sets."""
    empty, weights = b"ccollections\nOrderedDict\n)R", tensor("FloatStorage", (2,))
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + weights + b"\x88" + empty + b"tR"
    items = b"(" + text("weight") + weights + text("bias") + parameter + b"u"
    data = b"\x80\x02" + empty + items + b"}" + text("_metadata") + empty + b"sb."
    found = load(tmp_path / "a.pt", data, {"0": np.array([1, 2], "<f4").tobytes()})
    assert isinstance(found, dict)
    assert {name: values.tolist() for name, values in found.items()} == {"weight": [1, 2], "bias": [1, 2]}


def test_load_tensors_shape_and_device(tmp_path):
    data = b"\x80\x02(ctorch\nSize\n(" + numbers((2, 3)) + b"tRctorch\ndevice\n(" + text("cuda") + number(0) + b"tRt."
    assert load(tmp_path / "a.pt", data) == ((2, 3), "cuda:0")


@pytest.mark.backlog("B21")
def test_load_tensors_hostile_pickle_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    command = text(f"touch '{canary}'")
    name = "posix.system" if os.name == "posix" else "nt.system"
    path = tmp_path / "a.pt"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert_not_loaded(path, pickle.dumps(Hostile(canary), protocol), f"{PROGRAM} \\('{name}'\\), which is not run")
    call = b"cos\nsystem\n(" + command + b"tR"
    assert_not_loaded(path, call + b".", PROGRAM + r" \('os.system'")
    source = text(f"open({str(canary)!r}, 'w')")
    assert_not_loaded(path, b"\x80\x02cbuiltins\neval\n(" + source + b"tR.", PROGRAM + r" \('builtins.eval'")
    assert_not_loaded(path, b"c__builtin__\nexec\n(" + source + b"tR.", PROGRAM + r" \('__builtin__.exec'")
    hidden_in_state = b"\x80\x02ccollections\nOrderedDict\n)R}" + text("_metadata") + call + b"sb."
    assert_not_loaded(path, hidden_in_state, PROGRAM + r" \('os.system'")
    assert_not_loaded(path, b"(ios\nsystem\n" + command + b".", PROGRAM)
    assert_not_loaded(path, b"(" + command + b"ios\nsystem\n.", PROGRAM + r" \('os.system'")
    assert_not_loaded(path, b"(cos\nsystem\n" + command + b"o.", PROGRAM + r" \('os.system'")
    assert_not_loaded(
        path, b"(ccollections\nOrderedDict\no.", r"holds an object that only its program can make \('OBJ'\)"
    )
    assert_not_loaded(path, b"(icollections\nOrderedDict\n.", PROGRAM + r" \('collections.OrderedDict'")
    assert_not_loaded(
        path,
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        r"holds an object that only its program can make \('NEWOBJ'\)",
    )
    assert_not_loaded(path, b"\x80\x04" + text("os") + text("path.os.system") + b"\x93.", "'os.path.os.system'")
    assert_not_loaded(path, b"ctorch\n_utils.os.system\n.", PROGRAM + r" \('torch._utils.os.system'")
    assert_not_loaded(path, b"ctorch._utils _rebuild_tensor_v2\n\n.", PROGRAM)
    assert_not_loaded(path, b"\x80\x04" + number(1) + text("x") + b"\x93.", PROGRAM)
    assert_not_loaded(path, b"\x80\x02\x82\x01.", r"holds an object that only its program can make \('EXT1'\)")
    assert_not_loaded(path, b"P0\n.", r"holds an object that only its program can make \('PERSID'\)")
    assert not canary.exists()
    pickle.loads(call + b".")  # the control: this file would have run it
    assert canary.exists()


@pytest.mark.slow
def test_load_tensors_hostile_pickle_raises(tmp_path):
    path = tmp_path / "a.pt"
    function = b"ccollections\nOrderedDict\n"
    assert_not_loaded(
        path,
        b"\x80\x02" + function + b"}" + text("call") + number(1) + b"sb.",
        "there is a function where a dict belongs",
    )
    assert_not_loaded(path, b"\x80\x02" + function + b".", PROGRAM)
    assert_not_loaded(path, b"\x80\x02" + text("storage") + b"Q.", "data are described otherwise")
    assert_not_loaded(path, b"\x80\x02" + number(3) + b")R.", "there is a int where a function belongs")
    assert_not_loaded(path, b"\x80\x02]}b.", "there is a list where a dict belongs")
    assert_not_loaded(path, b"\x80\x02})" + number(1) + b"s.", "dictionary with keys of type tuple")
    assert_not_loaded(path, b"\x80\x02]2a.", r"holds an object that only its program can make \('DUP'\)")
    assert_not_loaded(path, b"\x80\x02ctorch\ndevice\n]\x85R.", "a device is described otherwise")
    assert_not_loaded(path, b"\x80\x02" + function + b"]\x85R.", NOT_SAVED)
    assert_not_loaded(path, b"\x80\x02]q\x00h\x00a.", "nested more than 100 deep")  # a list within itself
    assert_not_loaded(path, b"\x80\x02)" + b"\x85" * 100_000 + b".", "nested more than 100 deep")
    doubled = b"]r\x00\x00\x00\x00" + b"".join(
        b"](j" + (n - 1).to_bytes(4, "little") + b"j" + (n - 1).to_bytes(4, "little") + b"er" + n.to_bytes(4, "little")
        for n in range(1, 60)
    )
    assert_not_loaded(path, b"\x80\x02(" + doubled + b"t.", "more than 1000000 parts")
    assert load(path, b"\x80\x02]r\xff\xff\xff\x7f.") == []  # a memo index of 2^31 takes no memory
    for data in (
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02a.",
        b"\x80\x02h\x00.",
        b"\x80\x02t.",
        b"(((",
        b"\x80\x02NN.",
        b"\xff.",
    ):
        assert_not_loaded(path, data, NOT_SAVED)
    assert_not_loaded(path, b"\x80\x02I" + b"9" * 10_000 + b"\n.", NOT_SAVED)
    assert_not_loaded(path, b"\x80\x04\x8e" + b"\xff" * 8 + b"abc.", NOT_SAVED)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 150))
def test_load_tensors_any_bytes_load_or_raise(tmp_path_factory, junk, place):
    path = tmp_path_factory.getbasetemp() / "junk.pt"
    data = tensor_pickle("FloatStorage", (2, 3))
    for changed in (junk, data[:place] + junk + data[place:], data[:place] + junk + data[place + len(junk) :]):
        try:
            load(path, changed, {"0": bytes(24)})
        except DataError as error:
            assert "\n" not in str(error)


def test_load_tensors_hostile_archive_raises(tmp_path):
    path = tmp_path / "a.pt"
    data = tensor_pickle("FloatStorage", (2,))
    stored = {"0": bytes(8)}
    assert_not_loaded(path, data, "is compressed or encrypted", stored, compression=zipfile.ZIP_DEFLATED)
    assert_not_loaded(path, data, "byte order b'middle'; little or big", stored, byteorder=b"middle")
    assert_not_loaded(path, data, "a multiple of 4 expected", {"0": bytes(9)})
    assert_not_loaded(path, data, "part 'bundle/data/0' is missing", {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("b/data.pkl", data)
    assert_refused(path, "2 parts named data.pkl")
    path.write_bytes(bundle(data, stored))
    with pytest.raises(DataError, match=r"has .* bytes; at most 100 allowed"):
        load_tensors(path, max_bytes=100)


def test_load_tensors_overlapping_members_raise(tmp_path):
    """Many entries of the list for the same bytes: each is stored plainly, together they exceed the file."""
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps([1], 2))
        archive.writestr("a/data/0", bytes(10_000))
        info = archive.getinfo("a/data/0")
        for index in range(3):
            other = zipfile.ZipInfo(f"a/data/{index + 1}")
            other.file_size = other.compress_size = 10_000
            other.CRC, other.header_offset = info.CRC, info.header_offset
            archive.filelist.append(other)
    assert_refused(path, "parts have .* bytes together, the file only")

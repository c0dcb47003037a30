"""What a PyTorch file holds that is not read is said in the user's words, with a way to save it otherwise."""

import numpy as np
import pytest
from hit_files import assert_refused, read, rows_of
from torch_files import assert_not_loaded, bundle, load, number, numbers, tensor, text

IMAGES = np.zeros((2, 3, 4), "<f4")
IMAGES[1, 2, 3] = 7


def call(name: str, *arguments: bytes) -> bytes:
    """Opcodes of a call, as PyTorch writes them."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n(".encode() + b"".join(arguments) + b"tR"


@pytest.mark.parametrize(
    ("data", "what", "advice"),
    [
        (call("__main__.DeepClean"), r"an object of a program \('__main__\.DeepClean'\)", r"model\.state_dict\(\)"),
        (call("torch.nn.modules.linear.Linear"), "an object of a program", r"torch\.save\(images, PATH\)"),
        (call("numpy.core.multiarray._reconstruct"), "a NumPy array or number", r"torch\.from_numpy\(array\).*\.npy"),
        (call("numpy._core.multiarray.scalar"), "a NumPy array or number", "numpy.save"),
        (call("torch._utils._rebuild_sparse_tensor"), "a sparse tensor", r"tensor\.to_dense\(\)"),
        (call("torch._utils._rebuild_qtensor"), "a quantised tensor", r"tensor\.dequantize\(\)"),
        (call("torch._utils._rebuild_nested_tensor"), "a nested tensor", "to_padded_tensor"),
        (call("torch._utils._rebuild_meta_tensor_no_storage"), "a tensor without numbers", "other than meta"),
        (
            call("torch._tensor._rebuild_from_type_v2"),
            "a tensor of a class of its own",
            r"as_subclass\(torch\.Tensor\)",
        ),
        (call("__torch__.Net"), "a TorchScript program", r"torch\.jit\.load"),
        (tensor("ComplexFloatStorage", (2,)), "complex numbers", r"tensor\.real"),
        (tensor("QUInt8Storage", (2,)), "a quantised tensor", "dequantize"),
        (call("argparse.Namespace"), r"an object of a program \('argparse\.Namespace'\)", "save the tensors alone"),
        (b"\x8f(" + number(1) + b"\x90", "a set", "save a list"),
        (call("builtins.set"), "a set", "save a list"),
    ],
)
def test_load_tensors_other_objects_are_named_with_advice(tmp_path, data, what, advice):
    assert_not_loaded(tmp_path / "a.pt", b"\x80\x04" + data + b".", f"a.pt: holds {what}.*only tensors, text.*{advice}")


def test_load_tensors_types_are_text(tmp_path):
    """A file may say which type its images have: that is no program."""
    path = tmp_path / "a.pt"
    names = b"".join(text(name) + f"ctorch\n{name}\n".encode() for name in ("float32", "bfloat16", "complex64"))
    assert load(path, b"\x80\x02}(" + names + b"u.") == {n: n for n in ("float32", "bfloat16", "complex64")}
    images = text("images") + tensor("FloatStorage", (2, 3, 4)) + text("dtype") + b"ctorch\nfloat32\n"
    path.write_bytes(bundle(b"\x80\x02}(" + images + b"u.", {"0": IMAGES.tobytes()}))
    assert np.array_equal(rows_of(read(path)), [[1, 3, 2, 7]])


def test_load_tensors_type_that_is_not_read_is_named(tmp_path):
    stored = text("storage") + b"ctorch.storage\nUntypedStorage\n" + text("0") + text("cpu") + number(4) + b"tQ"
    end = number(0) + numbers((4,)) + numbers((1,)) + b"\x89ccollections\nOrderedDict\n)R"
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n((" + stored + end + b"ctorch\nfloat8_e5m2\ntR."
    words = r"holds a tensor of the type 'float8_e5m2', which is not read: save torch\.save\(tensor\.float\(\), PATH\)"
    assert_not_loaded(tmp_path / "a.pt", data, words, {"0": bytes(4)})
    many = b"]" + b"](h\x01h\x01eq\x01" * 60  # a list that is short in the file and endless in print
    data = b"\x80\x02]q\x01ctorch._utils\n_rebuild_tensor_v3\n((" + stored + end + many + b"tR."
    assert_not_loaded(tmp_path / "a.pt", data, "a tensor of the type 'list'", {"0": bytes(4)})


@pytest.mark.parametrize("content", [b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"PK\x03\x04 cut", b"text"])
def test_read_file_that_is_no_zip_says_how_to_save_it(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert_refused(
        tmp_path / "a.pt", r"cut or damaged, or in the form of PyTorch before 1\.6: load it with torch\.load and"
    )

"""Checkpoint files as the predecessor wrote them with PyTorch, made without it: zips of a pickle and plain bytes."""

import io
import pickle
import zipfile

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.models.predecessor_weights import predecessor_shapes

SMALL = Detector(n_x=8, n_y=16, n_t=40)
SCRIPT = "raise SystemExit('the program inside a checkpoint was run')"
PREFIXES = {"enc.": "encoder_state_dict", "dec.": "decoder_state_dict"}
STORAGES = {"float16": "HalfStorage", "float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class Tensor:
    """An array that is pickled as PyTorch pickles its tensors: a call, and the numbers in a member of their own."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)
        self.strides = tuple(step // self.array.itemsize for step in self.array.strides)


class Called:
    """What a pickle imports, or calls: under any name, so that nothing has to be there."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


class TorchPickler(pickle._Pickler):
    """Writes names of functions without importing them, which Python's quick pickler would insist on."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, np.ndarray):
            return None
        self.storages.append(value.tobytes())
        kind = Called("torch", STORAGES[str(value.dtype)])
        return "storage", kind, str(len(self.storages) - 1), "cpu", value.size

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Tensor):
            hooks = Called("collections", "OrderedDict", ())
            self.call(
                "torch._utils", "_rebuild_tensor_v2", value.array, 0, value.array.shape, value.strides, False, hooks
            )
        elif isinstance(value, Called) and not value.arguments:
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Called):
            self.call(value.module, value.name, *(() if value.arguments == ((),) else value.arguments))
        else:
            super().save(value, save_persistent_id)

    def call(self, module, name, *arguments):
        self.write(f"c{module}\n{name}\n(".encode())
        for argument in arguments:
            self.save(argument)
        self.write(b"tR")


def write_pth(path, tree):
    """What `torch.save(tree, path)` writes: a zip of a pickle and of plain bytes."""
    content = io.BytesIO()
    pickler = TorchPickler(content)
    pickler.dump(tree)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
        archive.writestr("archive/byteorder", "little")
        for i, storage in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{i}", storage)
        archive.writestr("archive/version", "3\n")
    return path


def checkpoint_tree(weights, *, latent, fc, **fields):
    """The fields of a checkpoint of the predecessor, with arrays by its names."""
    tree = {state: {} for state in PREFIXES.values()}
    for name, array in weights.items():
        prefix, _, own_name = name.partition(".")
        tree[PREFIXES[f"{prefix}."]][own_name] = Tensor(array)
        if own_name.endswith(".running_var"):
            count = own_name.replace("running_var", "num_batches_tracked")
            tree[PREFIXES[f"{prefix}."]][count] = Tensor(np.array(7))
    optimiser = {"state": {0: {"step": 1.0, "exp_avg": Tensor(np.ones(3, np.float32))}}, "param_groups": [{"lr": 1e-3}]}
    return tree | {
        "optimizer_state_dict": optimiser,
        "latent_dim": latent,
        "fc_input_dim": fc,
        "precision": 32,
        "autoencoder_py_file_script": SCRIPT,
        **fields,
    }


def small_weights(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = predecessor_shapes(n_y=SMALL.n_y, n_x=SMALL.n_x, latent=2, fc=4)
    weights = {name: rng.normal(0, 0.5, shape).astype(dtype) for name, shape in shapes.items()}
    return {name: np.abs(array) + dtype(0.1) if "running_var" in name else array for name, array in weights.items()}


def small_tree(dtype=np.float32, **fields):
    return checkpoint_tree(small_weights(dtype), latent=2, fc=4, **fields)


def without(tree, *names):
    *states, last = names
    inner = tree
    for name in states:
        inner = inner[name]
    del inner[last]
    return tree


def with_array(tree, state, name, array):
    tree[state][name] = array
    return tree

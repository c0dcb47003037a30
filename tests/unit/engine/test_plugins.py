from collections.abc import Callable

import flax.linen as nn
import pytest

from tofae_jax.config import LossConfig, ModelConfig, plugins, selected_settings
from tofae_jax.config.plugins import REQUIRED, plugin_settings, registered
from tofae_jax.engine.default_models import build_model
from tofae_jax.engine.plugins import register_loss, register_model
from tofae_jax.losses import LOSSES
from tofae_jax.models import MODELS


class Sized(nn.Module):
    width: int
    depth: int = 2
    kernel: tuple[int, int] = (3, 3)
    act: Callable = nn.relu
    dtype: type = float

    def __call__(self, image):
        return image


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    """Nothing that a test registers stays."""
    monkeypatch.setattr(plugins, "_registered", {"model": {}, "loss": {}})
    for registry in (MODELS, LOSSES):
        for name in ("own_net", "own_loss"):
            monkeypatch.delitem(registry, name, raising=False)
    yield
    for registry, name in ((MODELS, "own_net"), (LOSSES, "own_loss")):
        registry.pop(name, None)


def test_register_model_fields_are_its_settings():
    register_model("own_net", Sized)
    entry = registered("model", "own_net")
    assert entry.settings == {"width": REQUIRED, "depth": 2, "kernel": (3, 3)}  # a function is no setting
    assert entry.plugin == __name__
    assert MODELS["own_net"].sizes == ("width", "depth", "kernel")
    assert plugin_settings("model", "own_net", {"width": 3}) == {"width": 3, "depth": 2, "kernel": (3, 3)}


def test_register_loss_floats_are_traced_and_others_static():
    def own(output, target, *, weight=1.0, power=2, reduce="batch"):
        return output

    register_loss("own_loss", own, auto={"weight": ("zero", "hit")})
    loss = LOSSES["own_loss"]
    assert (loss.weights, loss.choices, loss.takes) == (("weight",), ("power",), "image")


def test_register_same_plugin_may_do_it_again():
    register_model("own_net", Sized)
    register_model("own_net", Sized)
    assert registered("model", "own_net").plugin == __name__


@pytest.mark.parametrize("name", ["unet", "own net", "3d", ""])
def test_register_model_taken_or_bad_name_is_refused(name):
    with pytest.raises(ValueError, match=f"model '{name}'"):
        register_model(name, Sized)


def test_register_loss_same_is_taken():
    with pytest.raises(ValueError, match="there is one of this name already"):
        register_loss("same", lambda y, t: y)


def test_register_name_of_another_plugin_is_refused():
    register_model("own_net", Sized)
    entry = registered("model", "own_net")
    plugins._registered["model"]["own_net"] = entry._replace(plugin="other")
    with pytest.raises(ValueError, match="there is one of this name already, of other"):
        register_model("own_net", Sized)


def test_register_loss_auto_of_no_keyword_is_refused():
    with pytest.raises(ValueError, match="auto names weight, which is no keyword of the function"):
        register_loss("own_loss", lambda y, t: y, auto={"weight": ("zero", "hit")})


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: register_model("own_net", Sized, inputs="pixels"), "'pixels' is no kind of input or output"),
        (lambda: register_model("own_net", Sized, outputs="logits"), "'logits' is no kind of input or output"),
        (lambda: register_model("own_net", Sized(width=2)), r"module must be a class of Flax \(Linen\) modules"),
        (lambda: register_model("plugin", Sized), "this is the name of a setting of the section"),
        (lambda: register_loss("name", lambda y, t: y), "this is the name of a setting of the section"),
        (lambda: register_loss("own_loss", lambda y, t: y, takes="images"), "takes must be one of image, hits"),
    ],
)
def test_register_what_cannot_be_is_refused(call, expected):
    with pytest.raises(ValueError, match=expected):
        call()
    assert not plugins._registered["model"] and not plugins._registered["loss"]


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("depth", 2.5, "depth of own_net must be a whole number, got 2.5"),
        ("depth", True, "depth of own_net must be a whole number, got True"),
        ("depth", "auto", "depth of own_net must be a whole number, got 'auto'"),
        ("kernel", 3, "kernel of own_net must be a list, got 3"),
    ],
)
def test_model_section_setting_of_another_kind_is_refused(setting, value, expected):
    register_model("own_net", Sized)
    with pytest.raises(ValueError, match=expected):
        ModelConfig(name="own_net", plugin={"width": 1, setting: value})


def test_loss_section_auto_is_for_those_that_declare_it():
    def own(output, target, *, weight=1.0, other=1.0, mode="a"):
        return output

    register_loss("own_loss", own, auto={"weight": ("zero", "hit")})
    section = LossConfig(name="own_loss", plugin={"weight": "auto", "other": 2})
    assert selected_settings(section) == {"weight": "auto", "other": 2.0, "mode": "a"}
    assert isinstance(selected_settings(section)["other"], float)
    for settings in ({"other": "auto"}, {"mode": 3}):
        with pytest.raises(ValueError, match="must be a"):
            LossConfig(name="own_loss", plugin=settings)


def test_build_model_of_a_plugin_takes_required_sizes_and_defaults():
    register_model("own_net", Sized)
    model = build_model("own_net", shape_xyt=(4, 5, 6), width=3)
    assert (model.module.width, model.module.depth) == (3, 2)
    with pytest.raises(ValueError, match="sizes width are missing"):
        build_model("own_net", shape_xyt=(4, 5, 6))


class HalfSized(nn.Module):
    """Float16 that no policy says."""

    @nn.compact
    def __call__(self, image):
        return nn.Dense(1, dtype="float16")(image[..., None])[..., 0]


def test_build_model_of_a_plugin_float16_that_no_policy_says_is_refused():
    register_model("own_net", HalfSized)
    with pytest.raises(ValueError, match="own_net: computes in float16"):
        build_model("own_net", shape_xyt=(4, 5, 6))


def test_load_plugins_one_that_exits_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(plugins.PluginError, match=r"plugin 'leaves_at_once' cannot be imported \(SystemExit: 3\)"):
        plugins.load_plugins(["leaves_at_once"])

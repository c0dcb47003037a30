from collections.abc import Callable

import flax.linen as nn
import pytest

from tofae_jax.config import plugins
from tofae_jax.config.plugins import REQUIRED, plugin_settings, registered
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

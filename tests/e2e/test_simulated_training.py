"""Training on events that are simulated on the fly."""

import pytest
from simulated_settings import MODULE, simulated_config

pytestmark = pytest.mark.slow


def test_train_on_the_fly_resumes_and_is_evaluated(tmp_path, monkeypatch):
    from tofae_jax.engine.evaluate import evaluate_run
    from tofae_jax.engine.training import train as training
    from tofae_jax.runs.history import read_history
    from tofae_jax.runs.record import settings_of

    monkeypatch.chdir(tmp_path)
    tiny = {"name": "autoencoder", "autoencoder": {"latent": 2, "fc": 8}}
    degradation = {"n_signal": 5, "n_noise": 9, "noise": {"uniform": 0.5, "data": 0.5}}

    def settings(epochs):
        train = {"epochs": epochs, "batch": 8, "plots": "none"}
        simulate = {"pattern": "lhcb_torch", "events": 20, "lhcb_torch": MODULE}
        data = {"simulate": simulate, "train_share": 0.8, "max_background": 24}
        return simulated_config(data=data, train=train, model=tiny, degradation=degradation)

    whole, record = training.train(settings(2))
    assert record.data["path"] == "simulated lhcb_torch"
    begun, _ = training.train(settings(1))
    resumed, _ = training.resume(str(begun.folder), settings(2))
    assert resumed.folder == begun.folder
    one, other = (
        [{name: part for name, part in epoch.items() if name != "time"} for epoch in read_history(paths.metrics)]
        for paths in (whole, begun)
    )
    assert one == other
    assert one[0]["validation"]["counts"]["noise_hits"] > 0
    result = evaluate_run(whole.folder)
    assert (result["split"], result["data"]) == ("test", "simulated lhcb_torch")
    assert not (tmp_path / "data").exists()
    assert settings_of(whole.folder).data.source == "simulate"

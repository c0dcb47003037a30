"""Settings of the LHCb TORCH module."""


def test_module_config_defaults_equal_the_simulation():
    from tofae_jax.config.lhcb_torch import BackgroundConfig, ModuleConfig
    from tofae_jax.lhcb_torch.simulation import BackgroundSettings, ModuleSettings

    for kind, settings in ((ModuleConfig, ModuleSettings()), (BackgroundConfig, BackgroundSettings())):
        given = kind()
        names = set(given.__struct_fields__)
        assert names == set(settings._fields) - {"n_tracks"}
        assert {name: getattr(given, name) for name in names} == {name: getattr(settings, name) for name in names}

"""Optics of the radiator: fused silica, Cherenkov radiation, quantum efficiency. Formulas of one photon each."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from tofae_jax.core.types import Number

LIGHT_MM_PER_NS = 299.792458
"""speed of light in vacuum, mm/ns; exact (SI)"""
HC_EV_NM = 1239.841984
"""Planck's constant times the speed of light, eV nm; exact to the digits shown (SI; CODATA 2018)"""
FINE_STRUCTURE = 7.2973525693e-3
"""fine-structure constant alpha; CODATA 2018"""
HBAR_C_EV_MM = 1.973269804e-4
"""reduced Planck's constant times the speed of light, eV mm; CODATA 2018 (197.3269804 eV nm)"""
FRANK_TAMM_PER_EV_MM = FINE_STRUCTURE / HBAR_C_EV_MM
"""alpha / (hbar c) = 36.98 photons per eV and mm for sin^2 = 1; PDG, Passage of particles, "370 / (eV cm)" """

MALITSON_B = (0.6961663, 0.4079426, 0.8974794)
"""strengths of the three resonances of fused silica at 20 degrees C; I. Malitson, J. Opt. Soc. Am. 55 (1965) 1205"""
MALITSON_NM = (68.4043, 116.2414, 9896.161)
"""their wavelengths in nm (there in micrometres); same source. Fitted to 210..3710 nm, 5.90..0.33 eV"""


PARTICLES = ("pion", "kaon", "proton")
"""types of track, in the order of their codes"""
MASSES_GEV = (0.13957039, 0.493677, 0.93827208816)
"""masses of charged pion, charged kaon, proton in GeV/c^2; PDG, Review of Particle Physics 2022"""


def _resonances(energy_ev: Float[Array, "*n"]) -> list[tuple[float, Array]]:
    """Strength of each resonance, and the photon's squared energy in units of the resonance's."""
    pairs = zip(MALITSON_B, MALITSON_NM, strict=True)
    return [(strength, (energy_ev * (wavelength / HC_EV_NM)) ** 2) for strength, wavelength in pairs]


def refractive_index(energy_ev: Number) -> Float[Array, "*n"]:
    """Refractive index n of fused silica, `n^2 - 1 = sum_i B_i / (1 - (E / E_i)^2)`, for photon energies in eV.

    Malitson's Sellmeier formula with energies for wavelengths, `E_i = hc / lambda_i`. His fit ends at 5.90 eV; it is
    carried on to the 6.2 eV where the tubes' efficiency has fallen from a quarter of its peak, there, to 0.
    Differentiable between the resonances at 0.125 and 10.7 eV.
    """
    energy = jnp.asarray(energy_ev, jnp.float32)
    return jnp.sqrt(1 + sum(strength / (1 - squared) for strength, squared in _resonances(energy)))


def group_index(energy_ev: Number) -> Float[Array, "*n"]:
    """Group index `n_g = n + E dn/dE = n - lambda dn/dlambda` of fused silica: light travels at c / n_g.

    With the derivative of Malitson's formula taken by hand: `E dn/dE = 1/n sum_i B_i e_i / (1 - e_i)^2` where
    `e_i = (E / E_i)^2`.
    """
    energy = jnp.asarray(energy_ev, jnp.float32)
    n = refractive_index(energy)
    return n + sum(strength * squared / (1 - squared) ** 2 for strength, squared in _resonances(energy)) / n


def beta(momentum_gev: Number, mass_gev: Number) -> Float[Array, "*n"]:
    """Speed over c of a particle, `p / sqrt(p^2 + m^2)`, for p in GeV/c and m > 0 in GeV/c^2; 0 at rest."""
    momentum, mass = jnp.asarray(momentum_gev, jnp.float32), jnp.asarray(mass_gev, jnp.float32)
    return momentum / jnp.hypot(momentum, mass)


def cherenkov_cosine(energy_ev: Number, speed: Number) -> Float[Array, "*n"]:
    """`cos theta_c = 1 / (n beta)`, at most 1: it is 1 at threshold, below it and at rest (`speed` is beta)."""
    product = refractive_index(energy_ev) * jnp.asarray(speed, jnp.float32)
    return 1 / jnp.maximum(product, 1)


def cherenkov_sin2(energy_ev: Number, speed: Number) -> Float[Array, "*n"]:
    """`sin^2 theta_c`, 0 at and below threshold: what the yield is proportional to."""
    return 1 - cherenkov_cosine(energy_ev, speed) ** 2


def photon_yield_per_ev_mm(energy_ev: Number, speed: Number) -> Float[Array, "*n"]:
    """Photons per eV and mm of track of a particle with one charge: Frank and Tamm, `alpha/(hbar c) sin^2 theta_c`.

    Source: PDG, Review of Particle Physics, Passage of particles through matter, Cherenkov radiation.
    """
    return FRANK_TAMM_PER_EV_MM * cherenkov_sin2(energy_ev, speed)


def quantum_efficiency(energy_ev: Number, *, knots_ev: tuple[Number, ...], peak: Number = 1.0) -> Float[Array, "*n"]:
    """Chance that a photon tube sees a photon: rising linearly from 0 to `peak`, flat, falling to 0.

    `knots_ev` are the four energies where it starts, has risen, starts to fall and ends; 0 outside them.
    """
    start, risen, falls, end = knots_ev
    energy = jnp.asarray(energy_ev, jnp.float32)
    rise, fall = (energy - start) / (risen - start), (end - energy) / (end - falls)
    return peak * jnp.clip(jnp.minimum(rise, fall), 0, 1)


def efficiency_width_ev(knots_ev: tuple[Number, ...]) -> Number:
    """Integral of the quantum efficiency over energy in eV, for a peak of 1: the area of its trapezium."""
    start, risen, falls, end = knots_ev
    return (falls - risen) + (risen - start) / 2 + (end - falls) / 2


def energy_at_quantile(u: Float[Array, "*n"], *, knots_ev: tuple[Number, ...]) -> Float[Array, "*n"]:
    """Energy in eV below which a share `u` in 0..1 of the quantum efficiency's area lies: its inverse, exactly.

    Uniform numbers give energies distributed as the quantum efficiency.
    """
    start, risen, falls, end = knots_ev
    area = u * efficiency_width_ev(knots_ev)
    rising, flat = (risen - start) / 2, falls - risen
    left = jnp.maximum(efficiency_width_ev(knots_ev) - area, 0)
    energy = jnp.where(area < rising, start + jnp.sqrt(2 * area * (risen - start)), risen + area - rising)
    return jnp.where(area > rising + flat, end - jnp.sqrt(2 * left * (end - falls)), energy)

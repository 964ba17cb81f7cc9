"""Frozen networks that guide a CycleGAN: statistics by hand, who gets which gradient, weight 0, members, bad input."""

import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_every_leaf_moved, filled, numpy_leaves, unit_batch

from saegan_jax import losses
from saegan_jax.algorithms.cyclegan import (
    DISTANCES,
    CodeStatistics,
    CycleGANConfig,
    GuidedInfo,
    Guides,
    TranslationConfig,
    TwoDomains,
    cyclegan,
    fit_guides,
    guide_parts,
    pretrained_shapes,
)
from saegan_jax.algorithms.cyclegan.config import ConceptDistance
from saegan_jax.algorithms.cyclegan.guides import GuideParts, concept_loss, semantic_loss
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.errors import ConfigError
from saegan_jax.images import to_signed
from saegan_jax.networks.classifiers import Classifier

BATCH, CLASSES = 3, 4
TINY = CycleGANConfig(
    width=2, stages=1, blocks=1, d_width=2, d_stages=1, history=2, batch_size=BATCH, steps=4, learning_rate=0.01,
    classes=CLASSES,
)  # fmt: skip
GUIDED = replace(TINY, concept_weight=2.0, semantic_weight=0.5, semantic_labels="both")
SAE = SAEConfig(variant="topk", d_sae=8, k=3, sigmoid_output=True)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def images(seed):
    return TwoDomains(unit_batch(40, seed=seed).image, 0.5 * unit_batch(40, seed=seed + 1).image)


def random_like(shapes, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), s.dtype), shapes)


@functools.cache
def guides(config=GUIDED, seed=0):
    """Guides of random networks, with statistics of random images."""
    shapes = pretrained_shapes(TranslationConfig(cyclegan=config, sae=SAE), image_shape=SHAPE)
    found = random_like(shapes, seed)
    return fit_guides(config, SAE, found.sae, images(5), found.classifiers)


@functools.cache
def programs(config):
    algorithm = cyclegan(config, image_shape=SHAPE, sae=SAE)
    return algorithm, jit(algorithm.step)


def batch(seed):
    found = images(10 + 2 * seed)
    return TwoDomains(found.a[:BATCH], found.b[:BATCH])


@functools.cache
def trained(config, seed=0):
    """States before and after one step, and its info."""
    algorithm, step = programs(config)
    given = guides(replace(GUIDED, semantic_labels=config.semantic_labels), seed) if config.guided else None
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0), given)
    first = filled(shapes, seed=seed, **({} if given is None else {"pretrained": given}))
    return (first, *step(first, batch(0)))


def test_statistics_are_those_of_each_domain_by_hand():
    found, functions = guides(), autoencoder(SAE, image_shape=SHAPE)
    for x, statistics in zip(images(5), found.statistics, strict=True):
        h, a = (np.asarray(f(found.sae, x)) for f in (functions.encode, functions.pre_activations))
        kept = np.asarray(statistics.inverse_scale) > 0
        np.testing.assert_allclose(statistics.center, h.mean(axis=0), rtol=1e-5, atol=1e-6)
        scale = np.sqrt(h.var(axis=0)[kept].mean())
        np.testing.assert_allclose(1 / statistics.inverse_scale[kept], scale, rtol=1e-4)
        np.testing.assert_allclose(1 / statistics.inverse_spread[kept], a.std(axis=0)[kept], rtol=1e-4)
        # As many images exceed the threshold as have the unit active.
        above = (a > np.asarray(statistics.threshold)).sum(axis=0)
        np.testing.assert_array_equal(above[kept], (h > 0).sum(axis=0)[kept])
    a, b = found.statistics
    assert kept.any()
    assert not np.allclose(a.center, b.center, atol=1e-3)
    np.testing.assert_array_equal(a.inverse_scale > 0, b.inverse_scale > 0)


def test_units_that_one_domain_never_uses_are_left_out():
    bright = images(5)
    black = jax.tree.map(jnp.zeros_like, bright.b)
    found = fit_guides(GUIDED, SAE, guides().sae, TwoDomains(bright.a, black), {})
    h = np.asarray(autoencoder(SAE, image_shape=SHAPE).encode(guides().sae, black))
    never = (h == 0).all(axis=0)
    assert never.any()
    for statistics in found.statistics:
        assert not np.asarray(statistics.inverse_scale)[never].any()
        assert not np.asarray(statistics.inverse_spread)[never].any()
        chex.assert_tree_all_finite(statistics)


@pytest.mark.parametrize("name", get_args(ConceptDistance))
def test_units_that_are_left_out_change_neither_value_nor_gradient(name):
    """The same as of an autoencoder without them."""
    rng = np.random.default_rng(0)
    left_out = np.isin(np.arange(8), (1, 4))
    linear = SimpleNamespace(encode=lambda w, x: jnp.maximum(x @ w, 0), pre_activations=lambda w, x: x @ w)
    weights, *images = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((5, 8), *[(3, 5)] * 4))
    scales = np.where(left_out, 0, rng.uniform(1, 2, (2, 2, 8))).astype(np.float32)
    places = rng.normal(size=(2, 2, 8)).astype(np.float32)
    statistics = [CodeStatistics(p[0], s[0], p[1], s[1]) for p, s in zip(places, scales, strict=True)]
    parts = GuideParts(replace(GUIDED, concept_distance=name), linear, None)

    def loss(fake, units):
        kept = TwoDomains(*(jax.tree.map(lambda leaf: jnp.asarray(leaf[units]), one) for one in statistics))
        return concept_loss(parts, Guides(weights[:, units], kept, {}), TwoDomains(*images[:2]), fake)

    fake = TwoDomains(*images[2:])
    found, wanted = (jax.value_and_grad(loss)(fake, units) for units in (np.arange(8), np.flatnonzero(~left_out)))
    chex.assert_trees_all_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(wanted[1].a).max() > 1e-3


@pytest.mark.parametrize("name", get_args(ConceptDistance))
def test_a_translation_that_is_its_source_in_like_domains_is_the_nearest(name):
    config = replace(GUIDED, concept_distance=name)
    parts = guide_parts(config, image_shape=SHAPE, sae=SAE)
    found = guides()
    same = found.replace(statistics=TwoDomains(found.statistics.a, found.statistics.a))
    real = TwoDomains(*(to_signed(x) for x in batch(0)))
    itself = concept_loss(parts, same, real, TwoDomains(real.b, real.a))
    other = concept_loss(parts, same, real, TwoDomains(real.b[::-1], real.a[::-1]))
    assert itself < other
    if name != "activity":
        np.testing.assert_allclose(itself, 0, atol=1e-5)


def test_each_direction_is_centred_by_its_domains():
    parts, found = guide_parts(GUIDED, image_shape=SHAPE, sae=SAE), guides()
    functions, x, fake = autoencoder(SAE, image_shape=SHAPE), batch(0), batch(1)

    def z(images, statistics):
        codes = np.asarray(functions.encode(found.sae, images), np.float64)
        return (codes - np.asarray(statistics.center)) * np.asarray(statistics.inverse_scale)

    def distance(h, g):
        return np.mean([1 - p @ q / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(h, g, strict=True)])

    a, b = found.statistics
    want = distance(z(x.a, a), z(fake.b, b)) + distance(z(x.b, b), z(fake.a, a))
    got = concept_loss(parts, found, *(TwoDomains(*map(to_signed, pair)) for pair in (x, fake)))
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("labels", ["source", "both"])
def test_semantic_consistency_is_that_of_the_paper(labels):
    config = replace(GUIDED, semantic_labels=labels)
    parts, found = guide_parts(config, image_shape=SHAPE, sae=SAE), guides(config)
    assert set(found.classifiers) == ({"a"} if labels == "source" else {"a", "b"})
    network, x, fake = Classifier(CLASSES, 24, 48), batch(0), batch(1)

    def logits(domain, images):
        return network.apply({"params": found.classifiers[domain]}, images)[0]

    b = "a" if labels == "source" else "b"
    want = 0.0
    for source, target, real, translated in (("a", b, x.a, fake.b), (b, "a", x.b, fake.a)):
        p = np.asarray(logits(source, real)).argmax(axis=1)
        log_softmax = np.asarray(jax.nn.log_softmax(logits(target, translated), axis=-1))
        want -= log_softmax[np.arange(BATCH), p].mean()
    got = semantic_loss(parts, found, *(TwoDomains(*map(to_signed, pair)) for pair in (x, fake)))
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_a_step_moves_the_generators_and_leaves_the_guides():
    first, state, info = trained(GUIDED)
    assert isinstance(info, GuidedInfo)
    assert_every_leaf_moved(state.params, first.params)
    chex.assert_trees_all_equal(state.pretrained, first.pretrained)
    chex.assert_tree_all_finite((state.replace(key=()), info))
    assert info.concept > 0
    assert info.semantic > 0
    _, plain, plain_info = trained(TINY)
    # The same networks: other updates of the generators alone, and the rest of the numbers untouched.
    np.testing.assert_allclose(info[:6], plain_info, rtol=1e-4)
    chex.assert_trees_all_close(state.params.discriminator, plain.params.discriminator, rtol=1e-3, atol=1e-4)
    moved = numpy_leaves(state.params.generator)
    assert any(not np.allclose(moved[k], v, atol=1e-3) for k, v in numpy_leaves(plain.params.generator).items())


def test_weights_of_zero_are_the_unguided_program():
    """To the character of the compiled program: the settings of guides change nothing."""
    other = replace(TINY, concept_distance="squared", concept_encoder="random", semantic_labels="both")

    def text(config):
        algorithm = cyclegan(config, image_shape=SHAPE, sae=SAE)
        state = jax.eval_shape(algorithm.init, jax.random.key(0))
        return jax.jit(algorithm.step).lower(state, batch(0)).as_text()

    assert text(other) == text(TINY)
    assert not other.guided


def test_the_loss_falls_by_its_own_gradient():
    """A small step of the generators along the guides' gradient alone lowers the guides' loss."""
    algorithm, _ = programs(GUIDED)
    state, x = trained(GUIDED)[0], batch(0)
    parts = guide_parts(GUIDED, image_shape=SHAPE, sae=SAE)
    real = TwoDomains(*(to_signed(i) for i in x))

    def terms(generator):
        moved = state.replace(params=state.params._replace(generator=generator))
        fake = TwoDomains(
            to_signed(algorithm.translate(moved, x.b, "ba")), to_signed(algorithm.translate(moved, x.a, "ab"))
        )
        return jnp.stack([f(parts, state.pretrained, real, fake) for f in (concept_loss, semantic_loss)])

    gradients = jit(jax.jacrev(terms))(state.params.generator)
    for term in range(2):
        for direction in ("ab", "ba"):
            steepness = [np.abs(leaf[term]).max() for leaf in numpy_leaves(gradients[direction]).values()]
            assert max(steepness) > 1e-4
    moved = jax.tree.map(lambda p, g: p - 1e-3 * g.sum(axis=0), state.params.generator, gradients)
    assert jit(terms)(moved).sum() < terms(state.params.generator).sum()


def test_members_equal_single_runs():
    """Each with guides of its own."""
    algorithm, step = programs(GUIDED)
    inits = [trained(GUIDED)[0], filled(jax.eval_shape(algorithm.init, jax.random.key(0), guides()), seed=1,
                                        pretrained=guides(GUIDED, 1))]  # fmt: skip
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *inits)
    _, infos = jit(jax.vmap(algorithm.step, in_axes=(0, None)))(stacked, batch(0))
    for i, state in enumerate(inits):
        _, info = step(state, batch(0))
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], infos), info, rtol=1e-3, atol=1e-5)
    assert infos.concept[0] != infos.concept[1]


def test_shapes_of_guides_are_known_without_training():
    for config in (GUIDED, replace(GUIDED, semantic_weight=0.0), replace(GUIDED, concept_weight=0.0)):
        wanted = pretrained_shapes(TranslationConfig(cyclegan=config, sae=SAE), image_shape=SHAPE)
        classifiers = guides().classifiers if config.semantic_weight else {}
        found = fit_guides(config, SAE, guides().sae, images(5), classifiers)
        chex.assert_trees_all_equal_shapes_and_dtypes(found, wanted)
        assert (found.sae == ()) == (not config.concept_weight)


def test_what_cannot_be_guided_is_refused():
    for name in ("concept_weight", "semantic_weight"):
        with pytest.raises(ConfigError, match=r"only kind='plain' is guided") as error:
            CycleGANConfig(kind="sparse", **{name: 1.0})
        assert error.value.field == name
    with pytest.raises(ConfigError) as error:
        cyclegan(GUIDED, image_shape=SHAPE, sae=replace(SAE, patch_size=2))
    assert error.value.field == "sae.patch_size"
    with pytest.raises(ValueError, match="concept_weight > 0 needs sae"):
        cyclegan(GUIDED, image_shape=SHAPE)
    with pytest.raises(ValueError, match=r"needs pretrained, the guides of fit_guides: call init\(key, pretrained\)"):
        programs(GUIDED)[0].init(jax.random.key(0))
    assert set(DISTANCES) == set(get_args(ConceptDistance))


def test_a_code_of_zeros_has_finite_distance_and_gradient():
    zero, one = jnp.zeros((2, 3)), jnp.ones((2, 3))
    value, gradient = jax.value_and_grad(lambda g: losses.code_cosine_distance(one, g).sum())(zero)
    assert value == 2
    assert np.isfinite(gradient).all()

"""What a guided CycleGAN reads: each member's statistics, classifiers that all share, and how these are trained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_domains import DOMAINS, SHAPE

from saegan_jax.algorithms.cyclegan import CycleGANConfig, Guides, TwoDomains, fit_guides, guide_shapes
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.data.domains import load_domains
from saegan_jax.evaluation.features import FeatureRecipe, random_network
from saegan_jax.runs import guides
from saegan_jax.runs.guides import fit_member_guides, guide_classifiers, guide_recipe

BOTH = CycleGANConfig(concept_weight=1.0, semantic_weight=1.0, semantic_labels="both", classes=2)
SAE = SAEConfig(variant="topk", d_sae=6, k=2, sigmoid_output=True)
NETWORKS: Any = {name: SimpleNamespace(params={"w": np.full(3, float(i))}) for i, name in enumerate("ab")}
WEIGHTS = {name: jax.tree.map(jnp.asarray, network.params) for name, network in NETWORKS.items()}


def test_members_have_their_own_statistics_and_share_classifiers() -> None:
    shapes = jax.eval_shape(sae(SAE, image_shape=SHAPE).init, jax.random.key(0)).params
    rng = np.random.default_rng(0)
    params = [jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes) for _ in range(2)]
    images = TwoDomains(jnp.asarray(DOMAINS.a.train.image), jnp.asarray(DOMAINS.b.train.image))
    wanted = [fit_guides(BOTH, SAE, one, images, WEIGHTS) for one in params]
    single = fit_member_guides(BOTH, SAE, params[0], DOMAINS, NETWORKS, n_seeds=1)
    chex.assert_trees_all_close(single, wanted[0], rtol=1e-5, atol=1e-6)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    found = fit_member_guides(BOTH, SAE, stacked, DOMAINS, NETWORKS, n_seeds=2)
    chex.assert_trees_all_close(found, jax.tree.map(lambda *leaves: jnp.stack(leaves), *wanted), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found.statistics.a.center[0], found.statistics.a.center[1])


def test_without_concept_there_are_classifiers_alone() -> None:
    config = replace(BOTH, concept_weight=0.0)
    chex.assert_trees_all_equal(
        fit_member_guides(config, SAE, None, DOMAINS, NETWORKS, n_seeds=1), Guides((), (), WEIGHTS)
    )
    found = fit_member_guides(config, SAE, None, DOMAINS, NETWORKS, n_seeds=2)
    assert (found.sae, found.statistics) == ((), ())
    for member in range(2):
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf, i=member: leaf[i], found.classifiers), WEIGHTS)


@pytest.mark.parametrize(
    ("config", "trained"),
    [
        (BOTH, ["dark-bright", "bright-dark"]),
        (replace(BOTH, semantic_labels="source"), ["dark-bright"]),
        (replace(BOTH, semantic_weight=0.0), []),
    ],
)
def test_classifiers_have_another_seed_than_those_that_score(
    config: CycleGANConfig, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def load(dataset: Any, *, seed: int = 0, recipe: Any = None) -> str:
        calls.append((seed, recipe))
        return dataset.name

    monkeypatch.setattr(guides, "load_feature_network", load)
    assert guide_classifiers(config, DOMAINS) == dict(zip("ab", trained, strict=False))
    assert calls == [(1, guide_recipe(DOMAINS.a))] * len(trained)


def test_classifiers_have_the_layers_that_the_loss_reads_and_not_those_that_score() -> None:
    domain = load_domains("digits_inverted_rotated").a
    recipe = guide_recipe(domain)
    assert (recipe.epochs, recipe.batch_size) == (40, 64)
    many = SimpleNamespace(image_shape=domain.image_shape, train=SimpleNamespace(label=np.zeros(10_000)))
    assert guide_recipe(many) == replace(recipe, epochs=3, batch_size=128)  # type: ignore[arg-type]
    # Of a network that is never trained the number of classes is 2.
    found = random_network(domain, recipe=recipe).params
    chex.assert_trees_all_equal_shapes(found, guide_shapes(BOTH, SAE, image_shape=domain.image_shape).classifiers["a"])
    scoring = FeatureRecipe.for_image(domain.image_shape)
    assert (recipe.width, recipe.feature_dim) != (scoring.width, scoring.feature_dim)

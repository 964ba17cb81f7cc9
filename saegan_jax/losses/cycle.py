"""Losses of CycleGAN beside the adversarial one, per example: of pixels, of sparse codes and of classes."""

from jax import Array
from jax import numpy as jnp
from jax.nn import log_softmax, softplus
from jax.typing import ArrayLike

from saegan_jax.losses._arrays import floating, floatings, safe_sqrt, unit_max


def cycle_consistency(x: ArrayLike, x_cycled: ArrayLike) -> Array:
    """``mean_pixels |G_BA(G_AB(x)) - x|``, per example. A mean, as the published weight of 10 expects.

    Args: x (batch, ...) images; x_cycled, the same images there and back. Returns: (batch,), in the images' unit.
    Raises: ValueError for integer or empty arrays and for shapes that differ.
    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, eq. 2.
    """
    x, x_cycled = floatings(x=x, x_cycled=x_cycled, min_ndim=1)
    return jnp.mean(jnp.abs(x_cycled - x), axis=tuple(range(1, x.ndim)))


def identity_mapping(y: ArrayLike, y_mapped: ArrayLike) -> Array:
    """``mean_pixels |G_AB(y) - y|``, per example, for y already in domain B; the published weight is 5.

    Args: y (batch, ...) images of the target domain; y_mapped, what the generator into that domain makes of them.
    Returns: (batch,), in the images' unit. Raises: ValueError for integer or empty arrays and for shapes that differ.
    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, section
    5.2.
    """
    y, y_mapped = floatings(y=y, y_mapped=y_mapped, min_ndim=1)
    return jnp.mean(jnp.abs(y_mapped - y), axis=tuple(range(1, y.ndim)))


def _rows(**arrays: ArrayLike) -> list[Array]:
    """`floatings` with examples on the first axis and at least one more; of unequal shapes that is what is said first."""
    found = floatings(**arrays, min_ndim=1)
    return [floating(name, x, min_ndim=2) for name, x in zip(arrays, found, strict=True)]


def code_cosine_distance(codes: ArrayLike, translated_codes: ArrayLike) -> Array:
    """``1 - <h, h'> / (|h| |h'|)``, per example, from 0 (the same direction) to 2; 1 where a code is all zeros.

    Args: codes (batch, d_sae) of the sources; translated_codes, those of their translations. Returns: (batch,).
    Raises: ValueError for integer or empty arrays, for shapes that differ, and for fewer than two axes.
    Source: f-constancy of Taigman, Polyak and Wolf, Unsupervised cross-domain image generation, 2017, here by the cosine.
    """
    h, g = _rows(codes=codes, translated_codes=translated_codes)
    h, g = unit_max(h, -1), unit_max(g, -1)
    norms = safe_sqrt(jnp.sum(h * h, axis=-1)) * safe_sqrt(jnp.sum(g * g, axis=-1))
    return 1 - jnp.sum(h * g, axis=-1) / jnp.where(norms == 0, jnp.ones_like(norms), norms)


def _mean_of_compared(terms: Array, compared: ArrayLike | None) -> Array:
    """Mean over the last axis, of the units that are ``compared`` (all by default); 0 where none is."""
    if compared is None:
        return jnp.mean(terms, axis=-1)
    chosen = jnp.asarray(compared)
    if chosen.dtype != jnp.bool_ or chosen.shape != terms.shape[-1:]:
        raise ValueError(
            f"compared is {chosen.dtype} of shape {chosen.shape}, but must be bool of shape {terms.shape[-1:]}: one for "
            "each unit."
        )
    count = jnp.maximum(jnp.sum(chosen), 1).astype(terms.dtype)
    return jnp.sum(jnp.where(chosen.reshape((1,) * (terms.ndim - 1) + chosen.shape), terms, 0), axis=-1) / count


def code_squared_error(codes: ArrayLike, translated_codes: ArrayLike, *, compared: ArrayLike | None = None) -> Array:
    """``mean_j (h'_j - h_j)^2`` over the compared units j, per example; give codes that were divided by their scale.

    Args: codes (batch, d_sae) of the sources; translated_codes, those of their translations; compared (d_sae,), bool, all
    units by default. Returns: (batch,), in the square of the codes' unit; 0 where no unit is compared. Raises: ValueError
    for integer or empty arrays, for shapes that differ, and for fewer than two axes.
    Source: f-constancy of Taigman, Polyak and Wolf, Unsupervised cross-domain image generation, 2017.
    """
    h, g = _rows(codes=codes, translated_codes=translated_codes)
    return _mean_of_compared(jnp.square(g - h), compared)


def activity_cross_entropy(active: ArrayLike, logits: ArrayLike, *, compared: ArrayLike | None = None) -> Array:
    """``mean_j softplus(z_j) - y_j z_j`` over the compared units j: the Bernoulli cross-entropy of which are active.

    Args: active (batch, d_sae), 1 where a unit of the source is active and 0 elsewhere, as floats; logits of the activity of
    the translation's units, of that shape; compared (d_sae,), bool, all units by default. Returns: (batch,), nats a unit, per
    example; 0 where no unit is compared. Raises: ValueError for integer or empty arrays, for shapes that differ, and for
    fewer than two axes.
    Source: f-constancy of Taigman, Polyak and Wolf, Unsupervised cross-domain image generation, 2017, here of activity.
    """
    y, z = _rows(active=active, logits=logits)
    return _mean_of_compared(softplus(z) - y * z, compared)


def semantic_consistency(source_logits: ArrayLike, translated_logits: ArrayLike) -> Array:
    """``-log softmax(f'(G(x)))[argmax f(x)]``, per example: a translation is classified as its source is.

    The paper's term is the sum of its means over both directions, with f' = f the classifier of the source domain:
    ``L_task(f_S, G_TS(X_T), p(f_S, X_T)) + L_task(f_S, G_ST(X_S), p(f_S, X_S))``, ``p(f, X) = argmax f(X)``.

    Args: source_logits (batch, classes) of the sources, to which no gradient passes; translated_logits, those of their
    translations. Returns: (batch,), nats; NaN where a source logit is. Raises: ValueError for integer or empty arrays, for
    shapes that differ, and for fewer than two axes.
    Source: Hoffman et al., CyCADA: Cycle-consistent adversarial domain adaptation, 2018, section 3, semantic consistency.
    """
    f, g = _rows(source_logits=source_logits, translated_logits=translated_logits)
    label = jnp.argmax(f, axis=-1, keepdims=True)
    loss = -jnp.take_along_axis(log_softmax(g, axis=-1), label, axis=-1)[..., 0]
    return jnp.where(jnp.isnan(f).any(axis=-1), jnp.nan, loss)  # argmax takes NaN for a class

"""Variational autoencoders: Gaussian, spike and slab, and Gaussian with the KL sparsity penalty on a sigmoid code."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from saegan_jax import losses
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.algorithms.vae.config import VAEConfig, hyper
from saegan_jax.algorithms.vae.kinds import KINDS
from saegan_jax.algorithms.vae.model import Variational, variational
from saegan_jax.algorithms.vae.posterior import divergence, ramp
from saegan_jax.algorithms.vae.state import VAEHyper, VAEInfo, VAEParams, VAEState
from saegan_jax.images import check_unit
from saegan_jax.spmd import step_on_any_mesh


def vae(config: VAEConfig, *, image_shape: tuple[int, int, int], member: VAEHyper | None = None) -> Algorithm:
    """A variational autoencoder on images in [0, 1], trained with Adam along a cosine.

    ``loss = mean_n [-log p(x_n | z_n) + beta(t) sum_j KL_j(x_n)] + beta_sparsity sum_j KL(rho || rho_hat_j)``, one draw z_n
    from the posterior of each image.

    ========  =========================================================================================================
    kind      posterior and prior of a unit
    ========  =========================================================================================================
    gaussian  ``N(mu, s^2)``, ``N(0, 1)``; no sparsity term
    sparse    ``gamma N(mu, s^2) + (1 - gamma) delta_0``, ``alpha N(0, 1) + (1 - alpha) delta_0``; no sparsity term. In training
              the gates are relaxed, :func:`draw_relaxed`, and warmed up, :mod:`saegan_jax.algorithms.vae.kinds.sparse`
    kl_sae    as gaussian, decoded through ``h = sigmoid(gain z + b)``: a sigmoid autoencoder's code with Gaussian logits;
              ``rho_hat_j`` is the mean of h_j over the batch's draws, and the stated prior has mean rho as well
    ========  =========================================================================================================

    Args:
      config: see :class:`VAEConfig`.
      image_shape: ``(height, width, channels)``.
      member: settings of this member of a sweep; by default those of ``config``. ``step`` and ``sample`` read the state's.

    Returns:
      An :class:`Algorithm`. Its ``init`` takes no ``pretrained``, and its ``sample`` decodes draws from the stated prior, with
      hard gates, to the pixels' means.

    Source: Kingma and Welling, Auto-encoding variational Bayes, 2014; Tonolini, Jensen and Murray-Smith, Variational
    sparse coding, 2020 (sparse); the penalty of kl_sae is Ng's, Sparse autoencoder, CS294A lecture notes, 2011.
    """
    model = variational(config, image_shape=image_shape)
    # The rate itself is the member's.
    cosine = optax.cosine_decay_schedule(1.0, config.steps, alpha=0.1)
    optimiser = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(cosine))
    return Algorithm(
        init=partial(init_state, model, optimiser, hyper(config) if member is None else member),
        step=step_on_any_mesh(partial(train_step, config, model, optimiser)),
        sample=partial(sample_images, model),
    )


def init_state(
    model: Variational,
    optimiser: optax.GradientTransformation,
    settings: VAEHyper,
    key: jax.Array,
    pretrained: None = None,
) -> VAEState:
    """The state before the first step.

    Args:
      model, optimiser, settings: bound by :func:`vae`.
      key: random key of the parameters and of the run.
      pretrained: None, the only value: a variational autoencoder starts from nothing trained before.

    Raises:
      ValueError: another ``pretrained``.
    """
    if pretrained is not None:
        raise ValueError("a variational autoencoder takes nothing pretrained; call init(key).")
    params_key, run_key = jax.random.split(key)
    params = model.init(params_key)
    return VAEState(
        step=jnp.zeros((), jnp.int32),
        key=run_key,
        params=params,
        opt_state=optimiser.init(params),
        # Copies: a state whose buffers are donated may not hold an array that the caller keeps.
        hyper=jax.tree.map(lambda x: jnp.array(x, jnp.float32), settings),
    )


def objective(
    config: VAEConfig, model: Variational, params: VAEParams, state: VAEState, images: jax.Array
) -> tuple[jax.Array, VAEInfo]:
    """``(loss, info)`` of a batch at the state's step: the formula of :func:`vae`."""
    kind, settings, t = KINDS[config.kind], state.hyper, state.step
    posterior, alpha = kind.warm_up(config, model.encode(params, images), settings.alpha, t)
    z = kind.draw(config, posterior, jax.random.fold_in(state.key, t), ramp(t, config.steps))
    log_likelihood = model.log_likelihood(model.decode(params, z, settings), images)
    kl = divergence(posterior, alpha).sum(axis=1)
    bound = losses.elbo(log_likelihood, kl, beta=settings.beta * ramp(t, config.beta_warmup))
    sparsity = kind.sparsity(config, z, settings)
    loss = settings.beta_sparsity * sparsity - bound.mean()
    l0 = kind.mean_l0(config, posterior, z, settings)
    return loss, VAEInfo(loss, log_likelihood.mean(), kl.mean(), sparsity, l0)


def train_step(
    config: VAEConfig, model: Variational, optimiser: optax.GradientTransformation, state: VAEState, batch: Batch
) -> tuple[VAEState, VAEInfo]:
    """One step of Adam on :func:`objective`; the images of ``batch`` are float32 in [0, 1]."""
    loss: Any = partial(objective, config, model)
    gradients, info = jax.grad(loss, has_aux=True)(state.params, state, check_unit(batch.image))
    params, opt_state = apply_gradients(
        optimiser, gradients, state.opt_state, state.params, rate=state.hyper.learning_rate
    )
    return replace(state, step=state.step + 1, params=params, opt_state=opt_state), info


def sample_images(model: Variational, state: VAEState, key: jax.Array, n: int) -> jax.Array:
    """``n`` draws from the stated prior, decoded: ``(n, height, width, channels)`` in [0, 1]."""
    z = model.sample_prior(state.hyper, key, n)
    return jax.nn.sigmoid(model.decode(state.params, z, state.hyper))

"""Variational autoencoders: Gaussian, spike and slab, and Gaussian with the KL sparsity penalty on a sigmoid code."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from saegan_jax import losses
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.metrics.vae import active_units, importance_bound
from saegan_jax.networks.vae import VAEDecoder, VAEEncoder
from saegan_jax.priors import MIN_SCALE, FactorisedPrior, fit_factorised, sample_factorised

Kind = Literal["gaussian", "sparse", "kl_sae"]
Likelihood = Literal["bernoulli", "gaussian"]
Warmup = Literal["slab", "spike"]
LOGISTIC_VARIANCE = 1.702**2  # of the normal law whose distribution function is closest to the sigmoid
ON = 0.5  # a sigmoid code above it counts as active


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Settings of a variational autoencoder and its training."""

    kind: Kind = "gaussian"
    """gaussian: N(mu, s^2) and prior N(0, 1); sparse: spike and slab, exact zeros; kl_sae: Gaussian, decoded through a sigmoid
    code that the KL sparsity penalty holds at a mean activation of rho."""
    d_latent: int = 32
    """Latent units."""
    hidden: tuple[int, ...] = (256,)
    """Units of each hidden layer of the encoder, and in reverse order of the decoder; empty for linear maps."""
    likelihood: Likelihood = "bernoulli"
    """bernoulli: cross-entropy; of pixels between 0 and 1 it is no density, so its nats compare only within this package.
    gaussian: N(image, noise^2) for every pixel, a density."""
    noise: float = 0.1
    """Standard deviation of a pixel (gaussian likelihood)."""
    beta: float = 1.0
    """Weight of the divergence from the prior; 1 is the bound."""
    beta_warmup: int = 0
    """Steps over which that weight grows linearly to beta; 0 for none."""
    alpha: float = 0.2
    """Prior probability that a unit is active (sparse)."""
    spike_warmup: int = 0
    """Steps of the warm-up, its lambda growing linearly to 1; 0 for none (sparse)."""
    warmup_from: Warmup = "spike"
    """What the warm-up starts from. slab: every unit active, a Gaussian VAE. spike: slabs equal to the prior's, so that at
    first only the gates can carry anything, as the paper's authors do (sparse)."""
    temperature: float = 0.5
    """Of the relaxed gates in the first step (sparse)."""
    final_temperature: float = 0.1
    """Of the relaxed gates in the last step, reached geometrically (sparse)."""
    rho: float = 0.2
    """Mean activation of the sigmoid code (kl_sae)."""
    beta_sparsity: float = 3.0
    """Weight of the sparsity penalty (kl_sae)."""
    gain: float = 2.0
    """Steepness of the sigmoid code: near 0 it is linear, far above 1 binary (kl_sae)."""
    learning_rate: float = 1e-3
    """Adam's first step size; a cosine takes it to a tenth."""
    batch_size: int = 128
    """Images a step."""
    steps: int = 10000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, get_args(Kind))
        require_choice("likelihood", self.likelihood, get_args(Likelihood))
        require_choice("warmup_from", self.warmup_from, get_args(Warmup))
        require(all(h > 0 for h in self.hidden), "hidden", self.hidden, "every hidden layer needs at least one unit.")
        require_positive(
            d_latent=self.d_latent, noise=self.noise, temperature=self.temperature, gain=self.gain,
            final_temperature=self.final_temperature, learning_rate=self.learning_rate, batch_size=self.batch_size,
            steps=self.steps,
        )  # fmt: skip
        require_non_negative(
            beta=self.beta, beta_warmup=self.beta_warmup, spike_warmup=self.spike_warmup,
            beta_sparsity=self.beta_sparsity,
        )  # fmt: skip
        for name, value in (("alpha", self.alpha), ("rho", self.rho)):
            require(0 < value < 1, name, value, "it is a share of active units and must lie in (0, 1).")
        for name, value in (("beta_warmup", self.beta_warmup), ("spike_warmup", self.spike_warmup)):
            require(value <= self.steps, name, value, f"the training ends after steps={self.steps}; use at most that.")


@flax.struct.dataclass
class VAEHyper:
    """Settings that may differ between the members of one vmapped sweep: scalars, see :class:`VAEConfig`."""

    learning_rate: jax.Array
    beta: jax.Array
    alpha: jax.Array
    rho: jax.Array
    beta_sparsity: jax.Array


def hyper(config: VAEConfig) -> VAEHyper:
    """Those of ``config``, as NumPy's: an algorithm is made without compiling anything or touching a device."""
    scalars: dict[str, Any] = {f.name: np.asarray(getattr(config, f.name), np.float32) for f in fields(VAEHyper)}
    return VAEHyper(**scalars)


class VAEParams(NamedTuple):
    """Parameters of both halves."""

    encoder: Any
    decoder: Any


class Posterior(NamedTuple):
    """q(z | x) of a batch, independent over units.

    Attributes:
      mean, log_variance: of the Gaussian, or of the slab, ``(batch, d_latent)``.
      gate_logits: ``(batch, d_latent)``, ``gamma = sigmoid(gate_logits)`` the probability that a unit is active; None where
        every unit is.
    """

    mean: jax.Array
    log_variance: jax.Array
    gate_logits: jax.Array | None = None


class Draw(NamedTuple):
    """Latents ``z (batch, d_latent)``, exactly 0 where a unit is off, and which are ``on``, bool of the same shape."""

    z: jax.Array
    on: jax.Array


@flax.struct.dataclass
class VAEState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`VAEParams`.
      opt_state: of Adam.
      hyper: settings that a sweep varies.
    """

    step: jax.Array
    key: jax.Array
    params: VAEParams
    opt_state: Any
    hyper: VAEHyper


class VAEInfo(NamedTuple):
    """Scalars of one step, batch means, nats: ``loss = -log_likelihood + beta(t) kl + beta_sparsity sparsity``.

    ``kl`` is summed over units, ``sparsity`` too (0 but for kl_sae); ``l0`` counts active units, gates by the sum of gamma.
    """

    loss: jax.Array
    log_likelihood: jax.Array
    kl: jax.Array
    sparsity: jax.Array
    l0: jax.Array


class VAEMetrics(NamedTuple):
    """Means over images, with hard gates: scalars.

    Attributes:
      elbo: evidence lower bound at beta = 1, nats; the divergence in closed form, the likelihood's mean over the draws.
      iwae: importance-weighted bound of the same draws, nats.
      kl: divergence from the prior summed over units, nats.
      fvu: squared error of the images decoded from draws, over the variance of the pixels about their means.
      l0: active units of a draw: those on, or whose sigmoid code is above one half (kl_sae), or all.
      active_units: those whose posterior mean varies over the images, :func:`saegan_jax.metrics.vae.active_units`.
    """

    elbo: jax.Array
    iwae: jax.Array
    kl: jax.Array
    fvu: jax.Array
    l0: jax.Array
    active_units: jax.Array


class Variational(NamedTuple):
    """The model of a :class:`VAEConfig` as pure functions.

    Attributes:
      init: ``init(key) -> VAEParams``.
      encode: ``encode(params, images) -> Posterior``, images in [0, 1].
      decode: ``decode(params, z, hyper) -> (batch, height, width, channels)``, logits of the pixels' means.
      log_likelihood: ``log_likelihood(logits, images) -> (batch,)``, nats, summed over pixels and channels.
    """

    init: Callable[[jax.Array], VAEParams]
    encode: Callable[[VAEParams, jax.Array], Posterior]
    decode: Callable[[VAEParams, jax.Array, VAEHyper], jax.Array]
    log_likelihood: Callable[[jax.Array, jax.Array], jax.Array]


def divergence(posterior: Posterior, alpha: jax.Array) -> jax.Array:
    """KL of the posterior from the prior, ``(batch, d_latent)``, nats; ``alpha`` is that of a spike and slab, else unused."""
    mean, log_variance, gate = posterior
    if gate is None:
        return losses.gaussian_kl(mean, log_variance)
    return losses.spike_and_slab_kl(mean, log_variance, gate, alpha=alpha)


def slab(posterior: Posterior, key: jax.Array) -> jax.Array:
    """``mu + s eps``, ``(batch, d_latent)``."""
    noise = jax.random.normal(key, posterior.mean.shape)
    return posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise


def draw_posterior(posterior: Posterior, key: jax.Array) -> Draw:
    """One draw for each example, with hard gates: a unit is on with probability gamma, and off it is exactly 0."""
    slab_key, gate_key = jax.random.split(key)
    z = slab(posterior, slab_key)
    if posterior.gate_logits is None:
        return Draw(z, jnp.ones(z.shape, bool))
    on = jax.random.bernoulli(gate_key, jax.nn.sigmoid(posterior.gate_logits))
    return Draw(jnp.where(on, z, 0.0), on)


def draw_relaxed(posterior: Posterior, key: jax.Array, temperature: jax.Array) -> jax.Array:
    """One differentiable draw, ``g (mu + s eps)`` with ``g = sigmoid((logit gamma + logistic noise) / temperature)``.

    P(g > 1/2) = gamma at any temperature, and g tends to a hard gate as it falls. Without gates it is the exact draw.

    Source: Maddison, Mnih and Teh, The concrete distribution, 2017, appendix B; Jang, Gu and Poole, Categorical
    reparameterization with Gumbel-softmax, 2017.
    """
    slab_key, gate_key = jax.random.split(key)
    z = slab(posterior, slab_key)
    if posterior.gate_logits is None:
        return z
    noise = jax.random.logistic(gate_key, z.shape)
    return z * jax.nn.sigmoid((posterior.gate_logits + noise) / temperature)


def log_ratio(posterior: Posterior, draw: Draw, alpha: jax.Array) -> jax.Array:
    """``log p(z) - log q(z | x)`` of each unit of a hard draw, ``(batch, d_latent)``, nats.

    Both laws of a spike and slab are densities about the same measure, Lebesgue's plus an atom at 0: a unit that is on
    has ``log alpha N(z; 0, 1) - log gamma N(z; mu, s^2)``, one that is off ``log (1 - alpha) - log (1 - gamma)``. A slab's draw
    of exactly 0 has probability 0, and ``draw.on`` tells.
    """
    z, on = draw
    mean, log_variance, gate = posterior
    continuous = 0.5 * (jnp.square(z - mean) * jnp.exp(-log_variance) + log_variance - jnp.square(z))
    if gate is None:
        return continuous
    active = jnp.log(alpha) - jax.nn.log_sigmoid(gate) + continuous
    return jnp.where(on, active, jnp.log1p(-alpha) - jax.nn.log_sigmoid(-gate))


def warmed(config: VAEConfig, posterior: Posterior, alpha: jax.Array, share: jax.Array) -> tuple[Posterior, jax.Array]:
    """Posterior and prior probability during a spike and slab's warm-up; ``share`` is lambda, from above 0 to 1.

    slab: the probability of being off is multiplied by lambda in posterior and prior, ``1 - gamma -> lambda (1 - gamma)``
    and ``1 - alpha -> lambda (1 - alpha)``: from a Gaussian VAE to the spike and slab. spike: the slab is
    ``N(lambda mu, lambda s^2 + 1 - lambda)``: from gates alone to both.

    Source: the latter is the warm-up of Tonolini, Jensen and Murray-Smith, Variational sparse coding, 2020, as their code
    describes it.
    """
    mean, log_variance, gate = posterior
    if gate is None or not config.spike_warmup:
        return posterior, alpha
    if config.warmup_from == "spike":
        return Posterior(share * mean, jnp.log(share * jnp.exp(log_variance) + 1 - share), gate), alpha
    log_share = jnp.log(share)
    log_on = jnp.logaddexp(jnp.log1p(-share), log_share + jax.nn.log_sigmoid(gate))
    return Posterior(mean, log_variance, log_on - log_share - jax.nn.log_sigmoid(-gate)), 1 - share * (1 - alpha)


def code_logits(config: VAEConfig, z: jax.Array, rho: jax.Array) -> jax.Array:
    """Logits of kl_sae's code, ``gain z + b`` with b such that the prior N(0, 1) gives the code a mean of about rho.

    ``E sigmoid(gain z + b) ~ Phi(b / sqrt(gain^2 + 1.702^2))``, the sigmoid taken as a normal distribution function.
    """
    offset = jax.scipy.stats.norm.ppf(rho) * math.sqrt(config.gain**2 + LOGISTIC_VARIANCE)
    return config.gain * z + offset


def variational(config: VAEConfig, *, image_shape: tuple[int, int, int]) -> Variational:
    """Networks and likelihood that ``config`` describes.

    The decoder reads z itself, or with kl_sae the code ``h = sigmoid(gain z + b)``, :func:`code_logits`. With
    ``p = sigmoid(logits)``, Bernoulli: ``log p(x | z) = sum_i x_i log p_i + (1 - x_i) log(1 - p_i)``; Gaussian:
    ``-1/2 sum_i [((x_i - p_i) / noise)^2 + log(2 pi noise^2)]``.
    """
    encoder: Any = VAEEncoder(config.d_latent, 3 if config.kind == "sparse" else 2, config.hidden)
    decoder: Any = VAEDecoder(image_shape, config.hidden[::-1])

    def init(key: jax.Array) -> VAEParams:
        encoder_key, decoder_key = jax.random.split(key)
        return VAEParams(
            encoder.init(encoder_key, jnp.zeros((1, *image_shape))),
            decoder.init(decoder_key, jnp.zeros((1, config.d_latent))),
        )

    def encode(params: VAEParams, images: jax.Array) -> Posterior:
        return Posterior(*encoder.apply(params.encoder, images))

    def decode(params: VAEParams, z: jax.Array, own: VAEHyper) -> jax.Array:
        inputs = jax.nn.sigmoid(code_logits(config, z, own.rho)) if config.kind == "kl_sae" else z
        logits: jax.Array = decoder.apply(params.decoder, inputs)
        return logits

    def log_likelihood(logits: jax.Array, images: jax.Array) -> jax.Array:
        if config.likelihood == "bernoulli":
            each = -optax.sigmoid_binary_cross_entropy(logits, images)
        else:
            each = jax.scipy.stats.norm.logpdf(images, jax.nn.sigmoid(logits), config.noise)
        return each.reshape(each.shape[0], -1).sum(axis=1)

    return Variational(init, encode, decode, log_likelihood)


def sample_prior(config: VAEConfig, own: VAEHyper, key: jax.Array, n: int) -> jax.Array:
    """``n`` latents from the stated prior, ``(n, d_latent)``; of a spike and slab exactly 0 where a unit is off."""
    slab_key, gate_key = jax.random.split(key)
    z = jax.random.normal(slab_key, (n, config.d_latent))
    if config.kind != "sparse":
        return z
    return jnp.where(jax.random.bernoulli(gate_key, own.alpha, z.shape), z, 0.0)


def vae(config: VAEConfig, *, image_shape: tuple[int, int, int], member: VAEHyper | None = None) -> Algorithm:
    """A variational autoencoder on images in [0, 1], trained with Adam along a cosine.

    ``loss = mean_n [-log p(x_n | z_n) + beta(t) sum_j KL_j(x_n)] + beta_sparsity sum_j KL(rho || rho_hat_j)``, one draw z_n
    from the posterior of each image.

    ========  =========================================================================================================
    kind      posterior and prior of a unit
    ========  =========================================================================================================
    gaussian  ``N(mu, s^2)``, ``N(0, 1)``; no sparsity term
    sparse    ``gamma N(mu, s^2) + (1 - gamma) delta_0``, ``alpha N(0, 1) + (1 - alpha) delta_0``; no sparsity term. In training
              the gates are relaxed, :func:`draw_relaxed`, and warmed up, :func:`warmed`
    kl_sae    as gaussian, decoded through ``h = sigmoid(gain z + b)``: a sigmoid autoencoder's code with Gaussian logits;
              ``rho_hat_j`` is the mean of h_j over the batch's draws, and the stated prior has mean rho as well
    ========  =========================================================================================================

    Args:
      config: see :class:`VAEConfig`.
      image_shape: ``(height, width, channels)``.
      member: this member's own settings; by default those of ``config``. ``step`` and ``sample`` read the state's.

    Returns:
      An :class:`Algorithm`. Its ``sample`` decodes draws from the stated prior, with hard gates, to the pixels' means.

    Source: Kingma and Welling, Auto-encoding variational Bayes, 2014; Tonolini, Jensen and Murray-Smith, Variational
    sparse coding, 2020 (sparse); the penalty of kl_sae is Ng's, Sparse autoencoder, CS294A lecture notes, 2011.
    """
    model = variational(config, image_shape=image_shape)
    # The rate itself is the member's.
    cosine = optax.cosine_decay_schedule(1.0, config.steps, alpha=0.1)
    optimiser = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(cosine))

    def init(key: jax.Array) -> VAEState:
        params_key, run_key = jax.random.split(key)
        params = model.init(params_key)
        return VAEState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=optimiser.init(params),
            # Copies: a state whose buffers are donated may not hold an array that the caller keeps.
            hyper=jax.tree.map(lambda x: jnp.array(x, jnp.float32), hyper(config) if member is None else member),
        )

    def ramp(step: jax.Array, length: int) -> jax.Array:
        return jnp.minimum((step + 1).astype(jnp.float32) / max(length, 1), 1.0)

    def objective(params: VAEParams, state: VAEState, images: jax.Array) -> tuple[jax.Array, VAEInfo]:
        own, t = state.hyper, state.step
        posterior, alpha = warmed(config, model.encode(params, images), own.alpha, ramp(t, config.spike_warmup))
        cooling = math.log(config.final_temperature / config.temperature)
        temperature = config.temperature * jnp.exp(cooling * ramp(t, config.steps))
        z = draw_relaxed(posterior, jax.random.fold_in(state.key, t), temperature)
        log_likelihood = model.log_likelihood(model.decode(params, z, own), images)
        kl = divergence(posterior, alpha).sum(axis=1)
        bound = losses.elbo(log_likelihood, kl, beta=own.beta * ramp(t, config.beta_warmup))
        sparsity, l0 = jnp.zeros(()), jnp.full((), float(config.d_latent))
        if config.kind == "kl_sae":
            logits = code_logits(config, z, own.rho)
            sparsity = losses.kl_sparsity_from_logits(logits, own.rho).sum()
            l0 = (logits > math.log(ON / (1 - ON))).sum(axis=1).mean(dtype=jnp.float32)
        if posterior.gate_logits is not None:
            l0 = jax.nn.sigmoid(posterior.gate_logits).sum(axis=1).mean()
        loss = own.beta_sparsity * sparsity - bound.mean()
        return loss, VAEInfo(loss, log_likelihood.mean(), kl.mean(), sparsity, l0)

    def step(state: VAEState, batch: Batch) -> tuple[VAEState, VAEInfo]:
        gradients, info = jax.grad(objective, has_aux=True)(state.params, state, batch.image)
        params, opt_state = apply_gradients(
            optimiser, gradients, state.opt_state, state.params, rate=state.hyper.learning_rate
        )
        return replace(state, step=state.step + 1, params=params, opt_state=opt_state), info

    def sample(state: VAEState, key: jax.Array, n: int) -> jax.Array:
        z = sample_prior(config, state.hyper, key, n)
        return jax.nn.sigmoid(model.decode(state.params, z, state.hyper))

    return Algorithm(init, step, sample)


def fit_aggregate(
    config: VAEConfig, state: VAEState, images: jax.Array, key: jax.Array, *, batch_size: int = 1024
) -> FactorisedPrior:
    """Fit independent units to the aggregate posterior, the mean of q(z | x) over images, from one hard draw of each.

    A unit is on with its own probability and then follows a table of quantiles of its own signed values: what the units
    of the stated prior share, each has for itself here. Dependence between units is left out.

    Args:
      config: of the model.
      state: trained, of one member.
      images: ``(n, height, width, channels)`` training images, uint8 (0 to 255) or float32 in [0, 1].
      key: random key; image i is drawn with ``fold_in(key, i)``.
      batch_size: images encoded at a time.

    Returns:
      A :class:`saegan_jax.priors.FactorisedPrior`, its quantiles of either sign.
    """
    height, width, channels = images.shape[1:]
    model = variational(config, image_shape=(height, width, channels))
    scale = 1 / 255 if images.dtype == jnp.uint8 else 1.0

    def one(given: tuple[jax.Array, jax.Array]) -> Draw:
        image, i = given
        posterior = model.encode(state.params, scale * image[None].astype(jnp.float32))
        return jax.tree.map(lambda x: x[0], draw_posterior(posterior, jax.random.fold_in(key, i)))

    z, on = jax.lax.map(one, (images, jnp.arange(len(images))), batch_size=batch_size)
    # fit_factorised tells active codes by a threshold: units that are off go far below every signed value.
    far = 1e6
    fitted = fit_factorised(jnp.where(on, z, -far), threshold=-far / 2)
    return replace(fitted, scale=jnp.maximum(jnp.sqrt(jnp.mean(z**2, axis=0)), MIN_SCALE))


def sample_aggregate(
    config: VAEConfig, *, image_shape: tuple[int, int, int]
) -> Callable[[tuple[VAEState, FactorisedPrior], jax.Array, int], jax.Array]:
    """``sample((state, fitted), key, n) -> images`` from :func:`fit_aggregate`'s law in place of the stated prior.

    As :class:`Algorithm`'s ``sample``: in [0, 1], ``(n, height, width, channels)``.
    """
    model = variational(config, image_shape=image_shape)

    def sample(fitted: tuple[VAEState, FactorisedPrior], key: jax.Array, n: int) -> jax.Array:
        state, prior = fitted
        return jax.nn.sigmoid(model.decode(state.params, sample_factorised(prior, key, n), state.hyper))

    return sample


def reconstruct(config: VAEConfig, state: VAEState, images: jax.Array) -> jax.Array:
    """Images decoded from the posterior's middle: the mean, of units whose gate is more likely on than off, else 0.

    Args: config, state of one member, images ``(n, height, width, channels)`` float32 in [0, 1]. Returns: their shape.
    """
    height, width, channels = images.shape[1:]
    model = variational(config, image_shape=(height, width, channels))
    mean, _, gate = model.encode(state.params, images)
    z = mean if gate is None else jnp.where(gate > 0, mean, 0.0)
    return jax.nn.sigmoid(model.decode(state.params, z, state.hyper))


def score_vae(
    config: VAEConfig, state: VAEState, images: jax.Array, key: jax.Array, *, draws: int = 50, batch_size: int = 100
) -> VAEMetrics:
    """Bounds, sparsity and reconstruction on held-out images; traceable.

    ``elbo = mean_k log p(x | z_k) - KL`` and ``iwae = log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)``, z_k hard draws; the
    density ratio of a spike and slab: :func:`log_ratio`.

    Args:
      config: of the model.
      state: of one member.
      images: ``(n, height, width, channels)``, uint8 (0 to 255) or float32 in [0, 1].
      key: random key; image i is drawn with ``fold_in(key, i)``.
      draws: K.
      batch_size: images at a time, each with its K draws.

    Returns:
      :class:`VAEMetrics`.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016.
    """
    height, width, channels = images.shape[1:]
    model, own = variational(config, image_shape=(height, width, channels)), state.hyper
    scale = 1 / 255 if images.dtype == jnp.uint8 else 1.0

    def one(given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        image, i = given
        x = scale * image[None].astype(jnp.float32)
        single = model.encode(state.params, x)
        posterior = jax.tree.map(lambda p: jnp.broadcast_to(p, (draws, config.d_latent)), single)
        drawn = draw_posterior(posterior, jax.random.fold_in(key, i))
        logits = model.decode(state.params, drawn.z, own)
        log_likelihood = model.log_likelihood(logits, jnp.broadcast_to(x, logits.shape))
        kl = divergence(single, own.alpha).sum()
        bound = importance_bound(log_likelihood + log_ratio(posterior, drawn, own.alpha).sum(axis=1))
        on = jax.nn.sigmoid(code_logits(config, drawn.z, own.rho)) > ON if config.kind == "kl_sae" else drawn.on
        gamma = jnp.ones(()) if single.gate_logits is None else jax.nn.sigmoid(single.gate_logits[0])
        squared = jnp.square(jax.nn.sigmoid(logits) - x).mean(axis=0).sum()
        active = on.sum(axis=1).mean(dtype=jnp.float32)
        return log_likelihood.mean() - kl, bound, kl, squared, active, gamma * single.mean[0]

    elbo, iwae, kl, squared, l0, means = jax.lax.map(one, (images, jnp.arange(len(images))), batch_size=batch_size)
    variance = jnp.var(scale * images.astype(jnp.float32), axis=0).sum()
    return VAEMetrics(elbo.mean(), iwae.mean(), kl.mean(), squared.mean() / variance, l0.mean(), active_units(means))

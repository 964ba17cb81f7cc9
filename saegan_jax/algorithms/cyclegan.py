"""Unpaired image to image translation: CycleGAN, plain and through the sparse codes of one autoencoder for both domains."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import flax.struct
import jax
import jax.numpy as jnp
import optax

from saegan_jax import losses
from saegan_jax.algorithms.gan import Nets
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, autoencoder, module
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.images import flatten_images, to_signed, to_unit
from saegan_jax.networks.translators import CodeShift, PatchDiscriminator, ResNetTranslator

Kind = Literal["plain", "sparse"]
Encoder = Literal["frozen", "trained"]
Decoder = Literal["frozen", "refined"]
Direction = Literal["ab", "ba"]


@dataclass(frozen=True, kw_only=True)
class CycleGANConfig:
    """Settings of the translators, the critics and their training."""

    kind: Kind = "plain"
    """plain: residual networks; sparse: Dec_B(TopK(E(x) + Delta(E(x)))), the codes of one autoencoder for both domains."""
    width: int = 32
    """Channels next to the image; inner layers have a multiple of it (plain)."""
    stages: int = 2
    """Times the generator halves the image, so that its sides must be divisible by 2^stages (plain)."""
    blocks: int = 6
    """Residual blocks at the smallest size (plain)."""
    mixing: bool = False
    """Dense layers over positions between the blocks, which can move things far (plain)."""
    shift_hidden: tuple[int, ...] = (256,)
    """Units of each hidden layer of Delta, the change of the codes (sparse); empty for a linear one."""
    encoder: Encoder = "frozen"
    """The autoencoder's encoder stays as it was pre-trained, or trains on with the generators (sparse)."""
    decoder: Decoder = "refined"
    """refined: a copy of the autoencoder's decoder for each domain, trained on; frozen: the pre-trained one (sparse)."""
    d_width: int = 32
    """Channels of the critics' first layer."""
    d_stages: int = 2
    """Times a critic halves the image: more make its patches larger."""
    cycle: float = 10.0
    """Weight of the L1 error of the cycle; pixels in [-1, 1]."""
    identity: float = 5.0
    """Weight of the L1 change of images that are in the target domain already; 0 skips their pass."""
    history: int = 50
    """Generated images kept of each domain, which critics see half of the time; 0 for none."""
    learning_rate: float = 2e-4
    """Adam's step size for all networks."""
    constant_share: float = 0.5
    """Share of the training after which the rate falls linearly to 0; 1 keeps it."""
    beta1: float = 0.5
    """Adam's decay of the first moment."""
    beta2: float = 0.999
    """Adam's decay of the second moment."""
    batch_size: int = 8
    """Images of each domain a step."""
    steps: int = 5000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, get_args(Kind))
        require_choice("encoder", self.encoder, get_args(Encoder))
        require_choice("decoder", self.decoder, get_args(Decoder))
        require_positive(
            width=self.width, stages=self.stages, blocks=self.blocks, d_width=self.d_width, d_stages=self.d_stages,
            learning_rate=self.learning_rate, batch_size=self.batch_size, steps=self.steps,
        )  # fmt: skip
        require_non_negative(cycle=self.cycle, identity=self.identity, history=self.history)
        hidden = self.shift_hidden
        require(all(h > 0 for h in hidden), "shift_hidden", hidden, "every hidden layer needs at least one unit.")
        for name, value in {"beta1": self.beta1, "beta2": self.beta2}.items():
            require(0 <= value < 1, name, value, "it is a decay rate and must lie in [0, 1).")
        share = self.constant_share
        require(0 <= share <= 1, "constant_share", share, "it is a share of the training, from 0 to 1.")


class TwoDomains(NamedTuple):
    """One image or batch of each domain, unpaired, or any other value for each.

    Attributes:
      a, b: as batches ``(batch, height, width, channels)``, float32 in [0, 1].
    """

    a: Any
    b: Any


@flax.struct.dataclass
class History:
    """Generated images that a critic has been or will be shown.

    Attributes:
      images: ``(size, height, width, channels)``.
      count: int32 scalar, how many have been stored; later places are empty.
    """

    images: jax.Array
    count: jax.Array


def empty_history(size: int, image_shape: tuple[int, int, int]) -> History | None:
    """A history of ``size`` places, none of them filled; of no places None, as arrays without elements cannot be saved."""
    if size == 0:
        return None
    return History(jnp.zeros((size, *image_shape)), jnp.zeros((), jnp.int32))


def query(history: History | None, images: jax.Array, key: jax.Array) -> tuple[History | None, jax.Array]:
    """For each image in turn: itself, stored while places are empty; then, with probability 1/2, a stored one in exchange.

    Args:
      history: see :class:`History`; None gives back the images.
      images: ``(batch, height, width, channels)``.
      key: image i uses ``fold_in(key, i)``.

    Returns:
      The new history, and ``(batch, height, width, channels)``.

    Source: Shrivastava et al., Learning from simulated and unsupervised images through adversarial training, 2017, section
    2.3, image by image as in CycleGAN's own code.
    """
    if history is None:
        return None, images
    size = history.images.shape[0]

    def one(history: History, given: tuple[jax.Array, jax.Array]) -> tuple[History, jax.Array]:
        image, index = given
        coin_key, place_key = jax.random.split(jax.random.fold_in(key, index))
        filling = history.count < size
        swap = ~filling & jax.random.bernoulli(coin_key)
        place = jnp.where(filling, history.count, jax.random.randint(place_key, (), 0, size))
        old = history.images[place]
        stored = history.images.at[place].set(jnp.where(filling | swap, image, old))
        return History(stored, history.count + filling.astype(jnp.int32)), jnp.where(swap, old, image)

    return jax.lax.scan(one, history, (images, jnp.arange(images.shape[0])))


@flax.struct.dataclass
class CycleGANState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`Nets`: ``generator`` a dict with ``ab`` and ``ba`` (and ``encoder`` where it trains on), ``discriminator``
        a dict with the critics of ``a`` and ``b``.
      opt_state: :class:`Nets` of optax states.
      history: :class:`TwoDomains` of :class:`History`: generated images of each domain; of None where none are kept.
      context: parameters of the pre-trained autoencoder, which never change; ``()`` for the plain kind.
    """

    step: jax.Array
    key: jax.Array
    params: Nets
    opt_state: Nets
    history: TwoDomains
    context: Any


class CycleGANInfo(NamedTuple):
    """Scalars of one step, batch means, over both directions or domains.

    Attributes:
      discriminator_loss: sum of both critics' least-squares losses, with the paper's 1/2.
      generator_loss: sum of both directions' adversarial losses.
      cycle, identity: mean absolute error in the pixels' unit, [0, 1], mean of both directions.
      accuracy: share of patches in which a critic scores a real image above a generated one.
      l0: active codes of a translation (sparse), else 0.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    cycle: jax.Array
    identity: jax.Array
    accuracy: jax.Array
    l0: jax.Array


class CycleGAN(NamedTuple):
    """The system as pure functions, see :class:`saegan_jax.algorithms.base.Algorithm`; in place of ``sample`` it translates.

    Attributes:
      init: ``init(key) -> state``.
      step: ``step(state, TwoDomains) -> (state, info)``.
      translate: ``translate(state, images, direction) -> images``, ``(batch, height, width, channels)`` in [0, 1];
        ``direction`` is "ab" or "ba", static.
      codes: ``codes(state, images, direction) -> (batch, d_sae)``, what the translation is drawn from; sparse kind only, else
        None.
    """

    init: Callable[[jax.Array], CycleGANState]
    step: Callable[[CycleGANState, Any], tuple[CycleGANState, CycleGANInfo]]
    translate: Callable[[CycleGANState, jax.Array, Direction], jax.Array]
    codes: Callable[[CycleGANState, jax.Array, Direction], jax.Array] | None


class _Translator(NamedTuple):
    """How one kind translates, as pure functions; images in [-1, 1].

    Attributes:
      init: ``init(key, context) -> generator params``.
      translate: ``translate(params, context, images, direction) -> images``.
      codes: ``codes(params, context, images, direction) -> (batch, d_sae)``, or None.
    """

    init: Callable[[jax.Array, Any], Any]
    translate: Callable[[Any, Any, jax.Array, str], jax.Array]
    codes: Callable[[Any, Any, jax.Array, str], jax.Array] | None


def _plain(config: CycleGANConfig, image_shape: tuple[int, int, int]) -> _Translator:
    net = ResNetTranslator(config.width, config.stages, config.blocks, config.mixing)

    def init(key: jax.Array, context: Any) -> Any:
        one = jnp.zeros((1, *image_shape))
        return {name: net.init(k, one) for name, k in zip(get_args(Direction), jax.random.split(key), strict=True)}

    def translate(params: Any, context: Any, images: jax.Array, direction: str) -> jax.Array:
        out: Any = net.apply(params[direction], images)
        return out

    return _Translator(init, translate, None)


def _sparse(config: CycleGANConfig, sae: SAEConfig, image_shape: tuple[int, int, int]) -> _Translator:
    net: Any = module(sae, math.prod(image_shape))
    activate = autoencoder(sae, image_shape=image_shape).activate
    shift: Any = CodeShift(config.shift_hidden)

    def init(key: jax.Array, context: Any) -> Any:
        weights = context["params"]

        def own(names: tuple[str, ...]) -> dict[str, jax.Array]:
            return {name: jnp.copy(weights[name]) for name in names}

        params: dict[str, Any] = {}
        for name, k in zip(get_args(Direction), jax.random.split(key), strict=True):
            params[name] = {"shift": shift.init(k, jnp.zeros((1, sae.d_sae)))}
            if config.decoder == "refined":
                params[name]["decoder"] = own(("W_dec", "b_dec"))
        if config.encoder == "trained":
            params["encoder"] = own(("W_enc", "b_enc"))
        return params

    def with_own(context: Any, own: dict[str, jax.Array]) -> Any:
        # Stop at the parameters, not at the codes: a cycle needs the gradient through the encoder.
        return {"params": {**jax.lax.stop_gradient(context["params"]), **own}}

    def codes(params: Any, context: Any, images: jax.Array, direction: str) -> jax.Array:
        encoder = with_own(context, params.get("encoder", {}))
        a = net.apply(encoder, flatten_images(to_unit(images)), method="pre_activations")
        change = shift.apply(params[direction]["shift"], activate(encoder, a))
        return activate(encoder, a + change)

    def translate(params: Any, context: Any, images: jax.Array, direction: str) -> jax.Array:
        decoder = with_own(context, params[direction].get("decoder", {}))
        z = codes(params, context, images, direction)
        y = net.apply(decoder, z, method="decode").reshape(images.shape)
        # What is translated back is an image. The gradient passes where a pixel is cut off, or it could never return.
        return to_signed(y + jax.lax.stop_gradient(jnp.clip(y, 0.0, 1.0) - y))

    return _Translator(init, translate, codes)


def _check(config: CycleGANConfig, sae: SAEConfig | None, image_shape: tuple[int, int, int]) -> None:
    height, width, _ = image_shape
    stages = {"d_stages": config.d_stages} | ({"stages": config.stages} if config.kind == "plain" else {})
    for name, n in stages.items():
        fits = height % 2**n == 0 and width % 2**n == 0
        require(fits, name, n, f"{height}x{width} images cannot be halved {n} times; use fewer stages.")
    if config.kind == "plain":
        return
    if sae is None:
        raise ValueError("kind='sparse' needs sae, the settings of the autoencoder, and its trained parameters.")
    able = " or ".join(repr(name) for name, variant in VARIANTS.items() if variant.k_per_example)
    fix = f"the code of a translation has k active units; use {able}."
    require(VARIANTS[sae.variant].k_per_example, "sae.variant", sae.variant, fix)
    require(
        sae.patch_size == 0, "sae.patch_size", sae.patch_size, "a translation takes one code per image; set it to 0."
    )
    require(
        not sae.tied, "sae.tied", sae.tied, "decoders are the domains' own, apart from the encoder; set it to False."
    )
    autoencoder(sae, image_shape=image_shape)


def learning_rate_share(config: CycleGANConfig, step: jax.Array) -> jax.Array:
    """1 for the first ``constant_share`` of the steps, then linearly to 0: scalar.

    Source: Zhu et al., 2017, section 4, training details.
    """
    rest = (1 - config.constant_share) * config.steps
    if rest == 0:
        return jnp.ones(())
    return jnp.clip((config.steps - step).astype(jnp.float32) / rest, 0.0, 1.0)


def cyclegan(
    config: CycleGANConfig, *, image_shape: tuple[int, int, int], sae: SAEConfig | None = None, sae_params: Any = None
) -> CycleGAN:
    """CycleGAN on images in [0, 1] of two domains, plain or sparse.

    Generators: ``sum over directions of mean (D(G(x)) - 1)^2 + cycle |G'(G(x)) - x| + identity |G(y) - y|``, L1 as means over
    pixels in [-1, 1]. Critics, then: ``1/2 mean (D(y) - 1)^2 + 1/2 mean D(fake)^2``, on patches, the fakes being those that
    the generators were trained on, by way of the history. Sparse: ``G_AB(x) = Dec_B(TopK(E(x) + Delta_AB(TopK(E(x)))))`` with
    E(x) the pre-activations of an autoencoder trained on both domains, so that at most k numbers (and which they are) pass
    from one image to the other.

    Args:
      config: see :class:`CycleGANConfig`.
      image_shape: ``(height, width, channels)``.
      sae: settings of the autoencoder, of variant topk (sparse).
      sae_params: its parameters, Flax's ``{"params": ...}`` (sparse). Only ``init`` reads them; ``step`` and ``translate`` read
        the copy in the state, so that every member of an ensemble may hold its own.

    Returns:
      A :class:`CycleGAN`.

    Raises:
      ConfigError: sides that cannot be halved so often, or an autoencoder that has no such codes.
      ValueError: sparse without ``sae``.

    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, eq. 3, sections
    4 and 5.2; least squares: Mao et al., Least squares generative adversarial networks, 2017.
    """
    _check(config, sae, image_shape)
    kind = _plain(config, image_shape) if sae is None or config.kind == "plain" else _sparse(config, sae, image_shape)
    critic: Any = PatchDiscriminator(config.d_width, config.d_stages)
    optimiser = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)

    def init(key: jax.Array) -> CycleGANState:
        params_key, run_key = jax.random.split(key)
        g_key, a_key, b_key = jax.random.split(params_key, 3)
        one = jnp.zeros((1, *image_shape))
        context = () if config.kind == "plain" else jax.tree.map(jnp.copy, sae_params)
        params = Nets(kind.init(g_key, context), {"a": critic.init(a_key, one), "b": critic.init(b_key, one)})
        return CycleGANState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=Nets(optimiser.init(params.generator), optimiser.init(params.discriminator)),
            history=TwoDomains(empty_history(config.history, image_shape), empty_history(config.history, image_shape)),
            context=context,
        )

    def generator_loss(params: Any, state: CycleGANState, real: TwoDomains) -> tuple[jax.Array, Any]:
        n = real.a.shape[0]

        def both(direction: str, source: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
            """A translation, and what becomes of images of the target domain, in one pass."""
            if not config.identity:
                return kind.translate(params, state.context, source, direction), target
            out = kind.translate(params, state.context, jnp.concatenate([source, target]), direction)
            return out[:n], out[n:]

        fake_b, same_b = both("ab", real.a, real.b)
        fake_a, same_a = both("ba", real.b, real.a)
        cycled_a = kind.translate(params, state.context, fake_b, "ba")
        cycled_b = kind.translate(params, state.context, fake_a, "ab")
        critics = state.params.discriminator
        # Twice: the paper halves the critics' objective alone, and its weights of cycle and identity go with the whole one.
        adversarial = 2 * (
            losses.least_squares_generator_loss(critic.apply(critics["b"], fake_b)).mean()
            + losses.least_squares_generator_loss(critic.apply(critics["a"], fake_a)).mean()
        )
        cycle = (
            losses.cycle_consistency(real.a, cycled_a).mean() + losses.cycle_consistency(real.b, cycled_b).mean()
        )  # fmt: skip
        identity = losses.identity_mapping(real.a, same_a).mean() + losses.identity_mapping(real.b, same_b).mean()
        loss = adversarial + config.cycle * cycle + config.identity * identity
        return loss, (TwoDomains(fake_a, fake_b), adversarial, cycle, identity)

    def critic_loss(params: Any, real: TwoDomains, fake: TwoDomains) -> tuple[jax.Array, jax.Array]:
        total, accuracy = jnp.zeros(()), jnp.zeros(())
        for name, x, y in (("a", real.a, fake.a), ("b", real.b, fake.b)):
            # Instance norm treats images alone, so that one pass for both is the same as two.
            logits = critic.apply(params[name], jnp.concatenate([x, y]))
            real_logits, fake_logits = logits[: x.shape[0]], logits[x.shape[0] :]
            total += losses.least_squares_discriminator_loss(real_logits, fake_logits).mean()
            accuracy += 0.5 * (real_logits > fake_logits).astype(jnp.float32).mean()
        return total, accuracy

    def step(state: CycleGANState, batch: TwoDomains) -> tuple[CycleGANState, CycleGANInfo]:
        real = TwoDomains(to_signed(batch.a), to_signed(batch.b))
        rate = learning_rate_share(config, state.step)
        before = state.params
        (_, (fake, adversarial, cycle, identity)), gradients = jax.value_and_grad(generator_loss, has_aux=True)(
            before.generator, state, real
        )
        generator, opt_g = apply_gradients(optimiser, gradients, state.opt_state.generator, before.generator, rate=rate)
        keys = jax.random.split(jax.random.fold_in(state.key, state.step))
        history_a, shown_a = query(state.history.a, fake.a, keys[0])
        history_b, shown_b = query(state.history.b, fake.b, keys[1])
        (loss_d, accuracy), gradients = jax.value_and_grad(critic_loss, has_aux=True)(
            before.discriminator, real, TwoDomains(shown_a, shown_b)
        )
        discriminator, opt_d = apply_gradients(
            optimiser, gradients, state.opt_state.discriminator, before.discriminator, rate=rate
        )
        l0 = jnp.zeros(())
        if kind.codes is not None:
            of = [kind.codes(before.generator, state.context, x, d) for x, d in ((real.a, "ab"), (real.b, "ba"))]
            l0 = (jnp.concatenate(of) > 0).sum(axis=-1).astype(jnp.float32).mean()
        state = replace(
            state,
            step=state.step + 1,
            params=Nets(generator, discriminator),
            opt_state=Nets(opt_g, opt_d),
            history=TwoDomains(history_a, history_b),
        )
        # A quarter: half of both directions, and pixels of [-1, 1] are twice as far apart as those of [0, 1].
        return state, CycleGANInfo(loss_d, adversarial, 0.25 * cycle, 0.25 * identity, accuracy, l0)

    def checked(direction: str) -> str:
        require_choice("direction", direction, get_args(Direction))
        return direction

    def translate(state: CycleGANState, images: jax.Array, direction: Direction) -> jax.Array:
        out = kind.translate(state.params.generator, state.context, to_signed(images), checked(direction))
        return jnp.clip(to_unit(out), 0.0, 1.0)

    def codes(state: CycleGANState, images: jax.Array, direction: Direction) -> jax.Array:
        assert kind.codes is not None
        return kind.codes(state.params.generator, state.context, to_signed(images), checked(direction))

    return CycleGAN(init, step, translate, None if kind.codes is None else codes)

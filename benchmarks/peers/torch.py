"""The same training steps in PyTorch, written for speed: functions of tensors, fused Adam, in-memory uint8 data.

The eager variants differentiate with ``torch.autograd``, the compiled one with ``torch.func`` inside ``torch.compile``,
because compiled autograd functions cannot be differentiated twice. The bf16 one is eager under autocast, weights and Adam in
float32. Of the one with CUDA graphs each compiled function is captured once and replayed. Everything is on the GPU where JAX's
default backend is one, and on the CPU otherwise.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.agreement import Observation
from benchmarks.harness.system import growth, resident_bytes
from benchmarks.peers.torch_setup import device, finish
from benchmarks.workloads import gan as gans
from benchmarks.workloads import sae as saes
from benchmarks.workloads.package import STATISTICS_DECAY, GANConfig, SAEConfig

Mode = Literal["eager", "channels_last", "compile", "graphs", "bf16"]
COMPILED: tuple[Mode, ...] = ("compile", "graphs")
Params = dict[str, torch.Tensor]


def _leaves(arrays: Mapping[str, np.ndarray], mode: Mode) -> Params:
    tensors = {name: torch.tensor(a, device=device()) for name, a in arrays.items()}
    if mode == "channels_last":
        last = torch.channels_last
        tensors = {name: t.contiguous(memory_format=last) if t.ndim == 4 else t for name, t in tensors.items()}
    return {name: t.requires_grad_(mode not in COMPILED) for name, t in tensors.items()}


def _numpy(params: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: t.detach().cpu().numpy().copy() for name, t in params.items()}


def _kept(function: Callable[..., Any], *arguments: Any) -> Any:
    """``(gradients, (scalar, aux))``, the latter two copied out of the memory that the next replay writes to."""
    gradients, rest = function(*arguments)
    return gradients, tree_map(torch.clone, rest)


class _Peer:
    """What both peers share: the data, differentiation and Adam."""

    steps_per_call = 1

    def __init__(self, images: np.ndarray, batch_size: int, mode: Mode):
        if mode in COMPILED:
            torch.compiler.reset()  # or the works of one run add up to its limit of recompilations
        self.before = resident_bytes()
        self.mode, self.batch_size, self.device = mode, batch_size, device()
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(self.device)
        if mode == "channels_last":
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.indices = self._epochs()
        self.info: dict[str, torch.Tensor] = {}

    def _epochs(self) -> Any:
        while True:
            order = torch.randperm(len(self.images), device=self.device)
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                yield order[start : start + self.batch_size]

    def _value_and_grad(self, loss: Callable[..., Any]) -> Callable[..., Any]:
        """``loss(params, *rest) -> (scalar, aux)`` to ``f(params, *rest) -> (list of gradients, (scalar, aux))``."""
        if self.mode in COMPILED:
            compiled = self._compiled(torch.func.grad_and_value(loss, has_aux=True), fullgraph=True)
            return compiled if self.mode == "compile" else partial(_kept, compiled)

        def eager(params: Params, *rest: Any) -> Any:
            with self._precision():
                value, aux = loss(params, *rest)
            return dict(zip(params, torch.autograd.grad(value, list(params.values())), strict=True)), (value, aux)

        return eager

    def _compiled(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        mode = "reduce-overhead" if self.mode == "graphs" else None
        compiled: Callable[..., Any] = torch.compile(function, dynamic=False, mode=mode, **options)
        return compiled

    def _begin(self) -> None:
        """Before every step: what an earlier replay of a graph gave may be written over."""
        if self.mode == "graphs":
            torch.compiler.cudagraph_mark_step_begin()

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.mode == "bf16" else nullcontext()

    def _adam(self, params: Params, rate: float, **options: Any) -> torch.optim.Adam:
        return torch.optim.Adam(list(params.values()), lr=rate, eps=1e-8, fused=True, **options)

    @staticmethod
    def _apply(optimiser: torch.optim.Adam, params: Params, gradients: Params) -> None:
        for name, p in params.items():
            gradient = gradients[name]
            # Fused Adam reads both in memory order, and second derivatives of convolutions come transposed. `backward`
            # would copy them into the parameter's order as well.
            p.grad = gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)
        optimiser.step()

    @staticmethod
    def _moments(optimiser: torch.optim.Adam, params: Params) -> dict[str, np.ndarray]:
        first = {name: optimiser.state[p]["exp_avg"] for name, p in params.items()}
        return _numpy(first | {f"{name} squared": optimiser.state[p]["exp_avg_sq"] for name, p in params.items()})

    def _scalars(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.info.items()}

    def _draws(self) -> tuple[torch.Tensor, ...]:
        return ()

    def _train(self, images: torch.Tensor, *draws: torch.Tensor) -> None:
        raise NotImplementedError

    def step(self, images: np.ndarray, *draws: np.ndarray) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        batch = torch.from_numpy(images).permute(0, 3, 1, 2)
        last = self.mode == "channels_last"
        batch = batch.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        batch = batch.to(self.device)
        self._train(batch.float().div_(255), *(torch.tensor(d, device=self.device) for d in draws))
        finish()

    def run(self, calls: int) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        for index in itertools.islice(self.indices, calls):
            self._train(self.images[index].float().div_(255), *self._draws())
        finish()

    def flops(self) -> float | None:
        """See :class:`benchmarks.harness.agreement.Peer`; None for compiled programs, whose fused kernels are not counted."""
        if self.mode in COMPILED:
            return None
        with FlopCounterMode(display=False) as counter:
            self.run(1)
        return float(counter.get_total_flops())

    def compile_s(self) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`; it is the first step that compiles."""

    def peak_bytes(self) -> int | None:
        """See :class:`benchmarks.harness.agreement.Peer`; None where compiled: the compiler's memory stays."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.run(2)
            return torch.cuda.max_memory_allocated()
        return None if self.mode in COMPILED else growth(self.before, lambda: self.run(2))

    def close(self) -> None:
        """Nothing is held but memory."""


class SAEPeer(_Peer):
    """The sigmoid + KL autoencoder or the TopK one, with the running statistics that our state keeps."""

    def __init__(self, config: SAEConfig, trees: tuple[Any], images: np.ndarray, mode: Mode):
        super().__init__(images, config.batch_size, mode)
        self.config, self.steps = config, 0
        self.params = _leaves(saes.layout(trees[0]), mode)
        self.optimiser = self._adam(self.params, config.learning_rate)
        target = torch.full((config.d_sae,), config.rho, device=self.device)
        self.statistics = (target.clone(), target.clone(), torch.zeros_like(target, dtype=torch.int32))
        self.gradients = self._value_and_grad(self._loss)

    @staticmethod
    def _kl(logits: torch.Tensor, rho: float, log_n: float) -> torch.Tensor:
        log_on = torch.logsumexp(F.logsigmoid(logits), 0) - log_n
        log_off = torch.logsumexp(F.logsigmoid(-logits), 0) - log_n
        return (rho * (math.log(rho) - log_on) + (1 - rho) * (math.log1p(-rho) - log_off)).sum()

    def _loss(self, p: Params, x: torch.Tensor, statistics: tuple[torch.Tensor, ...]) -> Any:
        config, log_n = self.config, math.log(len(x))
        rho = config.rho
        logits = F.linear(x, p["W_enc"], p["b_enc"]).float()  # where it is not, under autocast
        if config.variant == "topk":
            largest, places = logits.topk(config.k, dim=-1, sorted=False)
            codes = torch.zeros_like(logits).scatter(-1, places, largest.relu())
        else:
            codes = torch.sigmoid(logits)
        x_hat = F.linear(codes, p["W_dec"], p["b_dec"])
        reconstruction = 0.5 * (x_hat - x).square().sum(-1).mean()
        sparsity = reconstruction.new_zeros(())
        if config.variant == "kl":
            sparsity = self._kl(logits, rho, log_n)
        fixed = codes.detach()
        active = fixed > config.active_above
        mean, density, since = statistics
        statistics = (
            mean.lerp(fixed.mean(0), 1 - STATISTICS_DECAY),
            density.lerp(active.float().mean(0), 1 - STATISTICS_DECAY),
            torch.where(active.any(0), 0, since + 1),
        )
        l0 = active.sum(-1).float().mean()
        dead = (since >= config.dead_after).float().mean()
        return reconstruction + config.beta * sparsity, (
            reconstruction.detach(),
            sparsity.detach(),
            l0,
            dead,
            statistics,
        )

    def _train(self, images: torch.Tensor, *draws: torch.Tensor) -> None:
        self._begin()
        config = self.config
        gradients, (loss, aux) = self.gradients(self.params, images.flatten(1), self.statistics)
        reconstruction, sparsity, l0, dead, self.statistics = aux
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.steps / config.steps, 1.0)))
        self.optimiser.param_groups[0]["lr"] = config.learning_rate * (0.1 + 0.9 * cosine)
        self._apply(self.optimiser, self.params, gradients)
        self.steps += 1
        self.info = {
            "loss": loss.detach(),
            "reconstruction": reconstruction,
            "sparsity": sparsity,
            "auxiliary": reconstruction.new_zeros(()),
            "l0": l0,
            "dead_fraction": dead,
        }

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        names = ("mean_activation", "density", "steps_since_active")
        return Observation(
            self._scalars(),
            moments={"autoencoder": self._moments(self.optimiser, self.params)},
            params={
                "autoencoder": _numpy(self.params),
                "statistics": _numpy(dict(zip(names, self.statistics, strict=True))),
            },
        )


class GANPeer(_Peer):
    """The DCGAN with the relativistic or the non-saturating loss, R1 and R2 from the logits' own forward pass, and EMA."""

    def __init__(self, config: GANConfig, trees: tuple[Any, Any], images: np.ndarray, mode: Mode):
        super().__init__(images, config.batch_size, mode)
        if config.loss not in ("relativistic", "non_saturating"):
            raise ValueError(f"This peer has no loss {config.loss!r}; add it first.")
        if config.final_gamma != 1 or config.final_beta2 not in (None, config.beta2) or config.ema_burn_in:
            raise ValueError("This peer moves the learning rate alone along the schedule; add the others first.")
        height, width, channels = images.shape[1:]
        self.config, self.shape, self.steps = config, (channels, height, width), 0
        self.side = gans.smallest(config, images.shape[1:])
        self.g = _leaves(gans.generator_layout(trees[0], *self.side), mode)
        self.d = _leaves(gans.discriminator_layout(trees[1], *self.side), mode)
        self.ema = {name: p.detach().clone() for name, p in self.g.items()}
        self.ema_decay = 0.5 ** (config.batch_size / config.ema_half_life)
        options = {"betas": (config.beta1, config.beta2)}
        self.adam_g = self._adam(self.g, config.learning_rate, **options)
        self.adam_d = self._adam(self.d, config.learning_rate, **options)
        self.discriminator_gradients = self._value_and_grad(self._discriminator_loss)
        self.generator_gradients = self._value_and_grad(self._generator_loss)
        self.generate = self._compiled(self._generator) if mode in COMPILED else self._generator

    def _images(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the last dense layer as the smallest images."""
        x = x.unflatten(1, (-1, *self.side))
        return x.contiguous(memory_format=torch.channels_last) if self.mode == "channels_last" else x

    def _generator(self, p: Params, x: torch.Tensor) -> torch.Tensor:
        last = len(p) // 2 - 1
        for i in range(last + 1):
            w, b = p[f"w{i}"], p[f"b{i}"]
            if w.ndim == 4 and x.ndim == 2:
                x = self._images(x)
            x = F.linear(x, w, b) if w.ndim == 2 else F.conv_transpose2d(x, w, b, 2, 1)
            x = F.leaky_relu(x, 0.2) if i < last else torch.tanh(x.float())
        return x.unflatten(1, self.shape) if x.ndim == 2 else x

    @staticmethod
    def _discriminator(p: Params, x: torch.Tensor) -> torch.Tensor:
        head = len(p) // 2 - 1
        for i in range(head + 1):
            w, b = p[f"w{i}"], p[f"b{i}"]
            x = F.conv2d(x, w, b, 2, 1) if w.ndim == 4 else F.linear(x.flatten(1), w, b)
            x = F.leaky_relu(x, 0.2) if i < head else x
        return x.flatten().float()

    def _logits_and_norms(self, p: Params, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and squared gradient norms per example; the latter differentiable in ``p``."""
        if self.mode in COMPILED:

            def summed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                logits = self._discriminator(p, x)
                return logits.sum(), logits

            gradient, logits = torch.func.grad(summed, has_aux=True)(x)
        else:
            x.requires_grad_()
            logits = self._discriminator(p, x)
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return logits, gradient.square().flatten(1).sum(1)

    def _discriminator_loss(self, p: Params, both: torch.Tensor) -> Any:
        config, n = self.config, self.batch_size
        if config.r1_gamma or config.r2_gamma:
            logits, norms = self._logits_and_norms(p, both)
            r1, r2 = norms[:n].mean(), norms[n:].mean()
            penalty = 0.5 * (config.r1_gamma * r1 + config.r2_gamma * r2)
        else:
            logits, r1 = self._discriminator(p, both), both.new_zeros(())
            r2 = penalty = r1
        real, fake = logits[:n], logits[n:]
        if config.loss == "relativistic":
            loss = F.softplus(fake - real).mean()
        else:
            loss = (F.softplus(-real) + F.softplus(fake)).mean()
        return loss + penalty, tuple(t.detach() for t in (real.mean(), fake.mean(), r1, r2))

    def _generator_loss(self, p: Params, d: Params, real: torch.Tensor, z: torch.Tensor) -> Any:
        fake = self._discriminator(d, self._generator(p, z))
        if self.config.loss == "relativistic":
            with torch.no_grad():  # constant in the generator's parameters
                real_logits = self._discriminator(d, real)
            return F.softplus(real_logits - fake).mean(), ()
        return F.softplus(-fake).mean(), ()

    def _train(self, images: torch.Tensor, *draws: torch.Tensor) -> None:
        self._begin()
        self._set_rate()
        real, (d_noise, g_noise) = images.mul_(2).sub_(1), draws
        with torch.no_grad(), self._precision():
            fake = self.generate(self.g, d_noise)
        gradients, (loss_d, aux) = self.discriminator_gradients(self.d, torch.cat([real, fake]))
        self._apply(self.adam_d, self.d, gradients)
        gradients, (loss_g, _) = self.generator_gradients(self.g, self.d, real, g_noise)
        self._apply(self.adam_g, self.g, gradients)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.g.values()), 1 - self.ema_decay)
        names = ("real_logits", "fake_logits", "r1", "r2")
        self.info = {"discriminator_loss": loss_d.detach(), "generator_loss": loss_g.detach()}
        self.info |= dict(zip(names, aux, strict=True)) | {"generator_extra": loss_g.new_zeros(())}

    def _set_rate(self) -> None:
        """The learning rate of this step, along half a cosine."""
        config = self.config
        share = min(self.steps / (config.schedule_steps or config.steps), 1.0)
        moved = 0.5 * (1 - math.cos(math.pi * share)) * (config.final_learning_rate - 1)
        for optimiser in (self.adam_g, self.adam_d):
            optimiser.param_groups[0]["lr"] = config.learning_rate * (1 + moved)
        self.steps += 1

    def sample(self, n: int, *, seed: int) -> np.ndarray:
        """``(n, height, width, channels)`` float32 in [0, 1] by the averaged weights; ``seed`` fixes the noise."""
        source = torch.Generator(self.device).manual_seed(seed)
        size, found = (500, self.config.d_noise), []
        with torch.no_grad(), self._precision():
            for _ in range(-(-n // size[0])):
                z = torch.randn(size, device=self.device, generator=source)
                found.append(self._generator(self.ema, z).permute(0, 2, 3, 1).add(1).div(2).cpu().numpy())
        return np.concatenate(found)[:n]

    def _draws(self) -> tuple[torch.Tensor, ...]:
        shape = self.batch_size, self.config.d_noise
        return torch.randn(shape, device=self.device), torch.randn(shape, device=self.device)

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        scalars = self._scalars()
        scalars["logit_gap"] = scalars["real_logits"] - scalars["fake_logits"]
        return Observation(
            scalars,
            moments={
                "generator": self._moments(self.adam_g, self.g),
                "discriminator": self._moments(self.adam_d, self.d),
            },
            params={"generator": _numpy(self.g), "discriminator": _numpy(self.d), "ema": _numpy(self.ema)},
        )


KINDS: dict[str, Callable[..., _Peer]] = {"sae": SAEPeer, "gan": GANPeer}


def make(kind: str, config: Any, trees: tuple[Any, ...], images: np.ndarray, *, mode: Mode) -> _Peer:
    """The peer of one kind of work."""
    return KINDS[kind](config, trees, images, mode)

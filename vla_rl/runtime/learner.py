"""Where learning meets the hardware: device, mixed precision and several processes, through accelerate."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType, LoggerType, broadcast_object_list
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from vla_rl.models.graphs import recorder
from vla_rl.models.policy import Policy
from vla_rl.models.shards import gathered
from vla_rl.models.transfer import sent
from vla_rl.registry import ConfigError, FaultError, SetupError, nearest
from vla_rl.runtime import tracking
from vla_rl.runtime.hardware import DTYPES, check_device, check_started, use_tensor_cores
from vla_rl.runtime.memory import first_line, out_of_memory
from vla_rl.runtime.optimizers import ADAMW, check_optimizer, make_optimizer, take_step
from vla_rl.runtime.sharding import Parameters, Sharding
from vla_rl.runtime.tape import Tape

T = TypeVar("T")
MAX_BAD_STEPS = 20


def _forget_earlier_runs() -> None:
    """Let accelerate settle device and precision anew, as it would once a process; several processes share a run's.

    What it settled for earlier learners stays theirs: they refer to the state that is replaced here.
    """
    if PartialState._shared_state and PartialState().num_processes == 1:
        PartialState._shared_state, AcceleratorState._shared_state = {}, {}


def _check_tracker(name: str) -> None:
    """Raise where accelerate knows no such tracker, or would go on without one that is not installed."""
    shipped = LoggerType.list()
    if name not in (*shipped, *LOGGER_TYPE_TO_CLASS):  # somebody may have registered a class of his own
        raise ConfigError(f"tracker: unknown name {name!r}; {nearest(name, shipped)}")
    if name in shipped and name != "all" and LoggerType(name) not in get_available_trackers():
        raise SetupError(f"tracker: {name!r} is not installed; `pip install {name}`, or give tracker=null")


class Learner:
    """Backward passes, and optimiser steps on gradients averaged over all processes.

    A batch of B rows on each of P processes gives the update of one process with the P * B rows joined, because
    every loss is a mean over rows, `mean` averages statistics over processes, and `uniform` draws the joint
    batch's noise everywhere and returns the own rows.

    Attributes:
        dtype: what is computed in, under `mixed_precision`; None where weights are computed in as they are.
        record: what records work on the device, see `graphs`; None where nothing does.
        tape: where noise comes from while something is recorded; None else.

    Args:
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        mixed_precision: "no", "bf16" or "fp16".
        seed: of the noise; the same in every process.
        tracker: one of accelerate's, by name, such as "tensorboard" or "wandb"; it writes into `folder` once `track`
            was called.
        sharding: "fsdp": of several processes, each keeps a share of the layers of trunks; None: all of them.
        tf32: whether float32 is computed with TF32 on CUDA. cuda_graphs: whether work is recorded there.
        micro_batch_size: rows that policies read at a time, at most; None: all rows of a batch.
        gradient_checkpointing: whether trunks that train compute their layers once more for the gradient.
        optimizer: of policies, one of OPTIMIZERS; all else is learnt by AdamW.

    Raises:
        ConfigError: accelerate knows no such tracker, or was started to spread models itself; or layers are to be
            shared in fp16; or the optimiser can neither share nor be recorded.
        SetupError: the tracker, or what the optimiser needs, is not installed, or PyTorch is too old.
    """

    def __init__(
        self,
        device: str = "auto",
        mixed_precision: str = "no",
        seed: int = 0,
        tracker: str | None = None,
        folder: Path | None = None,
        sharding: str | None = None,
        tf32: bool = True,
        cuda_graphs: bool = False,
        micro_batch_size: int | None = None,
        gradient_checkpointing: bool = False,
        optimizer: str = ADAMW,
    ) -> None:
        check_device(device)
        check_optimizer(optimizer, sharding=sharding is not None, cuda_graphs=cuda_graphs)
        check_started()
        if tracker is not None:
            _check_tracker(tracker)
        if sharding and mixed_precision == "fp16":
            raise ConfigError("sharding: fsdp computes in float32 or bfloat16, not in fp16; give mixed_precision=bf16")
        _forget_earlier_runs()
        self.accelerator = Accelerator(
            cpu=device == "cpu", mixed_precision=mixed_precision, log_with=tracker, project_dir=folder
        )
        self._tracker, self._folder = tracker, folder
        self.device = self.accelerator.device
        use_tensor_cores(self.device, tf32)
        self.dtype = DTYPES[mixed_precision]
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self._generator = torch.Generator().manual_seed(seed)
        self._steps = 0
        self._bad_steps, self._skipped = (torch.zeros((), device=self.device) for _ in range(2))
        self.record = recorder(self.device, cuda_graphs)
        self.tape: Tape | None = None
        self._held: deque[tuple[Any, Any]] = deque()
        self._policies: list[Policy] = []
        self._rows_at_once, self._recomputes, self._optimizer = micro_batch_size, gradient_checkpointing, optimizer
        shares = sharding is not None and self.processes > 1
        self._sharding = Sharding(self.device, self.processes, self.dtype) if shares else None

    def track(self, step: int, settings: Mapping[str, Any] | None = None) -> None:
        """Begin to track a run that stands at `step`; TensorBoard forgets what it was told of later ones.

        settings: the run's config, by dotted key.

        Raises:
            SetupError: the tracker cannot open its files or its connection. What it raises itself is of its own kind.
        """
        if self._tracker is None or self._folder is None:
            return
        try:
            tracking.begin(self.accelerator, self._tracker, self._folder, step, settings or {})
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise SetupError(
                f"tracker: {self._tracker!r} cannot begin: {why}; set it up, or give tracker=null"
            ) from error

    @property
    def shows_films(self) -> bool:
        """Whether this process has a tracker that is to be shown films."""
        return self._tracker is not None and self._folder is not None and self.rank == 0

    def show(self, step: int, films: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Show the tracker films: uint8 frames [H, W, 3] by name. What it does not take is told, and ends no run."""
        if not self.shows_films or self._folder is None:
            return
        try:
            tracking.show(self.accelerator, self._folder, step, films)
        except Exception as error:
            warnings.warn(f"tracker: films of step {step} are left out: {type(error).__name__}: {error}", stacklevel=2)

    def close(self) -> None:
        """End what the tracker is told, so that another run of this process may begin with its own."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []

    def prepare(self, policy: Policy) -> Policy:
        """The policy on the device, in the learner's precision and without dropout: as it acts and learns."""
        policy.mixed_precision = self.dtype
        policy.read_at_once(self._rows_at_once)
        policy.recompute_layers(self._recomputes)
        if policy not in self._policies:
            self._policies.append(policy)
        if self._sharding is not None:
            self._sharding.deal_out(policy)
        return policy.to(self.device).eval()

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which networks other than the policy are computed, which sees to itself, and losses."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def optimizer(self, parameters: Parameters, lr: float, weight_decay: float = 0.0, of_policy: bool = False) -> Any:
        """AdamW over `parameters`, or groups of them; `of_policy`: as the run asks it for a policy's.

        Where layers are shared, all processes ask for its `state_dict` together, and the first one gets it whole.
        """
        own = parameters if self._sharding is None else self._sharding.own(parameters)
        made = make_optimizer(self._optimizer if of_policy else ADAMW, own, lr, weight_decay)
        if self._sharding is not None:
            self._sharding.saves_whole(made)
        return self.accelerator.prepare_optimizer(made)

    def step(self, loss: Tensor, optimizer: Any, clip: float) -> Tensor:
        """One optimiser step; returns the gradient's norm before clipping.

        A step with a gradient that is not finite is skipped, with weights and optimiser unchanged. Nothing here waits
        for an accelerator, but for one look at the skipped steps in `MAX_BAD_STEPS` steps.

        Raises:
            FaultError: the gradient was not finite in `MAX_BAD_STEPS` steps in a row.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self._average_gradients(parameters)
        self.accelerator.unscale_gradients(optimizer)
        norm = self._clip(parameters, clip)
        bad = (~torch.isfinite(norm)).float()
        # Accelerate's own step searches the disk for a package, twice: 0.6 ms, an eighth of an update of the critic.
        if self.accelerator.scaler is None:
            take_step(optimizer.optimizer, bad)
        else:
            optimizer.optimizer.found_inf = bad
            optimizer.step()
        self._count(bad, loss)
        return norm

    def in_memory(self, rows: int, work: Callable[[], T]) -> T:
        """What `work` gives; where memory does not suffice, once more, with half as many rows read at a time.

        The batch stays what it is, and so does its gradient. `work` may change nothing before its optimiser step, which
        is the last of it that takes much memory. From then on all is read so; that is said once it has sufficed.

        Args:
            rows: that `work` has policies read.

        Raises:
            FaultError: it does not suffice for one row either; or in one of several processes, where the others wait.
        """
        most = self._rows_at_once
        while True:
            noise, steps, said = self._generator.get_state(), self._steps, ""
            try:
                made = work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                said = first_line(error)
            if not said:  # out here, where no traceback holds on to what `work` had
                break
            self._read_less(rows, said, repeatable=steps == self._steps)
            self._generator.set_state(noise)
        if self._rows_at_once != most:
            warnings.warn(
                f"memory did not suffice for {rows} rows at a time: from here on the backbone reads "
                f"{self._rows_at_once} at a time. Batches and gradients stay what they are, and take longer",
                stacklevel=2,
            )
        return made

    def _read_less(self, rows: int, said: str, repeatable: bool) -> None:
        """Have all policies read half as many rows at a time as they did, of `rows`."""
        now = min(self._rows_at_once or rows, rows)
        if now == 1 or self.processes > 1 or not repeatable:
            raise FaultError(
                f"memory does not suffice for an update, with {now} rows read at a time on {self.device} ({said}); "
                "give smaller batches (algorithm.batch_size, algorithm.actor_batch_size, sft.batch_size), smaller "
                "pictures, gradient_checkpointing=true, policy.train=head or mixed_precision=bf16; `vla-rl plan` tells "
                "what fits"
            )
        clear_device_cache(garbage_collection=True)
        self._rows_at_once = now // 2
        for policy in self._policies:
            policy.read_at_once(self._rows_at_once)

    def _count(self, bad: Tensor, loss: Tensor) -> None:
        """Count the steps that were skipped, in all and in a row."""
        self._bad_steps.add_(1).mul_(bad)  # at the same address, where a recorded step finds it
        self._skipped += bad
        if self.tape is not None and self.tape.recording:
            self.tape.steps += 1
        else:
            self.look(1, loss)

    def look(self, steps: int, loss: Tensor) -> None:
        """Take note of so many steps, and look whether all of the last ones were skipped. Raises FaultError then."""
        before, self._steps = self._steps, self._steps + steps
        looks = self.device.type == "cpu" or self._steps // MAX_BAD_STEPS > before // MAX_BAD_STEPS
        if looks and self._bad_steps.item() >= MAX_BAD_STEPS:
            raise FaultError(
                f"the gradient was not finite {MAX_BAD_STEPS} times in a row, so that nothing is learned any more; the "
                f"loss is {loss.item()}"
            )

    @property
    def skipped(self) -> int:
        """How many optimiser steps were skipped since the start; asking waits for the device."""
        return int(self._skipped.item())

    def hold(self, sources: Any) -> None:
        """Refer to what is being copied to the device until it has arrived, so that its memory is not used again."""
        if self.device.type != "cuda":
            return
        arrived = torch.cuda.Event()
        arrived.record()
        self._held.append((arrived, sources))
        while self._held and self._held[0][0].query():
            self._held.popleft()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a statistic over the processes."""
        return value if self.processes == 1 else self.accelerator.reduce(value, reduction="mean")

    def total(self, *values: float) -> list[float]:
        """The sum of each number over the processes."""
        if self.processes == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        return self.accelerator.reduce(mine, reduction="sum").tolist()

    def agree(self, well: bool) -> bool:
        """Whether all processes are well; waits for all of them."""
        return self.total(not well) == [0.0]

    def any(self, true: bool) -> bool:
        """Whether something holds in any of the processes."""
        return true if self.processes == 1 else not self.agree(not true)

    def told(self, value: T) -> T:
        """What the first process says, in all of them; a plain value."""
        return value if self.processes == 1 else broadcast_object_list([value])[0]

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Within, torch draws the same in all processes, by the noise that they have in common."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**31, (), generator=self._generator)))
            yield

    @property
    def shares_layers(self) -> bool:
        """Whether each process keeps but a share of trunks' layers."""
        return self._sharding is not None

    def at_own_pace(self) -> AbstractContextManager[Any]:
        """The context in which each process reads policies as often as it likes, without a gradient. Where they share
        layers, all processes enter it, wait at its end for one another, and do nothing else together meanwhile."""
        return nullcontext() if self._sharding is None else self._sharding.at_own_pace()

    def weights(self, policy: Policy) -> dict[str, Tensor]:
        """A policy's weights as the first process writes them; all processes ask for them together."""
        return gathered(policy.state_dict(), kept=self.rank == 0)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform noise in (0, 1) for the own rows of a joint batch: shape [B, ...] on every process."""
        return sent(self.drawn(shape), self.device) if self.tape is None else self.tape.take(shape, self)

    def drawn(self, shape: tuple[int, ...]) -> Tensor:
        """The same, not yet on the device."""
        joint = torch.rand((shape[0] * self.processes, *shape[1:]), generator=self._generator)
        own = joint[self.rank * shape[0] : (self.rank + 1) * shape[0]]
        return own.clamp_(1e-6, 1.0 - 1e-6)

    def state_dict(self) -> dict[str, Any]:
        """The state of the noise, and the counts of steps."""
        counts = {"steps": self._steps, "bad_steps": self._bad_steps.clone(), "skipped": self._skipped.clone()}
        return {"generator": self._generator.get_state(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; older versions told of the noise alone."""
        self._generator.set_state(state["generator"].cpu())
        if "skipped" in state:
            self._steps = state["steps"]
            self._bad_steps.copy_(state["bad_steps"])
            self._skipped.copy_(state["skipped"])

    def _average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        if self.accelerator.distributed_type == DistributedType.NO:
            return
        if self._sharding is not None:  # which has averaged those of its own
            self._sharding.take_gradients(parameters)
            parameters = [each for each in parameters if not self._sharding.is_own(each)]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.accelerator.reduce(torch.cat([g.reshape(-1) for g in gradients]), reduction="mean")
        pieces = flat.split([g.numel() for g in gradients])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def _clip(self, parameters: list[torch.nn.Parameter], most: float) -> Tensor:
        """Bring the gradient's norm down to `most`; returns what it was."""
        if self._sharding is None:
            return torch.nn.utils.clip_grad_norm_(parameters, most)
        norm = self._sharding.norm(parameters)
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
        return norm

"""Several processes that have one trunk between them: who keeps what, and how they keep in step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from vla_rl.models.kept import Kept
from vla_rl.models.policy import Policy
from vla_rl.models.shards import deal_out, share_of
from vla_rl.models.trunk import Trunk
from vla_rl.registry import ConfigError, SetupError

Parameters = Iterable[nn.Parameter] | list[dict[str, Any]]


class Sharding:
    """Deals the layers of policies' trunks out to the processes of a run, and keeps the processes in step.

    A layer is computed by all processes together. While they learn they read equally often, by construction. Where each
    reads as often as it likes (`at_own_pace`), one that wants a layer says so before, and the others make it whole with
    it, and compute nothing.

    An optimiser changes a process's own shares as plain parameters: its fused step, like clipping, takes no mix of
    whole and dealt-out ones. Its state is saved whole, and so fits any number of processes.

    Args:
        device: of this process. dtype: what layers are computed in; None: as they are.

    Raises:
        SetupError: PyTorch is too old.
    """

    def __init__(self, device: torch.device, processes: int, dtype: torch.dtype | None) -> None:
        if not hasattr(FSDPModule, "reset_iter_state"):
            raise SetupError(f"sharding: fsdp needs a newer PyTorch, such as 2.13; this is {torch.__version__}")
        self._mesh, self._device, self._dtype = init_device_mesh(device.type, (processes,)), device, dtype
        self._roots: list[Any] = []  # trunks, which FSDP2 has made classes of its own of
        self._layers: list[FSDPModule] = []
        self._of: dict[nn.Parameter, DTensor] = {}
        self._apart = False

    # --- layers ---------------------------------------------------------------------------------------------

    def deal_out(self, policy: Policy) -> None:
        """Deal the layers of a policy's trunks out, those that are not yet; all else goes to the device.

        Raises:
            ConfigError: its head calls layers as often as its decisions need, which other processes' would not match.
        """
        if policy.settings.head.type != "parallel":
            raise ConfigError(
                "sharding=fsdp: needs policy.head.type=parallel; take sharding=null for an autoregressive head"
            )
        new = [trunk for trunk in (policy.trunk, policy.frozen) if trunk is not None and trunk not in self._roots]
        for trunk in new:
            for layer in deal_out(trunk, trunk.backbone.model, self._mesh, self._dtype):
                before = partial(self._await, len(self._layers))
                cast("nn.Module", layer).register_forward_pre_hook(before, prepend=True)
                self._layers.append(layer)
            self._roots.append(trunk)
        policy.to(self._device)
        for trunk in new:
            _look(policy, trunk)

    @contextmanager
    def at_own_pace(self) -> Iterator[None]:
        """Within, each process may read the trunks as often as it likes, without a gradient; the context ends once all
        processes have come to its end. What processes do together otherwise has no place in it."""
        if self._apart:
            yield
            return
        self._apart = True
        try:
            yield
        finally:
            while (wanted := self._next(len(self._layers))) < len(self._layers):
                self._serve(wanted)
            self._apart = False
            for root in self._roots:  # which had noted all that was read, for a gradient that nobody wants
                root.reset_iter_state()

    def _await(self, number: int, layer: nn.Module, given: Any) -> None:
        """Before a layer is computed: have the others take part, and take part in what they compute before it."""
        while self._apart and (wanted := self._next(number)) != number:
            self._serve(wanted)

    def _next(self, number: int) -> int:
        """The layer whose turn it is, where this process wants that of a number; the number of layers is for none."""
        wanted = torch.tensor(number, device=self._device)
        dist.all_reduce(wanted, dist.ReduceOp.MIN, self._mesh.get_group())
        return int(wanted)

    def _serve(self, number: int) -> None:
        self._layers[number].unshard()
        self._layers[number].reshard()

    # --- optimisers -----------------------------------------------------------------------------------------

    def own(self, parameters: Parameters) -> Parameters:
        """What an optimiser is given in place of parameters, or groups of them, that may be dealt out."""
        given: list[Any] = list(parameters)
        if given and isinstance(given[0], dict):
            return [{**group, "params": [self._own(each) for each in group["params"]]} for group in given]
        return [self._own(each) for each in given]

    def _own(self, parameter: Any) -> nn.Parameter:
        if not isinstance(parameter, DTensor):
            return parameter
        own = nn.Parameter(parameter.to_local().detach())
        self._of[own] = parameter
        return own

    def saves_whole(self, optimizer: torch.optim.Optimizer) -> None:
        """Have an optimiser's `state_dict` be whole, on the first process, and `load_state_dict` take such a one."""
        optimizer.register_state_dict_post_hook(self._gather)
        optimizer.register_load_state_dict_pre_hook(self._distribute)

    def take_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give own shares their gradients, which are averaged over the processes, once a loss went backward."""
        for own in parameters:
            if (dealt := self._of.get(own)) is not None:
                gradient = cast("DTensor | None", dealt.grad)
                own.data = dealt.to_local().detach()
                own.grad = torch.zeros_like(own) if gradient is None else gradient.to_local()
                dealt.grad = None

    def is_own(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter is this process's own share of one."""
        return parameter in self._of

    def norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """The norm of the gradient of parameters, of which all processes have their shares, and all of the others."""
        gradients: dict[bool, list[Tensor]] = {True: [], False: []}
        for each in parameters:
            if each.grad is not None:
                gradients[self.is_own(each)].append(each.grad)
        own, others = (get_total_norm(some).to(self._device).square() for some in gradients.values())
        dist.all_reduce(own, group=self._mesh.get_group())
        return (own + others).sqrt()

    def _gather(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        kept = dist.get_rank() == 0

        def gather(value: Tensor, dealt: DTensor) -> Tensor:
            made = DTensor.from_local(
                value, dealt.device_mesh, dealt.placements, run_check=False, shape=dealt.shape, stride=dealt.stride()
            ).full_tensor()
            return made.cpu() if kept else value

        return self._mapped(optimizer, state, gather)

    def _distribute(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return self._mapped(optimizer, state, share_of)

    def _mapped(
        self, optimizer: torch.optim.Optimizer, state: dict[str, Any], change: Callable[[Tensor, DTensor], Tensor]
    ) -> dict[str, Any]:
        """An optimiser's state, with what it holds for each element of a parameter that is dealt out changed."""
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        changed = {}
        for number, values in state["state"].items():
            dealt = self._of.get(parameters[number])
            changed[number] = {
                name: change(value, dealt) if dealt is not None and value.ndim > 0 else value
                for name, value in values.items()
            }
        return {**state, "state": changed}


@torch.no_grad()
def _look(policy: Policy, trunk: Trunk) -> None:
    """Read a black picture, all processes together: what FSDP2 makes at the first reading is there from then on."""
    size = trunk.backbone.image_size
    black = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=policy.device)
    with policy.precision():
        trunk([black], ["x"], torch.zeros(1, 0, device=policy.device), Kept())

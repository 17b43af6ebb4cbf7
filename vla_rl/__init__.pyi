# What `__init__.py` gives when it is asked for, for type checkers and editors, which do not run it.
import types

from vla_rl.data.record import record as record
from vla_rl.evaluate import evaluate as evaluate
from vla_rl.evaluate import make_env as make_env
from vla_rl.models.policy import Policy as Policy
from vla_rl.rollout.actor import Actor as Actor
from vla_rl.rollout.actor import load as load
from vla_rl.runtime.callbacks import Callback as Callback
from vla_rl.sft import sft as sft
from vla_rl.train import train as train

__version__: str

class Verb(types.ModuleType):
    @classmethod
    def make(cls, name: str) -> None: ...

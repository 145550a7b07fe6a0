"""Where the watch is put into Paddle: around the few calls that every training loop makes.

A wrapper keeps the name and module of what it wraps, so Paddle's own translation of code (``to_static``) takes it for
Paddle's and passes it by; in a process that was forked, and while a program is traced, it only calls what it wraps.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator

import paddle

from . import checks
from .board import Differs, digest_of
from .names import user_line
from .training import BATCHES, Watch

if TYPE_CHECKING:
    from .board import Board
    from .progress import Progress
    from .report import Report

COLLECTIVES = (
    *("all_reduce", "all_gather", "all_gather_object", "alltoall", "alltoall_single", "broadcast", "reduce", "scatter"),
    *("broadcast_object_list", "scatter_object_list", "gather", "reduce_scatter", "send", "recv", "barrier", "wait"),
)
MATCHED = frozenset(COLLECTIVES) - {"send", "recv", "wait"}
"""Those that every rank of a group calls."""
ROOTED = {"broadcast": "src", "scatter": "src", "broadcast_object_list": "src", "scatter_object_list": "src"}
GATHERED = {"reduce": "dst", "gather": "dst"}
"""Where one rank gives and the others wait for it, and where one waits for the others."""
BACKWARD_S = 300.0
"""How long a backward pass waits for the others' once: then they will not come, and no later one waits."""
LARGE = 64
"""Elements of a tensor in a collective, from which it may be one of gradients: a loss that is averaged has one."""
FILES = ("save", "load")


def install(report: Report, progress: Progress, world_size: int, board: Board | None = None) -> Watch:
    """Put a watch into Paddle, which has been imported, and return it."""
    hooks = Hooks(report, progress, Watch(report, progress, world_size), board)
    hooks.all(world_size)
    return hooks.watch


def install_progress(report: Report, progress: Progress, world_size: int) -> None:
    """Put only what tells of progress and waiting into Paddle: for a run without guards."""
    hooks = Hooks(report, progress, Watch(report, progress, world_size))
    if world_size > 1:
        hooks.collectives()
    hooks.passes()


class Hooks:
    """The hooks of this process, and the watch that they call.

    Args:
        report: which process is guarded.
        progress: what counts moves.
        watch: what is called; another one may take its place.
        board: what the ranks of this machine share, if there are several.
    """

    def __init__(self, report: Report, progress: Progress, watch: Watch, board: Board | None = None) -> None:
        self.report, self.progress, self.watch, self.board = report, progress, watch, board
        self.shares = False
        """The next backward pass exchanges gradients."""
        self.meets_for_backward = True
        self.met = False

    def all(self, world_size: int) -> None:
        """Put everything into Paddle that a guard wants."""
        self.layers()
        self.backward()
        self.optimizers()
        self.losses()
        self.data()
        if world_size > 1:
            self.collectives()
        if self.board is not None:
            self.board.groups |= {digest_of("backward"), digest_of(0, tuple(range(world_size)))}

    def _wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Replace ``owner.name`` by ``around(original, *its arguments)``, in the guarded process alone."""
        original = getattr(owner, name)
        here = self.report

        @functools.wraps(original)
        def wrapper(*args: Any, **named: Any) -> Any:
            if not here.here or not paddle.in_dynamic_mode():
                return original(*args, **named)
            return around(original, *args, **named)

        setattr(owner, name, wrapper)

    def layers(self) -> None:
        """See each layer made, and each call of an outermost one; the calls only until a program is traced."""
        layer = paddle.nn.Layer
        depth = [0]
        original_call, original_init = layer.__call__, layer.__init__

        @functools.wraps(original_init)
        def made(layer_: Any, *args: Any, **named: Any) -> None:
            original_init(layer_, *args, **named)
            self.watch.names.layers.add(layer_)

        @functools.wraps(original_call)
        def called(layer_: Any, *inputs: Any, **named: Any) -> Any:
            if self.watch.called is not None:
                self.watch.called.add(id(layer_))
            if depth[0]:
                return original_call(layer_, *inputs, **named)
            depth[0] = 1
            try:
                if paddle.in_dynamic_mode():
                    self.watch.forward(layer_, inputs, named)
                return original_call(layer_, *inputs, **named)
            finally:
                depth[0] = 0

        layer.__init__, layer.__call__ = made, called

        def traced(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            layer.__call__ = original_call
            self.watch.static, self.watch.called = True, None
            return original(*args, **named)

        self._wrap(paddle.jit, "to_static", traced)
        model = paddle.DataParallel
        original_parallel = model.__init__

        @functools.wraps(original_parallel)
        def parallel(model_: Any, *args: Any, **named: Any) -> None:
            original_parallel(model_, *args, **named)
            group = getattr(model_, "group", None)
            self.watch.data_parallel = group is None or getattr(group, "nranks", 0) == self.watch.world_size
            self.watch.unused_allowed = bool(getattr(model_, "find_unused_parameters", False))

        model.__init__ = parallel
        original_forward = model.forward

        @functools.wraps(original_forward)
        def forward(model_: Any, *args: Any, **named: Any) -> Any:
            if paddle.is_grad_enabled():
                self.shares = self.watch.data_parallel and bool(model_.grad_need_sync)
            return original_forward(model_, *args, **named)

        model.forward = forward

    def passes(self) -> None:
        """Count backward passes as progress."""

        def backward(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            with self._waits("backward") if self.watch.data_parallel else _nothing():
                result = original(*args, **named)
            self.progress.move()
            return result

        self._wrap(paddle.Tensor, "backward", backward)

    def backward(self) -> None:
        """See each backward pass: of a tensor, and of several at once."""

        def one(original: Callable[..., Any], loss: Any, *args: Any, **named: Any) -> Any:
            self.watch.backward(loss)
            with self._waits("backward") if self.watch.data_parallel else _nothing():
                self._meet_for_backward()
                return original(loss, *args, **named)

        self._wrap(paddle.Tensor, "backward", one)
        self._wrap(paddle.autograd, "backward", one)

    def optimizers(self) -> None:
        """See each step and each clearing of gradients, of the user's own optimizers too."""
        base = paddle.optimizer.Optimizer
        waiting = [base]
        while waiting:
            kind = waiting.pop()
            self._optimizer(kind)
            waiting += kind.__subclasses__()

        def defined(kind: Any, **named: Any) -> None:
            super(base, kind).__init_subclass__(**named)
            self._optimizer(kind)

        base.__init_subclass__ = classmethod(defined)  # type: ignore[arg-type]  # Paddle's class is Any here

    def _optimizer(self, kind: Any) -> None:
        around = {"step": self._stepping, "minimize": self._stepping, "__init__": self._made}
        around.update({"clear_grad": self._clearing, "clear_gradients": self._clearing})
        for name, each in around.items():
            if name in vars(kind):
                self._wrap(kind, name, each)

    def _made(self, original: Callable[..., Any], optimizer: Any, *args: Any, **named: Any) -> None:
        original(optimizer, *args, **named)
        self.watch.of(optimizer)

    def _stepping(self, original: Callable[..., Any], optimizer: Any, *args: Any, **named: Any) -> Any:
        if getattr(optimizer, "_devkit_in_step", False):
            return original(optimizer, *args, **named)
        optimizer._devkit_in_step = True
        evaluates = bool(args) and callable(args[0]) and not isinstance(args[0], paddle.Tensor)
        try:
            self.watch.within = evaluates
            with paddle.no_grad():
                taken = not evaluates and self.watch.before_step(optimizer)
            result = original(optimizer, *args, **named)
            with paddle.no_grad():
                self.watch.after_step(optimizer, taken=taken or evaluates)
        finally:
            optimizer._devkit_in_step = self.watch.within = False
        return result

    def _clearing(self, original: Callable[..., Any], optimizer: Any, *args: Any, **named: Any) -> Any:
        self.watch.cleared()
        return original(optimizer, *args, **named)

    def losses(self) -> None:
        """See the labels of cross entropies."""

        def cross_entropy(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            label = args[1] if len(args) > 1 else named.get("label", named.get("target"))
            ignored = args[3] if len(args) > 3 else named.get("ignore_index", -100)  # noqa: PLR2004 - its fourth
            self.watch.cross_entropy(label, ignored)
            return original(*args, **named)

        for name in ("cross_entropy", "softmax_with_cross_entropy"):
            if hasattr(paddle.nn.functional, name):
                self._wrap(paddle.nn.functional, name, cross_entropy)

    def data(self) -> None:
        """See each batch of a DataLoader, and files that are written or read."""
        progress = self.progress

        def batches(original: Callable[..., Any], loader: Any) -> Any:
            given = original(loader)
            return _Batches(given, lambda batch: _batch(self.watch, loader, batch))

        self._wrap(paddle.io.DataLoader, "__iter__", batches)

        def file(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            progress.busy = "a file"
            try:
                return original(*args, **named)
            finally:
                progress.busy = ""
                progress.move()

        for name in FILES:
            self._wrap(paddle, name, file)

    def collectives(self) -> None:
        """Mark a rank that is in a collective: what fails there may be another's fault."""
        import paddle.distributed as dist

        for name in COLLECTIVES:
            for owner in (dist, dist.stream):
                if hasattr(owner, name):
                    self._wrap(owner, name, functools.partial(self._collective, name))

    def _collective(self, name: str, original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if any(each.size >= LARGE for each in checks.tensors_in((args, named))):
            self.watch.large_collectives += 1
        with self._waits(name):
            outermost = name in MATCHED and self.board is not None and not self.met
            if not outermost:
                return original(*args, **named)
            self.met = True
            try:
                self._meet(name, args, named)
                return original(*args, **named)
            finally:
                self.met = False
                if self.board is not None:
                    self.board.end(self.report.rank)

    def _meet(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Tell the board of a collective, and wait there for those whose part it needs, where Gloo would give up."""
        board, own = self.board, self.report.rank
        call = signature(name, args, named, self.watch.world_size)
        if board is None or own not in call.ranks:
            return
        board.groups.add(call.key)
        number = board.begin(own, call.key, call.digest, f"{call.text} at {user_line()}")
        if not number:
            return
        needed = call.ranks if call.root is None else (call.root,)
        if call.root is not None and (own == call.root) != (name in GATHERED):
            needed = ()
        elif name in GATHERED:
            needed = call.ranks
        peers = [rank for rank in board.here(needed) if rank != own]
        try:
            if call.waits and peers:
                board.wait(own, peers, call.key, number, call.digest)
            else:
                board.check([rank for rank in board.here(call.ranks) if rank != own], call.key, number, call.digest)
        except Differs as other:
            self._differs(call.text, other)

    def _differs(self, own: str, other: Differs) -> None:
        what, _, line = other.theirs.rpartition(" at ")
        self.report.stop(
            "collectives-differ",
            f"it calls {own} where rank {other.rank} calls {what}",
            "All ranks of a group must call the same collectives in the same order.\n"
            f"rank {self.report.rank}: at {user_line()}\nrank {other.rank}: at {line}",
            step=self.progress.step,
        )

    def _meet_for_backward(self) -> None:
        """Wait for the other ranks' backward passes where this one exchanges gradients with them over Gloo."""
        board, shares = self.board, self.shares
        self.shares = False
        if board is None or not shares or on_gpu() or not self.meets_for_backward:
            return
        own, key = self.report.rank, digest_of("backward")
        number = board.begin(own, key, key, f"backward of a paddle.DataParallel at {user_line()}")
        peers = [rank for rank in board.here(range(self.watch.world_size)) if rank != own]
        try:
            self.meets_for_backward = board.wait(own, peers, key, number, key, most_s=BACKWARD_S)
        except Differs as other:
            self._differs("backward of a paddle.DataParallel", other)
        finally:
            board.end(own)

    @contextmanager
    def _waits(self, name: str) -> Iterator[None]:
        outer = self.progress.waiting
        self.progress.waiting = outer or name
        yield  # an error leaves the mark: it came out of a collective
        self.progress.waiting = outer
        self.progress.move()


@dataclass(frozen=True)
class Signature:
    """A collective as one rank calls it.

    Attributes:
        ranks: those that take part.
        key: of their group.
        digest: of what has to be the same on all of them.
        text: how it is shown.
        root: the rank that gives to the others or takes from them, or None.
        waits: whether the call returns when all is done.
    """

    ranks: tuple[int, ...]
    key: int
    digest: int
    text: str
    root: int | None
    waits: bool


def signature(name: str, args: tuple[Any, ...], named: dict[str, Any], world_size: int) -> Signature:
    """Return what a call of a collective says of itself."""
    group = named.get("group") or next((arg for arg in args if hasattr(arg, "ranks") and hasattr(arg, "id")), None)
    ranks = tuple(group.ranks) if group is not None else tuple(range(world_size))
    number = int(group.id) if group is not None else 0
    own = [arg for arg in (*args, *named.values()) if isinstance(arg, paddle.Tensor)]
    alike: tuple[Any, ...] = (name,)
    text = name
    if name in {"all_reduce", "broadcast", "reduce", "all_gather"} and own:
        tensor = own[-1]
        ops = [named.get("op"), *(arg for arg in args[1:2] if type(arg) is int)]
        alike = (name, str(tensor.dtype), int(tensor.size), ops[-1] or 0)
        text = f"{name} of {str(tensor.dtype).rpartition('.')[2]} {list(tensor.shape)}"
    role = ROOTED.get(name) or GATHERED.get(name)
    root = None
    waits = bool(named.get("sync_op", True)) and not any(arg is False for arg in args[1:]) and not on_gpu()
    if role:
        root = int(named.get(role, next((arg for arg in args[1:] if type(arg) is int), 0)))
        alike, text = (*alike[:3], root), f"{text} {'from' if role == 'src' else 'to'} rank {root}"
        waits = waits and not any(key.endswith("_in_group") for key in named)
    return Signature(ranks, digest_of(number, ranks), digest_of(*alike), text, root, waits)


@functools.lru_cache(maxsize=1)
def on_gpu() -> bool:
    """Tell whether collectives are NCCL's: they are queued, and nobody waits in them."""
    return bool(paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count())


class _Batches:
    """An iterator over batches that tells of each."""

    def __init__(self, batches: Any, tell: Callable[[Any], None]) -> None:
        self._batches, self._tell = batches, tell

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        batch = next(self._batches)
        self._tell(batch)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __len__(self) -> int:
        return len(self._batches)


def _batch(watch: Watch, loader: Any, batch: Any) -> None:
    watch.progress.move()
    if watch.world_size > 1 and watch.batches_told < BATCHES:
        watch.batch = watch.batch_of(batch)
        try:
            watch.loader = (len(loader), type(loader.batch_sampler).__name__)
        except (TypeError, RuntimeError, AttributeError):  # a stream has no length
            watch.loader = None


@contextmanager
def _nothing() -> Iterator[None]:
    yield

"""Where the watch is put into Paddle: around the few calls that every training loop makes.

A wrapper keeps the name and module of what it wraps, so Paddle's own translation of code (``to_static``) takes it for
Paddle's and passes it by; in a process that was forked, and while a program is traced, it only calls what it wraps.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator

import paddle

from . import checks
from .collectives import COLLECTIVES, LARGE, MATCHED, Meeting
from .training import BATCHES, Watch

if TYPE_CHECKING:
    from .board import Board
    from .progress import Progress
    from .report import Report

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
        self.report, self.progress, self.watch = report, progress, watch
        self.meeting = None if board is None else Meeting(report, progress, board, watch.world_size)
        self.shares = False
        """The next backward pass exchanges gradients."""

    def all(self, world_size: int) -> None:
        """Put everything into Paddle that a guard wants."""
        self.layers()
        self.backward()
        self.optimizers()
        self.losses()
        self.data()
        if world_size > 1:
            self.collectives()

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
                shares, self.shares = self.shares, False
                if self.meeting and shares:
                    self.meeting.for_backward()
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
        for name, wrapper in around.items():
            if name in vars(kind):
                self._wrap(kind, name, wrapper)

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
            self.watch.epoch = max(self.watch.epoch, _length(loader))
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

        def grouped(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            group = original(*args, **named)
            if self.meeting is not None:
                self.meeting.knows(group)
            return group

        self._wrap(dist, "new_group", grouped)
        for name in COLLECTIVES:
            for owner in (dist, dist.stream):
                if hasattr(owner, name):
                    self._wrap(owner, name, functools.partial(self._collective, name))

    def _collective(self, name: str, original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if any(tensor.size >= LARGE for tensor in checks.tensors_in((args, named))):
            self.watch.large_collectives += 1
        with self._waits(name):
            if name not in MATCHED or self.meeting is None:
                return original(*args, **named)
            with self.meeting.around(name, args, named):
                return original(*args, **named)

    @contextmanager
    def _waits(self, name: str) -> Iterator[None]:
        outer = self.progress.waiting
        self.progress.waiting = outer or name
        yield  # an error leaves the mark: it came out of a collective
        self.progress.waiting = outer
        self.progress.move()


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
    watch.batches = [*watch.batches[-7:], batch]
    if watch.data_parallel and watch.batches_told < BATCHES:  # ranks that share a product are given the same
        watch.batch = watch.batch_of(batch)
        length = _length(loader)
        watch.loader = (length, type(loader.batch_sampler).__name__) if length else None


def _length(loader: Any) -> int:
    try:
        return len(loader)
    except Exception:  # noqa: BLE001 - a stream has no length, and says so as it likes
        return 0


@contextmanager
def _nothing() -> Iterator[None]:
    yield

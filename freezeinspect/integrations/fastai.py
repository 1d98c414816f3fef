"""A watch in the Learner of fastai v2."""

from __future__ import annotations

from collections import defaultdict

import torch
from fastai.callback.core import Callback
from fastai.optimizer import Optimizer
from fastai.torch_core import rank_distrib

from freezeinspect.integrations.watching import Watching


class WatchFreezing(Watching, Callback):
    """Watch what a Learner fits; the options are those of Watching, and the story is told by the Learner's logger."""

    order = 90  # the last: the progress bar gives the logger back before, and a step that another cancels never begins
    run_valid = False
    _own: FastaiOptimizer | None = None

    def before_fit(self) -> None:
        """Begin anew, but for a search for a learning rate; a validation calls this too."""
        self._closes()
        self.run = not hasattr(self.learn, "lr_finder")

    def before_train(self) -> None:
        """Watch the model, in the modes that it trains in."""
        if self.watch is None or not self.watch.is_open:
            self._own = FastaiOptimizer(self.learn.opt) if isinstance(self.learn.opt, Optimizer) else None
            self._opens(self.learn.model, self._own or self.learn.opt.opt)

    def before_step(self) -> None:
        """Tell where a step of fastai's own optimizer begins, which has no hooks."""
        if self._own is not None and self.watch is not None:
            self._own.renew()
            self.watch.begins(0)

    def after_cancel_step(self) -> None:
        """Tell of one that began and was cancelled."""
        if self._own is not None and self.watch is not None:
            self.watch.failed(0)

    def after_step(self) -> None:
        """Tell where it ends, unless it was cancelled."""
        if self._own is not None and self.watch is not None:
            self.watch.ends(0)

    def after_batch(self) -> None:
        """Ask, where a power of two steps are taken."""
        self._stepped()

    def after_train(self) -> None:
        """Ask after an epoch, while the modes are those that it trained in."""
        self._asks()

    def after_fit(self) -> None:
        """Close the watch and tell its story."""
        self._own = None
        self._ends(None if rank_distrib() else self.learn.logger)


class FastaiOptimizer(torch.optim.Optimizer):
    """An optimizer of fastai's own, as far as torch's words for it go: its groups, and of whom it has a state."""

    def __init__(self, own: Optimizer) -> None:
        super().__init__(own.param_groups, {})
        self._own = own
        self.renew()

    def renew(self) -> None:
        """Read it as it is now: its schedule sets learning rates anew before each step."""
        own = self._own
        self.param_groups = [{**group, "weight_decay": group.get("wd")} for group in own.param_groups]
        kept = set(own._keep_on_clear)  # which are of no history
        self.state = defaultdict(dict, {one: state for one, state in own.state.items() if state.keys() - kept})

"""The one list of public names."""

from freezeinspect.asserts import assert_frozen as assert_frozen
from freezeinspect.asserts import assert_trainable as assert_trainable
from freezeinspect.distributed import compare_ranks as compare_ranks
from freezeinspect.freezing import bn_freeze as bn_freeze
from freezeinspect.freezing import freeze as freeze
from freezeinspect.freezing import freeze_all_but as freeze_all_but
from freezeinspect.freezing import freeze_to as freeze_to
from freezeinspect.freezing import set_train_mode as set_train_mode
from freezeinspect.freezing import set_trainable as set_trainable
from freezeinspect.freezing import unfreeze as unfreeze
from freezeinspect.observed import Observed as Observed
from freezeinspect.policy import Policy as Policy
from freezeinspect.readers.limits import Unreadable as Unreadable
from freezeinspect.recorder.opening import watch as watch
from freezeinspect.recorder.watch import Watch as Watch
from freezeinspect.regimes import WhatIf as WhatIf
from freezeinspect.regimes import what_if as what_if
from freezeinspect.report import check as check
from freezeinspect.report import diff as diff
from freezeinspect.report import inspect as inspect
from freezeinspect.report import policy_of as policy_of
from freezeinspect.report.difference import Diff as Diff
from freezeinspect.report.findings import Findings as Findings
from freezeinspect.report.model import Report as Report
from freezeinspect.report.run import Run as Run
from freezeinspect.state import Answer as Answer
from freezeinspect.state import Finding as Finding
from freezeinspect.state import Snapshot as Snapshot
from freezeinspect.state import Structure as Structure
from freezeinspect.walk import apply_leaf as apply_leaf
from freezeinspect.walk import children as children

__version__: str

"""Writes `runs.json`: the names of the runs that a commit's own code gives the trainings in
`ed07f68/plans.json`, without the options that name what was the default then.

    git worktree add /somewhere/old 30e7df5
    cd tests && PYTHONPATH=/somewhere/old python golden/make_run_names.py golden/30e7df5/runs.json
"""

import json
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main(target: Path) -> None:
    import test_golden_plans

    from reelbank.data.errors import InputError
    from reelbank.data.options import parse
    from reelbank.data.store import Store
    from reelbank.heads.training.options import TrainOptions
    from reelbank.heads.training.planning.plan import plan_runs

    class Factory:
        def mktemp(self, name: str) -> Path:
            return Path(tempfile.mkdtemp(name))

    bank = test_golden_plans.bank.__wrapped__(Factory())
    names = {}
    for case in test_golden_plans.PLANS["train"]:
        words = [f"BANK={bank}", *shlex.split(case["options"])]
        stores = [Store.open(bank / f"{name}.h5") for name in case["stores"].split()]
        try:
            plans = plan_runs(stores, parse(TrainOptions, words, "train"))
        except InputError as error:
            print("REFUSED", case["stores"], case["options"], error)
            continue
        names[f"{case['stores']}: {case['options']}"] = [plan.path.name for plan in plans]
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

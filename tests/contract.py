"""What every family of ours must satisfy. A new family is tested by being listed."""

import pytest

import meta_rl
from meta_rl.errors import InputError
from meta_rl.tasks import check_tasks


def check_family(family):
    """The contract of any family, and the words in which ours refuse tasks."""
    meta_rl.check_family(family)
    check_messages(family)


def check_messages(family):
    task = family.sample_tasks(1, seed=1)[0]
    for name in task:
        with pytest.raises(InputError, match=f"task parameter {name}: expected .*, got"):
            family.check_task({**task, name: "no such value"})
        with pytest.raises(InputError, match="missing"):
            family.check_task({key: v for key, v in task.items() if key != name})
    with pytest.raises(InputError, match="got 'no such parameter'"):
        family.check_task({**task, "no such parameter": 1.0})
    with pytest.raises(InputError, match="task: expected a dictionary"):
        check_tasks(family, [tuple(task.values())])

"""What every family of examples must satisfy. A new one is tested by being listed."""

import json

import pytest
import torch

from meta_rl.errors import InputError


def check_examples(family, shots=2, queries=3):
    """Everything below."""
    check_splits(family)
    for split in dict.fromkeys(family.splits):
        check_sampling(family, split)
        tasks = family.sample_tasks(3, 5, split)
        check_shapes_and_range(family, tasks, shots)
        check_order(family, tasks, shots, queries)
        check_tasks_do_not_mix(family, tasks, shots)
    if family.kind == "classification":
        check_labels_follow_the_order_of_classes(family, shots)


def check_splits(family):
    """Three names; the first is what sampling takes; an unknown one is refused."""
    assert len(family.splits) == 3
    assert family.sample_tasks(3, 1) == family.sample_tasks(3, 1, family.splits[0])
    with pytest.raises(InputError, match="split: expected one of"):
        family.sample_tasks(1, 1, "no such split")
    regression = "task" if "task" in family.sample_tasks(1, 1)[0] else "user"
    name = {"regression": regression, "classification": "classes"}[family.kind]
    seen = {}
    for split in dict.fromkeys(family.splits):
        tasks = family.sample_tasks(100, 0, split)
        values = [task[name] for task in tasks if name in task]
        seen[split] = {v for value in values for v in (value if name == "classes" else (value,))}
    for split, other in ((a, b) for a in seen for b in seen if a != b):
        assert seen[split]
        assert not seen[split] & seen[other]


def check_sampling(family, split):
    """Same seed, same tasks; they survive JSON; wrong ones are refused."""
    tasks = family.sample_tasks(20, 1, split)
    assert tasks == family.sample_tasks(20, 1, split)
    assert tasks != family.sample_tasks(20, 2, split)
    assert [family.check_task(json.loads(json.dumps(task))) for task in tasks] == tasks
    for name in tasks[0]:
        with pytest.raises(InputError, match=f"task parameter {name}: expected .*, got"):
            family.check_task({**tasks[0], name: "no such value"})
        with pytest.raises(InputError, match="missing"):
            family.check_task({key: v for key, v in tasks[0].items() if key != name})
    with pytest.raises(InputError, match="got 'no such parameter'"):
        family.check_task({**tasks[0], "no such parameter": 1.0})


def check_shapes_and_range(family, tasks, shots):
    x, y = family.draw(tasks, 1, shots, 7, "cpu")
    assert x.dtype == torch.float32
    if family.kind == "regression":
        assert x.shape == (3, shots, *family.input_shape)
        assert y.shape == (3, shots, family.output_size)
        assert y.dtype == torch.float32
        assert torch.isfinite(y).all()
    else:
        assert x.shape == (3, family.output_size * shots, *family.input_shape)
        assert 0.0 <= x.min() < x.max() <= 1.0
        labels = torch.arange(family.output_size).repeat_interleave(shots)
        assert y.dtype == torch.int64
        assert torch.equal(y, labels.expand(3, -1))


def check_order(family, tasks, shots, queries):
    """The seed orders examples; more of them keep those before; query follows support."""
    x, y = drawn(family, tasks, 0, shots + queries, 7)
    for first, count in ((0, shots), (0, 1), (shots, queries), (shots, 0)):
        part_x, part_y = drawn(family, tasks, first, count, 7)
        assert torch.equal(part_x, x[:, :, first : first + count])
        torch.testing.assert_close(part_y, y[:, :, first : first + count])
    assert torch.equal(drawn(family, tasks, 0, shots + queries, 7)[0], x)
    assert not torch.equal(drawn(family, tasks, 0, shots + queries, 8)[0], x)


def check_tasks_do_not_mix(family, tasks, shots):
    """A task's examples are what they are, whichever other tasks are in the meta-batch."""
    x, y = family.draw(tasks, 0, shots, 7, "cpu")
    for m in range(3):
        alone = [tasks[m] if row == m else tasks[(m + 1) % 3] for row in range(3)]
        own_x, own_y = family.draw(alone, 0, shots, 7, "cpu")
        torch.testing.assert_close(own_x[m], x[m])
        torch.testing.assert_close(own_y[m], y[m])


def check_labels_follow_the_order_of_classes(family, shots):
    """All examples of a class, in whichever order, are the same pictures at another label."""
    (task,) = family.sample_tasks(1, 5)
    turned = {"classes": (*task["classes"][1:], task["classes"][0])}
    least = min(family.examples_of(number) for number in task["classes"])
    (one,), (other,) = (drawn(family, [t], 0, least, 3)[0] for t in (task, turned))
    assert one.shape[0] == family.output_size
    if all(family.examples_of(number) == least for number in task["classes"]):
        for label in range(family.output_size):
            mine = sorted(picture.flatten().tolist() for picture in one[label])
            theirs = sorted(picture.flatten().tolist() for picture in other[label - 1])
            assert mine == theirs
    with pytest.raises(InputError, match=r"shots: expected at most \d+ examples a class"):
        family.draw([task], least, 1, 3, "cpu")


def drawn(family, tasks, first, count, seed):
    """Examples with an axis of classes: (M, N, count, ...); N is 1 for regression."""
    x, y = family.draw(tasks, first, count, seed, "cpu")
    classes = family.output_size if family.kind == "classification" else 1
    return x.unflatten(1, (classes, count)), y.unflatten(1, (classes, count))

"""What a run writes for TensorBoard."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.util.tensor_util import make_ndarray

from meta_rl.runs.tensorboard import RunWriter


def test_the_first_page_has_no_chart_of_what_the_run_does_not_write(tmp_path):
    writer = RunWriter(tmp_path, "return")
    metrics = {"meta/return_step_0": -2.0, "meta/gain": 1.0, "train/kl": 0.1, "time/fps": 9.0}
    writer.scalars(metrics, 1)
    writer.layout()
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(make_ndarray(event.tensor_proto).item())
    charts = {page.title: [chart.title for chart in page.chart] for page in layout.category}
    assert charts == {
        "The curves that matter": [
            "return before and after adaptation",
            "gain from adapting",
            "held-out tasks: return after k steps",
        ],
        "Outer step": ["KL of the step"],
        "Speed": ["samples a second"],
    }

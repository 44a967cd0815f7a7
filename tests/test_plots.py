"""The curves of `dvc plots show`."""

from dvc_render.vega import VegaRenderer
from projects import ROOT
from ruamel.yaml import YAML


def test_a_curve_leaves_out_steps_without_a_value() -> None:
    rows = [{"step": "1", "loss": "4.1", "eval_loss": "", "rev": "workspace"}]
    definition = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    assert [next(iter(plot.values()))["template"] for plot in definition] == ["curve", "curve"]
    drawn = VegaRenderer(
        rows, "curve", template="curve", template_dir=str(ROOT / ".dvc/plots"), x="step", y="eval_loss"
    ).get_filled_template()
    assert drawn["transform"] == [{"filter": "isValid(datum['eval_loss']) && datum['eval_loss'] !== ''"}]
    assert drawn["data"]["values"][0]["step"] == "1"

"""The examples are checked by the command that their README names, and show what they say that they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from postfleet_operator.cli import cli
from postfleet_operator.deployment import RenderSettings, render
from postfleet_operator.manifests import Manifests, load
from postfleet_operator.spec.pool import Autoscaling, Shadow
from postfleet_operator.workerset import worker_sets

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
SETTINGS = RenderSettings("registry/worker:1")


def example(name: str) -> Manifests:
    return load([EXAMPLES / name])


@pytest.mark.parametrize("name", FOLDERS)
def test_every_example_passes_the_check(name: str) -> None:
    result = CliRunner().invoke(cli, ["check", "-f", str(EXAMPLES / name)])
    assert result.exit_code == 0, result.output
    assert "ok" in result.output


@pytest.mark.parametrize("name", FOLDERS)
def test_every_example_can_be_rendered(name: str) -> None:
    found = example(name)
    for workers in worker_sets(found.pools, found.nodes):
        assert render(workers, SETTINGS)["metadata"]["name"] == workers.name


@pytest.mark.parametrize("name", FOLDERS)
def test_every_secret_that_a_node_names_is_there(name: str) -> None:
    found = example(name)
    for node in found.nodes:
        reference = node.spec.smtp.credentials_secret_ref
        assert reference is None or found.secret("default", reference.name)


def test_the_dedicated_node_has_a_deployment_of_its_own_at_its_place() -> None:
    found = example("03-dedicated-node")
    shared, dedicated = (render(each, SETTINGS) for each in worker_sets(found.pools, found.nodes))
    assert [each["metadata"]["name"] for each in (shared, dedicated)] == ["email", "email-eu-1"]
    pod = dedicated["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"postfleet.io/egress": "true"}
    assert pod["containers"][0]["args"][0].startswith("--queues=priority-high.eu-1,campaign-standard.eu-1")


def test_the_policy_of_the_autoscaling_example_leaves_no_field_out() -> None:
    [pool] = example("04-autoscaling").pools
    policy = pool.spec.autoscaling
    assert policy.model_fields_set == set(Autoscaling.model_fields)
    assert policy.shadow is not None
    assert policy.shadow.model_fields_set <= set(Shadow.model_fields)
    assert [policy.target.latency_for(queue) for queue in pool.spec.queues] == [2, 30, 300]
    [container] = render(worker_sets([pool], [])[0], SETTINGS)["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1] == {"name": "MALLOC_ARENA_MAX", "value": "2"}

"""Cluster files: the examples are read as they say, and everything wrong is refused with file, key, value and range."""

from pathlib import Path

import pytest
import yaml

from grainwise.domain.errors import ConfigurationError
from grainwise.simulation.cluster import Cluster
from grainwise.simulation.cluster_file import MAX_NODES, read_cluster
from grainwise.simulation.failure_plan import read_failures

EXAMPLES = Path(__file__).parents[3] / "examples" / "clusters"
LEAST = """
name: least
nodes:
  - {name: n, cpu_cores: 2, memory_gib: 4}
prices: {source: nominal, usd_per_core_hour: 0.04, usd_per_gib_hour: 0.005}
"""


def example(name: str) -> Cluster:
    return read_cluster((EXAMPLES / name).read_bytes(), name)


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_cluster(text.encode(), "c.yaml")
    said = str(raised.value)
    assert said.startswith("c.yaml")
    return said


def changed(**parts: object) -> str:
    return yaml.safe_dump(yaml.safe_load(LEAST) | parts)


def with_node(**keys: object) -> str:
    return changed(nodes=[{"name": "n", "cpu_cores": 2, "memory_gib": 4} | keys])


def test_the_least_file_has_defaults_for_the_rest() -> None:
    cluster = read_cluster(LEAST.encode(), "c.yaml")
    (node,) = cluster.nodes
    assert (node.node.name, node.node.cpu_cores, node.node.memory_mib, node.node.devices) == ("n", 2.0, 4096.0, ())
    assert (node.speed, node.provision_us, node.interference_fraction, node.signal_us) == (1.0, 0, 0.0, 0)
    assert cluster.network.gateway == "n"
    assert cluster.hop is None


def test_the_laptop_shows_every_key() -> None:
    cluster = example("laptop.yaml")
    assert (cluster.door.ingress_us, cluster.door.us_per_mib) == (500.0, 1000.0)
    assert (cluster.planner.fixed_us, cluster.planner.us_per_expanded_node) == (5000.0, 20.0)
    assert cluster.capabilities.payload_limit_bytes == 1 << 30
    text = (EXAMPLES / "laptop.yaml").read_text()
    whole = text[: text.index("# hop:")] + text[text.index("# hop:") :].replace("\n# ", "\n").removeprefix("# ")
    hop = read_cluster(whole.encode(), "laptop.yaml").hop
    assert hop is not None
    assert (hop.fixed_us, hop.us_per_mib, hop.process_mib) == (300.0, 200.0, 30.0)


def test_the_gpu_box_has_a_shared_and_a_sliced_device() -> None:
    (node,) = example("gpu-box.yaml").nodes
    assert [(one.name, one.kind, one.memory_mib, one.slots) for one in node.node.devices] == [
        ("a100-0", "a100", 80 * 1024.0, 0),
        ("a100-1", "a100", 80 * 1024.0, 7),
    ]


def test_sixteen_heterogeneous_machines() -> None:
    cluster = example("sixteen.yaml")
    assert len(cluster.nodes) == 16
    assert {(one.node.cpu_cores, one.speed) for one in cluster.nodes} >= {(16.0, 1.0), (8.0, 0.7), (64.0, 1.4)}
    assert {device.kind for one in cluster.nodes for device in one.node.devices} == {"l4", "a100"}
    assert sum(len(one.node.devices) for one in cluster.nodes) == 12
    assert cluster.network.gateway == "usual-1"
    assert [one.signal_us for one in cluster.nodes] == [0] + [150] * 15
    assert cluster.node("small-gpu-2").speed_on("l4") == 0.4
    assert cluster.network.mib_per_s == pytest.approx(25e9 / 8 / 2**20)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_names_the_source_of_its_prices(path: Path) -> None:
    assert "nominal" in read_cluster(path.read_bytes(), path.name).prices.source


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is None: give a mapping with the keys name, nodes, prices"),
        ("- a", "the file is ['a']: give a mapping"),
        ("{", "line 1, column 2"),
        ("name: a\nname: b", "line 2, column 1: the key 'name' is given twice"),
        ("name: \xff", "name is 'ÿ': give text that matches"),
        (changed(nodes=[]), "nodes is []: give a list of at least 1 (groups of machines)"),
        (changed(nodes=[{"name": "n"}]), "nodes[0].cpu_cores is missing: give a number above 0 and at most 4096 (cores of one"),
        (changed(colour="red"), "colour is 'red', a key that is not known here: use one of name, nodes, prices, description"),
        (with_node(cores=4), "nodes[0].cores is 4, a key that is not known here: use one of name, cpu_cores"),
        (with_node(cpu_cores=0), "nodes[0].cpu_cores is 0: give a number above 0 and at most 4096"),
        (with_node(cpu_cores="many"), "nodes[0].cpu_cores is 'many': give a number above 0"),
        (with_node(cpu_cores=True), "nodes[0].cpu_cores is True: give a number"),
        (with_node(memory_gib=float("nan")), "nodes[0].memory_gib is nan: give a number above 0"),
        (with_node(memory_gib=float("inf")), "nodes[0].memory_gib is inf: give a number above 0 and at most 65536"),
        (with_node(count=1.5), "nodes[0].count is 1.5: give a whole number at least 1 and at most 10000"),
        (with_node(count=10_001), "nodes[0].count is 10001: give a whole number at least 1 and at most 10000"),
        (with_node(signal_ms=-1), "nodes[0].signal_ms is -1: give a number at least 0 and at most 3.6e+06 (age of"),
        (with_node(name="n 1"), "nodes[0].name is 'n 1': give text that matches"),
        (with_node(reserve_cores=2), "nodes[0].reserve_cores is 2: give less than cpu_cores, which is 2"),
        (with_node(devices=[{"kind": "l4", "memory_gib": 24, "slots": 3}]), "nodes[0].devices[0].slots is 3: give one of 0, 7"),
        (with_node(devices=[{"kind": "cpu", "memory_gib": 24}]), "nodes[0].devices[0].kind is 'cpu'"),
        (changed(network={"gateway": "m"}), "network.gateway is 'm', which is no node here: use one of n"),
        (
            changed(network={"gbit_per_s": 0}),
            "network.gbit_per_s is 0: give a number above 0 and at most 100000 (of one transfer)",
        ),
        (changed(prices={"source": "", "usd_per_core_hour": 1, "usd_per_gib_hour": 1}), "prices.source is ''"),
        (changed(prices=None), "prices is None: give a mapping with the keys source"),
        (changed(runtime={"share_mechanism": "hope"}), "runtime.share_mechanism is 'hope': give one of cgroup1, cgroup2"),
        (changed(hop={"fixed_ms": 1}), "hop.ms_per_mib is missing: give a number at least 0"),
    ],
)
def test_what_is_wrong_is_named_with_its_key_its_value_and_what_it_may_be(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_the_reference_names_every_key_and_its_least_file_is_one() -> None:
    text = (EXAMPLES.parents[1] / "docs" / "reference" / "cluster-file.md").read_text()
    laptop = yaml.safe_load((EXAMPLES / "laptop.yaml").read_text())
    parts = [(f"{part}.{key}") for part in ("network", "prices", "door", "planner", "runtime") for key in laptop[part]]
    assert [key for key in [*laptop["nodes"][0], *parts] if f"`{key}`" not in text] == []
    assert read_cluster(text.split("```yaml\n")[1].split("```")[0].encode(), "least").nodes
    assert len(read_failures(text.split("```yaml\n")[2].split("```")[0].encode(), "failures").entries) == 3


def test_machines_must_have_names_of_their_own() -> None:
    node = {"name": "n", "cpu_cores": 2, "memory_gib": 4}
    assert "nodes.name gives n-2 to more than one machine" in refusal(
        changed(nodes=[node | {"count": 2}, node | {"name": "n-2"}])
    )


def test_devices_of_one_kind_have_one_speed() -> None:
    devices = [{"kind": "l4", "memory_gib": 24, "speed": speed} for speed in (1, 2)]
    assert "nodes[0].devices[1].speed is 2: l4 has 1 already" in refusal(with_node(devices=devices))


def test_groups_add_up_to_no_more_machines_than_allowed() -> None:
    node = {"cpu_cores": 2, "memory_gib": 4}
    groups = [node | {"name": "a", "count": MAX_NODES}, node | {"name": "b"}]
    assert f"nodes add up to {MAX_NODES + 1} machines: give at most {MAX_NODES}" in refusal(changed(nodes=groups))
    assert len(read_cluster(changed(nodes=groups[:1]).encode(), "c.yaml").nodes) == MAX_NODES


def test_a_file_of_another_kind_is_not_read_to_its_end() -> None:
    assert "has 2097152 bytes and at most 1048576 are read" in refusal("#" * (2 << 20))


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^c\.yaml"):
        read_cluster(b"name: \xff\xfe\x00", "c.yaml")


def test_a_file_that_refers_to_itself_is_refused() -> None:
    assert "nodes[0]" in refusal("name: x\nprices: {source: s, usd_per_core_hour: 0, usd_per_gib_hour: 0}\nnodes: &n [*n]")

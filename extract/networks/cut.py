"""Networks cut in two at a named node: what comes out there (`cut`), and the part that follows, to
train on (`rest`).

A node is a module ("layer3", "layer4.1": its output) or a step inside one ("layer4.1.add"), named
as torchvision's feature extraction names them. Batch norms stay whole modules, also timm's, which
hold their activation.
"""

import copy
import math

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import ops
from torchvision.models.feature_extraction import DualGraphModule, NodePathTracer

from reelbank.data.errors import InputError
from reelbank.extract.networks.by_name import CutByName
from reelbank.extract.networks.module import SIZE_DEPENDENT


def cut(model: nn.Module, nodes: tuple[str, ...], name: str) -> nn.Module:
    """The network up to `nodes`, in evaluation mode: (N, C, [s,] h, w) -> {node: tensor}, in one
    pass; the network itself without nodes. Parameters are shared with `model`. `name` stands in
    errors: InputError for an unknown node, or a network that torch.fx cannot follow."""
    if not nodes:
        return model
    if isinstance(model, CutByName):
        return model.cut(nodes, name)
    graph, names = _traced(model, nodes=" ".join(nodes), name=name, training=False)
    (whole,) = graph.find_nodes(op="output")
    values = {node: _find(names, node, name) for node in nodes}
    graph.erase_node(whole)
    graph.output(values)
    graph.eliminate_dead_code(_stays)
    for value in dict.fromkeys(values.values()):
        later = [user for user in value.users if user.op != "output"]
        if later:  # a ReLU may overwrite the value, so a copy is returned
            with graph.inserting_after(value):
                kept = graph.call_method("clone", (value,))
            value.replace_all_uses_with(kept, lambda user: user.op == "output")
    return fx.GraphModule(model, graph).eval()


def rest(
    model: nn.Module, node: str, name: str, leaves: tuple[type[nn.Module], ...] = ()
) -> nn.Module:
    """The network after `node`: rest(model, node)(cut(model, (node,))(x)[node]) = model(x). Its
    parameters are copies, all trainable, under the network's own names; training and evaluation
    mode work as in the whole network (it starts in the model's). Modules of the kinds `leaves` stay
    whole. Raises InputError as `cut` does, and if what follows the node also reads other values,
    such as those of a skip connection."""
    model_copy = copy.deepcopy(model).requires_grad_(True)
    graphs = {}
    for training in (True, False):
        graph, names = _traced(model_copy, nodes=node, name=name, training=training, leaves=leaves)
        value = _find(names, node, name)
        graph.eliminate_dead_code(_stays)
        if not value.users:
            raise InputError(
                f"NODE={node}: no layer of {name} uses the output of this node; give another node"
            )
        _check_alone(graph, names, value, node, name)
        graphs[training] = _after(graph, value)
    # Tracing in training mode may have changed the statistics of batch norms.
    model_copy.load_state_dict(model.state_dict())
    return DualGraphModule(model_copy, graphs[True], graphs[False], type(model).__name__).train(
        model.training
    )


class _Tracer(NodePathTracer):
    """Names nodes as torchvision does, except that a module keeps its name. Torchvision renames
    `conv_1` and `conv_2` to `conv` and `conv_1`."""

    def _get_node_qualname(self, module_qualname: str, node: fx.Node) -> str:
        if node.op != "call_module":
            return super()._get_node_qualname(module_qualname, node)
        modules, times, unique_name = dict(self.root.named_modules()), 0, module_qualname
        while unique_name in self.node_to_qualname.values() or (times and unique_name in modules):
            times += 1
            unique_name = f"{module_qualname}_{times}"
        return unique_name


def _traced(
    model: nn.Module,
    *,
    nodes: str,
    name: str,
    training: bool,
    leaves: tuple[type[nn.Module], ...] = (),
) -> tuple[fx.Graph, dict[fx.Node, str]]:
    """The model's graph in training or evaluation mode, and the names of its nodes in the order in
    which they run."""
    modules_of_ops = [
        kind
        for kind in vars(ops).values()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
    ]
    # Tracing through timm's batch norms would fix their mode and momentum.
    whole = [_BatchNorm, *SIZE_DEPENDENT, *leaves, *modules_of_ops]
    tracer = _Tracer(leaf_modules=whole, autowrap_modules=(math, ops))
    modes = [(part, part.training) for part in model.modules()]
    try:
        graph = tracer.trace(model.train(training))
    except Exception as error:  # noqa: BLE001 - torch.fx raises many kinds for a model that it cannot follow
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"NODE={nodes}: {name} cannot be cut at a node, because torch.fx cannot trace it "
            f"({reason}); leave NODE and AT out, or give another EXTRACTOR"
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode
    return graph, dict(tracer.node_to_qualname)


def _find(names: dict[fx.Node, str], node: str, name: str) -> fx.Node:
    """The value that `node` names; for a module, the last value computed in it."""
    inside = [
        value
        for value, value_name in names.items()
        if value_name == node or value_name.startswith(node + ".")
    ]
    if not inside:
        tops = list(dict.fromkeys(value_name.split(".")[0] for value_name in names.values()))
        raise InputError(
            f"NODE={node}: {name} has no such node; its top-level nodes are {', '.join(tops)}"
        )
    return inside[-1]


def _stays(value: fx.Node) -> bool:
    """Whether a value that nothing reads has to be kept: it is the input or the output of the
    graph, or it is written in place (`x.add_(y)`)."""
    return value.op in ("placeholder", "output") or (
        value.op == "call_method" and str(value.target).endswith("_")
    )


def _check_alone(
    graph: fx.Graph, names: dict[fx.Node, str], value: fx.Node, node: str, name: str
) -> None:
    """Raises InputError if what follows `value` also reads other values computed from the input.
    The message names the nearest modules at which the network can be cut."""
    order = {graph_node: place for place, graph_node in enumerate(graph.nodes)}
    of_input: set[fx.Node] = (
        set()
    )  # values that depend on the input, unlike constants and parameters
    for graph_node in order:
        if graph_node.op == "placeholder" or of_input.intersection(graph_node.all_input_nodes):
            of_input.add(graph_node)

    def values_crossing(place: int) -> list[fx.Node]:
        """Values computed before this place and read after it."""
        return [
            earlier
            for earlier in of_input
            if order[earlier] < place and any(order[user] > place for user in earlier.users)
        ]

    crossing = sorted(values_crossing(order[value]), key=order.__getitem__)
    if not crossing:
        return
    ends = {}  # place of a module's last value -> the module's shortest name
    for graph_node, full_name in names.items():
        if graph_node in order:
            shallowest = -1 if graph_node.op == "call_module" else 0
            for depth in range(full_name.count("."), shallowest, -1):
                ends[full_name.rsplit(".", depth)[0]] = order[graph_node]
    works = {
        place: module for module, place in reversed(ends.items()) if not values_crossing(place)
    }
    near = [
        works[choose(places)]
        for choose, places in (
            (max, [place for place in works if place < order[value]]),
            (min, [place for place in works if place > order[value]]),
        )
        if places
    ]
    instead = f"; use {' or '.join(near)}" if near else ""
    also = names.get(crossing[-1], crossing[-1].name)
    raise InputError(
        f"NODE={node}: {name} cannot be cut at this node, because later layers also use "
        f"{also}, which comes before this node{instead}"
    )


def _after(graph: fx.Graph, value: fx.Node) -> fx.Graph:
    """The part of the graph that follows `value`, which becomes its input."""
    before = []
    for graph_node in graph.nodes:
        before.append(graph_node)
        if graph_node is value:
            break
    with graph.inserting_before(before[0]):
        x = graph.placeholder("x")
        # A ReLU may overwrite its input, which belongs to the caller.
        x_copy = graph.call_method("clone", (x,))
    value.replace_all_uses_with(x_copy)
    for graph_node in reversed(before):
        if not graph_node.users:
            graph.erase_node(graph_node)
    return graph

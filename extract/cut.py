"""Networks cut in two at a named node: what comes out there (`cut`), and the part that follows, to train on (`rest`).

A node is a module ("layer3", "layer4.1": its output) or a step inside one ("layer4.1.add"), named as torchvision's feature
extraction names them. Batch norms stay whole modules, also timm's, which hold their activation.
"""

import copy
import math

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import ops
from torchvision.models.feature_extraction import DualGraphModule, NodePathTracer

from reelbank.data.errors import InputError


def cut(model: nn.Module, nodes: tuple[str, ...], name: str) -> nn.Module:
    """The network up to `nodes`, in evaluation mode: (N, C, [s,] h, w) -> {node: tensor}, in one pass; the network itself
    without nodes. Parameters are shared with `model`. `name` stands in errors: InputError for an unknown node, or a network
    that torch.fx cannot follow."""
    if not nodes:
        return model
    graph, names = _traced(model, False, " ".join(nodes), name)
    (whole,) = graph.find_nodes(op="output")
    found = {node: _find(names, node, name) for node in nodes}
    graph.erase_node(whole)
    graph.output(found)
    graph.eliminate_dead_code(_stays)
    for value in dict.fromkeys(found.values()):
        later = [user for user in value.users if user.op != "output"]
        if later:  # a ReLU after it may write into it: what is handed out is the value before
            with graph.inserting_after(value):
                kept = graph.call_method("clone", (value,))
            value.replace_all_uses_with(kept, lambda user: user.op == "output")
    return fx.GraphModule(model, graph).eval()


def rest(model: nn.Module, node: str, name: str, leaves: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """The network after `node`: rest(model, node)(cut(model, (node,))(x)[node]) = model(x). Its parameters are copies, all
    trainable, under the network's own names; training and evaluation mode work as in the whole network (it starts in the
    model's). Modules of the kinds `leaves` stay whole. Raises InputError as `cut` does, and for a node past which other values
    flow, as beside a skip connection."""
    own = copy.deepcopy(model).requires_grad_(True)
    graphs = {}
    for training in (True, False):
        graph, names = _traced(own, training, node, name, leaves)
        value = _find(names, node, name)
        graph.eliminate_dead_code(_stays)
        if not value.users:
            raise InputError(f"NODE={node}: nothing in {name} reads it")
        _check_alone(graph, names, value, node, name)
        graphs[training] = _after(graph, value)
    own.load_state_dict(model.state_dict())  # tracing in training mode may have counted a batch
    return DualGraphModule(own, graphs[True], graphs[False], type(model).__name__).train(model.training)


class _Tracer(NodePathTracer):
    """Torchvision's names of nodes, but a module keeps its own: there, `conv_1` and `conv_2` become `conv` and `conv_1`."""

    def _get_node_qualname(self, module_qualname: str, node: fx.Node) -> str:
        if node.op != "call_module":
            return super()._get_node_qualname(module_qualname, node)
        modules, times, found = dict(self.root.named_modules()), 0, module_qualname
        while found in self.node_to_qualname.values() or (times and found in modules):
            times += 1
            found = f"{module_qualname}_{times}"
        return found


def _traced(
    model: nn.Module, training: bool, nodes: str, name: str, leaves: tuple[type[nn.Module], ...] = ()
) -> tuple[fx.Graph, dict[fx.Node, str]]:
    """The model's graph in one of its modes, and its nodes' names in the order in which they run."""
    # traced through, timm's batch norms would have their mode and momentum fixed
    whole = [_BatchNorm, *leaves, *(one for one in vars(ops).values() if isinstance(one, type) and issubclass(one, nn.Module))]
    tracer = _Tracer(leaf_modules=whole, autowrap_modules=(math, ops))
    modes = [(part, part.training) for part in model.modules()]
    try:
        graph = tracer.trace(model.train(training))
    except Exception as error:  # noqa: BLE001 - torch.fx raises many kinds for a model that it cannot follow
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"NODE={nodes}: {name} cannot be cut ({reason})") from error
    finally:
        for part, mode in modes:
            part.training = mode
    return graph, dict(tracer.node_to_qualname)


def _find(names: dict[fx.Node, str], node: str, name: str) -> fx.Node:
    """The value that `node` names: a module's is the last one computed in it."""
    inside = [value for value, known in names.items() if known == node or known.startswith(node + ".")]
    if not inside:
        tops = list(dict.fromkeys(known.split(".")[0] for known in names.values()))
        raise InputError(f"NODE={node}: {name} has no such node; the outermost are {', '.join(tops)}")
    return inside[-1]


def _stays(value: fx.Node) -> bool:
    """Whether a value that nothing reads is kept: it is one end of the graph, or written in place (`x.add_(y)`)."""
    return value.op in ("placeholder", "output") or (value.op == "call_method" and str(value.target).endswith("_"))


def _check_alone(graph: fx.Graph, names: dict[fx.Node, str], value: fx.Node, node: str, name: str) -> None:
    """Raises InputError when more than `value` flows past it, and names the nearest modules where it does not."""
    order = {one: place for place, one in enumerate(graph.nodes)}
    of_input: set[fx.Node] = set()
    for one in order:  # constants and parameters are no part of the flow
        if one.op == "placeholder" or of_input.intersection(one.all_input_nodes):
            of_input.add(one)

    def beside(place: int) -> list[fx.Node]:
        return [one for one in of_input if order[one] < place and any(order[user] > place for user in one.users)]

    crossing = sorted(beside(order[value]), key=order.__getitem__)
    if not crossing:
        return
    ends = {}  # place of a module's last value -> the module's shortest name
    for one, known in names.items():
        if one in order:
            for depth in range(known.count("."), -1 if one.op == "call_module" else 0, -1):
                ends[known.rsplit(".", depth)[0]] = order[one]
    works = {place: module for module, place in reversed(ends.items()) if not beside(place)}
    near = [
        works[choose(places)]
        for choose, places in (
            (max, [place for place in works if place < order[value]]),
            (min, [place for place in works if place > order[value]]),
        )
        if places
    ]
    instead = f"; cut at {' or '.join(near)}" if near else ""
    also = names.get(crossing[-1], crossing[-1].name)
    raise InputError(f"NODE={node}: what follows in {name} also needs {also}, from before it{instead}")


def _after(graph: fx.Graph, value: fx.Node) -> fx.Graph:
    """The graph with `value` as its input, and without what led to it."""
    before = []
    for one in graph.nodes:
        before.append(one)
        if one is value:
            break
    with graph.inserting_before(before[0]):
        given = graph.placeholder("x")
        mine = graph.call_method("clone", (given,))  # a ReLU may write into it, and the caller keeps theirs
    value.replace_all_uses_with(mine)
    for one in reversed(before):
        if not one.users:
            graph.erase_node(one)
    return graph

"""Plans download nothing, cached weights need no network, and without a network a command ends at
once with one message."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from test_extract import encode
from torchvision import models

from reelbank.data.store.reader import Store
from reelbank.extract.networks.weights import state_hash


@pytest.fixture
def counting() -> Iterator[tuple[str, list[int]]]:
    """A server that takes connections and closes them, and a list with one entry for each."""
    listening = socket.create_server(("127.0.0.1", 0))
    connections: list[int] = []

    def serve() -> None:
        while True:
            try:
                connection, address = listening.accept()
            except OSError:
                return
            connections.append(address[1])
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", connections
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


SCRIPT = """
import contextlib, io, json, sys
import reelbank
results = []
for words in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = reelbank.main(words)
    results.append((code, out.getvalue()))
print(json.dumps(results))
"""


def run(folder: Path, server: str, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """(exit code, output) of commands in one process whose caches lie in `folder` and whose only
    way out is the server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and name != "HF_HUB_OFFLINE"
    }
    proxies = dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), server
    )
    caches = {
        "TORCH_HOME": str(folder / "torch"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": server,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        cwd=folder,
        env={**kept, **proxies, **caches, "NO_PROXY": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


WORDS = ("extract", "DATASET=folder", "ROOT=videos", "T=2", "CROPS=1", "SIZE=32", "RESIZE=32")


@pytest.fixture
def cached(tmp_path: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A ResNet-18 of torchvision's and a ResNet-10 of timm's, in files that lie where their loaders
    keep them."""
    torch.manual_seed(3)
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    ours = models.resnet18()
    torch.save(
        ours.state_dict(), tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    )
    theirs = timm.create_model("resnet10t")
    repository = tmp_path / "hf" / "hub" / "models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(theirs.state_dict(), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    ours.fc = torch.nn.Identity()
    theirs.reset_classifier(0)
    return ours, theirs


@pytest.mark.long
def test_plans_fetch_nothing_and_weights_that_are_here_need_no_network(
    tmp_path: Path, counting: tuple[str, list[int]], cached: tuple[torch.nn.Module, torch.nn.Module]
) -> None:
    server, connections = counting
    encode(tmp_path / "videos" / "a" / "x.avi", 8, 0)
    (code, said), (timm_code, timm_said), *done = run(
        tmp_path,
        server,
        (
            *WORDS,
            "STREAM=rgb flow",
            "EXTRACTOR=torchvision:resnet34",
            "FLOW=raft_small",
            "CLIP=flow=1",
            "PLAN=1",
        ),
        (*WORDS, "EXTRACTOR=timm:resnet14t", "PLAN=1"),
        (*WORDS, "EXTRACTOR=torchvision:resnet18", "PLAN=1"),
        (*WORDS, "EXTRACTOR=torchvision:resnet18"),
        (*WORDS, "EXTRACTOR=timm:resnet10t", "PLAN=1"),
        (*WORDS, "EXTRACTOR=timm:resnet10t"),
    )
    assert (code, timm_code, [code for code, _ in done]) == (0, 0, [0] * 4), (said, timm_said, done)
    assert connections == []
    rgb, flow = said[: said.index("\nflow with")], said[said.index("\nflow with") :]
    assert "  weights to download: resnet34-b627a593.pth, 87 MB\n" in rgb and "raft" not in rgb
    assert (
        "  weights to download: resnet34-b627a593.pth, 87 MB\n" in flow
        and "raft_small_C_T_V2-01064c6d.pth, 4 MB" in flow
    )
    assert (
        "  2 rows" in rgb
        and "  a store whose name depends on the weights to download (embedding): 512 numbers per row"
        in rgb
    )
    assert "weights to download: timm/resnet14t.c3_in1k, about " in timm_said
    of_resnet34 = (
        "ResNet34_Weights.IMAGENET1K_V1, revision resnet34-b627a593.pth, license not stated"
    )
    assert f"  weights: {of_resnet34}\n" in rgb
    assert (
        "  weights: Raft_Small_Weights.C_T_V2, revision raft_small_C_T_V2-01064c6d.pth, license not stated"
        in flow
    )
    assert f"  weights: timm resnet10t c3_in1k, revision {'0' * 12}, license " in done[2][1]
    for number, model in (
        (0, cached[0]),
        (2, cached[1]),
    ):  # the plan names the store that is then made
        (_, planned), (_, said) = done[number : number + 2]
        assert "to download" not in planned
        store = (
            next(line for line in planned.splitlines() if line.startswith("  store "))
            .split()[1]
            .rstrip(":")
        )
        assert f"store {store}\n" in said
        with Store.open(tmp_path / store) as opened:
            assert opened.recipe["weights"]["sha256"] == state_hash(model)


def test_offline_a_server_is_asked_once(tmp_path: Path, counting: tuple[str, list[int]]) -> None:
    server, connections = counting
    encode(tmp_path / "videos" / "a" / "x.avi", 8, 0)
    done = run(
        tmp_path,
        server,
        (*WORDS, "EXTRACTOR=timm:resnet10t"),
        (*WORDS, "EXTRACTOR=timm:resnet14t"),
        (*WORDS, "EXTRACTOR=torchvision:resnet18"),
        (*WORDS, "EXTRACTOR=torchvision:resnet34"),
    )
    for code, said in done:
        assert (
            code == 2
            and said.count("could not be loaded from") == 1
            and "Without a network connection" in said
        )
    assert (
        len(connections) <= 3
    )  # of two servers; huggingface_hub asks again when a connection is closed

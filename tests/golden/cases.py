"""The options whose store names and run names must never change, and the stores that runs are planned
on. Used by `make_plans.py`, with a commit's own code, and by `test_golden.py`, with today's."""

import numpy as np

R18 = "EXTRACTOR=torchvision:resnet18 WEIGHTS=random"
OWN = "EXTRACTOR={tests}/golden/tiny.py:tiny WEIGHTS=own"
SMALL = f"CROPS=1 T=2 RESIZE=64 SIZE=64 {OWN}"
# Three streams, each with a network of its own.
MIXED = "STREAM='rgb flow audio' FLOW=dis WEIGHTS='rgb=own flow=random audio=random' "
MIXED += "EXTRACTOR='rgb={tests}/golden/tiny.py:tiny flow=torchvision:resnet18 audio=vggish'"

# `extract`, on six clips of UCF-101's names: (data set, options).
EXTRACT = [
    ("ucf101", R18),
    ("ucf101", OWN),
    ("ucf101", f"{OWN} STREAM=flow"),
    (
        "ucf101",
        MIXED,
    ),
    ("ucf101", "STREAM=rgb EXTRACTOR=timm:resnet18 WEIGHTS=random"),
    ("ucf101", "STREAM=rgb EXTRACTOR=pixels"),
    ("ucf101", "STREAM=flow EXTRACTOR=pixels FLOW=dis CLIP=5"),
    ("ucf101", "STREAM=audio EXTRACTOR=vggish WEIGHTS=random"),
    ("ucf101", "STREAM=audio WEIGHTS=random EXTRACTOR=vggish T=5"),
    ("ucf101", f"STREAM=audio {R18}"),
    ("ucf101", "STREAM=magnitude FLOW=dis"),
    ("ucf101", "STREAM=magnitude FLOW=tvl1 RESIZE=96"),
    ("ucf101", "STREAM=idt"),
    ("ucf101", "STREAM=idt TRAJECTORIES=50 SEED=3 RESIZE=120 DECODER=opencv"),
    ("ucf101", f"STREAM=flow FLOW=dis {SMALL}"),
    ("ucf101", f"STREAM=flow FLOW=farneback CLIP=3 {SMALL}"),
    ("ucf101", f"STREAM=flow FLOW=tvl1 STRIDE=4 {SMALL}"),
    ("ucf101", f"STREAM=flow FLOW=raft_small FLOW_WEIGHTS=random SEED=2 {SMALL}"),
    ("ucf101", f"STREAM='rgb flow' FLOW=dis {SMALL}"),
    ("ucf101", f"STREAM='rgb flow' FLOW=dis GRID=16 {SMALL}"),
    ("ucf101", f"SAMPLING=adaptive FLOW=dis {SMALL}"),
    ("ucf101", f"SAMPLING=adaptive FLOW=tvl1 STREAM='rgb flow' {SMALL}"),
    ("ucf101", f"SAMPLING=segments {SMALL}"),
    ("ucf101", f"SAMPLING=sigma T=0 STRIDE=8 {OWN}"),
    ("ucf101", f"WINDOWS=3 WINDOW=32 {SMALL}"),
    ("ucf101", f"VIEWS=3 SEED=1 {SMALL}"),
    ("ucf101", f"KEEP_CROPS=1 CROPS=5 T=3 {OWN}"),
    ("ucf101", f"CROPS=10 SEED=7 {OWN}"),
    ("ucf101", f"NODE='layer2 layer4' CROPS=1 T=2 RESIZE=64 SIZE=64 {R18}"),
    ("ucf101", f"AT=layer4.0 CROPS=1 T=2 RESIZE=64 SIZE=64 {R18}"),
    ("ucf101", f"NODE=layer3 POOL=0 CROPS=1 T=2 RESIZE=64 SIZE=64 {R18}"),
    ("ucf101", f"PRECISION=bf16 {SMALL}"),
    ("ucf101", f"DECODER=decord ANTIALIAS=0 {SMALL}"),
    ("ucf101", f"IMAGE_FPS=30 {SMALL}"),
    (
        "ucf101",
        f"{MIXED} IMAGE_FPS=12.5",
    ),
    ("ucf101", "EXTRACTOR=torchvision:r3d_18 WEIGHTS=random CROPS=1"),
    (
        "ucf101",
        "EXTRACTOR=torchvision:r3d_18 WEIGHTS=random CLIP=8 STRIDE=4 STREAM='rgb flow' FLOW=dis",
    ),
    ("ucf101", "EXTRACTOR=motion_cnn WEIGHTS=random WIDTH=0.125 CLIP=5 STREAM=flow FLOW=dis"),
    ("ucf101", "EXTRACTOR=bn_inception WEIGHTS=random STREAM='rgb flow' FLOW=dis"),
    ("ucf101", "RECIPE=reslstm EXTRACTOR=torchvision:resnet18 WEIGHTS=random"),
    ("ucf101", "RECIPE=rrn EXTRACTOR=torchvision:resnet18 WEIGHTS=random AT=layer4.0"),
    ("toy", ""),
    ("toy", "STREAM='rgb flow audio'"),
    ("toy", "STREAM='rgb flow audio idt' SEED=1"),
    ("toy", "SAMPLING=adaptive"),
    ("charades", f"STREAM='rgb flow' {R18}"),
    ("charades", f"WINDOWS=5 {R18} STREAM='rgb audio'"),
    ("hmdb51", f"STREAM='rgb flow' {SMALL}"),
    ("folder-clips-1234abcd", f"{SMALL}"),
]

# Stores that runs are planned on: name -> (case of EXTRACT and its store, shape of a row, labels).
STORES = {
    "rgb": (14, 0, (8,)),
    "vectors": (0, 0, (12,)),
    "audio": (7, 0, (6,)),
    "idt": (12, 0, (426,)),
    "maps": (29, 0, (256, 2, 2)),
    "pixels": (6, 0, (10, 32, 32)),
    "views": (25, 0, (8,)),
    "crops": (26, 0, (5, 8)),
    "windows": (24, 0, (8,)),
}

# `train`, by store: (stores, options).
TRAIN = [
    *(
        ("vectors", f"HEAD={head}")
        for head in ["reslstm", "lstm", "gru", "bilstm", "bigru", "sru", "meanpool", "tsn"]
    ),
    ("vectors", "HEAD=reslstm LAYERS=3 HIDDEN=16 DROPOUT=0.5 RESIDUAL=0"),
    ("vectors", "HEAD=gru ATTENTION=1 INPUT_DROPOUT=0.25 SEED='0 1 2' SPLIT=all"),
    ("vectors", "HEAD=sru POOL=max LAYERS=2"),
    ("vectors", "HEAD=tsn SAMPLING=segments T=2 POSITIONS=3 POOL=max"),
    ("vectors", "HEAD=lstm SAMPLING=windows T=2 STRIDE=1 WINDOWS=4"),
    (
        "vectors",
        "HEAD=meanpool ZNORM=0 PCA=2 EPOCHS=5 BATCH=4 LR=0.01 OPTIMISER=adam WEIGHT_DECAY=0.1",
    ),
    ("vectors", "HEAD=meanpool SCHEDULE=step LR_DROPS='3 5' PATIENCE=0 VALIDATION=0 REFIT=0"),
    ("vectors", "HEAD=meanpool SCHEDULE=plateau BEST_BY=loss BATCH_SHARE=0.5"),
    ("vectors", "HEAD=gru CLASSIFIER=svm SVM_LAMBDA=0.1"),
    ("vectors", "HEAD=gru CLASSES='Archery Biking' AVERAGE=logits"),
    ("vectors", "HEAD=fisher COMPONENTS=2"),
    ("vectors", "RECIPE=reslstm PCA=8 RMSPROP_ALPHA=0.99"),
    ("vectors", "RECIPE=multistream"),
    ("vectors", "RECIPE=mrrn RNN_DROPOUT=0 DROPOUT=0.5"),
    ("idt", "HEAD=fisher COMPONENTS=2 PCA=0"),
    ("idt", "HEAD=fisher COMPONENTS=4 PCA=5 ZNORM=1"),
    ("audio", "HEAD=bigru"),
    ("rgb", "HEAD=bilstm"),
    ("views", "HEAD=gru"),
    ("views", "HEAD=gru VIEWS=one"),
    ("views", "HEAD=gru VIEWS=none"),
    ("crops", "HEAD=gru"),
    ("crops", "HEAD=gru CROPS=each VIEWS=one"),
    ("windows", "HEAD=gru OVER_CLIPS=max"),
    ("maps", "HEAD=rrn T=2"),
    ("maps", "HEAD=rrn CONTEXT=3 SKIP=linear NORM_MOMENTUM=0.1"),
    ("maps", "HEAD=rrn SKIP=nonlinear DROPOUT=0.3"),
    ("maps", "HEAD=rlstm T=2"),
    ("maps", "HEAD=rlstm BRANCHES=local T=2 TRUNK=pool"),
    ("maps", "HEAD=meanpool"),
    ("maps", "HEAD=gru"),
    ("rgb vectors", "HEAD=gru MID=concat STREAM=rgb+rgb"),
    ("rgb vectors", "HEAD=gru PCA=3"),
]


# Cases of EXTRACT that build large networks: their test runs with LONG=1.
LARGE = ("r3d_18", "RECIPE=", "bn_inception", "charades", "vggish T=5", "IMAGE_FPS=12.5", "idt")


def row_values(number: int, shape: tuple[int, ...], rows: int) -> np.ndarray:
    """(rows, *shape) float16 that depend on the video's number alone."""
    size = rows * int(np.prod(shape))
    return ((np.arange(size) * (number + 3) % 97) / 16 - 3).reshape(rows, *shape).astype(np.float16)


def fill_store(writer, videos, recipe, shape: tuple[int, ...], as_video=dict) -> None:
    """Add every video to a StoreWriter, four rows for each window and view, and finish the store.

    videos: id, label, group and parts of each. as_video: makes of these what the writer takes; the
    code that the golden names are from takes dictionaries.
    """
    metas = [as_video(**video, source={"bytes": 1, "frames": 12, "fps": 10.0}) for video in videos]
    rows, views = 4 * recipe.get("windows", 1), 1 + recipe.get("views", 0)
    times_seconds = np.tile(np.arange(rows) / 10, views)
    for number, meta in enumerate(metas):
        values = row_values(number, shape, rows * views)
        if recipe.get("extractor") == "pixels":
            values = values.astype(np.uint8)
        extra = {"views": np.repeat(np.arange(views, dtype=np.uint8), rows)} if views > 1 else {}
        writer.add(meta, values, times_seconds, **extra)
    writer.finish(metas)

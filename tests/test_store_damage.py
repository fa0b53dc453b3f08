"""Damage to files is detected before they are used, and untrusted files cannot refer to anything
outside themselves."""

import dataclasses
import json
import random
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import xxhash
from made_files import build, datasets_of, earlier_datasets_of, seal
from made_stores import DATASET, RECIPE, check_holds, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store import commands as shelf
from reelbank.data.store.file import format as feature_file
from reelbank.data.store.file.header import DamagedFile, read_range
from reelbank.data.store.file.tree import tree_block_bytes
from reelbank.data.store.merging.files import OpenParts, PartFile
from reelbank.data.store.reader import Store
from reelbank.data.store.writer import StoreWriter


def damages(content, features, chance):
    """Endless damaged copies: flips all over (header, index and features alike), cuts, joins,
    blocks zeroed or moved."""
    size = len(content)
    areas = [
        (0, 512),
        (512, features[0] or size),
        features if features[1] else (0, size),
        (features[1], size),
    ]
    while True:
        copy = bytearray(content)
        first, last = chance.choice([area for area in areas if area[0] < area[1]])
        place = chance.randrange(first, last)
        kind = chance.choice(["bit", "bit", "bit", "byte", "cut", "join", "zero", "move"])
        if kind == "bit":
            copy[place] ^= 1 << chance.randrange(8)
        elif kind == "byte":
            copy[place] = (copy[place] + chance.randrange(1, 256)) % 256
        elif kind == "cut":
            del copy[place:]
        elif kind == "join":
            copy += bytes(chance.randrange(1, 600))
        elif kind == "zero":
            copy[place : place + 64] = bytes(len(copy[place : place + 64]))
        else:
            other = chance.randrange(512, size - 64)
            copy[place : place + 32] = copy[other : other + 32]
        if copy != content:
            yield kind, place, bytes(copy)


@pytest.mark.parametrize("compression", ["", "gzip"])
def test_no_damage_is_ever_read_as_features(tmp_path, compression):
    path, broken = tmp_path / "made.h5", tmp_path / "broken.h5"
    fill(path, range(8), (60,), compression=compression)
    header = feature_file.FeatureFile(path).header
    features = (header.features_start, header.features_start + header.features_bytes)
    assert bool(header.features_bytes) == (not compression)
    made, found_at = damages(path.read_bytes(), features, random.Random(1)), {"open": 0, "load": 0}
    for _ in range(500):
        kind, place, content = next(made)
        broken.write_bytes(content)
        try:
            with Store.open(broken) as store:
                with pytest.raises(InputError, match=r"the features of (dig|fly)/v\d+ are damaged"):
                    store.load()
                assert (
                    all(re.search(r"v\d+ are damaged", line) for line in store.verify())
                    and store.verify()
                ), (kind, place)
            found_at["load"] += 1
        except InputError as error:
            assert str(broken) in str(error) and "replace the file with a good copy" in str(
                error
            ), (
                kind,
                place,
            )
            found_at["open"] += 1
    assert found_at["open"] > 100 and (found_at["load"] > 50 or compression)


def test_a_damaged_video_is_named_and_the_others_are_read(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(8))
    start = feature_file.FeatureFile(path).header.features_start
    content = bytearray(path.read_bytes())
    content[start + 2 * 5 * 1] ^= 1  # the first row of video 1, after the one row of video 0
    path.write_bytes(content)
    with Store.open(path) as store:
        for number in (0, 2, 3, 4, 5, 6, 7):
            store.features(made_video(number).id)
        with pytest.raises(InputError, match=r"the features of fly/v001 are damaged"):
            store.features("fly/v001")
        with pytest.raises(InputError, match=r"the features of fly/v001 are damaged"):
            store.load()  # of all videos, which are read at once
        (line,) = store.verify()
        assert (
            line
            == f"{path}: the features of fly/v001 are damaged; restore the file, or extract again"
        )


def test_a_damaged_part_is_named_left_out_and_extracted_again(tmp_path, caplog):
    path = tmp_path / "made.h5"
    fill(path, range(6), finish=False, part_videos=2)
    part = sorted((tmp_path / "made.parts").iterdir())[1]
    content = bytearray(part.read_bytes())
    content[feature_file.FeatureFile(part).header.features_start] ^= 1
    part.write_bytes(content)
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert sorted(writer.done) == sorted(made_video(number).id for number in (0, 1, 4, 5))
        assert (
            f"{part}: the file is damaged, because its content does not match its SHA-256; this part of the store is ignored"
            in caplog.text
        )
        assert not writer.finish([made_video(number) for number in range(6)])
        for number in (2, 3):
            writer.add(made_video(number), made_values(number), made_times(number))
        assert writer.finish([made_video(number) for number in range(6)])
    check_holds(path, range(6))
    assert list(part.parent.iterdir()) == [part.with_name(f"damaged+{part.name}")]


def test_a_part_with_a_damaged_index_is_reported_by_the_reader(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(4), finish=False, part_videos=2)
    part = sorted((tmp_path / "made.parts").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-1])
    with Store.open(path) as store:
        assert not store.finished and len(store.video_ids) == 2
        assert "it was shortened or extended" in store.damaged[
            str(part)
        ] and store.verify() == list(store.damaged.values())
    for other in (tmp_path / "made.parts").iterdir():
        other.write_bytes(b"REELBANK")
    with pytest.raises(InputError, match="all parts of this store are damaged"):
        Store.open(path)


def test_damage_is_never_merged(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(3))
    content = bytearray(path.read_bytes())
    content[feature_file.FeatureFile(path).header.features_start] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="the features of dig/v000 are damaged; restore the file"):
        fill(path, [3, 4])
    assert path.read_bytes() == content
    with Store.open(path) as store:  # what was new is safe
        assert store.features(made_video(4).id)[0].shape == (1, 5)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_part_is_put_aside_and_not_removed(tmp_path, is_open, caplog):
    path = tmp_path / "made.h5"
    fill(path, range(3), finish=False)
    part = next(path.with_suffix(".parts").glob("part+*"))
    content = bytearray(part.read_bytes())
    content[feature_file.FeatureFile(part).header.features_start] ^= 1
    if not is_open:
        part.write_bytes(content)
    videos = [made_video(number) for number in range(3, 5)]
    with StoreWriter(path, RECIPE, DATASET) as writer:
        part.write_bytes(content)  # found when it is opened, or when it is merged
        for number, video in enumerate(videos, 3):
            writer.add(video, made_values(number), made_times(number))
        assert writer.finish(videos)
    kept = part.with_name(f"damaged+{part.name}")
    assert list(part.parent.iterdir()) == [kept] and kept.read_bytes() == content
    assert f"renamed to {kept.name}" in caplog.text
    check_holds(path, [3, 4])
    fill(path, range(5))
    with Store.open(path) as store:
        assert store.finished and store.damaged == {} and store.verify() == []
    check_holds(path, range(5))
    assert kept.read_bytes() == content


def test_a_newer_format_is_refused_not_thrown_away(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(2), finish=False)
    part = next((tmp_path / "made.parts").iterdir())
    header = feature_file.FeatureFile(part).header
    part.write_bytes(header._replace(version=4).packed() + part.read_bytes()[512:])
    for attempt in (lambda: Store.open(path), lambda: StoreWriter(path, RECIPE, DATASET)):
        with pytest.raises(
            InputError,
            match="format version 4, but this version of reelbank reads only 1 to 3; upgrade",
        ):
            attempt()
    assert part.exists()


def plain_index(path, version=3, videos=4):
    """The datasets of a good store, and its features."""
    fill(path, range(videos))
    with Store.open(path) as store:
        features = store.load()[0]
    return (datasets_of if version > 2 else earlier_datasets_of)(path), features


VERSIONS = pytest.mark.parametrize("version", [2, 3])


@VERSIONS
def test_a_file_written_with_only_h5py_is_a_store(tmp_path, version):
    datasets, features = plain_index(tmp_path / "good.h5", version)
    build(tmp_path / "made.h5", datasets, features, version)
    check_holds(tmp_path / "made.h5", range(4))
    with Store.open(tmp_path / "made.h5") as store:
        assert store.verify() == []


def use_all(path):
    """Open a store and ask for everything that it says: of each video, and of all."""
    with Store.open(path) as store:
        assert store.video_ids == list(store)
        for video_id in store:
            store.features(video_id)
            store.views(video_id)
        store.load_views()
        for attribute in ("video_ids", "labels", "groups", "parts", "versions", "rows", "all_rows"):
            assert len(getattr(store, attribute)) == len(store)
        assert len(list(store.sources)) == len(store.checksums) == len(store)
        assert len(set(store.video_ids)) == len(store) and all(map(store.__contains__, store))
        for video_id in store.failures:
            assert store.failures[video_id].reason
    index = feature_file.FeatureFile(path).index
    assert all(index.find(video_id) is not None for video_id in index.video_ids)
    assert all(index.find_failure(video_id) for video_id, _ in index.failures.items())


def check_is_refused(path, told):
    """Whoever uses a hostile store is told so, in one line with its name, and `verify` tells it."""
    with pytest.raises(InputError, match=re.escape(told)) as refused:
        use_all(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    try:
        with Store.open(path) as store:
            (line,) = store.verify()
    except InputError as error:
        line = str(error)
    assert told in line and str(path) in line


def external_link(file, name):
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file, name):
    file[name] = h5py.SoftLink("/about")


def external_storage(file, name):
    file.create_dataset(name, (10, 5), "<f2", external=[("/etc/passwd", 0, 100)])


def virtual(file, name):
    layout = h5py.VirtualLayout((10, 5), "<f2")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10, 5), "<f2")
    file.create_virtual_dataset(name, layout)


def vlen(file, name):
    file.create_dataset(name, data=["a", "b", "c", "d"], dtype=h5py.string_dtype())


def references(file, name):
    file.create_dataset(name, (4,), h5py.ref_dtype)


def compound(file, name):
    file[name] = np.zeros(4, [("a", "i4"), ("b", "i4")])


def oversized(file, name):
    file.create_dataset(
        name, (1 << 40, 5), "u1" if name == "views" else "<f2"
    )  # nothing of it is allocated


def oversized_chunks(file, name):
    file.create_dataset(name, (1 << 30, 5), "<f2", chunks=(1 << 20, 5), compression="gzip")[0] = 1


def bomb(file, name):
    file.create_dataset(name, (10, 1 << 27), "<f2", chunks=(1, 1 << 27), compression="gzip")


def scale_offset(file, name):
    file.create_dataset(name, data=np.zeros((10, 5), "<i4"), chunks=(10, 5), scaleoffset=1)


def foreign_filter(file, name):
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk((10, 5))
    created.set_filter(
        32001, h5py.h5z.FLAG_OPTIONAL, (1,)
    )  # blosc: HDF5 would look for a plugin to load
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.IEEE_F16LE, h5py.h5s.create_simple((10, 5)), created
    )


def group(file, name):
    file.create_group(name)


def named_type(file, name):
    file[name] = np.dtype("<f2")


LINES = {
    external_link: "is a link, which is not allowed",
    soft_link: "is a link, which is not allowed",
    group: "(got about, checksums",
    named_type: "must be a dataset or a group",
}


@VERSIONS
@pytest.mark.parametrize(
    ("name", "hostile", "told"),
    [
        *(
            (name, hostile, told)
            for name in ("features", "labels")
            for hostile, told in LINES.items()
        ),
        ("features", external_storage, "stores its data in another file"),
        ("features", virtual, "stores its data in another file"),
        ("video_ids", vlen, "must contain plain numbers or fixed-length strings"),
        ("groups", references, "must contain plain numbers or fixed-length strings"),
        ("groups", compound, "must contain plain numbers or fixed-length strings"),
        ("features", oversized, "declares 10995116277760 bytes, but stores 0"),
        ("features", oversized_chunks, "declares 1024 chunks, but stores 1"),
        ("features", bomb, "declares 10 chunks, but stores 0"),
        ("features", foreign_filter, "must be compressed with gzip, lzf or not at all"),
        ("features", scale_offset, "must be compressed with gzip, lzf or not at all"),
        ("features", np.zeros((10, 5), "<f4"), "must be float16 or uint8"),
        ("features", np.zeros(10, "<f2"), "must be float16 or uint8, with at least two axes"),
        ("features", np.zeros((9, 5), "<f2"), "/offsets does not fit"),
        ("features", np.zeros((10, 0), "<f2"), "empty rows"),
        ("offsets", np.array([0, 5, 3, 7, 10]), "/offsets must increase"),
        ("offsets", np.array([0, 1, 3, 6, 1 << 60]), "/offsets does not fit"),
        ("offsets", np.array([-4, 1, 3, 6, 10]), "/offsets does not fit"),
        ("times_seconds", np.full(10, np.nan), "/times_seconds must have one finite time per row"),
        ("times_seconds", np.zeros(3), "/times_seconds must have one finite time per row"),
        ("views", None, "must contain the datasets about, checksums"),  # as before there were views
        ("views", np.zeros(10, "<i8"), "/views must be |u1 with 1 axes"),
        ("views", np.zeros(9, np.uint8), "/views does not fit"),
        (
            "views",
            np.array([0, 1, 1, 0, 0, 0, 0, 0, 0, 0], np.uint8),
            "/views does not fit",
        ),  # video 1 has no clean row
        (
            "views",
            np.array([0, 0, 2, 0, 0, 0, 0, 0, 0, 0], np.uint8),
            "/views does not fit",
        ),  # the first view is missing
        (
            "views",
            np.array([0, 0, 1, 0, 1, 0, 0, 0, 0, 0], np.uint8),
            "/views does not fit",
        ),  # clean after a view
        ("views", np.array([128, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.uint8), "/views does not fit"),
        ("views", oversized, "/views declares"),
        ("video_ids", np.array([b"a", b"b", b"a", b"c"]), "must be unique"),
        ("video_ids", np.array([b"a", b"b", b"../../x", b"c"]), "must be a relative path"),
        ("video_ids", np.array([b"a", b"b", b"/etc/x", b"c"]), "must be a relative path"),
        ("video_ids", np.array([b"a", b"b", b"\xff", b"c"]), "must be UTF-8 text"),
        (
            "labels",
            np.array([b"dig", b"fly", b"dig", b"swim"]),
            "contains a class that is not listed",
        ),
        ("parts", np.full((4, 2), 4, np.uint8), "unknown code"),
        ("parts", np.zeros((4, 3), np.uint8), "does not fit the splits"),
        ("checksums", np.zeros(3, np.uint64), "must have the same length"),
        ("checksums", None, "must contain the datasets about, checksums"),
        ("extra", np.zeros(3), "must contain the datasets about, checksums"),
    ],
)
def test_hostile_files_with_right_digests_are_refused_in_one_line(
    tmp_path, version, name, hostile, told
):
    datasets, features = plain_index(tmp_path / "good.h5", version)
    path = tmp_path / "made.h5"
    by_hdf5 = callable(hostile) or name == "features"
    if name == "features":
        build(path, datasets, hostile, version)
    else:
        datasets = {**datasets, name: hostile}
        if version > 2 and name == "video_ids" and not by_hdf5:
            datasets |= key_tables(hostile)
        build(path, datasets, features, version)
    # Of a newer file, HDF5 is parsed only by `verify`; the directory is wrong before that.
    check_is_refused(path, "" if version > 2 and by_hdf5 else told)


def changed(about, keys, value):
    copy = json.loads(json.dumps(about))
    inner = copy
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(copy).encode()


HOSTILE_ABOUTS = [
    (None, b"\xff\xfe", "not valid JSON"),
    (None, b"[" * 100_000, "not valid JSON"),
    (None, b"[]", "does not have the expected keys"),
    (["more"], 1, "does not have the expected keys"),
    (["format"], "reelbank features 9", "format must be 'reelbank features "),
    (["identity"], "0" * 64, "the identity does not match the recipe"),
    (["recipe", "extractor"], "another", "the identity does not match the recipe"),
    (["recipe", "extractor"], float("nan"), "not valid JSON"),
    (["dataset", "classes"], [1, 2], "class and split names must be text"),
    (["dataset", "coarse"], {"all": "dig"}, "class and split names must be text"),
    (["dataset", "splits"], "12", "dataset does not have the expected keys"),
    (["dataset", "multilabel"], 1, "dataset does not have the expected keys"),
    (
        ["dataset"],
        replace(DATASET, multilabel=True, classes=["dig", "fly", "a;b"]).to_json(),
        "rename the class",
    ),
]
EARLIER_HOSTILE_ABOUTS = [
    (["sources"], [], "must have one source per video"),
    (["sources", 0], {"bytes": "1"}, "of a source has the wrong type"),
    (["failures"], {"dig/x": "broken"}, "a failure does not have the expected form"),
    (["failures"], {"../x": {"reason": "r", "bytes": 1}}, "must be a relative path"),
]


@pytest.mark.parametrize(
    ("version", "keys", "value", "told"),
    [
        *((3, *each) for each in HOSTILE_ABOUTS),
        *((2, *each) for each in [*HOSTILE_ABOUTS, *EARLIER_HOSTILE_ABOUTS]),
    ],
)
def test_hostile_json_with_right_digests_is_refused_in_one_line(
    tmp_path, version, keys, value, told
):
    datasets, features = plain_index(tmp_path / "good.h5", version)
    text = value if keys is None else changed(json.loads(datasets["about"].tobytes()), keys, value)
    datasets |= {"about": np.frombuffer(text, np.uint8)}
    build(tmp_path / "made.h5", datasets, features, version)
    check_is_refused(tmp_path / "made.h5", told)


def key_tables(ids):
    """The two columns that find these ids."""
    hashes = np.array([xxhash.xxh3_64_intdigest(bytes(each)) for each in ids], np.uint64)
    order = np.argsort(hashes)
    return {"key_hashes": hashes[order], "key_numbers": order.astype("<u4")}


def json_columns(name, texts):
    """Texts as the two columns that keep them."""
    offsets = np.cumsum([0, *map(len, texts)])
    offsets_name = {"sources": "source_offsets", "failures": "failure_offsets"}[name]
    return {name: np.frombuffer(b"".join(texts), np.uint8), offsets_name: offsets}


def with_failure(video_id, text=b'{"reason": "r", "bytes": 1}', *, times=1):
    """Changes that add a failure to the four videos of `plain_index`, as often as told."""
    ids = np.array([video_id.encode()] * times)

    def change(datasets):
        keys = key_tables([*datasets["video_ids"], *ids])
        return {"failure_ids": ids, **json_columns("failures", [text] * times), **keys}

    return change


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (json_columns("sources", [b"{}", b'{"bytes": "1"}', b"{}", b"{}"]), "has the wrong type"),
        (json_columns("sources", [b"{}", b"[]", b"{}", b"{}"]), "must contain JSON objects"),
        (json_columns("sources", [b"{}", b"{", b"{}", b"{}"]), "/sources is not valid JSON"),
        (json_columns("sources", [b"[" * 100_000] * 4), "/sources is not valid JSON"),
        (json_columns("sources", [b'{"x": NaN}'] * 4), "/sources is not valid JSON"),
        (json_columns("sources", [b"{}"] * 3), "must have the same length"),
        ({"source_offsets": np.array([0, 9, 5, 9, 9])}, "/sources has impossible offsets"),
        ({"source_offsets": np.array([-9, 0, 0, 0, 0])}, "/sources has impossible offsets"),
        ({"source_offsets": np.array([0, 0, 0, 0, 1 << 40])}, "/sources has impossible offsets"),
        (with_failure("dig/x", b'"broken"'), "/failures must contain JSON objects"),
        (with_failure("dig/x", b'{"reason": 1}'), "a failure does not have the expected form"),
        (with_failure("../x"), "must be a relative path"),
        (with_failure("dig/x", times=2), "must be unique"),
        ({"key_hashes": np.array([4, 3, 2, 1], "<u8")}, "/key_hashes must not decrease"),
        ({"key_numbers": np.array([0, 1, 2, 9], "<u4")}, "/key_numbers has unknown numbers"),
        ({"key_numbers": np.zeros(4, "<u8")}, "/key_numbers must be <u4 with 1 axes"),
    ],
)
def test_hostile_columns_with_right_digests_are_refused_in_one_line(tmp_path, changes, told):
    datasets, features = plain_index(tmp_path / "good.h5")
    changes = changes(datasets) if callable(changes) else changes
    build(tmp_path / "made.h5", {**datasets, **changes}, features)
    check_is_refused(tmp_path / "made.h5", told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key_hashes": np.arange(4, dtype="<u8")}, "/key_hashes does not fit the ids"),
        ({"key_numbers": np.zeros(4, "<u4")}, "/key_numbers must contain every number"),
    ],
)
def test_verify_tells_of_a_table_that_does_not_find_a_video(tmp_path, changes, told):
    datasets, features = plain_index(tmp_path / "good.h5")
    build(tmp_path / "made.h5", {**datasets, **changes}, features)
    with Store.open(tmp_path / "made.h5") as store:
        (line,) = store.verify()
    assert told in line
    # Adding to it writes the file again, which would have the hidden videos twice.
    before = (tmp_path / "made.h5").read_bytes()
    with pytest.raises(InputError, match=re.escape(told)):
        fill(tmp_path / "made.h5", range(4, 6))
    assert (tmp_path / "made.h5").read_bytes() == before


def test_a_table_with_many_equal_hashes_is_not_searched_to_its_end(tmp_path):
    datasets, features = plain_index(tmp_path / "good.h5", videos=100)
    searched = xxhash.xxh3_64_intdigest(made_video(7).id.encode())
    changes = {"key_hashes": np.full(100, searched, "<u8")}
    build(tmp_path / "made.h5", {**datasets, **changes}, features)
    with (
        Store.open(tmp_path / "made.h5") as store,
        pytest.raises(InputError, match="/key_hashes has too many equal hashes"),
    ):
        store.features(made_video(7).id)


def with_directory(path, change):
    """Write the store's file again with another directory, and with right digests."""
    header = feature_file.FeatureFile(path).header
    content = path.read_bytes()
    place = slice(header.directory_start, header.directory_start + header.directory_bytes)
    path.write_bytes(content[: header.directory_start])
    seal(path, directory=change(json.loads(content[place])))


def moved(name, by):
    """A directory that says that a column is elsewhere."""

    def change(directory):
        return {**directory, name: [directory[name][0] + by, *directory[name][1:]]}

    return change


def reshaped(name, *entry):
    return lambda directory: {**directory, name: [directory[name][0], *entry]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: b"\xff", "its directory is not valid JSON"),
        (lambda _: b"[" * 60_000, "its directory is not valid JSON"),
        (lambda _: b" " * 70_000, "its directory is too long"),
        (lambda _: [], "its directory is not valid JSON"),
        (lambda _: {}, "must contain the datasets about, checksums"),
        (lambda directory: {**directory, "about": 1}, "says nothing usable about /about"),
        (lambda directory: {**directory, "about": [1.5, "|u1", [1]]}, "says nothing usable"),
        (reshaped("about", "|u1", [-1]), "an impossible shape of /about"),
        (reshaped("about", "|u1", [1 << 62]), "/about extends beyond the end of the file"),
        (reshaped("about", "|O", [1]), "/about must be |u1 with 1 axes"),
        (reshaped("labels", "|S0", [4]), "/labels must be a list of fixed-length strings"),
        (reshaped("features", "<f2", [10, 1 << 40]), "/features is not at the position"),
        (reshaped("features", "<f2", [10, *[1] * 99, 5]), "with 2 to 32 axes"),
        (moved("features", -8), "/features is not at the position"),
        (moved("offsets", 1 << 40), "/offsets extends beyond the end of the file"),
        (moved("offsets", -(1 << 40)), "/offsets extends beyond the end of the file"),
        (moved("checksums", 8), "the features of dig/v000 are damaged"),
    ],
)
def test_hostile_directories_with_right_digests_are_refused_in_one_line(tmp_path, change, told):
    path = tmp_path / "made.h5"
    fill(path, range(4))
    with_directory(path, change)
    with pytest.raises(InputError, match=re.escape(told)) as refused:
        use_all(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_verify_tells_when_hdf5_and_the_directory_differ(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(4))

    def swapped(directory):
        return directory | {
            "versions": [directory["key_numbers"][0], *directory["versions"][1:]]  # the same type
        }

    with_directory(path, swapped)
    check_holds(path, range(4))
    with Store.open(path) as store:
        assert store.verify() == [f"{path}: /versions is not what the directory states"]


@pytest.mark.parametrize("compression", ["", "gzip"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_verify_names_videos_whose_features_are_not_finite(tmp_path, capsys, value, compression):
    """As a stranger's file may hold them, with right digests: no writer of ours stores such
    features."""
    path = tmp_path / "stores" / "made.h5"
    fill(path, range(4))
    with Store.open(path) as store:
        values = [store.features(video_id)[0].copy() for video_id in store.video_ids]
    values[2][1, 3] = value
    index = feature_file.FeatureFile(path).index
    index = dataclasses.replace(
        index, checksums=np.array([feature_file.checksum(rows) for rows in values], np.uint64)
    )
    path.unlink()
    feature_file.write(path, index, values, compression)
    assert shelf.verify(shelf.VerifyOptions(str(tmp_path))) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: the features of {made_video(2).id} contain NaN or infinity")


def test_verify_of_pictures_has_no_numbers_to_doubt(tmp_path, capsys):
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        writer.add(made_video(0), np.full((2, 3, 3), 255, np.uint8), np.zeros(2))
        assert writer.finish([made_video(0)])
    assert shelf.verify(shelf.VerifyOptions(str(tmp_path))) == 0


def test_a_file_that_ends_early_is_named_with_both_lengths(tmp_path):
    (tmp_path / "short").write_bytes(b"abc")
    with (tmp_path / "short").open("rb", buffering=0) as file:
        assert read_range(file, 1, 3) == b"bc"
        with pytest.raises(DamagedFile, match=r"short: has only 3 bytes \(expected 10\); .*check"):
            read_range(file, 0, 10)


@pytest.mark.parametrize("position", [0, 520, -1])  # header, index, table of digests
def test_damage_of_a_part_that_is_opened_again_is_told(tmp_path, position):
    fill(tmp_path / "made.h5", range(2), finish=False, part_videos=1)
    paths, kept = sorted((tmp_path / "made.parts").glob("part+*")), OpenParts(most=1)
    first, second = (PartFile(feature_file.FeatureFile(path), kept) for path in paths)
    content = bytearray(paths[0].read_bytes())
    content[position] ^= 1
    paths[0].write_bytes(content)
    (line,) = first.damage()
    assert str(paths[0]) in line and second.damage() == []


def test_an_index_has_blocks_that_a_header_can_state():
    assert tree_block_bytes(1 << 29) == 1 << 14
    assert tree_block_bytes((1 << 29) + 1) == 1 << 15
    assert tree_block_bytes(1 << 39) == 1 << 24
    for size_bytes in ((1 << 39) + 1, 1 << 62):
        with pytest.raises(InputError, match="too many for one file"):
            tree_block_bytes(size_bytes)


@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_file_is_written_with_as_many_videos_as_its_index_lists(tmp_path, compression):
    fill(tmp_path / "made.h5", range(3))
    index = feature_file.FeatureFile(tmp_path / "made.h5").index
    values = [made_values(number).astype(np.float16) for number in range(3)]
    path = tmp_path / "other.h5"
    for given, told in (
        ([*values, values[0]], "more videos were given"),
        (values[:2], "lists more"),
    ):
        with pytest.raises(ValueError, match=told):
            feature_file.write(path, index, given, compression)
        assert not path.exists()
    feature_file.write(path, index, values, compression)
    assert feature_file.FeatureFile(path).damage() == []


def with_large_index(path, parts=2):
    """An unfinished store of a few parts, each of which has an index of hundreds of blocks."""
    with StoreWriter(path, RECIPE, DATASET, part_videos=2) as writer:
        for number in range(2 * parts):
            values = np.full((100_000, 5), number, np.float16)
            writer.add(made_video(number), values, np.arange(100_000.0))
    return sorted((path.parent / f"{path.stem}.parts").glob("part+*"))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_damaged_block_of_a_large_index_only_costs_its_part(tmp_path, caplog, share):
    path = tmp_path / "made.h5"
    part, _ = with_large_index(path)
    header, content = feature_file.FeatureFile(part).header, bytearray(part.read_bytes())
    start, end = header.index_spans[0]
    content[start + int((end - start) * share)] ^= 1
    part.write_bytes(content)
    with Store.open(path) as store:
        assert list(store.damaged) == [str(part)] and len(store) == 2
        assert f"{part}: its index is damaged; this part of the store is ignored" in caplog.text
        assert len(store.load()[1]) == 3


def test_a_part_whose_index_is_damaged_while_the_writer_runs_is_not_merged(tmp_path, caplog):
    path = tmp_path / "made.h5"
    part, _ = with_large_index(path)
    content = bytearray(part.read_bytes())
    start, end = feature_file.FeatureFile(part).header.index_spans[0]
    with StoreWriter(path, RECIPE, DATASET) as writer:
        content[(start + end) // 2] ^= 1
        part.write_bytes(content)
        assert not writer.finish([made_video(number) for number in range(4)])
        assert f"{part}: its index is damaged; this part of the store is ignored" in caplog.text
        assert sorted(writer.done) == sorted(made_video(number).id for number in (2, 3))


def changed_offset(position, by):
    """A change of one entry of the offsets of the facts about video files."""

    def change(datasets):
        offsets = np.array(datasets["source_offsets"])
        offsets[position] += by
        return {"source_offsets": offsets}

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: {"key_hashes": np.arange(4, dtype="<u8")}, "/key_hashes does not fit the ids"),
        (changed_offset(-1, 1 << 62), "/sources has impossible offsets"),
        (changed_offset(-1, -1), "/sources has impossible offsets"),
        (changed_offset(0, 1), "/sources has impossible offsets"),
        (changed_offset(1, -(1 << 62)), "/sources has impossible offsets"),
    ],
)
def test_a_part_with_an_impossible_table_is_extracted_again(tmp_path, caplog, change, told):
    datasets, features = plain_index(tmp_path / "good.h5")
    part = tmp_path / "made.parts" / f"part+{1:020d}++{0:032x}.h5"
    part.parent.mkdir()
    build(part, {**datasets, **change(datasets)}, features)
    (line,) = feature_file.FeatureFile(part).damage()
    assert told in line
    fill(tmp_path / "made.h5", range(4))
    assert f"{part}: {told}; this part of the store is ignored" in caplog.text
    check_holds(tmp_path / "made.h5", range(4))
    with Store.open(tmp_path / "made.h5") as store:
        assert store.finished and store.verify() == []

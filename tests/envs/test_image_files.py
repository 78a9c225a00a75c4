"""Loaders on small folders in the exact published layouts."""

import csv
import shutil

import numpy as np
import pytest
from meta_rl.envs import IMAGES, Unopened, idx, image_files, make_examples
from PIL import Image

from meta_rl.errors import InputError
from meta_rl.families.image_reading import read_image, read_labelled
from tests.conftest import paint, write_idx
from tests.examples_contract import check_examples


def test_idx_files_keep_the_contract(idx_folder):
    check_examples(idx.fashion_mnist(5, idx_folder), shots=1, queries=2)
    check_examples(idx.mnist(2, idx_folder, rotations=True), shots=1, queries=2)


def test_idx_classes_are_the_labels_of_both_parts(idx_folder):
    family = idx.mnist(5, idx_folder)
    x, _ = family.draw([{"classes": (3, 1, 4, 0, 5)}], 0, 6, 0, "cpu")
    first = (x[0, :, 0, 0, 0] * 255).round().view(5, 6)
    assert first.tolist() == [[3.0] * 6, [1.0] * 6, [4.0] * 6, [0.0] * 6, [5.0] * 6]
    assert family.class_name(3) == "3"
    assert idx.fashion_mnist(5, idx_folder).class_name(9) == "boot"


def test_ten_classes_give_a_validation_split_up_to_three_ways(idx_folder):
    assert idx.mnist(5, idx_folder).splits == ("train", "train", "test")
    family = idx.mnist(3, idx_folder)
    counts = [len(family.class_numbers(split)) for split in family.splits]
    assert (family.splits, counts) == (("train", "validation", "test"), [4, 3, 3])
    with pytest.raises(InputError, match="Ask for at most 5 ways"):
        idx.mnist(6, idx_folder)


def test_idx_files_may_be_unpacked_and_have_the_other_name(idx_folder, tmp_path):
    for packed in idx_folder.iterdir():
        array = idx._read_idx(packed)
        write_idx(tmp_path / packed.stem.replace("-idx", ".idx"), array, packed=False)
    one, other = idx.mnist(5, idx_folder), idx.mnist(5, tmp_path)
    assert (one._images == other._images).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK", "cannot be read"),
        (b"", "expected a whole idx file"),
        (None, "expected train-images"),
    ],
)
def test_idx_files_that_are_none_say_what_to_do(idx_folder, tmp_path, data, message):
    shutil.copytree(idx_folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(InputError, match=f"{message}.* Get"):
        idx.mnist(5, tmp_path)


def test_a_cut_idx_file_is_refused(idx_folder, tmp_path):
    shutil.copytree(idx_folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="Get the file again"):
        idx.mnist(5, tmp_path)


def test_omniglot_keeps_the_contract(omniglot_folder):
    check_examples(image_files.omniglot(3, omniglot_folder))
    check_examples(image_files.omniglot(3, omniglot_folder, rotations=True))


def test_omniglot_is_both_parts_shuffled_with_ink_as_one(omniglot_folder):
    family = image_files.omniglot(3, omniglot_folder)
    assert family.input_shape == (1, 28, 28)
    assert [len(family.class_numbers(split)) for split in family.splits] == [41, 3, 16]
    assert {name.split("/")[0] for name in family.names} == {"Greek", "Futurama", "Tengwar"}
    x, _ = family.draw(family.sample_tasks(1, 0), 0, 6, 0, "cpu")
    assert x[..., 0, :].max() < 0.1
    assert x[..., 10:18, 10:18].mean() > 0.3


def test_omniglot_is_found_in_the_repositorys_folder(omniglot_folder, tmp_path):
    shutil.copytree(omniglot_folder, tmp_path / "python")
    assert image_files.omniglot(3, tmp_path).num_classes == 60


def test_omniglot_elsewhere_says_what_was_found(tmp_path):
    (tmp_path / "images_background.zip").write_bytes(b"")
    message = "expected a folder with images_background/.* got .* with images_background.zip. Get"
    with pytest.raises(InputError, match=message):
        image_files.omniglot(5, tmp_path)


COUNTS = {"train": 4, "val": 3, "test": 2}


def mini_imagenet_classes():
    for split, count in COUNTS.items():
        for number in range(count):
            yield split, f"n0{sum(map(ord, split))}{number:04}"


@pytest.fixture(scope="module")
def split_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini-folders")
    for split, label in mini_imagenet_classes():
        for row in range(6):
            seed = hash_of(label, row)
            paint(folder / split / label / f"{label}{row:08}.jpg", (84, 84), seed)
    return folder


@pytest.fixture(scope="module")
def csv_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini-csv")
    tables = {split: [] for split in COUNTS}
    for split, label in mini_imagenet_classes():
        for row in range(6):
            name = f"{label}{row:08}.jpg"
            paint(folder / "images" / name, (84, 84), hash_of(label, row))
            tables[split].append((name, label))
    for split, rows in tables.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *rows])
    return folder


def hash_of(label, row):
    return sum(map(ord, label)) * 100 + row


def test_both_layouts_of_mini_imagenet_are_the_same_pictures(split_folders, csv_files):
    one, other = (image_files.mini_imagenet(2, f) for f in (split_folders, csv_files))
    check_examples(one)
    assert one.names == other.names
    assert (one._images == other._images).all()
    assert one.input_shape == (3, 84, 84)
    counts = [len(one.class_numbers(split)) for split in ("train", "validation", "test")]
    assert counts == [*COUNTS.values()]


def test_a_mini_imagenet_table_with_other_columns_is_refused(csv_files, tmp_path):
    shutil.copytree(csv_files, tmp_path, dirs_exist_ok=True)
    (tmp_path / "val.csv").write_text("file,class\na.jpg,b\n")
    with pytest.raises(InputError, match=r"columns filename and label, got the row .*'file'"):
        image_files.mini_imagenet(2, tmp_path)


def test_a_missing_picture_is_named(csv_files, tmp_path):
    shutil.copytree(csv_files, tmp_path, dirs_exist_ok=True)
    missing = sorted((tmp_path / "images").iterdir())[3]
    missing.unlink()
    with pytest.raises(InputError, match=f"picture .*{missing.name}: cannot be read"):
        image_files.mini_imagenet(2, tmp_path)


def test_own_folders_split_as_their_names_say(split_folders):
    check_examples(image_files.image_folder(2, split_folders))


@pytest.fixture
def own(tmp_path):
    """Ten classes of grey pictures of different sizes."""
    for number in range(10):
        for row in range(3):
            paint(
                tmp_path / f"class {number}" / f"{row}.png", (20 + row, 30), number * 10 + row, "L"
            )
    return tmp_path


def test_own_classes_are_split_by_seed(own):
    family = image_files.image_folder(3, own)
    check_examples(family, shots=1, queries=1)
    assert [len(family.class_numbers(split)) for split in family.splits] == [4, 3, 3]
    assert family.input_shape == (1, 28, 28)
    assert image_files.image_folder(3, own).names == family.names
    assert image_files.image_folder(3, own, seed=1).names != family.names
    assert image_files.image_folder(2, own, shape=(3, 16, 20)).input_shape == (3, 16, 20)


def test_few_own_classes_are_trained_and_tested_on_only(own):
    family = image_files.image_folder(5, own)
    assert family.splits == ("train", "train", "test")
    with pytest.raises(
        InputError, match=r"12 classes or more for 6 ways, got .* class 0/, class 1/"
    ):
        image_files.image_folder(6, own)


def test_one_colour_picture_makes_them_all_coloured(own):
    paint(own / "class 7" / "0.png", (20, 20), 0)
    assert image_files.image_folder(3, own).input_shape == (3, 84, 84)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16", "CMYK"])
def test_pictures_of_every_mode_are_read(tmp_path, mode):
    grey = Image.fromarray(np.full((20, 30), 200, dtype=np.uint8))
    grey.paste(255, (0, 0, 30, 10))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        picture = grey.convert("RGB").convert(mode, dither=Image.Dither.NONE)
    path = tmp_path / ("one.tif" if mode == "CMYK" else "one.png")
    picture.save(path)
    lower = {"1": 255, "P": 204}.get(mode, 200)  # P: of the web palette
    for shape in ((1, 10, 15), (3, 10, 15)):
        pixels = read_image(path, shape)
        assert (pixels.shape, pixels.dtype) == (shape, np.uint8)
        assert abs(int(pixels[0, 1, 1]) - 255) <= 2
        assert abs(int(pixels[0, -2, -2]) - lower) <= 2


def test_whole_numbers_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.full((20, 30), 255, dtype=np.int32)).save(tmp_path / "one.tif")
    with pytest.raises(InputError, match=r"one\.tif: .* of 8 or 16 bits, got 32"):
        read_image(tmp_path / "one.tif", (1, 20, 30))


def test_transparency_is_white_and_exif_turns(tmp_path):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png", (1, 4, 4)) == 255).all()
    assert (read_image(tmp_path / "clear.png", (1, 4, 4), ink=True) == 0).all()
    lying = Image.new("L", (20, 10))
    lying.paste(255, (0, 0, 10, 10))  # left half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to be upright
    lying.save(tmp_path / "lying.jpg", exif=exif)
    upright = read_image(tmp_path / "lying.jpg", (1, 10, 10))[0]
    assert upright[:4].min() > 200
    assert upright[6:].max() < 50


def test_ink_is_one_whatever_the_paper(tmp_path):
    for name, paper in (("black.png", 255), ("white.png", 0)):
        paint(tmp_path / name, (28, 28), 0, "L", paper)
    on_white, on_black = (
        read_image(tmp_path / name, (1, 28, 28), ink=True) for name in ("black.png", "white.png")
    )
    assert on_white[0, 0, 0] == on_black[0, 0, 0] == 0
    assert (on_white[0, 7:21, 7:21] == 255 - on_black[0, 7:21, 7:21]).all()


def test_a_labelled_folder_has_classes_and_pictures_to_classify(tmp_path):
    for name, count in (("cat", 2), ("dog", 3), ("unlabelled", 1), ("empty", 0)):
        (tmp_path / name).mkdir()
        for row in range(count):
            paint(tmp_path / name / f"{row}.png", (30, 20), row)
    paint(tmp_path / "beside.JPG", (10, 10), 5)
    (tmp_path / "notes.txt").write_text("no picture")
    own = read_labelled(tmp_path, (3, 12, 16))
    assert own.classes == ("cat", "dog")
    assert own.y.tolist() == [0, 0, 1, 1, 1]
    assert [file.parent.name for file in own.files] == ["cat"] * 2 + ["dog"] * 3
    assert (own.x.shape, own.x.dtype) == ((5, 3, 12, 16), np.float32)
    assert 0.0 <= own.x.min() < own.x.max() <= 1.0
    assert [file.name for file in own.unlabelled_files] == ["beside.JPG", "0.png"]
    assert own.unlabelled.shape == (2, 3, 12, 16)
    assert (own.x[0] == own.unlabelled[1]).all()


def test_a_labelled_folder_without_classes_says_what_was_found(tmp_path):
    paint(tmp_path / "one" / "0.png", (10, 10), 0)
    with pytest.raises(InputError, match=r"sub-folder of pictures for each class, .* with one/"):
        read_labelled(tmp_path, (1, 28, 28))
    with pytest.raises(InputError, match="with nothing there"):
        read_labelled(tmp_path / "absent", (1, 28, 28))


def test_the_table_of_inked_images_is_what_their_readers_say(
    idx_folder, omniglot_folder, split_folders, few_glyphs
):
    families = [
        idx.mnist(2, idx_folder),
        idx.fashion_mnist(2, idx_folder),
        image_files.omniglot(2, omniglot_folder),
        image_files.mini_imagenet(2, split_folders),
        image_files.image_folder(2, split_folders),
        make_examples("glyphs", 2),
    ]
    assert {family.id for family in families} == IMAGES
    for family in families:
        assert family.ink == Unopened(family.id, family.input_shape, 2).ink

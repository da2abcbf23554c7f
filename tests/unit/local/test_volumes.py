"""Secret volumes as kubelet writes them."""

from __future__ import annotations

from pathlib import Path

from postfleet_local import volumes


def test_a_volume_holds_exactly_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert volumes.write(folder, {"acme-1.username": b"u", "acme-1.password": b"p"})
    assert (folder / "acme-1.password").read_bytes() == b"p"
    assert volumes.write(folder, {"acme-1.username": b"v", "acme-2.username": b"w"})
    assert sorted(f.name for f in folder.iterdir() if not f.name.startswith("..")) == [
        "acme-1.username",
        "acme-2.username",
    ]
    assert (folder / "acme-1.username").read_bytes() == b"v"


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    volumes.write(tmp_path / "v", {"k": b"1"})
    before = (tmp_path / "v" / "k").stat()
    assert not volumes.write(tmp_path / "v", {"k": b"1"})
    assert (tmp_path / "v" / "k").stat() == before


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    volumes.write(tmp_path / "v", {"k": b"1"})
    assert (tmp_path / "v").stat().st_mode & 0o077 == 0
    assert (tmp_path / "v" / "k").stat().st_mode & 0o077 == 0


def test_no_old_content_is_left_behind(tmp_path: Path) -> None:
    for value in (b"1", b"2", b"3"):
        volumes.write(tmp_path / "v", {"k": value})
    assert len([f for f in (tmp_path / "v").iterdir() if f.is_dir() and not f.is_symlink()]) == 1

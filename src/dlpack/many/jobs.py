"""A file of models (TOML) → the bundles that it asks for: models x variants x targets."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpack.bundle.names import c_name
from dlpack.errors import UsageError, did_you_mean
from dlpack.many.keys import OPTIONS, Place
from dlpack.options import Options


@dataclass(frozen=True)
class Bundle:
    """One bundle to build: its model's and variant's names in the file ("" for no variant), and how it is built."""

    model: str
    variant: str
    source: Path
    folder: Path
    options: Options

    @property
    def label(self) -> str:
        """What tables call it: "squeezenet/int8/wasm"."""
        return "/".join(part for part in (self.model, self.variant, self.options.target) if part)


@dataclass(frozen=True)
class Jobs:
    """The bundles of a file, in its order. `root` is the file's folder, to which its paths are relative."""

    root: Path
    output: Path
    bundles: tuple[Bundle, ...]


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_TOP = ("output", "targets", "options", "variants", "models")


def read_jobs(path: Path, only: Iterable[str] = ()) -> Jobs:
    """Reads a file of models; `only` names the models to take, all where it is empty.

    Raises UsageError that names the key, with what may have been meant, for anything that is not as docs/build-all.md
    says.
    """
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} is not TOML: {e}") from e
    root = path.resolve().parent
    top = Place(str(path), root)
    for key in content:
        if key not in _TOP:
            raise top.at(key).error(f"unknown key{did_you_mean(key, _TOP)}; known are: {', '.join(_TOP)}")
    output = root / top.at("output").text(content.get("output", "build"))
    reader = _Reader(top, content)
    models = _tables(top.at("models"), content.get("models", {}))
    if not models:
        raise top.error('there are no models: give each a table, [models.NAME] with file = "..."')
    for name in only:
        if name not in models:
            raise UsageError(f"{path} has no model {name!r}{did_you_mean(name, models)}")
    wanted = set(only) or models.keys()
    found = [b for name, table in models.items() for b in reader.bundles(name, table, output) if name in wanted]
    return Jobs(root, output, tuple(found))


class _Reader:
    """Reads the models of one file: what holds for all of them, and a model at a time."""

    def __init__(self, top: Place, content: Mapping[str, Any]) -> None:
        self._top = top
        self._targets = _targets(top.at("targets"), content.get("targets", ["native"]))
        self._options = _options(top.at("options"), content.get("options", {}))
        self._variants = self._variants_of(top.at("variants"), content.get("variants", {}))

    def _variants_of(self, place: Place, given: Any) -> dict[str, tuple[Place, Mapping[str, Any]]]:
        return {name: (place.at(name), table) for name, table in _tables(place, given).items()}

    def bundles(self, name: str, table: Mapping[str, Any], output: Path) -> list[Bundle]:
        """The bundles of a model: one for each of its variants and each target of these."""
        place = self._top.at("models").at(name)
        if "file" not in table:
            raise place.error('it has no file: add file = "model.onnx", say')
        source = place.at("file").model(table["file"])
        targets = _targets(place.at("targets"), table["targets"]) if "targets" in table else self._targets
        own = _options(place, {k: v for k, v in table.items() if k not in ("file", "targets", "variants")}, _OF_A_MODEL)
        variants = self._chosen(place.at("variants"), table["variants"]) if "variants" in table else self._variants
        found = []
        for variant, (where, changed) in (variants or {"": (place, {})}).items():
            its = _targets(where.at("targets"), changed["targets"]) if "targets" in changed else targets
            more = _options(where, {k: v for k, v in changed.items() if k != "targets"}, ("targets",))
            self._check_target_options([*_taken(place, own), *_taken(where, more)], its)
            fields = {"name": c_name(name), **self._options, **own, **more}
            given = {
                key: value
                for part in (self._options, own, more)
                for key, value in part.get("target_options", {}).items()
            }
            for target in its:
                fields["target_options"] = {k: v for k, v in given.items() if v and target in _having(k)}
                folder = output / name / variant / target
                found.append(Bundle(name, variant, source, folder, Options(**{**fields, "target": target})))
        return found

    def _chosen(self, place: Place, given: Any) -> dict[str, tuple[Place, Mapping[str, Any]]]:
        """A model's variants: tables of its own, or the names of those that the file has for all."""
        if isinstance(given, dict):
            return self._variants_of(place, given)
        names = place.texts(given)
        for name in names:
            if name not in self._variants:
                known = ", ".join(self._variants) or "none"
                raise place.error(f"unknown variant {name!r}{did_you_mean(name, self._variants)}; known are: {known}")
        return {name: self._variants[name] for name in names}

    @staticmethod
    def _check_target_options(given: list[tuple[Place, str]], targets: tuple[str, ...]) -> None:
        """Raises UsageError for an option that none of its targets has; [options] are for those that do."""
        for place, key in given:
            if not set(targets) & set(_having(key)):
                raise place.error(f"this is an option of {', '.join(_having(key))}, not of {', '.join(targets)}")


_OF_A_MODEL = ("file", "targets", "variants")


def _taken(place: Place, fields: Mapping[str, Any]) -> list[tuple[Place, str]]:
    return [(place.at(key), key) for key, value in fields.get("target_options", {}).items() if value]


def _having(option: str) -> list[str]:
    """The targets that have an option."""
    from dlpack.targets import target_options

    return target_options()[option][1]


def _tables(place: Place, given: Any) -> dict[str, Mapping[str, Any]]:
    """Tables by name; the names become folders."""
    for name, table in place.table(given).items():
        if not _NAME.fullmatch(name):
            raise place.at(name).error("a name is letters, digits, '_', '-', '.' and '+': it becomes a folder")
        place.at(name).table(table)
    return dict(given)


def _targets(place: Place, given: Any) -> tuple[str, ...]:
    from dlpack.targets import get_target

    names = place.texts(given)
    if not names:
        raise place.error('the list is empty: name a target, as in ["native"]')
    for name in names:
        try:
            get_target(name)
        except UsageError as e:
            raise place.error(str(e)) from e
    if len(set(names)) < len(names):
        raise place.error("a target is named twice")
    return names


def _options(place: Place, given: Any, further: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of `Options` that a table sets; those of targets, by their names, in "target_options"."""
    from dlpack.targets import target_options

    fields: dict[str, Any] = {}
    for key, value in place.table(given).items():
        where = place.at(key)
        if key in OPTIONS:
            fields |= OPTIONS[key](where, value)
        elif key in target_options():
            option = target_options()[key][0]
            fields.setdefault("target_options", {})[key] = (
                where.target_value(value) if option.metavar else where.flag(value)
            )
        else:
            known = (*further, *OPTIONS, *target_options())
            raise where.error(f"unknown key{did_you_mean(key, known)}; docs/build-all.md lists the keys")
    return fields

"""The Android package of a bundle: the AAR in a folder with Maven's layout, with sources and documentation beside it.

The format of the AAR: https://developer.android.com/studio/projects/android-library#aar-contents; of its folder
`prefab`, for C++: https://google.github.io/prefab/.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from dlpack.bindings.api import Api, describe
from dlpack.bindings.java import package_name
from dlpack.bindings.text import common, render
from dlpack.bundle.folder import notice_text
from dlpack.targets.android.archive import archived, write_archive
from dlpack.targets.android.java import compile_classes, document, native_methods, sources
from dlpack.targets.android.libraries import ABIS, MIN_SDK, compile_library
from dlpack.targets.base import Manifest, PackageOptions

WEIGHTS = "android-weights"
"""The option that says where the weights are."""

PLACES = ("library", "asset")

_METADATA = """\
aarFormatVersion=1.0
aarMetadataVersion=1.0
minCompileSdk=1
minCompileSdkExtension=0
minAndroidGradlePluginVersion=1.0.0
"""


def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
    """Writes maven/dlpack/NAME/VERSION into a bundle."""
    asset = options.values.get(WEIGHTS) == "asset" and "weights" in manifest
    api = describe(manifest, "")
    conditions = replace(api, weights=None).conditions | {"android"}  # no path leads to the weights
    conditions |= ({"asset"} if asset else set()) | ({"workers", "lists"} if api.threads > 1 else set())
    with tempfile.TemporaryDirectory(prefix="dlpack-android-") as scratch:
        libraries = _libraries(folder, Path(scratch), manifest, native_methods(api, conditions), asset, options.cc)
        sizes = {abi: path.stat().st_size for abi, path in libraries.items()}
        texts = sources(api, manifest, conditions)
        files = _aar(folder, manifest, api, texts, libraries)
        if asset:
            files[f"assets/{manifest['weights']['file']}"] = folder / manifest["weights"]["file"]
        version = common(api)["version"]
        place = folder / "maven" / "dlpack" / api.name / version
        place.mkdir(parents=True, exist_ok=True)
        stem = f"{api.name}-{version}"
        write_archive(place / f"{stem}.aar", files)
    java = package_name(api.name)
    write_archive(place / f"{stem}-sources.jar", {f"dlpack/{java}/{n}": text.encode() for n, text in texts.items()})
    if pages := document(texts, java):
        write_archive(place / f"{stem}-javadoc.jar", pages)
    (place / f"{stem}.pom").write_text(_filled("pom.xml", common(api)), encoding="utf-8")
    aar = place / f"{stem}.aar"
    manifest["android"] = {
        "aar": aar.relative_to(folder).as_posix(),
        "sha256": hashlib.sha256(aar.read_bytes()).hexdigest(),
        "package": f"dlpack.{java}",
        "classes": [name.removesuffix(".java") for name in texts],
        "libraries": sizes,
        "weights": "none" if "weights" not in manifest else "asset" if asset else "library",
    }
    libraries_told = ", ".join(f"{abi} {size:,} bytes" for abi, size in sizes.items())
    return f"{aar.name} {aar.stat().st_size:,} bytes: {libraries_told}"


def _libraries(
    folder: Path, scratch: Path, manifest: Manifest, methods: str, asset: bool, cc: str | None
) -> dict[str, Path]:
    """The library of each ABI."""
    name = manifest["name"]
    source = scratch / f"{name}_jni.cc"
    source.write_text(methods, encoding="utf-8")
    flags = [f"-D{name.upper()}_NO_FILES", f"-D{name.upper()}_HOST_THREADS"]
    if "weights" in manifest and not asset:
        flags.append(f'-D{name.upper()}_INCBIN="{manifest["weights"]["file"]}"')
    found = {}
    for abi in ABIS:
        found[abi.name] = scratch / abi.name / f"lib{name}.so"
        found[abi.name].parent.mkdir()
        compile_library(source, found[abi.name], abi, folder, flags, cc)
    return found


def _aar(
    folder: Path, manifest: Manifest, api: Api, texts: Mapping[str, str], libraries: Mapping[str, Path]
) -> dict[str, bytes | Path]:
    """What the AAR contains, by path."""
    values = {**common(api), "package": package_name(api.name), "min_sdk": str(MIN_SDK)}
    module = f"prefab/modules/{api.name}"
    files: dict[str, bytes | Path] = {
        "AndroidManifest.xml": _filled("AndroidManifest.xml", values).encode(),
        "R.txt": b"",
        "classes.jar": archived(compile_classes(texts, values["package"])),
        "proguard.txt": (
            "# Native code finds its methods by the names of their classes.\n"
            f"-keepclasseswithmembernames,includedescriptorclasses class dlpack.{values['package']}.** {{\n"
            "  native <methods>;\n"
            "}\n"
            # what native code calls while a text is written
            f"-keepclassmembers class dlpack.{values['package']}.Predictor$Taken {{\n"
            "  boolean take(...);\n"
            "}\n"
        ).encode(),
        "META-INF/com/android/build/gradle/aar-metadata.properties": _METADATA.encode(),
        "META-INF/NOTICE": notice_text(manifest).encode(),
        "prefab/prefab.json": _json(schema_version=2, name=api.name, version=values["version"], dependencies=[]),
        f"{module}/module.json": _json(export_libraries=[], library_name=f"lib{api.name}"),
        f"{module}/include/{manifest['header']}": folder / manifest["header"],
    }
    for abi, library in libraries.items():
        files[f"jni/{abi}/{library.name}"] = library
        files[f"{module}/libs/android.{abi}/{library.name}"] = library
        files[f"{module}/libs/android.{abi}/abi.json"] = _json(abi=abi, api=MIN_SDK, ndk=27, stl="none", static=False)
    return files


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = resources.files(__package__).joinpath(template).read_text(encoding="utf-8")
    return render(text, values, frozenset())


def _json(**fields: object) -> bytes:
    return (json.dumps(fields, indent=2) + "\n").encode()

"""An SPDX 2.3 software bill of materials for a bundle, written with spdx-tools and checked by it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    File,
    Package,
    PackageVerificationCode,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)

_EPOCH = datetime(1980, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""The creation date that SPDX demands; a fixed one, so that the same input gives the same bytes."""


def spdx_document(manifest: dict[str, Any], digests: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The document as JSON data. `digests` maps file names to their SHA1 and SHA256."""
    from spdx_tools.common.spdx_licensing import spdx_licensing

    apache = spdx_licensing.parse("Apache-2.0")
    name = manifest["name"]
    seal = hashlib.sha256(json.dumps([manifest["model_sha256"], digests], sort_keys=True).encode()).hexdigest()
    creation = CreationInfo(
        "SPDX-2.3",
        "SPDXRef-DOCUMENT",
        f"{name}-{manifest['target']}",
        f"https://spdx.org/spdxdocs/{name}-{seal[:32]}",
        [Actor(ActorType.TOOL, manifest["tool"].replace(" ", "-"))],
        _EPOCH,
    )
    sha1s = "".join(sorted(sums["SHA1"] for sums in digests.values()))  # SPDX 2.3, clause 7.9
    bundle = Package(
        "SPDXRef-bundle",
        name,
        SpdxNoAssertion(),
        files_analyzed=True,
        verification_code=PackageVerificationCode(hashlib.sha1(sha1s.encode(), usedforsecurity=False).hexdigest()),
        license_concluded=SpdxNoAssertion(),
    )
    model = Package(
        "SPDXRef-model",
        f"{name} (ONNX model)",
        SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, manifest["model_sha256"])],
        license_concluded=SpdxNoAssertion(),
    )
    runtime = Package(
        "SPDXRef-runtime",
        "dlpack runtime",
        SpdxNoAssertion(),
        version=manifest["tool"].split()[-1],
        files_analyzed=False,
        license_concluded=apache,
        license_declared=apache,
    )
    files = [
        File(
            f"./{file}",
            f"SPDXRef-file-{k}",
            [Checksum(ChecksumAlgorithm[a], v) for a, v in sums.items()],
            license_concluded=SpdxNoAssertion(),
        )
        for k, (file, sums) in enumerate(sorted(digests.items()))
    ]
    relations = [
        Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, "SPDXRef-bundle"),
        Relationship("SPDXRef-bundle", RelationshipType.GENERATED_FROM, "SPDXRef-model"),
        Relationship("SPDXRef-bundle", RelationshipType.CONTAINS, "SPDXRef-runtime"),
        *(Relationship("SPDXRef-bundle", RelationshipType.CONTAINS, f.spdx_id) for f in files),
    ]
    document = Document(creation, [bundle, model, runtime], files, relationships=relations)
    converted: dict[str, Any] = DocumentConverter().convert(document)
    return converted

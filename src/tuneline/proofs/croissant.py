"""croissant.json: the clean data as Croissant metadata (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).

The paths in it are relative to the folder of the clean data: a tool that reads rows needs the file in that folder.
"""

import glob
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from tuneline.data.records.record_form import FIELDS, KEPT_COLUMNS, SPLITS, RecordForm
from tuneline.proofs.facts import PRETRAINING, Facts, File, RawSet

FILE = "croissant.json"
"""The file's name in the folder of a version."""

_VERSION = "http://mlcommons.org/croissant/1.0"
"""Every version of the tools reads 1.0."""
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of the specification: tools warn about any other."""
_PARQUET = "application/x-parquet"
_MEANINGS = {
    "id": "hash of the row's content",
    "source": "file and line of the raw row",
    "cluster": "rows of one cluster are in one split",
    "fold": "fold of a cross-validation",
    "text": "the text",
    "prompt": "what the model is given",
    "completion": "what the model learns to answer",
    "messages": "JSON list of messages",
    "tools": "JSON list of tools that the assistant may call; may be empty",
    "chosen": "the better answer",
    "rejected": "the worse answer",
    "label": "the label",
}


def metadata(facts: Facts) -> str:
    """The metadata of the clean data as JSON-LD; the same facts give the same text.

    Args:
        facts: about the version.
    """
    p = facts.p
    sets = list(_sets(facts))
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"{p.registry.model}: clean data",
        "description": f"The rows of {p.data.raw} on which {p.registry.model} was fine-tuned, validated and tested, "
        f"after cleaning, without duplicates and without training rows that repeat held-out rows. Records: "
        f"{facts.form}.",
        "conformsTo": _VERSION,
        "identifier": f"sha256:{facts.lineage.data_sha256}",
        "rai:dataPreprocessingProtocol": list(_steps(facts)),
        "rai:personalSensitiveInformation": list(_personal(facts)),
        "distribution": [part for one in sets for part in one.distribution()],
        "recordSet": [_splits(), *(one.record_set() for one in sets)],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


class _Set:
    """A split of the clean data, or a set of the mixture: its files and its fields.

    Args:
        name: the folder of its files in the clean data.
        form: of its records.
        files: its parquet files.
        rows: their number.
        columns: of the parquet files, in front of the fields.
        kept: of the parquet files, behind the fields: columns of the raw set.
    """

    def __init__(
        self,
        name: str,
        form: RecordForm,
        files: Sequence[File],
        rows: int,
        columns: Sequence[str],
        kept: Sequence[str] = (),
    ) -> None:
        self.name, self.form, self.files, self.rows = name, form, files, rows
        self.kept = kept
        self.columns = (*columns, *FIELDS[form.record_type], *kept)
        # Ids are parts of addresses in JSON-LD.
        self.id = quote(name)

    def distribution(self) -> Iterator[dict[str, Any]]:
        for file in self.files:
            yield {
                "@type": "cr:FileObject",
                "@id": quote(file.path),
                "name": file.path,
                "contentUrl": file.path,
                "contentSize": f"{file.bytes} B",
                "encodingFormat": _PARQUET,
                "sha256": file.sha256,
            }
        if len(self.files) > 1:
            yield {
                "@type": "cr:FileSet",
                "@id": f"{self.id}/files",
                "name": f"{self.name}: all files",
                "encodingFormat": _PARQUET,
                "includes": f"{glob.escape(self.name)}/*.parquet",
            }

    def record_set(self) -> dict[str, Any]:
        # Tools check the sha256 only of a single file.
        source = (
            {"fileObject": {"@id": quote(self.files[0].path)}}
            if len(self.files) == 1
            else {"fileSet": {"@id": f"{self.id}/files"}}
        )
        return {
            "@type": "cr:RecordSet",
            "@id": self.id,
            "name": self.name,
            "description": f"{self.rows} rows: {self.form}",
            "key": {"@id": f"{self.id}/id"},
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"{self.id}/{column}",
                    "name": column,
                    "description": self._meaning(column),
                    "dataType": "sc:Float" if column == "label" and self.form.numeric else "sc:Text",
                    "source": {**source, "extract": {"column": column}},
                }
                for column in self.columns
            ],
        }

    def _meaning(self, column: str) -> str:
        if column in self.kept:
            return "a column of the raw set, as text; empty where the row has no value"
        if column == "label" and self.form.multi_label:
            return "JSON list of labels"
        if column == "label" and self.form.numeric:
            return "the number"
        if self.form.record_type == "preference" and self.form.conversational and column in FIELDS["preference"]:
            return f"{_MEANINGS[column]}, as a JSON list of messages"
        return _MEANINGS[column]


def _sets(facts: Facts) -> Iterator[_Set]:
    def files_in(folder: str) -> list[File]:
        return [file for file in facts.data_files if file.path.startswith(f"{folder}/")]

    kept = list(facts.dataset.get(KEPT_COLUMNS, {}).values())
    folds = ["fold"] * (facts.p.data.split.folds is not None)
    for split in SPLITS:
        columns = ["id", "source", "cluster", *(folds if split != "test" else [])]
        yield _Set(split, facts.form, files_in(split), facts.dataset["rows"][split], columns, kept)
    for described in facts.dataset["mixture"].values():
        path, form = described["path"], RecordForm.from_json(described)
        yield _Set(path, form, files_in(path), described["rows"]["train"], ["id", "source", "cluster"])


def _splits() -> dict[str, Any]:
    kinds = {"train": "TrainingSplit", "validation": "ValidationSplit", "test": "TestSplit"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "dataType": "sc:URL"},
        ],
        "data": [
            {"splits/name": split, "splits/url": f"http://mlcommons.org/croissant/{kinds[split]}"} for split in SPLITS
        ],
    }


def _cleaned(facts: Facts) -> list[RawSet]:
    """The raw sets whose rows are in the clean data; the pretraining text is not."""
    return [one for one in facts.raw_sets if one.purpose != PRETRAINING]


def _steps(facts: Facts) -> Iterator[str]:
    for one in _cleaned(facts):
        counts = one.counts
        dropped = ", ".join(f"{count} {reason}" for reason, count in counts.get("dropped", {}).items()) or "none"
        yield f"{one.path}: {counts.get('rows_in')} rows in, {counts.get('rows_out')} out; dropped: {dropped}"


def _personal(facts: Facts) -> Iterator[str]:
    policies = facts.p.data.secrets.model_dump()
    for one in _cleaned(facts):
        for kind, count in one.counts.get("secrets", {}).items():
            if count:
                yield f"{one.path}: {count} rows with a value that looks like {kind}; policy: {policies[kind]}"

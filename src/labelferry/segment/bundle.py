"""Model bundles: four plain files that hold a model, and nothing that runs.

A bundle is a folder, or one zip file, with ``bundle.json``, ``plans.json``, ``dataset.json`` and
``weights.safetensors``. It may come from anywhere, so that it is read with distrust: known names
only, bounded sizes, hashes, and plans that must be the ones that its own configuration gives. The
network's class is always ours.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from labelferry.anatomy.config import AnatomyConfig
from labelferry.cases import Modality
from labelferry.errors import UserError
from labelferry.files import atomic_folder, atomic_path, write_json
from labelferry.organs import OrganSet
from labelferry.prior.model import Prior
from labelferry.segment.archive import BUNDLE_FILES, Reader, open_reader
from labelferry.segment.config import NetworkConfig, Space
from labelferry.segment.network import build_network
from labelferry.segment.plans import CONFIGURATIONS, make_plans

SCHEMA = 1
_HEADER, _PLANS, _DATASET, _WEIGHTS = BUNDLE_FILES
_JSON_LIMIT = 64 * 2**20
_WEIGHTS_EXTRA = 2**20  # safetensors' own header
_MAX_ORGANS = 255  # label maps are 8-bit
# a network from a file may be large, but not so large that listing its layers hangs
_MAX_PATCH, _MAX_CONVOLUTIONS, _MAX_DOWNSAMPLINGS, _MAX_CHANNELS = 4096, 16, 12, 4096
_MAX_CONTEXT = 16


@dataclass(frozen=True)
class Bundle:
    """Everything about a model but its weights."""

    name: str
    """What the model is called in reports."""
    organs: OrganSet
    """Class i of the network is organ i; class 0 is background."""
    space: Space
    """The network's input channels: plain, anatomy, or both in this order."""
    anatomy: AnatomyConfig
    """How an image is brought to the working grid."""
    modality: Modality
    """What the model is for."""
    network: NetworkConfig
    plans: dict[str, Any]
    """nnU-Net's plans, as ``make_plans`` writes them."""
    dataset: dict[str, Any]
    """nnU-Net's dataset description."""
    provenance: dict[str, Any]
    """Where the model comes from; JSON-able, without anything of a patient."""
    inference: dict[str, Any] = field(default_factory=dict)
    """How its run applies it: fields of ``PredictConfig``, which a caller may change."""
    prior: Prior | None = None
    """What the source labels of its run say about organs: the measure of what it predicts."""
    schema_version: int = SCHEMA

    @property
    def channels(self) -> int:
        """Images that the network sees; with their neighbours in 2-D, see ``NetworkConfig``."""
        return 2 if self.space == "both" else 1

    @property
    def classes(self) -> int:
        """Output classes, background included."""
        return len(self.organs) + 1

    @property
    def patch(self) -> tuple[int, ...]:
        """The window that the network was trained on, (z, y, x) or (y, x), in voxels."""
        plan = self.plans["configurations"][CONFIGURATIONS[self.network.dimensions]]
        return tuple(int(n) for n in plan["patch_size"])


class _Header(BaseModel):
    """The content of ``bundle.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    name: str
    organs: list[dict[str, Any]]
    space: Space
    anatomy: AnatomyConfig
    modality: Modality
    network: NetworkConfig
    provenance: dict[str, Any]
    inference: dict[str, Any] = {}
    prior: dict[str, Any] | None = None
    sha256: dict[str, str]


def write_bundle(folder: Path, bundle: Bundle, weights: dict[str, Tensor]) -> None:
    """Write a bundle folder atomically; an older one of this name is replaced.

    ``weights`` is a state dict of the bundle's network. Raises ``UserError`` where a bundle could
    not be read back: weights of another network, or plans of another configuration.
    """
    from safetensors.torch import save_file

    _check(bundle, folder)
    owners = _owners(_skeleton(bundle))
    _check_names(set(weights), set(owners), folder)
    # a U-Net lists shared parameters under several names; each is stored once
    kept = {
        name: weights[name].detach().cpu().contiguous().clone()
        for name in sorted(set(owners.values()))
    }
    _check_shapes(kept, _skeleton(bundle), folder)
    with atomic_folder(folder) as part:
        write_json(part / _PLANS, bundle.plans)
        write_json(part / _DATASET, bundle.dataset)
        save_file(kept, part / _WEIGHTS)
        hashes = {
            name: hashlib.sha256((part / name).read_bytes()).hexdigest()
            for name in (_PLANS, _DATASET, _WEIGHTS)
        }
        header = _Header(
            schema_version=bundle.schema_version,
            name=bundle.name,
            organs=bundle.organs.to_json(),
            space=bundle.space,
            anatomy=bundle.anatomy,
            modality=bundle.modality,
            network=bundle.network,
            provenance=bundle.provenance,
            inference=bundle.inference,
            prior=None if bundle.prior is None else bundle.prior.to_json(),
            sha256=hashes,
        )
        write_json(part / _HEADER, header.model_dump(mode="json"))


def read_bundle(path: Path) -> tuple[Bundle, dict[str, Tensor]]:
    """Read a bundle folder or a one-file ``.zip``; returns it and its network's state dict.

    Raises ``UserError`` for whatever does not belong in a bundle (see :mod:`.archive`), a hash that
    does not match, another schema version, foreign plans, or weights of other names or shapes.
    """
    with open_reader(path) as read:
        header = _read_header(read(_HEADER, _JSON_LIMIT), path)
        plans = _object(_verified(read, _PLANS, _JSON_LIMIT, header, path), _PLANS, path)
        dataset = _object(_verified(read, _DATASET, _JSON_LIMIT, header, path), _DATASET, path)
        organs = _organs(header.organs, path)
        bundle = Bundle(
            name=header.name,
            organs=organs,
            space=header.space,
            anatomy=header.anatomy,
            modality=header.modality,
            network=header.network,
            plans=plans,
            dataset=dataset,
            provenance=header.provenance,
            inference=header.inference,
            prior=_prior(header.prior, organs, path),
            schema_version=header.schema_version,
        )
        _check(bundle, path)
        skeleton = _skeleton(bundle)
        size = sum(p.numel() * p.element_size() for p in skeleton.parameters())
        raw = _verified(read, _WEIGHTS, size + _WEIGHTS_EXTRA, header, path)
    weights = _parse_weights(raw, path)
    owners = _owners(skeleton)
    _check_names(set(weights), set(owners.values()), path)
    _check_shapes(weights, skeleton, path)
    return bundle, {name: weights[owner] for name, owner in owners.items()}


def open_network(bundle: Bundle, weights: dict[str, Tensor]) -> nn.Module:
    """The bundle's network with its weights, on the CPU, for inference."""
    network = _skeleton(bundle)
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def pack_bundle(folder: Path, zip_path: Path) -> None:
    """Write a bundle folder as one zip file; the same bundle gives the same bytes."""
    read_bundle(folder)  # nothing is packed that could not be read
    with atomic_path(zip_path) as part, zipfile.ZipFile(part, "w") as archive:
        for name in BUNDLE_FILES:
            info = zipfile.ZipInfo(name)  # its date is fixed
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, (folder / name).read_bytes())


def _skeleton(bundle: Bundle) -> nn.Module:
    """The network without memory for its weights."""
    # not initialised: drawing numbers for tensors that hold none has torch load its compiler, which
    # takes longer than the rest of opening a model
    with torch.device("meta"):
        return build_network(
            bundle.network,
            bundle.network.channels_in(bundle.channels),
            bundle.classes,
            spacing=bundle.anatomy.spacing[::-1],
            initialise=False,
        )


def _owners(network: nn.Module) -> dict[str, str]:
    """For each name of the state dict, the first name of the same tensor."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(tensor), name)
        for name, tensor in network.state_dict(keep_vars=True).items()
    }


def _verified(read: Reader, name: str, limit: int, header: _Header, path: Path) -> bytes:
    raw = read(name, limit)
    if hashlib.sha256(raw).hexdigest() != header.sha256.get(name):
        raise UserError(
            f"{name} is not the file that bundle.json describes (its hash differs)",
            path=path,
            fix="copy or download the model again",
        )
    return raw


def _object(raw: bytes, name: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON", path=path, seen=type(error).__name__) from error
    if not isinstance(value, dict):
        raise UserError(f"{name} holds no JSON object", path=path, seen=type(value).__name__)
    return value


def _read_header(raw: bytes, path: Path) -> _Header:
    value = _object(raw, _HEADER, path)
    if value.get("schema_version") != SCHEMA:
        raise UserError(
            "the bundle has another schema version",
            path=path,
            seen=value.get("schema_version"),
            allowed=SCHEMA,
            fix="make it again with this version of labelferry",
        )
    try:
        return _Header.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            "bundle.json does not describe a model", path=path, seen=f"{where}: {first['msg']}"
        ) from error


def _organs(rows: list[dict[str, Any]], path: Path) -> OrganSet:
    try:
        return OrganSet.from_json(rows)
    except (UserError, ValueError, TypeError) as error:
        raise UserError("bundle.json lists no valid organs", path=path, seen=error) from error


def _prior(value: dict[str, Any] | None, organs: OrganSet, path: Path) -> Prior | None:
    if value is None:
        return None
    try:
        prior = Prior.from_json(value)
    except UserError as error:
        raise UserError("bundle.json holds no valid prior", path=path, seen=error) from error
    unknown = {row.id for row in prior.organs} - organs.ids
    if unknown:
        raise UserError(
            "the prior in bundle.json speaks of other organs", path=path, seen=sorted(unknown)
        )
    return prior


def _check(bundle: Bundle, path: Path) -> None:
    """Refuse what no network of ours is, before anything is built from it."""
    network = bundle.network
    if (
        max(network.patch) > _MAX_PATCH
        or network.convolutions > _MAX_CONVOLUTIONS
        or network.downsamplings > _MAX_DOWNSAMPLINGS
        or max(network.channels, network.max_channels) > _MAX_CHANNELS
        or network.context > _MAX_CONTEXT
        or len(bundle.organs) > _MAX_ORGANS
    ):
        raise UserError(
            "the network is larger than any that is built here",
            path=path,
            seen=f"{network}; {len(bundle.organs)} organs",
            allowed=f"patch {_MAX_PATCH}, convolutions {_MAX_CONVOLUTIONS}, downsamplings "
            f"{_MAX_DOWNSAMPLINGS}, channels {_MAX_CHANNELS}, organs {_MAX_ORGANS}",
        )
    try:
        expected = _expected_plans(bundle)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "plans.json holds no plans of this network",
            path=path,
            seen=f"{type(error).__name__}: {error}",
        ) from error
    # nnU-Net looks classes and functions up by the names in its plans: only ours may stand there
    if json.loads(json.dumps(bundle.plans)) != json.loads(json.dumps(expected)):
        raise UserError(
            "plans.json does not match the network and the grid in bundle.json",
            path=path,
            seen=_first_difference(bundle.plans, expected),
            fix="make the bundle again with this version of labelferry",
        )


def _expected_plans(bundle: Bundle) -> dict[str, Any]:
    """The plans that the bundle's own configuration gives; numbers of training are taken over."""
    plan = bundle.plans["configurations"][CONFIGURATIONS[bundle.network.dimensions]]
    intensities = {
        str(channel): {
            str(key): float(value)
            for key, value in bundle.plans["foreground_intensity_properties_per_channel"][
                str(channel)
            ].items()
        }
        for channel in range(bundle.channels)
    }
    by_dataset = "CTNormalization" in plan["normalization_schemes"]
    return make_plans(
        bundle.network,
        bundle.anatomy.spacing[::-1],
        bundle.channels,
        batch=int(plan["batch_size"]),
        batch_dice=bool(plan["batch_dice"]),
        intensities=intensities if by_dataset else None,
    )


def _first_difference(seen: Any, expected: Any, where: str = "") -> str:
    if isinstance(seen, dict) and isinstance(expected, dict):
        for key in (*expected, *seen):
            if seen.get(key) != expected.get(key):
                return _first_difference(seen.get(key), expected.get(key), f"{where}.{key}")
    return f"{where.lstrip('.')} = {str(seen)[:80]}"


def _parse_weights(raw: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(raw)
    except (SafetensorError, ValueError, KeyError) as error:
        # a pickle begins with \x80, torch's zipped pickle with PK
        pickled = raw[:1] == b"\x80" or raw[:2] == b"PK"
        raise UserError(
            "weights.safetensors is a pickle, which can run any program: refused"
            if pickled
            else "weights.safetensors is damaged",
            path=path,
            seen=str(error),
            fix="get the model again, from its source",
        ) from error


def _check_names(seen: set[str], expected: set[str], path: Path) -> None:
    if seen != expected:
        missing, extra = sorted(expected - seen), sorted(seen - expected)
        raise UserError(
            "the weights are not those of the bundle's network",
            path=path,
            seen=f"{len(missing)} missing {missing[:2]}, {len(extra)} unknown {extra[:2]}",
        )


def _check_shapes(weights: dict[str, Tensor], network: nn.Module, path: Path) -> None:
    expected = network.state_dict()
    for name, tensor in weights.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            raise UserError(
                f"the weights {name} do not fit the bundle's network",
                path=path,
                seen=f"{tuple(tensor.shape)} {tensor.dtype}",
                allowed=f"{tuple(wanted.shape)} {wanted.dtype}",
            )

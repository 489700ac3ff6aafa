"""The catalogue of models that can be downloaded, each with a checksum.

They are the classification models of Coral's repository of test data, at one commit. The checksum is the git blob id,
the SHA-1 of `blob <size>`, a NUL and the content, which also fixes the size where the table does not contain it. The
accuracies are published ones on ImageNet: TensorFlow's list of hosted quantised models (MobileNet, Inception) and the
EfficientNet-EdgeTPU page of the TPU repository.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import UsageError
from edge_classifierd.model.bundle import BUNDLED_MODELS

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY: Final = "google-coral/test_data"
COMMIT: Final = "104342d2d3480b3e66203073dac24f4e2dbb4c41"
BASE_URL: Final = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
LICENCE: Final = "Apache-2.0"
_ENDING: Final = ".tflite"
_EDGETPU: Final = "_edgetpu"

IMAGENET: Final = "1,000 things"
EMBEDDING: Final = "embedding"
_KINDS: Final = {
    "imagenet": IMAGENET,
    "inat_bird": "birds",
    "inat_insect": "insects",
    "inat_plant": "plants",
    "products": "US products",
    "extractor": EMBEDDING,
}

# Name, what it recognises, input side in pixels, Top-1, Top-5; then for each of its two files the blob id and the size.
_TABLE: Final = """
mobilenet_v1_0.25_128_quant imagenet 128 39.5 64.4
  cpu 22b67d6a63753ad9907a4c8505632479ac439b94 525598
  tpu f0203c10fe12db2fe94cec88b7b80bb2e9baa238 801454
mobilenet_v1_0.5_160_quant imagenet 160 57.2 80.5
  cpu 9e1cfe5f512774a651ce19aab416789463b69665 1392846
  tpu 3531e2226764bd0cdcf00b7af6a0e350cff088dc 1743534
mobilenet_v1_0.75_192_quant imagenet 192 66.1 86.2
  cpu cd76cbdc9cfa8ccc7fd1617b62f4fb250e4c9bee 2652542
  tpu d35739721c3e02a69397d3113ec6959b5d076a32 3029678
mobilenet_v1_1.0_224_ptq_float_io_legacy imagenet 224 - -
  cpu b228086575db433e027c3c68cb8e84b650eb773e -
  tpu ece762d023fe3db9ac3f3549e87d2be135731262 -
mobilenet_v1_1.0_224_quant imagenet 224 70.0 89.0
  cpu ed3753826e390f0ddec8c36a8125d0dc97fd43ef -
  tpu 9b78e04db00702d2995b65a05b872e981e0041a9 -
mobilenet_v2_1.0_224_quant imagenet 224 70.8 89.9
  cpu 03533c32dacc1456ff3fe951ebdd5b967ce9e6a0 3610798
  tpu 06db28d38a42505b1ef4f19b5273173e9a43504c -
tf2_mobilenet_v1_1.0_224_ptq imagenet 224 - -
  cpu 333f1af94dd03e383d4cccd4b1341d5d4000b664 -
  tpu 4201aff3e46b12a1c3ab75b2e8f99e02ec79f40d -
tf2_mobilenet_v2_1.0_224_ptq imagenet 224 - -
  cpu adc0326f06ade4b8d2a571a72d2486a260f987d4 4070174
  tpu a79892384d1b48168eb77664a0138cfbd8557753 -
tf2_mobilenet_v3_edgetpu_1.0_224_ptq imagenet 224 - -
  cpu b3c5a2e5077018e6dc7e28dd696cda32ab0d62f2 -
  tpu dd8313213911f321e8f9cc47a58f450739e6b9ab -
inception_v1_224_quant imagenet 224 70.1 89.8
  cpu 088ffa53d18e2b435e3e8fd1361d2ab46d974b05 -
  tpu d7ff7b1790e8cad63d5a63b4d145a369c6210c62 -
inception_v2_224_quant imagenet 224 73.5 91.4
  cpu 1546a3a490b475bbeba8a9ff296c837d1dfc295c -
  tpu 6a6a3f607515799d2dbeee793c7483151d1a4ca7 -
inception_v3_299_quant imagenet 299 77.5 93.7
  cpu 8c52290bbb4120cbc61eb9a8979ed18da158403c -
  tpu 32dd78f1102109bed993fc2759e66d5d6eff3fea -
inception_v4_299_quant imagenet 299 79.5 93.9
  cpu 3908260a7c2c31765179df04fe9030da86dfbfd7 -
  tpu 10b244f18e8271ae14cd17b572e5f5c455ad8961 -
efficientnet-edgetpu-L_quant imagenet 300 80.6 -
  cpu 12428a989650033e110325af111666781f5e9fca -
  tpu da0fb72fd67a7ac1e7e2359d1214fe307edfbcb6 -
efficientnet-edgetpu-M_quant imagenet 240 78.7 -
  cpu dae2c73bbcb2468d3b2f5bd8061887b860389f47 -
  tpu 1f204b7d4676664e789eaf3a40a8a61547059e4c -
efficientnet-edgetpu-S_quant imagenet 224 77.2 -
  cpu 46b62bf9b5b589ac8d2854c8459316d42c986340 -
  tpu 8bc77a71ec104e9a9127d75ca9c503b3dfc69afc -
tfhub_tf1_popular_us_products_ptq products 224 - -
  cpu 4ceaf01dd0296a787fd21f3e63d0938bf7d31cb7 -
  tpu d97046c8a8f5049602e47c8fae14970cce3d1901 -
tfhub_tf2_resnet_50_imagenet_ptq imagenet 224 - -
  cpu d7f2d0dcdcbe162307a05975b1736455497b66cc -
  tpu b34ea6b7b7e5f5035cc3eec747e40518380034eb -
mobilenet_v2_1.0_224_inat_bird_quant inat_bird 224 - -
  cpu 225ffa93c74237a64e1a5782fce3dfbc61f9d380 3579500
  tpu 35f31efe2d3ccc81376647c7f818a684adde0aae -
mobilenet_v2_1.0_224_inat_insect_quant inat_insect 224 - -
  cpu 48abc7c548282910bd6d9bc9aeb5663c7288070b 3655867
  tpu dffe3da9042ee4ddd4dfdea93c4d52594ccb994d -
mobilenet_v2_1.0_224_inat_plant_quant inat_plant 224 - -
  cpu 85737c16869a13417a44229bf1968c4e964d2d7f -
  tpu 7b6a62c27525b689d96dbe07c4f27c7a575bd49a -
mobilenet_v1_1.0_224_l2norm_quant extractor 224 - -
  cpu 4a8db3a41caa5696237d137cbe2b918699573725 -
  tpu 74a46846e6a47994cc3c788524065e0e643b781e -
mobilenet_v1_1.0_224_quant_embedding_extractor extractor 224 - -
  cpu 8886421f40a40b431334610460fc04c924d57f20 3251736
  tpu e9f89b94e822a4a56989179a10abc22f0c0f24b9 3486336
efficientnet-edgetpu-L_quant_embedding_extractor extractor 300 - -
  cpu 832ebeda8cf85f8789e98bdf64726d0bcff6cb81 -
  tpu e9ca2bb04ab8e5dbab7a7035897f0ee4936eaf09 -
efficientnet-edgetpu-M_quant_embedding_extractor extractor 240 - -
  cpu 80ecdaf0a2a5da4eef635d4b7ad9dbc92d7785db -
  tpu 7b178c749255e1806beb1dfbf8fe4e65505f482a -
efficientnet-edgetpu-S_quant_embedding_extractor extractor 224 - -
  cpu 31b6bb3332de87008f8dbdf7800f94e4e3083af6 -
  tpu f5632b20f74c0717db5afaeb69f03ea54b9d8227 -
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that can be fetched."""

    name: str
    """Without the ending `.tflite`."""
    description: str
    """What it recognises, in at most 12 characters."""
    side: int
    """Of its square input, in pixels."""
    top1: float | None
    """Published accuracy on ImageNet, in percent."""
    top5: float | None
    edgetpu: bool
    """Whether it is compiled for the Edge TPU and runs only there."""
    blob: str
    size: int | None
    """Bytes; None where it is unknown before the download."""

    @property
    def file_name(self) -> str:
        """`mobilenet_v2_1.0_224_quant.tflite`."""
        return self.name + _ENDING

    @property
    def twin(self) -> str:
        """The name of the same model for the Edge TPU, or for the CPU."""
        return self.name.removesuffix(_EDGETPU) if self.edgetpu else self.name + _EDGETPU


def catalogue() -> tuple[Entry, ...]:
    """Return all entries: of each model the CPU file, then the Edge TPU file."""
    entries: list[Entry] = []
    for line in _TABLE.strip().splitlines():
        fields = line.split()
        if not line.startswith(" "):
            name, kind, side, top1, top5 = fields
            continue
        edgetpu = fields[0] == "tpu"
        entries.append(
            Entry(
                name=name + (_EDGETPU if edgetpu else ""),
                description=_KINDS[kind],
                side=int(side),
                top1=_known(top1),
                top5=_known(top5),
                edgetpu=edgetpu,
                blob=fields[1],
                size=None if fields[2] == "-" else int(fields[2]),
            )
        )
    return tuple(entries)


def find_entry(name: str) -> Entry:
    """Return the entry with a name, with or without ending. Raises UsageError with similar names."""
    entries = {entry.name: entry for entry in catalogue()}
    wanted = name.removesuffix(_ENDING)
    if wanted in entries:
        return entries[wanted]
    for bundled, file_name in BUNDLED_MODELS.items():
        if wanted == file_name.removesuffix(_ENDING):
            key = f"model: {{bundled: {bundled}}}"
            raise UsageError(f"{name}: comes with this program and needs no download; `{key}` uses it")
    near = difflib.get_close_matches(wanted, entries, 3, 0.5) or [one for one in entries if wanted in one][:3]
    hint = f"; did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
    raise UsageError(f"{name}: not in the catalogue{hint or '; `edge-classifierd models list` shows what is'}")


def blob_id(path: Path) -> str:
    """Return the git blob id of a file. Raises OSError."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _known(text: str) -> float | None:
    return None if text == "-" else float(text)

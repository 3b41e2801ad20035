"""The S3 port: one client, multipart uploads that end complete or not at all, and errors as sentences."""

from swarm.s3.bucket import Bucket, Missing
from swarm.s3.download import Patience
from swarm.s3.port import Destination, Stored, Writer

__all__ = ["Bucket", "Destination", "Missing", "Patience", "Stored", "Writer"]

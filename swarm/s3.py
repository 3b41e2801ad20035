"""The S3 port: one client, multipart uploads that end complete or not at all, and errors as sentences."""

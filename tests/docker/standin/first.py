"""A stand-in for the registration of models: it needs a provider's key, the file and the proxy."""

import os
import sys
import urllib.request
from pathlib import Path

if "OPENAI_API_KEY" not in os.environ:
    sys.exit("OPENAI_API_KEY is not set")
with urllib.request.urlopen(os.environ["LITELLM_URL"] + "/health/readiness", timeout=5) as answer:  # noqa: S310
    answer.read()
Path("/dev/stdout").write_text(
    f"registered the models of {Path('/swarm/litellm/models.yaml').stat().st_size} bytes\n", encoding="utf-8"
)

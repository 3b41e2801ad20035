"""A stand-in for the registration of models: it needs a provider's key and the proxy."""

import os
import sys
import urllib.request

if "OPENAI_API_KEY" not in os.environ:
    sys.exit("OPENAI_API_KEY is not set")
print(urllib.request.urlopen(os.environ["LITELLM_URL"] + "/health/readiness", timeout=5).read().decode())
print("registered the models of", os.path.getsize("/swarm/litellm/models.yaml"), "bytes")

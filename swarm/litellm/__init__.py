"""LiteLLM, the proxy through which the agents reach models.

environment  litellm/.env: keys and address            wanted      models.yaml → credentials and deployments
client       the proxy's API, row by row               identity    deterministic ids and fingerprints
reasons      the API's errors → sentences and hints    difference  wanted − observed → plan
compose      the containers                            apply       the plan → requests
native       the same without Docker                   dedup       which copies of a row may go
health       what is dead, and when to restart it      explain     why a model does not answer
"""

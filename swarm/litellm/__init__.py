"""LiteLLM, the proxy through which the agents reach models.

Models                                               What runs the proxy
  environment  litellm/.env: keys and address          secrets     the first .env, and the guard of the salt key
  wanted       models.yaml → what should be there      engine      Docker and Compose, and their errors
  edit         models.yaml, with its comments          containers  what Docker says about the containers
  session      one HTTP session, its limits            compose     up, down, logs and state of the containers
  client       the proxy's API, row by row             start       one start, watched until the proxy is ready
  reasons      the API's errors → sentences            install     the packages for a proxy without Docker
  identity     ids and fingerprints                    postgres    its database cluster
  difference   wanted − observed → plan                native      the services: up, down, logs and state
  apply        the plan → requests                     runner      what health needs of either
  dedup        which copies may go                     running     finds out which of the two there is
  removal      one model, out of both
  masks        masked keys, which both compare
  first        the first registration in a container
Health
  health       is it dead, would a restart help        maintenance  one health run and its log
  explain      why a model does not answer
"""

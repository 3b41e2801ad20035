"""A real LiteLLM for the tests, with a real PostgreSQL and a fake model provider, all on loopback.

rig       the proxy, ready to use         postgres  a PostgreSQL that is thrown away
parts     what it is made of, cached      upstream  the fake provider
seed      a program that writes rows      *.cjs     stands in for Prisma's native engine
"""

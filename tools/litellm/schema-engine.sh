#!/bin/sh
# Stands in for Prisma's native schema engine, which must exist lest Prisma tries to download it, and is never used.
if [ "$1" = --version ]; then
    echo 'schema-engine-cli 393aa359c9ad4a4bb28630fb5613f9c281cde053'
    exit 0
fi
echo 'the schema engine is not available in the tests' >&2
exit 1

"""The VM of a host file.

`desired` is what it should be and `observe` what it is. `difference` makes a plan of them, whose changes are `actions`.
`provision` and `destroy` run them, and `ready` waits for the guest on a `ladder` of conditions.
"""

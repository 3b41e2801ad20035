"""The VM of a host file.

What it should be (`desired`), what it is (`observe`), the difference (`difference`), and the way from one to the other
(`provision`), down to a guest that answers (`ladder`).
"""

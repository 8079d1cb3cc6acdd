"""Recorded and produced media: what comes from a file, a camera or a test picture and goes live.

`media/publish.py` is `terrace publish`: it feeds a source into a relay node by WHIP.
"""

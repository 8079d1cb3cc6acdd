"""Live: one stream down the tree of relay nodes.

A packet's path: `port` drains the socket, `peer` takes the protection off, `source` gives the
packet its number, `track` keeps it, `stream` groups the viewers, `fanout` protects and sends.
"""

__version__ = "0.1.0"

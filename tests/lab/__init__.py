"""The network laboratory: bad lines, dying nodes, and viewers that measure what comes through.

`line` decides what happens to a packet (pure, seeded); `proxy` is a process that puts such lines
between real nodes; `namespaces` does it with the kernel's own means where root is. `nodes` starts
and kills real `terrace relay` processes, `probe` is a viewer that asks again like a browser and
records every arrival. `scenarios` and `soak` put them together: `python -m tests.lab --help`.
"""

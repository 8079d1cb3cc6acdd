"""The load bench: what one relay node costs, loses and delays (`make bench`).

The parts, in the order a packet meets them:

`source`     what is sent: VP8-looking and Opus-looking RTP with correct payload headers
`publisher`  a process of its own that enters the node by WHIP and sends the source
`node`       the node under test, a real `terrace relay` process pinned to core 0
`audience`   many viewers that entered by WHEP: one socket each, kept alive as a browser would
`drain`      `recvmmsg` over all viewers' sockets into arrays, with the kernel's time stamps
`analysis`   what was lost and how late the rest came, from what was sent and what arrived
`machine`    what the kernel says: CPU time, socket drops, cores
`meter`      the difference of that over a window, and whether the window can be trusted
`runs`       fan-out, joins, join storm, hops
`report`     the tables

`stun`, `dtls`, `sdp`, `rtcp`, `signalling` and `peer` are the client's half of WHIP and WHEP. The
bench imports nothing from `relay`, so that a mistake there cannot hide itself here.
"""

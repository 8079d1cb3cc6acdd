"""The bench's own parts against other implementations: aioice, aiortc, libsrtp, the kernel."""

import socket
import time

import numpy as np
import pytest
from aioice import stun as other_stun
from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpRtpfbPacket, RtcpSrPacket, RtpPacket
from aiortc.sdp import SessionDescription

from tests.bench import rtcp, sdp, stun
from tests.bench.drain import Drain
from tests.bench.dtls import DtlsError, Handshake, Identity
from tests.bench.sdp import AUDIO_PT, VIDEO_PT
from tests.bench.source import Cut, Kind, Source, cut_points
from tests.bench.workers import Process, WorkersRow

KEYS = stun.Credentials("ours", "our-password-of-24-bytes", "theirs", "their-password-of-24-byt")


def test_a_check_is_what_another_stack_reads_with_the_same_password() -> None:
    request = stun.binding_request(KEYS, 7, nominate=True)
    message = other_stun.parse_message(request)
    assert message.check_message_integrity(KEYS.remote_pwd.encode())
    assert message.attributes["USERNAME"] == "theirs:ours"
    assert "USE-CANDIDATE" in message.attributes
    assert message.attributes["ICE-CONTROLLING"] == 7


def test_our_answer_to_a_check_names_the_address_it_came_from() -> None:
    request = stun.binding_request(KEYS, 7, nominate=False)
    response = stun.binding_response(request, ("127.0.0.1", 40000), KEYS)
    message = other_stun.parse_message(response)
    assert message.check_message_integrity(KEYS.local_pwd.encode())
    assert message.attributes["XOR-MAPPED-ADDRESS"] == ("127.0.0.1", 40000)
    assert message.transaction_id == stun.transaction(request)


def test_a_message_under_another_password_is_not_authentic() -> None:
    request = stun.binding_request(KEYS, 7, nominate=False)
    assert stun.is_authentic(request, KEYS.remote_pwd)
    assert not stun.is_authentic(request, KEYS.local_pwd)
    assert not stun.is_authentic(request[:30], KEYS.remote_pwd)


def shake_hands(client: Handshake, server: Handshake) -> None:
    flight = client.step()
    while flight:
        flight = client.step(server.step(flight))


def test_two_handshakes_agree_on_keys() -> None:
    identity = Identity("aes128-gcm")
    client = Handshake(identity, client=True, peer_fingerprint=identity.fingerprint)
    server = Handshake(identity, client=False, peer_fingerprint=identity.fingerprint)
    shake_hands(client, server)
    packet = Source(1).sound(0).data
    assert server.sessions()[1].unprotect(client.sessions()[0].protect(packet)) == packet


def test_a_peer_with_another_certificate_than_its_answer_named_is_refused() -> None:
    ours, theirs = Identity("aes128-gcm"), Identity("aes128-gcm")
    client = Handshake(ours, client=True, peer_fingerprint=ours.fingerprint)
    server = Handshake(theirs, client=False, peer_fingerprint=ours.fingerprint)
    with pytest.raises(DtlsError, match="not the one"):
        shake_hands(client, server)


def test_an_offer_is_what_another_stack_reads() -> None:
    local = sdp.new_local(Identity("aes128-gcm").fingerprint, "127.0.0.1", 4000)
    parsed = SessionDescription.parse(sdp.offer(local, "sendonly", {"audio": 1, "video": 2}))
    assert [(m.kind, m.direction, m.rtp.codecs[0].name) for m in parsed.media] == [
        ("audio", "sendonly", "opus"),
        ("video", "sendonly", "VP8"),
    ]
    assert parsed.media[1].ice_candidates[0].port == 4000


def test_reports_are_what_another_stack_reads() -> None:
    sender, _ = RtcpPacket.parse(rtcp.sender_report(5, 1_500_000_000, 9, 10, 11))
    assert isinstance(sender, RtcpSrPacket)
    assert sender.sender_info.ntp_timestamp == (2_208_988_801 << 32) + (1 << 31)
    receiver, _ = RtcpPacket.parse(rtcp.receiver_report(5, [(1, 65_536), (2, 7)]))
    assert isinstance(receiver, RtcpRrPacket)
    assert [(r.ssrc, r.highest_sequence, r.packets_lost) for r in receiver.reports] == [
        (1, 65_536, 0),
        (2, 7, 0),
    ]


def test_a_nack_is_read_with_its_bit_mask() -> None:
    compound = bytes(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=2, lost=[10, 11, 26, 65_535]))
    (nack,) = rtcp.feedback(compound)
    assert nack == rtcp.Nack(2, (10, 11, 26, 65_535))


def test_a_group_of_pictures_is_a_megabit_with_one_keyframe_of_45_packets() -> None:
    """RFC 7741: S bit and PictureID on every first packet, P bit clear only in the keyframe."""
    source = Source(3)
    frames = [source.frame(0) for _ in range(50)]
    sounds = [source.sound(0) for _ in range(100)]
    assert [len(frame) for frame in frames if not frame[0].data[28] & 1] == [45]
    for frame in frames:
        assert [packet.marker for packet in frame] == [False] * (len(frame) - 1) + [True]
        assert frame[0].data[24] == 0x90
        assert all(packet.data[24] == 0x80 for packet in frame[1:])
        assert max(len(packet.data) for packet in frame) <= 1200
    packets = [packet for frame in frames for packet in frame] + sounds
    assert 0.95e6 < sum(len(packet.data) for packet in packets) * 8 / 2 < 1.05e6
    assert 155 <= len(packets) / 2 <= 165
    assert RtpPacket.parse(packets[0].data).payload_type == VIDEO_PT
    assert RtpPacket.parse(sounds[0].data).payload_type == AUDIO_PT


def test_both_cuts_cover_a_frame_and_differ_in_where_the_rest_goes() -> None:
    even = [end - begin for begin, end in cut_points(2500, Cut.EVEN)]
    full = [end - begin for begin, end in cut_points(2500, Cut.FULL)]
    assert even == [833, 833, 834]
    assert full == [1172, 1172, 156]


def await_stamps(drain: Drain, far: socket.socket, source: Source) -> None:
    """Wait until the kernel stamps what comes: it begins a moment after the first who wants that.

    What came before is stamped when it is read.
    """
    sent_ns = 0
    while not sent_ns or drain.take_records()["t_ns"][-1] > sent_ns:
        far.send(source.sound(0).data)
        sent_ns = time.time_ns()
        time.sleep(0.001)
        drain.sweep()
    drain.packets = 0


def test_a_sweep_reads_headers_and_arrival_times_and_hands_on_the_rest() -> None:
    others: list[tuple[int, bytes]] = []
    drain = Drain(8, lambda viewer, datagram: others.append((viewer, datagram)))
    drain.recording = True
    source = Source(4)
    check = stun.binding_request(KEYS, 1, nominate=False)
    with (
        socket.socket(type=socket.SOCK_DGRAM) as near,
        socket.socket(type=socket.SOCK_DGRAM) as far,
    ):
        near.bind(("127.0.0.1", 0))
        far.connect(near.getsockname())
        drain.add(5, near)
        await_stamps(drain, far, source)
        before = time.time_ns()
        frame = source.frame(0)
        for packet in frame:
            far.send(packet.data)
        far.send(check)
        far.send(bytes([0x80, 200, 0, 1]) + bytes(4))
        drain.sweep()
        after = time.time_ns()
    rows = drain.take_records()
    assert rows["sequence"].tolist() == [packet.sequence for packet in frame]
    assert rows["size"].tolist() == [len(packet.data) for packet in frame]
    assert set(rows["viewer"].tolist()) == {5}
    assert set(rows["ssrc"].tolist()) == {source.ssrcs["video"]}
    assert (np.diff(rows["t_ns"]) >= 0).all()
    assert before <= rows["t_ns"][0] <= rows["t_ns"][-1] <= after
    assert others == [(5, check)]
    assert (drain.packets, drain.rtcp) == (45, 1)
    assert drain.newest_sequence[5, Kind.VIDEO] == frame[-1].sequence


def test_two_processes_serve_what_the_dearer_one_lets_them() -> None:
    """The front gives both as many viewers; it also feeds the worker, and fills its core first."""
    row = WorkersRow(
        alone=Process(200, 13.5),
        front=Process(200, 15.0),
        worker=Process(200, 14.0),
        us_per_packet=4.5,
        us_per_packet_alone=4.2,
        load_percent=20.0,
    )
    assert row.gain == pytest.approx(2 * 13.5 / 15.0)
    assert row.served == pytest.approx(2 * 0.9 * 200 / 0.15)

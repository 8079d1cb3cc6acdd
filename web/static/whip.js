/**
 * A client for WHIP (RFC 9725) and WHEP: one offer, one answer, one session to end.
 *
 * The node is ICE-lite and learns our address from our checks, so the offer is posted at once,
 * without waiting for candidates, and no ICE server is needed.
 */

/** The node answered, but with a refusal. */
export class NodeError extends Error {
  /**
   * @param {number} status  HTTP status
   * @param {string} sentence  what the node says, one English sentence or ""
   * @param {number|null} retryAfterS  seconds the node asks us to wait, null if it does not say
   * @param {string} reason  the node's word for it: full, draining, expired, parent ..., or ""
   */
  constructor(status, sentence, retryAfterS, reason = "") {
    super(`${status} ${sentence}`);
    this.reason = reason;
    this.name = "NodeError";
    this.status = status;
    this.sentence = sentence;
    this.retryAfterS = retryAfterS;
  }
}

/** Nobody answered: no route, no process, or no answer in time. */
export class NoAnswerError extends Error {
  constructor(cause) {
    super("the node does not answer", { cause });
    this.name = "NoAnswerError";
  }
}

/** The node answered with something this browser cannot use. */
export class BadAnswerError extends Error {
  constructor(cause) {
    super(String(cause), { cause });
    this.name = "BadAnswerError";
  }
}

const PEER = { iceServers: [], bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" };

/** A peer connection that receives one picture and one sound, or only what `kinds` names. */
export function receiver(kinds = ["audio", "video"]) {
  const pc = new RTCPeerConnection(PEER);
  for (const kind of kinds) pc.addTransceiver(kind, { direction: "recvonly" });
  return pc;
}

/**
 * A peer connection that sends one picture and one sound. Both have a sender even without a track,
 * so that a camera or a microphone chosen later needs no new session.
 *
 * @param {{audio: MediaStreamTrack|null, video: MediaStreamTrack|null, codec: string,
 *          maxBitrateBps: number}} what  codec: "H264" or "VP8"
 */
export function sender({ audio, video, codec, maxBitrateBps }) {
  const pc = new RTCPeerConnection(PEER);
  const one = new MediaStream();
  pc.addTransceiver(audio ?? "audio", { direction: "sendonly", streams: [one] });
  const picture = pc.addTransceiver(video ?? "video", {
    direction: "sendonly",
    streams: [one],
    sendEncodings: layers(maxBitrateBps),
  });
  picture.setCodecPreferences?.(codecsFor(codec));
  return pc;
}

// Below this the picture is small already, and a thin line gets its sound alone.
const LAYERED_ABOVE_BPS = 1_000_000;

/**
 * The layers of the picture, the smallest first: a node gives each line the one that it carries.
 * Names are one letter, for the packets name them until the node has answered.
 *
 * @param {number} maxBitrateBps  of the largest
 * @returns {RTCRtpEncodingParameters[]}
 */
export function layers(maxBitrateBps) {
  if (maxBitrateBps < LAYERED_ABOVE_BPS) return [{ maxBitrate: maxBitrateBps }];
  return [
    { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 120_000 },
    { rid: "h", scaleResolutionDownBy: 2, maxBitrate: Math.round(maxBitrateBps / 4) },
    { rid: "f", maxBitrate: maxBitrateBps },
  ];
}

/** Whether this browser can encode `codec`. */
export function canSend(codec) {
  const all = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  return all.some(({ mimeType }) => mimeType.toLowerCase() === `video/${codec.toLowerCase()}`);
}

/**
 * The codec preferences that offer `codec` and nothing else, with its repair formats. For H264 the
 * constrained baseline in packetization mode 1 comes first: every box decodes it.
 */
export function codecsFor(codec) {
  const repair = ["video/rtx", "video/red", "video/ulpfec"];
  const all = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const rank = ({ sdpFmtpLine = "" }) =>
    (sdpFmtpLine.includes("packetization-mode=1") ? 0 : 1) +
    (/profile-level-id=42e0/i.test(sdpFmtpLine) ? 0 : 2);
  const chosen = all
    .filter(({ mimeType }) => mimeType.toLowerCase() === `video/${codec.toLowerCase()}`)
    .sort((a, b) => rank(a) - rank(b));
  return [...chosen, ...all.filter(({ mimeType }) => repair.includes(mimeType.toLowerCase()))];
}

/**
 * The offer with Opus asked for in stereo and with in-band repair (RFC 7587 section 6.1); browsers
 * leave stereo out unless told.
 */
export function withStereoOpus(sdp) {
  const opus = [...sdp.matchAll(/^a=rtpmap:(\d+) opus\/48000\/2\r?$/gim)].map((match) => match[1]);
  return sdp.replace(/^a=fmtp:(\d+) ([^\r\n]*)/gm, (line, type, parameters) => {
    if (!opus.includes(type)) return line;
    const kept = parameters
      .split(";")
      .map((one) => one.trim())
      .filter((one) => one && !/^(stereo|sprop-stereo|useinbandfec)=/.test(one));
    return `a=fmtp:${type} ${[...kept, "stereo=1", "sprop-stereo=1", "useinbandfec=1"].join(";")}`;
  });
}

/** The offer with repeats (NACK) for sound as well: browsers can do it, but do not ask for it. */
export function withRepeatedOpus(sdp) {
  return sdp.replace(/^a=rtpmap:(\d+) opus\/48000\/2\r?\n/gim, (line, type) =>
    sdp.includes(`a=rtcp-fb:${type} nack`) ? line : `${line}a=rtcp-fb:${type} nack\r\n`,
  );
}

/**
 * The answer with a bitrate to begin with. Chromium begins at 300 kbit/s and, where nothing but the
 * node's estimate (REMB) speaks for more, takes half a minute to a sharp picture; other browsers
 * pass the parameter over.
 */
export function withStartBitrate(sdp, kbps) {
  const parts = sdp.split(/^(?=m=)/m);
  const start = `x-google-start-bitrate=${kbps}`;
  return parts
    .map((part) => {
      const type = /^m=video \S+ \S+ (\d+)/.exec(part)?.[1];
      if (!type) return part;
      const fmtp = new RegExp(`^a=fmtp:${type} [^\r\n]*`, "m");
      if (fmtp.test(part)) return part.replace(fmtp, (line) => `${line};${start}`);
      const rtpmap = new RegExp(`^a=rtpmap:${type} [^\r\n]*`, "m");
      return part.replace(rtpmap, (line) => `${line}\r\na=fmtp:${type} ${start}`);
    })
    .join("");
}

/** Seconds in a Retry-After header (a number or a date), null if there is none. */
export function retryAfter(header, nowMs = Date.now()) {
  if (!header) return null;
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - nowMs) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 300) : null;
}

/** The address that a `Link` header (RFC 8288) names as another place to ask, null if none. */
export function alternate(header) {
  const match = /<([^>]+)>\s*;[^,]*\brel="?alternate\b/.exec(header ?? "");
  return match ? match[1] : null;
}

/** The peer's address in its SDP, as "203.0.113.5:8710", "" if it names none. */
export function mediaAddress(sdp) {
  const match = /^a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) /im.exec(sdp);
  return match ? `${match[1].includes(":") ? `[${match[1]}]` : match[1]}:${match[2]}` : "";
}

/**
 * Whether the node has said goodbye (a DTLS close_notify), which browsers do not show in the
 * connection's own state.
 */
export function ended(pc) {
  return pc.getTransceivers().some(({ sender }) => sender.transport?.state === "closed");
}

/** Call `tell` as soon as the node says goodbye. Call it once there is an answer. */
export function onEnded(pc, tell) {
  for (const { sender } of pc.getTransceivers()) {
    sender.transport?.addEventListener("statechange", () => ended(pc) && tell());
  }
}

function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** One session at a node, until `close`. */
export class Session {
  /**
   * @param {RTCPeerConnection} pc
   * @param {URL|null} location  what to DELETE, null if the node named nothing
   * @param {string} address  where the media goes, for words about firewalls
   * @param {Record<string, string>} headers
   */
  constructor(pc, location, address, headers) {
    this.pc = pc;
    this.location = location;
    this.address = address;
    this.#headers = headers;
  }

  #headers;

  /** End it here and at the node. Safe to call twice, and while the page goes away. */
  close() {
    this.pc.close();
    if (this.location === null) return;
    const location = this.location;
    this.location = null;
    fetch(location, { method: "DELETE", headers: this.#headers, keepalive: true }).catch(() => {
      // The node gives the session up by itself once our consent checks stop.
    });
  }
}

/** Post an offer. A node without room redirects (307) who shows no token; the browser follows. */
async function post(endpoint, sdp, token, signal, headers = {}) {
  try {
    const response = await fetch(endpoint, {
      method: "POST",
      headers: { ...headers, "Content-Type": "application/sdp", ...bearer(token) },
      body: sdp,
      signal,
    });
    return { response, answer: await response.text() };
  } catch (error) {
    throw new NoAnswerError(error);
  }
}

/**
 * Offer what `pc` sends or receives to a WHIP or WHEP endpoint and apply the answer.
 *
 * @param {RTCPeerConnection} pc  closed here if this fails
 * @param {string} endpoint  URL, relative to the page
 * @param {{token?: string, stereo?: boolean, startKbps?: number, timeoutMs?: number,
 *          headers?: Record<string, string>, signal?: AbortSignal}} options  headers: sent beside
 *          the token's own
 * @returns {Promise<Session>}
 * @throws {NodeError|NoAnswerError|BadAnswerError|DOMException}  AbortError when `signal` fires
 */
export async function open(pc, endpoint, options = {}) {
  const { token = "", stereo = true, startKbps = 0, timeoutMs = 10_000, headers, signal } = options;
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), timeoutMs);
  let session = null;
  try {
    const offer = await pc.createOffer();
    const sdp = withRepeatedOpus(stereo ? withStereoOpus(offer.sdp) : offer.sdp);
    await pc.setLocalDescription({ type: "offer", sdp });
    signal?.throwIfAborted();
    let { response, answer } = await post(endpoint, sdp, token, deadline.signal, headers);
    const sibling = response.status === 503 ? alternate(response.headers.get("Link")) : null;
    if (sibling !== null) {
      // The node that we trust names it, so the token may go there: it is a node of the same tree.
      // A sibling out of reach changes nothing about what our own node said.
      const there = await post(sibling, sdp, token, deadline.signal, headers).catch(() => null);
      if (there?.response.status === 201) ({ response, answer } = there);
    }
    if (response.status !== 201) {
      const plain = (response.headers.get("Content-Type") ?? "").startsWith("text/plain");
      throw new NodeError(
        response.status,
        plain ? answer.trim().slice(0, 300) : "",
        retryAfter(response.headers.get("Retry-After")),
        response.headers.get("Terrace-Reason") ?? "",
      );
    }
    const named = response.headers.get("Location");
    const location = named === null ? null : new URL(named, response.url);
    // The token is for the node that answered, not for wherever a Location points.
    const trusted = location?.origin === new URL(response.url).origin;
    session = new Session(pc, location, mediaAddress(answer), trusted ? bearer(token) : {});
    // Not by aborting the POST: then the node would keep a session that nobody can end.
    signal?.throwIfAborted();
    try {
      const applied = startKbps ? withStartBitrate(answer, startKbps) : answer;
      await pc.setRemoteDescription({ type: "answer", sdp: applied });
    } catch (error) {
      throw new BadAnswerError(error);
    }
    signal?.throwIfAborted();
    return session;
  } catch (error) {
    if (session) session.close();
    else pc.close();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The voter's side of a secret ballot: RFC 9474 blind signatures (RSABSSA-SHA384-PSS-Randomized)
 * and a sealed vote. web/room/ballots.py is the centre's side and tells what it is for.
 *
 *     const paper = await Paper.of(room, ballot);           // kept by the browser until it is cast
 *     const signed = await askTheCentre(paper.blinded);     // who asks is known, and not what
 *     client.ballot(ballot.id, await paper.vote(choice, signed));
 *
 * Whoever holds the browser can see what it keeps: it is dropped once the vote is kept (`forget`).
 */

const PREFIX_BYTES = 32;
const SALT_BYTES = 48;
const SHA384_BYTES = 48;
const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** Base64url without padding. */
export function textOf(bytes) {
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function bytesOf(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function joined(...parts) {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function numberOf(bytes) {
  let hex = "0x0";
  for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
  return BigInt(hex);
}

function bytesOfNumber(number, size) {
  const hex = number.toString(16).padStart(2 * size, "0");
  return Uint8Array.from({ length: size }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

/** base ** exponent modulo n, for the small public exponent: nothing here depends on a secret. */
function power(base, exponent, n) {
  let result = 1n;
  for (let square = base % n, rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % n;
    square = (square * square) % n;
  }
  return result;
}

/** The inverse modulo n, null if there is none (extended Euclid). */
function inverseOf(number, n) {
  let [one, other, a, b] = [number % n, n, 1n, 0n];
  while (other !== 0n) {
    const times = one / other;
    [one, other] = [other, one - times * other];
    [a, b] = [b, a - times * b];
  }
  return one === 1n ? ((a % n) + n) % n : null;
}

async function sha384(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-384", joined(...parts)));
}

async function mask(seed, size) {
  const parts = [];
  for (let counter = 0; counter * SHA384_BYTES < size; counter += 1) {
    parts.push(await sha384(seed, bytesOfNumber(BigInt(counter), 4)));
  }
  return joined(...parts).slice(0, size);
}

/** EMSA-PSS-ENCODE (RFC 8017 section 9.1.1). */
async function encoded(message, bits, salt) {
  const size = Math.ceil(bits / 8);
  const hash = await sha384(new Uint8Array(8), await sha384(message), salt);
  const padding = new Uint8Array(size - salt.length - hash.length - 2);
  const block = joined(padding, new Uint8Array([1]), salt);
  const over = await mask(hash, block.length);
  for (let i = 0; i < block.length; i += 1) block[i] ^= over[i];
  block[0] &= 0xff >> (8 * size - bits);
  return joined(block, hash, new Uint8Array([0xbc]));
}

function signerOf(told) {
  const bytes = bytesOf(told.n);
  const n = numberOf(bytes);
  return { n, e: numberOf(bytesOf(told.e)), size: bytes.length, bits: n.toString(2).length };
}

function randomBytes(size) {
  return crypto.getRandomValues(new Uint8Array(size));
}

/**
 * Blind a prepared message (RFC 9474 section 4.2): what to send, and the inverse to keep.
 * `salt` and `inverse` are given by tests only.
 */
export async function blind(told, message, salt = randomBytes(SALT_BYTES), inverse = null) {
  const signer = signerOf(told);
  const hidden = numberOf(await encoded(message, signer.bits - 1, salt));
  let over = inverse === null ? null : inverseOf(inverse, signer.n);
  while (over === null) {
    // A few more bits than n has, so that no remainder is likelier than another.
    over = numberOf(randomBytes(signer.size + 16)) % signer.n;
    inverse = inverseOf(over, signer.n);
    if (inverse === null) over = null;
  }
  const blinded = (hidden * power(over, signer.e, signer.n)) % signer.n;
  return { blinded: bytesOfNumber(blinded, signer.size), inverse };
}

/** The signature on the message (RFC 9474 section 4.4); throws when the centre gave none. */
export async function finalize(told, message, signed, inverse) {
  const signer = signerOf(told);
  if (signed.length !== signer.size) throw new Error("The centre's answer is no signature.");
  const signature = bytesOfNumber((numberOf(signed) * inverse) % signer.n, signer.size);
  const key = await crypto.subtle.importKey(
    "jwk", { kty: "RSA", n: told.n, e: told.e }, { name: "RSA-PSS", hash: "SHA-384" }, false,
    ["verify"],
  );
  const how = { name: "RSA-PSS", saltLength: SALT_BYTES };
  if (!(await crypto.subtle.verify(how, key, signature, message))) {
    throw new Error("The centre's answer is no signature of this ballot.");
  }
  return signature;
}

/** One voter's paper in one ballot. */
export class Paper {
  #ballot;
  #kept;
  #name;

  /** Whether this browser can vote: it needs a page that came over HTTPS, or from this machine. */
  static get possible() {
    return Boolean(globalThis.crypto?.subtle);
  }

  constructor(name, ballot, kept) {
    this.#name = name;
    this.#ballot = ballot;
    this.#kept = kept;
  }

  /**
   * The paper that this browser has in a ballot, or a new one.
   * @param {number|string} room
   * @param {{id: number, signer: object, seal: object}} ballot  as the state of the room has it
   */
  static async of(room, ballot) {
    const name = `terrace.ballot.${room}.${ballot.id}`;
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(name));
    } catch {
      // Kept by nobody: the paper lives as long as the page.
    }
    if (kept?.signer !== ballot.signer.n) {
      kept = await Paper.#made(ballot);
      try {
        localStorage.setItem(name, JSON.stringify(kept));
      } catch {
        // As above.
      }
    }
    return new Paper(name, ballot, kept);
  }

  static async #made(ballot) {
    const pair = await crypto.subtle.generateKey(ECDSA, true, ["sign", "verify"]);
    const key = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    const salt = randomBytes(PREFIX_BYTES);
    const { blinded, inverse } = await blind(ballot.signer, joined(salt, key));
    return {
      signer: ballot.signer.n,
      own: await crypto.subtle.exportKey("jwk", pair.privateKey),
      key: textOf(key),
      salt: textOf(salt),
      blinded: textOf(blinded),
      inverse: inverse.toString(16),
    };
  }

  /** What the centre is asked to sign, base64url. */
  get blinded() {
    return this.#kept.blinded;
  }

  /**
   * The sealed vote.
   * @param {number} choice  from 0
   * @param {string} signed  the centre's answer, base64url
   */
  async vote(choice, signed) {
    const { key, salt, own, inverse } = this.#kept;
    const ballot = this.#ballot;
    const message = joined(bytesOf(salt), bytesOf(key));
    const signature = await finalize(
      ballot.signer, message, bytesOf(signed), BigInt(`0x${inverse}`),
    );
    const words = new TextEncoder();
    const seal = await crypto.subtle.importKey(
      "jwk", { kty: "RSA", n: ballot.seal.n, e: ballot.seal.e },
      { name: "RSA-OAEP", hash: "SHA-256" }, false, ["encrypt"],
    );
    const label = words.encode(`terrace ballot ${ballot.id}`);
    const how = { name: "RSA-OAEP", label };
    const sealed = new Uint8Array(
      await crypto.subtle.encrypt(how, seal, new Uint8Array([choice])),
    );
    const ownKey = await crypto.subtle.importKey("jwk", own, ECDSA, false, ["sign"]);
    const said = joined(words.encode(`terrace ballot ${ballot.id}\n`), sealed);
    const ownSignature = new Uint8Array(await crypto.subtle.sign(ECDSA, ownKey, said));
    return {
      key, salt, signature: textOf(signature), sealed: textOf(sealed), own: textOf(ownSignature),
    };
  }

  /** The vote is kept by the centre: nothing of it stays here. */
  forget() {
    try {
      localStorage.removeItem(this.#name);
    } catch {
      // Nothing was kept.
    }
  }
}

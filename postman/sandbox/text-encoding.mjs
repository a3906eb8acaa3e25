// Replacements for two globals that the sandbox of Postman and newman lacks: https://github.com/postmanlabs/postman-sandbox.

export class TextEncoder {
  encode(text) {
    const utf8 = encodeURIComponent(text).replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
    return Uint8Array.from(utf8, (character) => character.charCodeAt(0));
  }
}

export class TextDecoder {
  decode(bytes) {
    return decodeURIComponent(Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''));
  }
}

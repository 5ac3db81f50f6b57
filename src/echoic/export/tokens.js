"use strict";
/* echoic's tokenizers that are rules (echoic/prepare/tokenizers), over code points.
   What is a letter, a mark, white space or a lower case is not asked of this browser, whose tables are of another
   year than Python's: `told` (echoic/export/web.py) says it of every code point, as the tokenizer itself does. */

const UNKNOWN = 1, EMPTY = 2, SPECIALS = ["<pad>", "<unk>", "<empty>"];
const isFlag = code => code >= 0x1f1e6 && code <= 0x1f1ff;

/* What `told` says -> a function of a text: its ids and, of each, [start, end] in code points, as
   TextPreparer.encode_with_offsets has them. */
function tokenizer(told) {
  const lower = new Map(Object.entries(told.lower)), known = new Map(told.vocabulary.map((token, id) => [token, id]));
  const is = Object.fromEntries(Object.entries(told.classes).map(([name, ranges]) => [name, members(ranges)]));
  const cut = CUTS[told.kind](is, told), most = told.max_tokens || Infinity;
  return text => {
    const chars = [], from = [];
    let count = 0;
    for (const char of text) {
      if (char >= "\ud800" && char <= "\udfff" && char.length === 1) throw new Error("lone surrogate: half of a pair is no character");
      for (const each of lower.get(char) ?? char) { chars.push(each); from.push(count); }
      count++;
    }
    const ids = [], spans = [];
    for (const [start, end, token] of cut(chars, chars.map(char => char.codePointAt(0)))) {
      if (ids.length === most) break;
      ids.push(typeof token === "number" ? token : known.get(token ?? chars.slice(start, end).join("")) ?? UNKNOWN);
      spans.push([from[start], from[end - 1] + 1]);
    }
    return ids.length ? { ids, spans } : { ids: [EMPTY], spans: [[0, 0]] };
  };
}

/* [first, end, first, end, ...] -> for each code point whether it is in one of these ranges */
function members(ranges) {
  const all = new Uint8Array(0x110000);
  for (let i = 0; i < ranges.length; i += 2) all.fill(1, ranges[i], ranges[i + 1]);
  return all;
}

/* By the tokenizer's name: (chars, codes) -> [start, end, and an id or a text that is not just what stands there] */
const CUTS = {
  codepoints: () => function* (chars) { for (let i = 0; i < chars.length; i++) yield [i, i + 1]; },

  bytes: () => function* (chars) {
    const encoder = new TextEncoder();
    for (let i = 0; i < chars.length; i++) for (const byte of encoder.encode(chars[i])) yield [i, i + 1, byte + SPECIALS.length];
  },

  chars: is => function* (chars, codes) {
    const skipped = i => { while (is.space[codes[i]]) i++; return i; };
    for (let i = skipped(0); i < chars.length;) {
      const end = skipped(i);
      if (end === i) yield [i, ++i];
      else if (end === chars.length) return;
      else { yield [i, end, " "]; i = end; }
    }
  },

  spaced: is => function* (chars, codes) {
    for (let i = 0; i < chars.length;) {
      if (chars[i] === "\n") { yield [i, ++i]; continue; }
      if (is.space[codes[i]]) { i++; continue; }
      let end = i;
      while (end < chars.length && !is.space[codes[end]]) end++;
      if (end - i < 8 && SPECIALS.includes(chars.slice(i, end).join(""))) yield [i, ++i];
      yield [i, end];
      i = end;
    }
  },

  words: (is, { elements }) => function* (chars, codes) {
    const tag = tags(is, new RegExp(`^(?:${elements})$`, "iu"));
    const over = (some, i) => { while (some[codes[i]]) i++; return i; };
    const apostrophe = i => chars[i] === "'" || chars[i] === "\u2019";
    for (let i = 0; i < chars.length;) {
      if (is.space[codes[i]]) { i++; continue; }
      const past = chars[i] === "<" ? tag(chars, codes, i) : 0;
      if (past) { i = past; continue; }
      let end;
      if (is.first[codes[i]]) {
        end = over(is.rest, i + 1);
        while (apostrophe(end) && is.first[codes[end + 1]]) end = over(is.rest, end + 2);
      } else {
        end = over(is.mark, isFlag(codes[i]) && isFlag(codes[i + 1]) ? i + 2 : i + 1);
        while (chars[end] === "\u200d" && is.symbol[codes[end + 1]]) end = over(is.mark, end + 2);
      }
      yield [i, end];
      i = end;
    }
  },
};

/* (chars, codes, where a "<" stands) -> where the HTML tag there ends; 0 if none begins there. A ligature is "st"
   to the tokenizer, whatever the case; that a long s is an s, `names` knows. */
function tags(is, names) {
  const LONGEST = 10;
  return (chars, codes, i) => {
    const start = chars[i + 1] === "/" ? i + 2 : i + 1;
    let end = start;
    while (end < chars.length && end - start <= LONGEST && !is.space[codes[end]] && chars[end] !== "/" && chars[end] !== ">") end++;
    if (!names.test(chars.slice(start, end).join("").replace(/[\ufb05\ufb06]/g, "st"))) return 0;
    let place = end;
    while (is.space[codes[place]]) place++;
    if (chars[place] === "/") place++;
    if (chars[place] === ">") return place + 1;
    if (!is.space[codes[end]]) return 0;
    for (place = end + 1; chars[place] !== "="; place++) if (place >= chars.length || chars[place] === "<" || chars[place] === ">") return 0;
    for (; chars[place] !== ">"; place++) if (place >= chars.length || chars[place] === "<") return 0;
    return place + 1;
  };
}
